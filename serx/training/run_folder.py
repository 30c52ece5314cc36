"""The folder of a run: where it is, who may write into it, and its plain files."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from serx.errors import ConfigError, DiskError, RunInUseError
from serx.files import free_space, remove_temporaries, write_atomically

LAST, BEST, METRICS = "last.safetensors", "best.safetensors", "metrics.jsonl"
PREVIOUS = "previous.safetensors"  # the `last` before the last, for the day on which a disk spoils a file


def choose_run_folder(output: str | None, name: str, resume: bool) -> Path:
    """`output`, or `checkpoints/<name>/<time>`; resuming without an output takes the run of that name saved last.

    Raises:
        ConfigError: there is nothing to resume, or a run is already there and `resume` was not asked for.
    """
    runs = Path("checkpoints") / name
    if output is not None:
        folder = Path(output)
    elif resume:
        begun = {path.parent: path.stat().st_mtime for name in (PREVIOUS, LAST) for path in runs.glob(f"*/{name}")}
        if not begun:
            raise ConfigError(f"--resume: no run in {runs}; name its folder with train.output=DIR")
        folder = max(begun, key=lambda run: (begun[run], run))
    else:
        folder = runs / time.strftime("%Y%m%d-%H%M%S")
    begun_here = any((folder / name).exists() for name in (LAST, PREVIOUS))
    if resume and not begun_here:
        raise ConfigError(f"--resume: {folder / LAST} is not there; leave --resume out to start this run")
    if not resume and begun_here:
        raise ConfigError(f"train.output: {folder} already holds a run; add --resume to go on, or name another folder")
    return folder


@contextmanager
def lock_run_folder(folder: Path, setting: str = "train.output") -> Iterator[None]:
    """Makes the folder, tries to write in it, and keeps other processes out; the kernel frees a killed one's lock.

    Raises:
        DiskError: the folder cannot be made or written.
        RunInUseError: another process holds it; named by its number.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a+")
        TemporaryFile(dir=folder).close()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in its name
        why = getattr(error, "strerror", None) or error
        raise DiskError(f"{folder}: cannot write here: {why}; choose another {setting}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise RunInUseError(f"{folder}: process {holder} is training here; wait, or name another folder") from error
        except OSError as error:  # a file system without locks
            print(f"note: {folder} cannot be locked ({error.strerror}): let no second run write there")
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        remove_temporaries(folder)
        yield


def write(path: Path, content: bytes) -> None:
    """Replaces a plain file of a run, whole or not at all.

    Raises:
        DiskError: names the path and the free bytes.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        where = f"{path}: cannot write {len(content)} bytes: {error.strerror} ({free_space(path)})"
        raise DiskError(f"{where}; what was saved before is whole: make room and add --resume") from error


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`, as far as they can be read; none where there is no such file."""
    path, lines = folder / METRICS, []
    try:
        written = path.read_text(errors="replace") if path.exists() else ""
    except OSError as error:
        raise DiskError(f"{path}: cannot read: {error.strerror}; move it away") from error
    for text in written.splitlines():
        try:
            line = json.loads(text)
            line["epoch"] + 0
        except (ValueError, KeyError, TypeError):
            continue  # a line that somebody's editor broke
        lines.append(line)
    return lines


class Metrics:
    """`metrics.jsonl`, one object an epoch: the record of which TensorBoard is a view."""

    def __init__(self, folder: Path, epochs_done: int) -> None:
        """Keeps the lines of epochs already done and forgets later ones, which a resumed run does again."""
        self._path = folder / METRICS
        self.lines = [line for line in read_metrics(folder) if line["epoch"] < epochs_done]
        self._write()

    def append(self, line: dict[str, Any]) -> None:
        """Adds an epoch's line."""
        self.lines.append(line)
        self._write()

    def _write(self) -> None:
        write(self._path, "".join(json.dumps(line) + "\n" for line in self.lines).encode())
