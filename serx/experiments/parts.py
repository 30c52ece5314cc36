"""Parts of a cross-validation or a sweep: each is one command that skips what is done, and that one process runs.

A part can run here, in an array of Slurm, or under any other scheduler. Two processes never run the same part: a lock
of the operating system keeps out those that share its locks, and a file that the owner touches every few seconds
those on machines that do not.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from serx.errors import ConfigError, DiskError, RunInUseError
from serx.files import locked

PARTS = "parts"  # folder of locks and logs, within that of the cross-validation or the sweep
IN_USE = RunInUseError.exit_code
TOUCH_SECONDS = 10.0  # between two touches of the owner's file
GONE_SECONDS = 60.0  # an owner on another machine that has not touched its file for so long was killed


def part_log(out: Path, number: int) -> Path:
    """Where the output of a part goes if serx starts it."""
    return out / PARTS / f"{number}.log"


def check_part(number: int, count: int) -> None:
    """Raises ConfigError if there is no part of this number.

    >>> check_part(3, 3)
    Traceback (most recent call last):
        ...
    serx.errors.ConfigError: --part 3: there are parts 0 to 2; --list-parts shows them
    """
    if not 0 <= number < count:
        raise ConfigError(f"--part {number}: there are parts 0 to {count - 1}; --list-parts shows them")


@contextmanager
def lock_part(out: Path, name: str) -> Iterator[None]:
    """Keeps other processes, also those of other machines, away from a part.

    The lock of a killed process is free at once on the same machine, and after `GONE_SECONDS` on another one.

    Args:
        out: the folder of the cross-validation or the sweep.
        name: of the part, as a file name.

    Raises:
        DiskError: the folder cannot be written.
        RunInUseError: another process runs the part; the message names it and its machine.
    """
    lock, owner = out / PARTS / f"{name}.lock", out / PARTS / f"{name}.owner"
    done = threading.Event()
    with ExitStack() as stack:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(lock, wait=False))
            if _is_touched_elsewhere(owner, lock):
                raise BlockingIOError
            owner.write_text(f"{os.getpid()} on {socket.gethostname()}")
        except BlockingIOError as error:
            text = _read(owner)
            who = f"process {text}" if text else "another process"
            raise RunInUseError(f"part {name} in {out}: {who} runs it") from error
        except OSError as error:
            raise DiskError(f"{lock}: cannot write here: {error.strerror or error}; choose another --out") from error
        toucher = threading.Thread(target=_touch, args=(owner, done), daemon=True)
        toucher.start()
        try:
            yield
        finally:
            done.set()
            toucher.join()
            owner.unlink(missing_ok=True)


def is_locked(out: Path, name: str) -> bool:
    """Whether a process runs the part now."""
    try:
        with lock_part(out, name):
            return False
    except RunInUseError:
        return True


def _touch(owner: Path, done: threading.Event) -> None:
    while not done.wait(TOUCH_SECONDS):
        with suppress(OSError):
            os.utime(owner)


def _is_touched_elsewhere(owner: Path, lock: Path) -> bool:
    """Whether a process of another machine runs the part, whose lock this machine may not see."""
    text = _read(owner)
    if not text or text.partition(" on ")[2] == socket.gethostname():
        return False
    try:
        os.utime(lock)  # the clock of the file server, which the machines share
        return lock.stat().st_mtime - owner.stat().st_mtime < GONE_SECONDS
    except OSError:
        return False


def _read(owner: Path) -> str:
    try:
        return owner.read_text(errors="replace")[:200]
    except OSError:
        return ""
