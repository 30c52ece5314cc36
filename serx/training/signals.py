"""SIGTERM, SIGINT and SIGHUP ask a run to stop after its step; a second one ends the process at once.

SIGHUP comes when a terminal is closed or a connection lost, and asks nothing of who ignores it, as under nohup.
"""

import errno
import os
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

BEHIND = 0.5  # seconds: a closed terminal refuses what is printed a moment before it says that it is closed


@contextmanager
def catch_signals() -> Iterator[list[int]]:
    """A list that the first signal is put into, for the loop to look at between steps."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:
            raise SystemExit(128 + number)
        received.append(number)
        if number == signal.SIGHUP:
            _leave_terminal()
        told = f"\n{signal.Signals(number).name}: finishing this step, then saving (again to stop at once)\n"
        with suppress(OSError):  # not print, which refuses to be entered twice: the signal may have come in it
            os.write(2, told.encode())

    asked = [signal.SIGTERM, signal.SIGINT]
    asked += [] if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else [signal.SIGHUP]
    try:
        before = {number: signal.signal(number, note) for number in asked}
    except ValueError:  # not the main thread: signals are somebody else's
        before = {}
    try:
        yield received
    except OSError as error:
        if error.errno == errno.EIO:
            time.sleep(BEHIND)
        if signal.SIGHUP not in received:
            raise
        raise SystemExit(128 + signal.SIGHUP) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_terminal() -> None:
    """What is printed goes nowhere from now on: writing to a terminal that was closed is an error."""
    for stream in (1, 2):
        if stat.S_ISCHR(os.fstat(stream).st_mode):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)
