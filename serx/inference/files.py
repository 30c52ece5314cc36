"""Audio arguments of a command line: files as they are, folders searched for audio."""

from pathlib import Path

import soundfile

from serx.errors import DataError

# formats libsndfile knows whose usual file name ending is not the format's own name
_MORE = {"mp3", "aif", "aiff", "oga", "opus"}


def audio_files(arguments: list[str]) -> list[Path]:
    """Every file named, and every audio file below the folders named, in order.

    Raises:
        DataError: a folder holds no audio.
    """
    endings = {f".{name.lower()}" for name in soundfile.available_formats()} | {f".{name}" for name in _MORE}
    found: list[Path] = []
    for argument in map(Path, arguments):
        if not argument.is_dir():
            found.append(argument)
            continue
        below = sorted(p for p in argument.rglob("*") if p.suffix.lower() in endings and not p.name.startswith("."))
        if not below:
            raise DataError(f"{argument}: no audio files below this folder")
        found += below
    return found
