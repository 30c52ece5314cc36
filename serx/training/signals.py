"""SIGTERM and SIGINT ask a run to stop after its step; a second one ends the process at once."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """A list that the first signal is put into, for the loop to look at between steps."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:
            raise SystemExit(128 + number)
        received.append(number)
        told = f"\n{signal.Signals(number).name}: finishing this step, then saving (again to stop at once)\n"
        with suppress(OSError):  # not print, which refuses to be entered twice: the signal may have come in it
            os.write(2, told.encode())

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: signals are somebody else's
        before = {}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
