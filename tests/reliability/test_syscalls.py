"""A save that is killed or fails at any of its system calls leaves the old file or the new one, complete."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

ROOT = Path(__file__).parents[2]
CALLS = "openat,write,fsync,link,linkat,rename,renameat,renameat2,unlink,unlinkat,close"
SAVE = """
import os, sys
sys.path[:0] = sys.argv[1:]
from pathlib import Path
from serx.files import write_atomically

path, keep = Path("last"), Path("previous")
os.write(2, b"begin")
try:
    write_atomically(path, b"n" * 100_000, keep)
finally:
    os.write(2, b"end")
"""


def save(folder: Path, *options: str) -> subprocess.CompletedProcess:
    """Replaces the content `o` by `n`, where `p` is the previous save, in a process under strace."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "last").write_bytes(b"o" * 100_000)
    (folder / "previous").write_bytes(b"p" * 100_000)
    tracer = ["strace", "-f", "-e", f"trace={CALLS}", "-o", str(folder.parent / "log"), *options]
    command = [*tracer, sys.executable, "-S", "-E", "-c", SAVE, str(ROOT), str(Path(filelock.__file__).parents[1])]
    return subprocess.run(command, capture_output=True, cwd=folder, timeout=60)


@pytest.fixture
def calls(tmp_path) -> list[tuple[str, int]]:
    """(name, number of the call with that name) of every system call of a save."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    probe = save(tmp_path / "probe", "-e", "inject=fsync:error=EIO:when=1")
    if b"strace:" in probe.stderr or probe.returncode == 0:
        pytest.skip(f"strace cannot inject faults here: {probe.stderr[-200:]!r}")
    assert b"Input/output error" in probe.stderr, probe.stderr.decode()
    assert save(tmp_path / "whole").returncode == 0
    seen: dict[str, int] = {}
    calls_of_save, within = [], False
    for line in (tmp_path / "log").read_text().splitlines():
        name = re.match(r"\d+\s+(\w+)\(", line)
        if name:
            seen[name[1]] = seen.get(name[1], 0) + 1
            if 'write(2, "end"' in line:
                break
            if within:
                calls_of_save.append((name[1], seen[name[1]]))
            within |= 'write(2, "begin"' in line
    assert {"fsync", "openat", "write"} <= {name for name, _ in calls_of_save}
    return calls_of_save


def test_a_save_that_fails_or_is_killed_at_any_system_call_leaves_the_old_file_or_the_new(
    calls, tmp_path, record_figure
):
    allowed = {("o", "p"), ("o", "o"), ("n", "o")}
    seen, tried = set(), 0
    for name, nth in calls:
        for fault in ("error=EIO", "error=ENOSPC", "signal=KILL", "error=EIO:signal=KILL"):
            if name == "close" and fault.startswith("error=E") and "KILL" not in fault:
                continue  # an injected failure leaves the file open; a real one closes it
            tried += 1
            done = save(tmp_path / "run", "-e", f"inject={name}:{fault}:when={nth}")
            run = tmp_path / "run"
            content = [(run / file).read_bytes() for file in ("last", "previous")]
            assert [len(c) for c in content] == [100_000] * 2
            assert all(len(set(c)) == 1 for c in content)
            state = tuple(chr(c[0]) for c in content)
            assert state in allowed, (name, nth, fault)
            seen.add(state)
            if "KILL" not in fault:
                assert done.returncode in (0, 1)
                if name not in ("unlink", "unlinkat"):
                    assert len(list(run.iterdir())) == 2, (name, nth, fault)
    assert seen == allowed
    assert len(calls) >= 8
    record_figure(f"{len(calls)} system calls of a save, {tried} faults: 0 times neither old nor new")
