"""The file that a cell names: by its path, as an address, or by its name below `data.audio_root`."""

from pathlib import Path

import pytest

from serx.data.tables.manifest import read_manifest
from serx.data.tables.table import TablesConfig
from serx.errors import DataError
from tests.data.layouts import touch
from tests.data.tables.test_manifest import HEADER, write


def test_paths_are_relative_to_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, ["audio/a.wav", "lists/x", "elsewhere/x"])
    table = tmp_path / "lists" / "own.csv"
    table.write_text(f"{HEADER}\n../audio/a.wav,sad,Ann\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read_manifest("../lists/own.csv").utterances[0].path == tmp_path / "audio" / "a.wav"
    table.write_text(f"{HEADER}\n..\\audio\\a.wav,sad,Ann\n")
    assert read_manifest(table).utterances[0].path == tmp_path / "audio" / "a.wav"
    table.write_text(f"{HEADER}\n{tmp_path / 'audio/a.wav'},sad,Ann\n")
    assert read_manifest(table).utterances[0].path == tmp_path / "audio" / "a.wav"


def test_paths_may_be_written_as_in_addresses(tmp_path: Path) -> None:
    names = ["my clip.wav", "50%.wav", "c.wav"]
    touch(tmp_path, names)
    cells = ["my%20clip.wav", "50%.wav", (tmp_path / "c.wav").as_uri()]
    clips = read_manifest(write(tmp_path, "\n".join([HEADER, *(f"{c},sad,1" for c in cells)]))).utterances
    assert [clip.path for clip in clips] == [tmp_path / name for name in names]
    touch(tmp_path / "deep" / "er", ["her clip.wav", "d.wav"])
    table = write(tmp_path, f"{HEADER}\nhttps://host/her%20clip.wav,sad,1\nC:\\corpus\\d.wav,sad,1\n")
    found = read_manifest(table, TablesConfig(audio_root=str(tmp_path / "deep"))).utterances
    assert [clip.path.name for clip in found] == ["her clip.wav", "d.wav"]


def test_audio_is_found_below_the_audio_root(tmp_path: Path) -> None:
    touch(tmp_path / "audio", ["s1/a.wav", "s2/b.flac", "s1/c.wav", "s2/c.wav"])
    table = tmp_path / "own.csv"
    table.write_text(f"{HEADER}\ns1/a.wav,sad,1\n/home/ann/b.flac,sad,1\ns2/c.wav,sad,1\n")
    config = TablesConfig(audio_root=tmp_path / "audio")
    found = [clip.path.relative_to(tmp_path / "audio").as_posix() for clip in read_manifest(table, config).utterances]
    assert found == ["s1/a.wav", "s2/b.flac", "s2/c.wav"]
    table.write_text(f"{HEADER}\nb,sad,1\ngone.wav,sad,1\n")  # without its ending
    manifest = read_manifest(table, config)
    assert [clip.path.name for clip in manifest.utterances] == ["b.flac"]
    assert [file.path for file in manifest.skipped] == [tmp_path / "audio" / "gone.wav"]
    table.write_text(f"{HEADER}\nc.wav,sad,1\n")
    with pytest.raises(
        DataError, match=r"own\.csv:2: 'c\.wav' is found 2 times below .*, such as s1/c.wav and s2/c.wav"
    ):
        read_manifest(table, config)
    with pytest.raises(DataError, match=r"data\.audio_root: .*nowhere: no such folder"):
        read_manifest(table, TablesConfig(audio_root=tmp_path / "nowhere"))


@pytest.mark.parametrize("cell", ["./sub/a.wav", "sub/../sub/a.wav", "sub//a.wav", "sub/./a.wav", "sub\\a.wav"])
def test_a_path_is_the_same_however_it_is_written(tmp_path: Path, cell: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.wav").touch()
    (tmp_path / "own.csv").write_text(f"path,emotion\n{cell},sad\n")
    [clip] = read_manifest(tmp_path / "own.csv").utterances
    assert str(clip.path) == str(tmp_path / "sub" / "a.wav")
