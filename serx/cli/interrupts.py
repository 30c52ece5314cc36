"""SIGINT, SIGTERM and SIGHUP end a command with 128 + their number, and without a traceback, from its first moment on.

`serx.training.signals` takes over where a signal must let a training step finish first.
"""

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

_IMPORT = "<frozen importlib"  # the file of the frames of an import


class _Interrupt:
    """The handler of a command's signals.

    Within an import, at the end of the process and at a second signal it ends the process at once. Elsewhere it raises
    an exception, so that temporary files are removed: KeyboardInterrupt for SIGINT, else SystemExit. An import would
    turn an exception into another one, or the process would abort within a library that is being loaded.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.at_once = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.at_once or self.number is not None or _is_importing(frame):
            _end(number)
        self.number = number
        # An exception that Python must ignore, such as in a destructor, would be printed, and the signal forgotten.
        sys.unraisablehook = lambda _: _end(number)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


_interrupt = _Interrupt()


def exit_on_signals() -> None:
    """Sets the handlers of this process for the rest of its life. An ignored SIGHUP, as under nohup, stays ignored."""
    _interrupt.number, _interrupt.at_once = None, False
    names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    for number in (getattr(signal, name) for name in names if hasattr(signal, name)):
        if number == getattr(signal, "SIGHUP", None) and signal.getsignal(number) == signal.SIG_IGN:
            continue
        with suppress(ValueError):  # only the main thread may handle signals
            signal.signal(number, _interrupt)


def exit_code() -> int | None:
    """128 + the number of the signal that arrived, or None."""
    return None if _interrupt.number is None else 128 + _interrupt.number


def nothing_left_to_do() -> None:
    """From now on a signal ends the process at once: the interpreter shuts down and would print an exception."""
    _interrupt.at_once = True


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith(_IMPORT):
            return True
        frame = frame.f_back
    return False


def _end(number: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # a closed pipe, or a signal in the middle of a write
            stream.flush()
    os._exit(128 + number)
