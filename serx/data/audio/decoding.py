"""Decode audio files to mono float32 waveforms; a file that cannot be used raises an error with a one-word reason.

Training and prediction decode through `decode`, so both get the same samples.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from serx.data.audio.channels import ChannelMixer
from serx.data.audio.clip import clip_from_mono
from serx.data.audio.config import AudioConfig, Channel
from serx.data.audio.error import AudioError
from serx.data.audio.levels import MAX_LEVEL
from serx.data.audio.paths import audio_files
from serx.data.audio.resampling import make_resampler
from serx.data.audio.sound_file import BLOCK, MONO_BLOCK, opened
from serx.errors import DataError
from serx.files import StrPath

MAX_RECORDING_SECONDS = 3600.0  # of a recording that is decoded whole, such as a background noise


def read_audio(path: StrPath, sample_rate: int = 16_000, **settings: Any) -> np.ndarray:
    """Decodes `path` to `(T,)` float32 at `sample_rate`, as training and prediction do.

    Args:
        path: a file of sound or video that libsndfile or FFmpeg reads (WAV, FLAC, OGG, MP3, M4A, WEBM, MP4, ...).
        sample_rate: in Hz.
        settings: other fields of `AudioConfig`, such as `trim_db=35.0`.

    Raises:
        AudioError: the file cannot be used; `reason` is one of the words listed there.

    >>> import tempfile, soundfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     soundfile.write(f"{folder}/a.wav", np.random.default_rng(0).normal(0, 0.1, (8000, 2)), 8000)
    ...     waveform = read_audio(f"{folder}/a.wav", sample_rate=16_000)
    >>> waveform.shape, waveform.dtype
    ((16000,), dtype('float32'))
    """
    return decode(path, AudioConfig(sample_rate=sample_rate, **settings))


def decode(path: StrPath, config: AudioConfig, as_recorded: bool = False, notes: list[str] | None = None) -> np.ndarray:
    """Decodes `path` to `(T,)` float32 at `config.sample_rate`.

    Args:
        path: of the file.
        config: how it becomes a waveform.
        as_recorded: for noises and impulse responses: any level above zero will do, and a constant offset stays.
        notes: gets what a user should know about the file, such as that its channels cancel each other.

    Raises:
        AudioError: the file cannot be used; what is returned is finite, not silent and not too short.
    """
    mono, rate = _decode_mono(path, config, [] if notes is None else notes)
    return clip_from_mono(mono, rate, config, path, as_recorded)


def read_blocks(
    path: StrPath, sample_rate: int, channel: Channel = "mix", notes: list[str] | None = None
) -> Iterator[np.ndarray]:
    """Yields a recording of any length as blocks `(t,)` float32 at `sample_rate`; it is never whole in memory.

    Args:
        path: of the file.
        sample_rate: of the blocks, in Hz.
        channel: which channel of the file.
        notes: gets what a user should know about the file, before the first block that it concerns.

    Raises:
        AudioError: as `decode` does. A fault in the middle is raised after the good blocks before it.
    """
    notes = [] if notes is None else notes
    with opened(path, math.inf, notes) as file:
        frames, resampler = 0, make_resampler(file.rate, sample_rate)
        mix = ChannelMixer(channel, file.rate, notes)
        for block in file.blocks():
            frames += len(block)
            mono = mix(block)
            where = f"before {frames / file.rate:.1f} s"
            if not np.isfinite(mono).all():
                raise AudioError(path, "nonfinite", f"NaN or infinite samples {where}; export it again")
            if np.abs(mono).max() > MAX_LEVEL:
                raise AudioError(path, "absurd_level", f"peak {np.abs(mono).max():.3g} {where}; full scale is 1")
            yield resampler.resample_chunk(np.ascontiguousarray(mono))
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        file.check_end(frames)


def audio_duration(path: StrPath) -> float:
    """The seconds of a recording according to its header; where that does not say, the recording is decoded.

    Raises:
        AudioError: the file is not audio, or its header is out of range.
    """
    with opened(path, math.inf, []) as file:
        seconds = file.seconds
        return sum(map(len, file.blocks())) / file.rate if seconds is None else seconds


def read_folder(folder: StrPath, sample_rate: int) -> list[np.ndarray]:
    """Every recording in and below `folder`, sorted by path, each `(T,)` float32 at `sample_rate`.

    Raises:
        DataError: the folder does not exist or holds no audio file.
        AudioError: a file cannot be used.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise DataError(f"{folder}: no such folder; set the transform's folder to one with audio files")
    config = AudioConfig(sample_rate=sample_rate, min_seconds=0.0, max_seconds=MAX_RECORDING_SECONDS)
    return [decode(path, config, as_recorded=True) for path in audio_files([root])]  # quiet rooms are recorded too


def _decode_mono(path: StrPath, config: AudioConfig, notes: list[str]) -> tuple[np.ndarray, int]:
    """One channel of a file or the mean of all, `(T,)` float32, and its sample rate."""
    with opened(path, config.max_seconds, notes, at_once=True) as file:
        mix = ChannelMixer(config.channel, file.rate, notes)
        parts, frames = list[np.ndarray](), 0
        # Many channels of a long file are never in memory at once. One channel is read at once, which spares a copy.
        for block in file.blocks(BLOCK if file.channels > 1 else MONO_BLOCK):
            frames += len(block)
            if frames > config.max_seconds * file.rate + BLOCK:  # longer than its header says
                raise AudioError(path, "too_long", f"data.max_seconds is {config.max_seconds:g}")
            parts.append(mix(block))
        file.check_end(frames)
        if file.seconds is None and frames > config.max_seconds * file.rate:
            raise AudioError(
                path, "too_long", f"{frames / file.rate:.1f} s, data.max_seconds is {config.max_seconds:g}"
            )
        return parts[0] if len(parts) == 1 else np.concatenate(parts), file.rate
