"""Decode one audio file to a mono float32 waveform, or refuse it with a named reason.

The only user of soundfile. Channels are averaged, the rate is changed by soxr (HQ: aliases at -132 dB), and silence at
both ends may be trimmed; training and prediction go through the same call, so that they hear the same thing.
"""

import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import soxr
from pydantic import Field

from serx.base_config import BaseConfig
from serx.data.corpora import LOSSLESS, LOSSY, UNREADABLE
from serx.errors import DataError

MAX_RATE, MIN_RATE = 384_000, 4_000


MAX_CHANNELS = 32


MAX_LEVEL = 1e4  # a float file may exceed full scale; beyond this it is not audio


_BLOCK = 1 << 16  # frames


FRAME_SECONDS, STEP_SECONDS = 0.025, 0.010


class AudioConfig(BaseConfig):
    """How a file becomes a waveform; part of the `data` section and of every checkpoint."""

    sample_rate: int = Field(16_000, ge=4_000, le=192_000)
    trim_db: float | None = Field(None, gt=0)  # cut the ends that stay this far below the loudest frame
    trim_keep_seconds: float = Field(0.05, ge=0)  # and leave so much of them
    offset_seconds: float = Field(0.0, ge=0)  # leave out so much of the beginning
    duration_seconds: float | None = Field(None, gt=0)  # and keep so much of what follows; a shorter clip is kept whole
    min_seconds: float = Field(0.1, ge=0)
    max_seconds: float = Field(60.0, gt=0)


class AudioError(DataError):
    """A file that cannot be used. `reason` is one word: empty, not_audio, truncated, too_short, too_long, silent,
    nonfinite, absurd_level, bad_rate, too_many_channels, decode_error or unreadable."""

    def __init__(self, path: Path, reason: str, detail: str) -> None:
        super().__init__(f"{path}: {reason}: {detail}")
        self.reason, self.detail = reason, detail


def read(path: Path, config: AudioConfig) -> np.ndarray:
    """Decodes `path` to `(T,)` float32 at `config.sample_rate`.

    Raises:
        RefusedAudioError: with one of the reasons above; nothing is returned that a model could choke on.
    """
    mono, rate = _decode(path, config.max_seconds)
    heard = len(mono) / rate
    mono = window(mono, rate, config.offset_seconds, config.duration_seconds)
    if len(mono) == 0:
        raise AudioError(path, "too_short", f"{heard:.3f} s, data.offset_seconds is {config.offset_seconds}")
    if not np.isfinite(mono).all():
        raise AudioError(path, "nonfinite", "NaN or infinite samples; export it again")
    peak = float(np.abs(mono).max(initial=0.0))
    if peak == 0.0:
        raise AudioError(path, "silent", "every sample is zero")
    if peak > MAX_LEVEL:
        raise AudioError(path, "absurd_level", f"peak {peak:.3g} where full scale is 1")
    mono = as_clip(mono, rate, config)
    if len(mono) < max(1, config.min_seconds * config.sample_rate):
        seconds = len(mono) / config.sample_rate
        raise AudioError(path, "too_short", f"{seconds:.3f} s, data.min_seconds is {config.min_seconds}")
    return mono


def as_clip(waveform: np.ndarray, rate: int, config: AudioConfig) -> np.ndarray:
    """`waveform (T,)` at `rate`, decoded already, as training hears clips: `config.sample_rate`, ends trimmed."""
    if rate != config.sample_rate:
        waveform = soxr.resample(waveform, rate, config.sample_rate, quality="HQ")
    if config.trim_db is not None:
        waveform = trim_silence(waveform, config.sample_rate, config.trim_db, config.trim_keep_seconds)
    return np.ascontiguousarray(waveform, dtype=np.float32)


def window(waveform: np.ndarray, rate: int, offset_seconds: float, duration_seconds: float | None) -> np.ndarray:
    """`duration_seconds` of `waveform (T,)` from `offset_seconds` on, or what there is of them."""
    start = round(offset_seconds * rate)
    return waveform[start : None if duration_seconds is None else start + round(duration_seconds * rate)]


def blocks(path: Path, sample_rate: int) -> Iterator[np.ndarray]:
    """A recording of any length, `(t,)` float32 at a time at `sample_rate`: it is never in memory whole.

    Raises:
        RefusedAudioError: as `read` does. What goes wrong behind a good beginning is told after that beginning.
    """
    with _opened(path, math.inf) as file:
        heard, resampler = 0, resampler_to(sample_rate, file.samplerate)
        while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
            heard += len(block)
            with np.errstate(invalid="ignore", over="ignore"):
                mono = block.mean(axis=1)
            place = f"before {heard / file.samplerate:.1f} s"
            if not np.isfinite(mono).all():
                raise AudioError(path, "nonfinite", f"NaN or infinite samples {place}; export it again")
            if np.abs(mono).max() > MAX_LEVEL:
                raise AudioError(path, "absurd_level", f"peak {np.abs(mono).max():.3g} {place}; full scale is 1")
            yield resampler.resample_chunk(mono)
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        if heard < file.frames or _riff_is_cut(path):
            raise AudioError(path, "truncated", "the file is shorter than its header says; copy it again")
        if heard == 0:
            raise AudioError(path, "empty", "a header without samples")


def seconds(path: Path) -> float:
    """How long a recording is, by its header.

    Raises:
        RefusedAudioError: it is no audio, or absurd.
    """
    with _opened(path, math.inf) as file:
        return file.frames / file.samplerate


def resampler_to(sample_rate: int, rate: int) -> soxr.ResampleStream:
    """Takes blocks of mono float32 at `rate` and gives them at `sample_rate`, whatever the blocks' sizes."""
    return soxr.ResampleStream(rate, sample_rate, 1, dtype="float32", quality="HQ")


def trim_silence(waveform: np.ndarray, sample_rate: int, trim_db: float, keep_seconds: float) -> np.ndarray:
    """Cuts both ends of `waveform (T,)` where 25 ms frames stay `trim_db` below the loudest one, but `keep_seconds`."""
    size, step = round(FRAME_SECONDS * sample_rate), round(STEP_SECONDS * sample_rate)
    if len(waveform) <= size:
        return waveform
    energy = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    starts = np.arange(0, len(waveform) - size + 1, step)
    power = energy[starts + size] - energy[starts]
    loud = starts[power >= power.max() * 10 ** (-trim_db / 10)]
    keep = round(keep_seconds * sample_rate)
    return waveform[max(0, loud[0] - keep) : loud[-1] + size + keep]


def _decode(path: Path, max_seconds: float) -> tuple[np.ndarray, int]:
    """The mean of a file's channels, `(T,)` float32, and its rate."""
    with _opened(path, max_seconds) as file:
        samples = _average_channels(path, file, max_seconds)
        promised, rate = file.frames, file.samplerate
    if len(samples) < promised or _riff_is_cut(path):
        raise AudioError(path, "truncated", "the file is shorter than its header says; copy it again")
    if len(samples) == 0:
        raise AudioError(path, "empty", "a header without samples")
    return samples, rate


@contextmanager
def _opened(path: Path, max_seconds: float) -> Iterator[soundfile.SoundFile]:
    """The open file, its header checked; what soundfile and the system say against it, then or later, by name."""
    try:
        if not path.is_file():
            status = path.stat()  # raises where there is nothing
            raise AudioError(path, "unreadable", f"no plain file ({stat.filemode(status.st_mode)}); name a file")
        if path.stat().st_size == 0:
            raise AudioError(path, "empty", "0 bytes; download or copy it again")
        with soundfile.SoundFile(os.fsencode(path)) as file:  # its name need not be text
            _check_header(path, file, max_seconds)
            yield file
    except OSError as error:
        raise AudioError(path, "unreadable", error.strerror or str(error)) from error
    except soundfile.LibsndfileError as error:
        told = str(error.error_string)
        if "format" not in told.lower():
            raise AudioError(path, "decode_error", told) from error
        advice = "convert it to WAV or FLAC, or copy it again"
        raise AudioError(path, "not_audio", f"{told.rstrip('.')}; {advice}") from error


def _average_channels(path: Path, file: soundfile.SoundFile, max_seconds: float) -> np.ndarray:
    """Reads in blocks, so that eight channels of a minute are never in memory at once; `(T,)` float32."""
    blocks, frames = [np.zeros(0, np.float32)], 0
    while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
        frames += len(block)
        if frames > max_seconds * file.samplerate + _BLOCK:  # longer than its header said
            raise AudioError(path, "too_long", f"data.max_seconds is {max_seconds:g}")
        with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are refused by name afterward
            blocks.append(block.mean(axis=1))
    return np.concatenate(blocks)


def _check_header(path: Path, file: soundfile.SoundFile, max_seconds: float) -> None:
    """Refuses by the header alone, so that a bomb of a file is never decoded."""
    if not MIN_RATE <= file.samplerate <= MAX_RATE:
        raise AudioError(path, "bad_rate", f"{file.samplerate} Hz, expected {MIN_RATE} to {MAX_RATE}")
    if file.channels > MAX_CHANNELS:
        raise AudioError(path, "too_many_channels", f"{file.channels}, at most {MAX_CHANNELS}")
    if file.frames > max_seconds * file.samplerate:
        seconds = file.frames / file.samplerate
        raise AudioError(path, "too_long", f"{seconds:.1f} s, data.max_seconds is {max_seconds:g}")


def _riff_is_cut(path: Path) -> bool:
    """Whether a WAV promises more bytes than the file holds: libsndfile reads such files without a word."""
    with path.open("rb") as file:
        head = file.read(8)
    size = int.from_bytes(head[4:8], "little")
    streamed = size in (0, 0xFFFFFFFF, 0x7FFFFFFF)  # written by a pipe that did not know its length
    return head[:4] == b"RIFF" and not streamed and path.stat().st_size < size + 8 - 1  # a last pad byte may miss


SUFFIXES = {".wav", ".flac", ".ogg", ".mp3", ".aiff", ".aif"}


MAX_SECONDS = 3600.0  # of one recording


def read_folder(folder: str, sample_rate: int) -> list[np.ndarray]:
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
    return [read(path, config) for path in paths]


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
