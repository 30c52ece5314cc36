"""What can go wrong, one class per exit code: a script prints the one line and exits with its number."""


class SerxError(Exception):
    """A fault the user can mend. The message says what, where and how to mend it, on one line or a short list."""

    exit_code = 1


class ConfigError(SerxError):
    """A configuration or a command line that cannot be obeyed."""

    exit_code = 2


class RunInUseError(SerxError):
    """Another process is training into the same run folder."""

    exit_code = 3


class DivergedError(SerxError):
    """Training stopped because losses or gradients stayed non-finite."""

    exit_code = 4


class DiskError(SerxError):
    """A file could not be written; the message names the path and the free bytes."""

    exit_code = 5


class DataError(SerxError):
    """Audio, manifests, speakers or labels that cannot be used as asked."""

    exit_code = 6


class LeakError(DataError):
    """The same speaker or the same audio would stand in two parts of a split."""


class CheckpointError(SerxError):
    """A checkpoint that is missing, damaged, or not one of serx's."""

    exit_code = 7
