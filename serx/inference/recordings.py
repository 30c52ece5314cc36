"""Recordings as a `Predictor` takes them, files, samples or blocks, prepared for its model."""

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from serx.data.audio.channels import ChannelMixer
from serx.data.audio.clip import clip_from_mono, prepare_clip
from serx.data.audio.config import AudioConfig, Channel
from serx.data.audio.decoding import MAX_RECORDING_SECONDS, decode, read_blocks
from serx.data.audio.error import AudioError
from serx.data.audio.levels import check_level, loudest_level_db
from serx.errors import ConfigError
from serx.files import StrPath
from serx.inference.samples import ARRAY, Samples, checked_rate, mono_samples
from serx.inference.segmentation import RATE, Segment, speech_segments
from serx.inference.streaming import resampled_blocks

LEVEL_SAMPLES = RATE // 10  # of a recording that arrives in blocks, the level is measured in at least so many
FILE_HAS_RATE = "sample_rate: a file has its own sample rate; give one with samples only"


def as_paths(audio: Any) -> list[Path]:
    """One path or several.

    Raises:
        ConfigError: something else.
    """
    items = list(audio) if isinstance(audio, Iterable) and not isinstance(audio, str | os.PathLike) else [audio]
    for item in items:
        if not isinstance(item, str | os.PathLike):
            raise ConfigError(
                f"cannot predict {type(item).__name__}; give a path, a list of paths, or samples as a NumPy array or "
                "torch tensor with their sample rate"
            )
    return [Path(item) for item in items]


def mono_blocks(
    audio: StrPath | Samples | Iterable[np.ndarray],
    sample_rate: int | None,
    channel: Channel,
    notes: list[str] | None = None,
) -> Iterator[np.ndarray]:
    """Consecutive mono blocks `(t,)` float32 at `RATE`, of a recording of any length.

    Args:
        audio: a file; or samples; or an iterable of blocks.
        sample_rate: of samples or blocks, in Hz.
        channel: of recordings with several.
        notes: gets what a user should know about the audio.

    Raises:
        AudioError: the recording cannot be used; at its end that all of it was silent.
        ConfigError: `sample_rate` was given with a file.
    """
    if isinstance(audio, str | os.PathLike):
        if sample_rate is not None:
            raise ConfigError(FILE_HAS_RATE)
        return _not_silent(read_blocks(audio, RATE, channel, notes), audio)
    blocks = [audio] if isinstance(audio, Samples) else (block for block in audio if len(block))
    mixer = ChannelMixer(channel, checked_rate(sample_rate), notes)
    mono = (mono_samples(block, mixer) for block in blocks)
    return _not_silent(resampled_blocks(mono, checked_rate(sample_rate), RATE), ARRAY)


def _not_silent(blocks: Iterable[np.ndarray], source: StrPath) -> Iterator[np.ndarray]:
    """Passes on the blocks `(t,)`, at `RATE`, of a recording. Raises `AudioError` at the end if all of it is silent."""
    loudest_db, kept, samples = -np.inf, np.zeros(0, np.float32), 0
    for block in blocks:
        samples += len(block)
        kept = np.concatenate([kept, block])
        if len(kept) >= LEVEL_SAMPLES:
            loudest_db, kept = max(loudest_db, loudest_level_db(kept, RATE)), kept[len(kept) :]
        yield block
    if len(kept):
        loudest_db = max(loudest_db, loudest_level_db(kept, RATE))
    if samples:
        check_level(loudest_db, source)


def clip_of_segment(segment: Segment, config: AudioConfig) -> np.ndarray:
    """`(U,)` float32 at the model's rate. Raises `AudioError` if it is almost silent."""
    clip = prepare_clip(segment.waveform, RATE, config)
    check_level(loudest_level_db(clip, config.sample_rate), "segment")
    return clip


def segment_clips(path: Path, config: AudioConfig) -> list[np.ndarray]:
    """The clips of the segments of a file, without those that are almost silent."""
    clips = []
    for segment in speech_segments(mono_blocks(path, None, config.channel)):
        with suppress(AudioError):
            clips.append(clip_of_segment(segment, config))
    return clips


def part_of_recording(
    audio: StrPath | Samples, sample_rate: int | None, start: float | None, end: float | None, config: AudioConfig
) -> tuple[np.ndarray, float, Path | None, list[str]]:
    """A part of a recording before it is trimmed, `(T,)`; where it begins, in seconds; the file; what to know.

    Without `start` and `end`, in seconds, the part that the model's configuration uses.
    """
    begin, seconds = config.offset_seconds, config.duration_seconds
    if start is not None or end is not None:
        begin = 0.0 if start is None else start
        seconds = None if end is None else end - begin
        if not 0 <= begin < np.inf or (seconds is not None and not 0 < seconds < np.inf):
            raise ConfigError(f"start {begin:g}, end {end}: give seconds with 0 <= start < end")
    cut = {"offset_seconds": begin, "duration_seconds": seconds, "trim_db": None}
    longest = max(config.max_seconds, MAX_RECORDING_SECONDS)  # of the recording; the part is shorter
    part = config.model_copy(update={**cut, "max_seconds": longest})
    notes: list[str] = []
    if isinstance(audio, np.ndarray | Tensor):
        rate = checked_rate(sample_rate)
        mono = mono_samples(audio, ChannelMixer(part.channel, rate, notes))
        return clip_from_mono(mono, rate, part, ARRAY), begin, None, notes
    if sample_rate is not None:
        raise ConfigError(FILE_HAS_RATE)
    [path] = as_paths([audio])
    return decode(path, part, notes=notes), begin, path, notes
