"""The errors that serx raises for a user to fix, and the exit code of a command for each.

A message says what is wrong, where, and how to fix it, on one line or in a short list. A command prints the message
without a traceback and exits with the code of the error's class.
"""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

# What torch, NumPy and the C++ library say where memory is short, or where a size does not even fit 64 bits.
_NO_MEMORY = (
    "out of memory", "not enough memory", "allocate memory", "bad_alloc", "unable to allocate", "invalid size",
    "size calculation overflowed", "multiplication overflow", "array is too big", "maximum allowed dimension",
    "overflow when unpacking",
)  # fmt: skip


class SerxError(Exception):
    """An error that the user can fix; its message says what is wrong, where, and how to fix it.

    `exit_code` and `meaning` are those of a command that ends with it. Its classes: `ConfigError`, `RunInUseError`,
    `DivergedError`, `DiskError`, `DataError` (also `LeakError` and `AudioError`), `CheckpointError`,
    `ProcessLostError`.

    >>> DataError("clips.csv:7: no such file").exit_code
    6
    """

    exit_code = 1
    meaning = "some inputs failed"


class ConfigError(SerxError):
    """A configuration or a command line that is wrong or contradicts itself."""

    exit_code = 2
    meaning = "configuration or usage"


class OutOfMemoryError(ConfigError):
    """What was asked for does not fit into the memory of the machine or of the GPU."""


class RunInUseError(SerxError):
    """Another process is training in the same run folder."""

    exit_code = 3
    meaning = "run folder in use"


class DivergedError(SerxError):
    """Training stopped because losses or gradients stayed non-finite."""

    exit_code = 4
    meaning = "training diverged"


class DiskError(SerxError):
    """A file cannot be written. The message names the path and the free space."""

    exit_code = 5
    meaning = "disk"


class DataError(SerxError):
    """Audio, manifests, speakers or labels that are missing or unusable."""

    exit_code = 6
    meaning = "data"


class LeakError(DataError):
    """The same speaker or the same audio is in two parts of a split."""


class CheckpointError(SerxError):
    """A checkpoint that is missing, damaged, or not one of serx."""

    exit_code = 7
    meaning = "checkpoint"


class ProcessLostError(SerxError):
    """Another process that trains the same model has ended."""

    exit_code = 8
    meaning = "another process of the run was lost"


# The shell's codes for a process that a signal stopped: 128 + the signal's number.
SIGNAL_EXIT_CODES = {129: "SIGHUP", 130: "SIGINT", 143: "SIGTERM"}


def exit_codes() -> dict[int, str]:
    """Each exit code of a command and what it means.

    >>> exit_codes()[2]
    'configuration or usage'
    """
    errors = (
        SerxError, ConfigError, RunInUseError, DivergedError, DiskError, DataError, CheckpointError, ProcessLostError,
    )  # fmt: skip
    signals = {code: f"stopped by {name}" for code, name in SIGNAL_EXIT_CODES.items()}
    return {0: "ok", **{error.exit_code: error.meaning for error in errors}, **signals}


def exit_code_help() -> str:
    """`exit_codes` on one line, for the help of a command.

    >>> exit_code_help()[:45]
    'exit codes: 0 ok, 1 some inputs failed, 2 con'
    """
    return "exit codes: " + ", ".join(f"{code} {meaning}" for code, meaning in exit_codes().items())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory is short, or that a size is too large to be asked for.

    torch raises a `RuntimeError` on a CPU and a class of its own on a GPU, NumPy a `MemoryError`; a number that fits
    no index is an `OverflowError`.

    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory")), is_out_of_memory(RuntimeError())
    (True, False)
    """
    if isinstance(error, SerxError):
        return isinstance(error, OutOfMemoryError)
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, MemoryError | OverflowError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError | ValueError | TypeError) and any(words in text for words in _NO_MEMORY)


def out_of_memory(error: BaseException, advice: str) -> OutOfMemoryError:
    """The error to raise instead of one that `is_out_of_memory`: how much was asked for at once, and what to lower.

    >>> print(out_of_memory(RuntimeError("you tried to allocate 4096000000 bytes"), "lower train.batch_size"))
    out of memory: 4096000000 bytes were asked for at once; lower train.batch_size
    """
    asked = re.search(r"allocate ([\d.]+ ?\w+)", str(error))
    return OutOfMemoryError(f"out of memory: {f'{asked[1]} were asked for at once; ' if asked else ''}{advice}")


@contextmanager
def explaining_out_of_memory(advice: str) -> Iterator[None]:
    """Turns an out-of-memory error into one line with `advice`: a context, or a decorator of a function.

    Raises:
        OutOfMemoryError: memory is short within the block.

    >>> with explaining_out_of_memory("give shorter recordings"):
    ...     raise MemoryError
    Traceback (most recent call last):
    serx.errors.OutOfMemoryError: out of memory: give shorter recordings
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, SerxError) or not is_out_of_memory(error):
            raise
        raise out_of_memory(error, advice) from error
