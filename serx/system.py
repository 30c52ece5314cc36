"""What differs between machines and operating systems: CPUs that this process may use, signals, parent processes."""

import os
import signal
import threading
import time

PARENT_PROCESS = "SERX_PARENT_PROCESS"  # in the environment of a process that shall end when this parent has died
_WATCH_SECONDS = 0.5


def cpu_count() -> int:
    """CPUs that this process may run on; all of the machine's where the system does not say (macOS, Windows)."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_with_parent() -> None:
    """Sends this process SIGTERM once the parent that `PARENT_PROCESS` names is gone, even if it was killed.

    Training then saves and ends, and its run folder is free for the next process.
    """
    parent = os.environ.pop(PARENT_PROCESS, None)
    if parent:
        threading.Thread(target=_watch, args=(int(parent),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
