"""`AudioError`: a file that cannot be used, with a one-word reason."""

from serx.errors import DataError
from serx.files import StrPath


class AudioError(DataError):
    """A file that cannot be used.

    Attributes:
        reason: empty, not_audio, truncated, too_short, too_long, silent, no_speech, nonfinite, absurd_level, bad_rate,
            too_many_channels, decode_error, unreadable or out_of_range.
        detail: what exactly, and how to fix it where that is known.

    >>> print(AudioError("a.wav", "empty", "0 bytes"))
    a.wav: empty: 0 bytes
    """

    def __init__(self, path: StrPath, reason: str, detail: str) -> None:
        super().__init__(f"{path}: {reason}: {detail}")
        self.reason, self.detail = reason, detail
