"""Audio arguments of a command line: files as they are, folders searched for audio."""

from pathlib import Path

from serx.data.corpora import LOSSLESS, LOSSY, UNREADABLE
from serx.errors import DataError


def audio_files(arguments: list[str]) -> list[Path]:
    """Every file named, and every audio file below the folders named, in order; those that no one reads among them.

    Raises:
        DataError: a folder holds no audio.
    """
    found: list[Path] = []
    for argument in map(Path, arguments):
        if not argument.is_dir():
            found.append(argument)
            continue
        audio = (path for path in argument.rglob("*") if path.suffix.lower() in LOSSLESS | LOSSY | UNREADABLE)
        below = sorted(path for path in audio if not path.name.startswith("."))
        if not below:
            raise DataError(f"{argument}: no audio files below this folder")
        found += below
    return found
