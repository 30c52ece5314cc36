"""What differs between operating systems: usable CPUs, signals, child and parent processes, the C library's memory."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any

PARENT_PROCESS = "SERX_PARENT_PROCESS"  # environment variable: id of the process with which this one ends
WATCH_SECONDS = 0.5
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT_BYTES = 2**30
WINDOWS = sys.platform == "win32"


def cpu_count() -> int:
    """The number of CPUs that this process may run on; all of the machine where the system does not say.

    >>> cpu_count() >= 1
    True
    """
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def is_running(process: int) -> bool:
    """Whether a process with this id runs on this machine; on Windows, where asking would end it, always True.

    >>> is_running(os.getpid())
    True
    """
    if WINDOWS:
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it runs, and belongs to someone else
        return True
    return True


def stop_signals() -> list[signal.Signals]:
    """The signals that ask a run to stop, as far as this system has them.

    SIGTERM and SIGINT everywhere; SIGHUP (a closed terminal) on Linux and macOS; SIGBREAK (Ctrl-Break) on Windows.

    >>> signal.SIGTERM in stop_signals()
    True
    """
    names = ("SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


def own_group() -> dict[str, Any]:
    """Keyword arguments of `subprocess.Popen` for a child that Ctrl-C in this terminal does not reach.

    `send_stop` then decides when the child stops; otherwise it would receive the signal twice.
    """
    if WINDOWS:
        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    return {"start_new_session": True}


def send_stop(process: subprocess.Popen[Any], number: int = signal.SIGTERM) -> None:
    """Asks a running child, started with `own_group()`, to save and stop; does nothing if it has ended.

    Windows delivers no signal but Ctrl-Break to another process, so Ctrl-Break takes the place of `number` there.
    """
    if process.poll() is None:
        process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", number) if WINDOWS else number)


def end_with_parent() -> None:
    """Watches the parent process that `PARENT_PROCESS` names; when it is gone, this process gets SIGTERM.

    So training saves and ends even if the parent was killed, and its run folder is free for the next process. On
    Windows a process keeps the id of a parent that has ended, so nothing is watched there.
    """
    parent = os.environ.pop(PARENT_PROCESS, None)
    if parent and not WINDOWS:
        threading.Thread(target=_watch, args=(int(parent),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next training step instead of returning large blocks to the system.

    The system zeroes each new page: some 5 % of a CPU's training step. Nothing happens with other C libraries.
    """
    with suppress(AttributeError, TypeError, OSError):  # no mallopt (macOS, musl); no library of that kind (Windows)
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
