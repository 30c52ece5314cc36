"""A scan sees nothing of the disk that is not recorded, and whatever it saw is seen to change."""

import os
import shutil
import sys
import time
from pathlib import Path

import pytest

from serx.data import observed_files
from serx.data.corpora.readers import READERS
from serx.data.observed_files import (
    Seen,
    file_identity,
    files_in,
    is_folder,
    observing,
    read_bytes,
    will_be_read,
)
from serx.data.scanning.scanner import scan
from tests.data.corpora.trees import TREES
from tests.data.layouts import touch

_looked_at: list[tuple[str, str]] = []


def _listen(event: str, arguments: tuple) -> None:
    if event in ("open", "os.listdir", "os.scandir") and arguments and isinstance(arguments[0], str | os.PathLike):
        _looked_at.append((event, os.fspath(arguments[0])))


sys.addaudithook(_listen)  # for the rest of the process; it cannot be removed

WITH_LABEL_FILES = sorted(name for name in READERS if TREES[name].texts)


@pytest.mark.parametrize("name", [*WITH_LABEL_FILES, "cremad"])
def test_a_scan_opens_lists_and_asks_for_nothing_that_is_not_recorded(name, tmp_path, monkeypatch):
    root = str(TREES[name].build(tmp_path / "data"))
    system_stat = os.stat

    def listening(path, *arguments, **options):
        _looked_at.append(("stat", os.fspath(path)))
        return system_stat(path, *arguments, **options)

    monkeypatch.setattr(os, "stat", listening)
    _looked_at.clear()
    with observing() as seen:
        scan(root)
    monkeypatch.undo()
    below = {(event, path) for event, path in _looked_at if path.startswith(root)}
    assert {path for event, path in below if event == "open"} <= {*seen.contents}
    assert {path for event, path in below if event == "stat"} <= {*seen.files, *seen.folders, *seen.contents}
    assert any(event == "os.scandir" for event, _ in below) and [*seen.names] == [root]
    assert seen.is_current()


@pytest.mark.parametrize("name", WITH_LABEL_FILES)
def test_a_label_file_that_is_edited_in_place_is_seen_to_change(name, tmp_path):
    tree = TREES[name]
    root = tree.build(tmp_path / "data")
    with observing() as seen:
        scan(root)
    assert seen.contents
    for path in map(Path, seen.contents):
        before, content = path.stat(), path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert not seen.is_current()
        path.write_bytes(content)
    assert seen.is_current()


def a_file_more(root):
    touch(root, ["a/z.wav"])


def a_file_less(root):
    (root / "a" / "x.wav").unlink()


def another_name(root):
    (root / "a" / "x.wav").rename(root / "a" / "X.wav")


def in_another_folder(root):
    (root / "a" / "x.wav").rename(root / "b" / "x.wav")


def another_folder(root):
    (root / "b").rename(root / "c")


def a_file_becomes_a_folder(root):
    (root / "a" / "x.wav").unlink()
    (root / "a" / "x.wav").mkdir()


def a_file_in_a_folder_that_is_linked(root):
    touch(root.parent / "elsewhere", ["w.wav"])


def a_link_to_a_folder_that_is_listed_already(root):
    (root / "linked").unlink()
    (root / "linked").symlink_to(root / "a")


def no_folder_any_more(root):
    shutil.rmtree(root)


CHANGES = [
    a_file_more,
    a_file_less,
    another_name,
    in_another_folder,
    another_folder,
    a_file_becomes_a_folder,
    a_file_in_a_folder_that_is_linked,
    a_link_to_a_folder_that_is_listed_already,
    no_folder_any_more,
]


@pytest.mark.parametrize("change", CHANGES)
def test_any_change_of_the_names_in_a_folder_is_seen(change, tmp_path):
    touch(tmp_path / "elsewhere", ["v.wav"])
    root = touch(tmp_path / "data", ["a/x.wav", "a/y.wav", "b/deep/z.wav"])
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    with observing() as seen:
        files_in(root)
    assert seen.is_current()
    change(root)
    assert not seen.is_current()


def test_hidden_folders_and_the_content_of_audio_are_not_seen(tmp_path):
    root = touch(tmp_path / "data", ["a/x.wav"])
    with observing() as seen:
        files_in(root)
    touch(root, [".trash/x.wav", "__MACOSX/x.wav"])
    (root / "a" / "x.wav").write_bytes(b"RIFF")
    assert seen.is_current()


def test_a_pipe_in_the_place_of_a_table_is_not_read(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("file,emotion\n")
    with observing() as seen:
        read_bytes(path)
    path.unlink()
    os.mkfifo(path)
    assert not seen.is_current()


@pytest.mark.parametrize("small", [16 << 20, 10])
def test_a_table_that_another_library_reads_is_compared_by_its_bytes_or_if_it_is_large_by_its_state(
    small, tmp_path, monkeypatch
):
    monkeypatch.setattr(observed_files, "_SMALL", small)
    monkeypatch.setattr(observed_files, "_CLOCK", 0.0)
    path = tmp_path / "own.parquet"
    path.write_bytes(b"PAR1" * 10)
    with observing() as seen:
        will_be_read(path)
    assert (len(seen.contents), len(seen.states)) == ((1, 0) if small > 40 else (0, 1))
    assert seen.is_current()
    before = path.stat()
    time.sleep(0.02)  # longer than a step of the clock of the file system
    path.write_bytes(b"PAR2" * 10)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not seen.is_current()


def test_a_large_table_that_has_just_been_written_may_change_without_a_trace(tmp_path, monkeypatch):
    monkeypatch.setattr(observed_files, "_SMALL", 10)
    path = tmp_path / "own.parquet"
    path.write_bytes(b"PAR1" * 10)
    with observing() as seen:
        will_be_read(path)
    assert not seen.is_current()


def test_a_file_that_changes_between_two_readings_is_never_current(tmp_path):
    path = tmp_path / "labels.csv"
    with observing() as seen:
        for text in ("one", "two"):
            path.write_text(text)
            read_bytes(path)
    assert not seen.is_current()


def test_a_folder_that_appears_is_seen(tmp_path):
    with observing() as seen:
        assert not is_folder(tmp_path / "later")
    (tmp_path / "later").mkdir()
    assert not seen.is_current()


def test_nothing_is_recorded_outside_the_block(tmp_path):
    with observing() as seen:
        pass
    read_bytes(touch(tmp_path, ["a"]) / "a")
    file_identity(tmp_path / "a")
    assert seen == Seen()
