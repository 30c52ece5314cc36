"""A folder of recordings that are not speech to learn from: background noises, impulse responses of rooms."""

from pathlib import Path

import torch
from torch import Tensor

from serx.data.audio import AudioConfig, read
from serx.errors import DataError

SUFFIXES = {".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif"}
MAX_SECONDS = 3600.0  # of one recording


def read_folder(folder: str, sample_rate: int) -> list[Tensor]:
    """Every recording in `folder` and below it, in the order of their names, `(T,)` float32 at `sample_rate`.

    Raises:
        DataError: there is no such folder, or no audio file in it.
        RefusedAudioError: a file is broken; named, with the reason.
    """
    paths = sorted(path for path in Path(folder).expanduser().rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        found = "holds no audio file" if Path(folder).expanduser().is_dir() else "is no folder"
        raise DataError(f"{folder} {found}; set the transform's folder to one with {', '.join(sorted(SUFFIXES))} files")
    config = AudioConfig(sample_rate=sample_rate, min_seconds=0.0, max_seconds=MAX_SECONDS)
    return [torch.from_numpy(read(path, config)) for path in paths]
