"""The errors that serx raises for a user to fix, and the exit code of a command for each.

A message says what is wrong, where, and how to fix it, on one line or in a short list. A command prints the message
without a traceback and exits with the code of the error's class.
"""


class SerxError(Exception):
    """An error that the user can fix.

    >>> DataError("clips.csv:7: no such file").exit_code
    6
    """

    exit_code = 1
    meaning = "some inputs failed"


class ConfigError(SerxError):
    """A configuration or a command line that is wrong or contradicts itself."""

    exit_code = 2
    meaning = "configuration or usage"


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


# The shell's codes for a process that a signal stopped: 128 + the signal's number.
SIGNAL_EXIT_CODES = {129: "SIGHUP", 130: "SIGINT", 143: "SIGTERM"}


def exit_codes() -> dict[int, str]:
    """Each exit code of a command and what it means.

    >>> exit_codes()[2]
    'configuration or usage'
    """
    errors = (SerxError, ConfigError, RunInUseError, DivergedError, DiskError, DataError, CheckpointError)
    signals = {code: f"stopped by {name}" for code, name in SIGNAL_EXIT_CODES.items()}
    return {0: "ok", **{error.exit_code: error.meaning for error in errors}, **signals}


def exit_code_help() -> str:
    """`exit_codes` on one line, for the help of a command.

    >>> exit_code_help()[:45]
    'exit codes: 0 ok, 1 some inputs failed, 2 con'
    """
    return "exit codes: " + ", ".join(f"{code} {meaning}" for code, meaning in exit_codes().items())
