"""Signals that stop a run after its current step; a second one ends the process at once."""

import errno
import os
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from serx.system import stop_signals

SIGHUP = getattr(signal, "SIGHUP", None)  # a closed terminal or a lost connection; Windows has no such signal
TERMINAL_SECONDS = 0.5  # a closed terminal refuses output a moment before SIGHUP arrives


@contextmanager
def catch_signals(alone: bool = True, announce: bool = True) -> Iterator[list[int]]:
    """A list that receives the number of the first signal, for the loop to look at between steps.

    SIGTERM, SIGINT and SIGHUP are caught (SIGBREAK on Windows). An ignored SIGHUP, as under nohup, stays ignored.

    Args:
        alone: a second signal ends the process at once. False under torchrun, which repeats the signal of a terminal,
            and kills after half a minute.
        announce: print a line when the first signal comes.

    >>> with catch_signals() as signals:
    ...     signal.raise_signal(signal.SIGTERM)
    ...     signals == [signal.SIGTERM]
    True
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received and alone:
            raise SystemExit(128 + number)
        if received:
            return
        received.append(number)
        if number == SIGHUP:
            _leave_terminal()
        again = " (again to stop at once)" if alone else ""
        text = f"\n{signal.Signals(number).name}: finishing this step, then saving{again}\n" if announce else ""
        with suppress(OSError):  # not print, which cannot be entered twice: the signal may have come within it
            os.write(2, text.encode())

    caught = [number for number in stop_signals() if number != SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    try:
        before = {number: signal.signal(number, note) for number in caught}
    except ValueError:  # only the main thread may handle signals
        before = {}
    try:
        yield received
    except OSError as error:
        if error.errno == errno.EIO:
            time.sleep(TERMINAL_SECONDS)
        if SIGHUP not in received:
            raise
        raise SystemExit(128 + received[0]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave_terminal() -> None:
    """Sends all further output nowhere: writing to a closed terminal is an error."""
    for stream in (1, 2):
        if stat.S_ISCHR(os.fstat(stream).st_mode):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)
