"""The run folder under faults: damaged files, full disks, locks, folders that cannot be written."""

import errno
import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from serx import checkpoint, files
from serx.config.loader import load_config
from serx.errors import CheckpointError, DiskError, RunInUseError
from serx.training import trainer as loop
from serx.training.resume import load_newest
from serx.training.run_folder import LAST, METRICS, PREVIOUS, Metrics, choose_run_folder, lock_run_folder
from serx.training.trainer import fit
from tests.conftest import TINY
from tests.reliability.killing import differences

ROOT = Path(__file__).parents[2]


def config_of(trained: Path, *overrides: str):
    return load_config(trained / "tiny.yaml", [*TINY, "train.epochs=8", *overrides])


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_previous_save_is_kept(trained):
    last, previous = checkpoint.load(trained / "run" / LAST), checkpoint.load(trained / "run" / PREVIOUS)
    assert (last.metadata["progress"]["epoch"], previous.metadata["progress"]["epoch"]) == (8, 7)


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_a_run_with_a_damaged_checkpoint_resumes_from_the_previous_one_to_the_same_bits(damage, trained, capsys):
    whole, run = trained / "run", trained / "damaged"
    os.rename(whole, run)
    config = config_of(trained)
    fit(config, whole, progress=False)
    if damage == "flipped":
        flip_a_bit(run / LAST)
    elif damage == "cut":
        (run / LAST).write_bytes((run / LAST).read_bytes()[:1000])
    else:
        (run / LAST).unlink()
    assert choose_run_folder(str(run), "tiny", resume=True) == run
    fit(config, run, resume=True, progress=False)
    printed = capsys.readouterr().out
    assert f"WARNING: {run / LAST}" in printed and "(epoch 7)" in printed
    assert differences(whole, run) == []


def test_a_damaged_checkpoint_never_replaces_a_readable_one(trained, monkeypatch):
    flip_a_bit(trained / "run" / LAST)
    before = (trained / "run" / PREVIOUS).read_bytes()

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files.os, "replace", _fail_for(LAST, os.replace))
    with pytest.raises(DiskError):
        fit(config_of(trained), trained / "run", resume=True, progress=False)
    assert (trained / "run" / PREVIOUS).read_bytes() == before
    monkeypatch.undo()
    fit(config_of(trained), trained / "run", resume=True, progress=False)


def _fail_for(name: str, original):
    def call(source, target, *rest):
        if Path(target).name == name:
            raise OSError(errno.EIO, "Input/output error")
        return original(source, target, *rest)

    return call


def test_two_damaged_checkpoints_are_both_named(trained):
    for name in (LAST, PREVIOUS):
        flip_a_bit(trained / "run" / name)
    with pytest.raises(CheckpointError, match=rf"{LAST}.*\n?.*{PREVIOUS}"):
        load_newest(trained / "run")


def test_a_run_that_cannot_be_written_stops_before_any_data_is_read(trained, monkeypatch):
    monkeypatch.setattr(loop, "load_dataset", lambda *a, **k: pytest.fail("read the data"))
    (trained / "a file").touch()
    for folder in (trained / "a file" / "run", Path("/proc/nowhere")):
        with pytest.raises(DiskError, match=re.escape(str(folder))):
            fit(config_of(trained), folder, progress=False)

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("serx.training.run_folder.TemporaryFile", full)
    with pytest.raises(DiskError, match="No space left"):
        fit(config_of(trained), trained / "new", progress=False)


CALLS = ("fsync", "link", "replace", "open", "write")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EPERM], ids=errno.errorcode.get)
def test_any_failed_call_of_a_save_leaves_the_old_checkpoint_or_the_new(call, number, tmp_path, monkeypatch):
    path, keep = tmp_path / LAST, tmp_path / PREVIOUS
    for value in (0.0, 1.0):
        checkpoint.save(path, {"model.x": torch.full((50,), value)}, {}, keep)
    for failing in range(4):
        with monkeypatch.context() as patch:
            hit = _fail_call(patch, call, failing, number)
            message = f"{path} free"
            try:
                checkpoint.save(path, {"model.x": torch.full((50,), 2.0)}, {}, keep)
            except DiskError as error:
                message = str(error)
            assert str(path) in message and "free" in message
        if not hit:
            break
        values = [float(checkpoint.load(file).tensors["model.x"][0]) for file in (keep, path)]
        assert values in ([0, 1], [1, 1], [1, 2], [2, 2]), values
        assert {file.name for file in tmp_path.iterdir()} == {LAST, PREVIOUS}
        for value in (0.0, 1.0):
            checkpoint.save(path, {"model.x": torch.full((50,), value)}, {}, keep)
    assert failing > 0


def _fail_call(patch, call: str, failing: int, number: int) -> list[int]:
    """Makes call number `failing` (from 0) of that name raise; the list stays empty if there is no such call."""
    seen, hit = [], []
    original = Path.open if call == "write" else getattr(os, call)

    def counted(*arguments, **named):
        seen.append(1)
        if len(seen) == failing + 1:
            hit.append(1)
            raise OSError(number, os.strerror(number))
        return original(*arguments, **named)

    if call == "write":
        patch.setattr(Path, "open", counted)
    else:
        patch.setattr(files.os, call, counted)
    return hit


def test_a_file_system_without_hard_links_keeps_the_previous_save_too(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(files.os, "link", refuse)
    for value in range(3):
        checkpoint.save(tmp_path / LAST, {"x": torch.tensor(float(value))}, {}, tmp_path / PREVIOUS)
    assert float(checkpoint.load(tmp_path / LAST).tensors["x"]) == 2
    assert float(checkpoint.load(tmp_path / PREVIOUS).tensors["x"]) == 1


def test_a_save_interrupted_between_its_renames_leaves_no_temporary_file_next_time(tmp_path, monkeypatch):
    path, keep = tmp_path / LAST, tmp_path / PREVIOUS
    files.write_atomically(path, b"one", keep)
    monkeypatch.setattr(files.os, "replace", _fail_for(LAST, os.replace))
    with pytest.raises(OSError, match="Input/output"):
        files.write_atomically(path, b"two", keep)
    monkeypatch.undo()
    assert (path.read_bytes(), keep.read_bytes()) == (b"one", b"one")  # two names of one file
    files.write_atomically(path, b"three", keep)
    assert (path.read_bytes(), keep.read_bytes()) == (b"three", b"one")
    assert len(list(tmp_path.iterdir())) == 2


def test_temporary_files_of_killed_writers_are_removed_and_nothing_else(tmp_path):
    (tmp_path / ".last.safetensors.123.tmp").touch()
    (tmp_path / "notes.tmp").touch()
    with lock_run_folder(tmp_path):
        assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", ".owner", "notes.tmp"]


def test_lines_that_are_no_metrics_are_dropped(tmp_path):
    scores = {"loss": 1.5, "uar": 0.5, "accuracy": 0.5, "macro_f1": 0.5}
    whole = {"epoch": 0, "train": scores, "valid": None, "kept": True, "protocol": "holdout"}
    before, later = json.dumps({**whole, "best": True}), json.dumps({**whole, "epoch": 1})
    lines = [before, later, "[1]", '"epoch"', "{}", '{"epoch": "x"}', '{"epoch": 1}', '{"epo', "\xff"]
    (tmp_path / METRICS).write_bytes("\n".join(lines).encode("latin-1"))
    [warning] = Metrics(tmp_path, 1).warnings
    assert "line 3, 4, 5, 6, 7 and 2 more" in warning
    assert [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()] == [whole]
    assert (tmp_path / "metrics.damaged").read_bytes().startswith(before.encode())


def test_unreadable_metrics_and_an_impossible_folder_name_are_disk_errors(tmp_path):
    (tmp_path / METRICS).mkdir()
    with pytest.raises(DiskError, match=f"{METRICS}: cannot read: Is a directory"):
        Metrics(tmp_path, 0)
    with pytest.raises(DiskError, match="null byte"), lock_run_folder(tmp_path / "a\0b"):
        pass


def test_metrics_that_cannot_be_written_raise_a_disk_error(tmp_path, monkeypatch):
    metrics = Metrics(tmp_path, 0)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(DiskError, match="MB free"):
        metrics.append({"epoch": 0})


RACE = """
import os, signal, sys, time
from pathlib import Path
from serx.errors import RunInUseError
from serx.training.run_folder import lock_run_folder

folder, rounds = Path(sys.argv[1]), int(sys.argv[2])
wins = []
for i in range(rounds):
    start, go = os.pipe()
    tried_in, tried_out = os.pipe()
    children = []
    for _ in range(3):
        child = os.fork()
        if not child:
            os.close(go)
            os.read(start, 1)
            try:
                with lock_run_folder(folder):
                    os.write(tried_out, b"w")
                    time.sleep(30)  # until killed
            except RunInUseError:
                os.write(tried_out, b"l")
            os._exit(0)
        children.append(child)
    os.close(start)
    os.close(go)
    results = b""
    while len(results) < 3:
        results += os.read(tried_in, 3)
    wins.append(results.count(b"w"))
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    os.close(tried_in)
    os.close(tried_out)
print(wins.count(1), len(wins))
"""


def test_one_of_three_processes_gets_the_folder_and_the_lock_of_a_killed_process_is_free(tmp_path):
    done = subprocess.run([sys.executable, "-c", RACE, str(tmp_path / "run"), "50"], capture_output=True, text=True,
                          cwd=ROOT, timeout=60)  # fmt: skip
    assert done.stdout.split() == ["50", "50"], done.stderr


def test_a_file_system_without_locks_trains_with_a_warning(tmp_path, monkeypatch, capsys):
    def unlocked(*_, **__):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("serx.files.FileLock.acquire", unlocked)
    with lock_run_folder(tmp_path):
        assert "without locks" in capsys.readouterr().out
    monkeypatch.undo()
    with lock_run_folder(tmp_path), pytest.raises(RunInUseError), lock_run_folder(tmp_path):
        pass


@pytest.mark.long
def test_no_checkpoint_with_a_flipped_bit_is_read(trained, record_figure):
    path = trained / "run" / LAST
    content, choose, tried = path.read_bytes(), random.Random(0), 5000
    passed = 0
    for position in choose.sample(range(len(content)), tried):
        broken = bytearray(content)
        broken[position] ^= 1 << choose.randrange(8)
        path.write_bytes(broken)
        try:
            checkpoint.load(path)
            passed += 1
        except CheckpointError:
            continue
    record_figure(f"{tried} flipped bits: {passed} passed")
    assert passed == 0
