"""Decoded samples become a clip: checked, a window cut, a constant offset subtracted, resampled, and trimmed."""

import numpy as np

from serx.data.audio.config import AudioConfig
from serx.data.audio.error import AudioError
from serx.data.audio.levels import check_not_silent, check_samples, quick_moments, remove_offset
from serx.data.audio.resampling import resample
from serx.data.audio.trimming import trim_silence
from serx.files import StrPath


def clip_from_mono(
    mono: np.ndarray, rate: int, config: AudioConfig, source: StrPath, as_recorded: bool = False
) -> np.ndarray:
    """What `decode` does after decoding: checks `mono (T,)` float32 and returns its clip at `config.sample_rate`.

    Raises:
        AudioError: the samples cannot be used; names `source`.
    """
    frames = len(mono)
    mono = cut_window(mono, rate, config.offset_seconds, config.duration_seconds)
    if len(mono) == 0:
        what = f"{frames / rate:.3f} s, data.offset_seconds is {config.offset_seconds}"
        raise AudioError(source, "too_short", what)
    moments = quick_moments(mono)
    check_samples(mono, moments[1] * len(mono), source)
    if not as_recorded:
        mono = remove_offset(mono, moments)
    mono = _resample_and_trim(mono, rate, config)
    if len(mono) < max(1, config.min_seconds * config.sample_rate):
        seconds = len(mono) / config.sample_rate
        raise AudioError(source, "too_short", f"{seconds:.3f} s, data.min_seconds is {config.min_seconds}")
    if not as_recorded:
        check_not_silent(mono, config.sample_rate, source)  # what the model gets: after resampling
    return mono


def prepare_clip(waveform: np.ndarray, rate: int, config: AudioConfig, as_recorded: bool = False) -> np.ndarray:
    """Makes a clip of a decoded `waveform (T,)`: `(U,)` float32.

    Subtracts a constant offset (unless `as_recorded`), resamples from `rate` to `config.sample_rate`, trims the ends.
    """
    if not as_recorded:
        waveform = remove_offset(waveform)
    return _resample_and_trim(waveform, rate, config)


def _resample_and_trim(waveform: np.ndarray, rate: int, config: AudioConfig) -> np.ndarray:
    if rate != config.sample_rate:
        waveform = resample(waveform, rate, config.sample_rate)
    if config.trim_db is not None:
        waveform = trim_silence(
            waveform, config.sample_rate, config.trim_db, config.trim_keep_seconds, config.trim_spread_db
        )
    return np.ascontiguousarray(waveform, dtype=np.float32)


def cut_window(waveform: np.ndarray, rate: int, offset_seconds: float, duration_seconds: float | None) -> np.ndarray:
    """At most `duration_seconds` of `waveform (T,)`, starting at `offset_seconds`."""
    if offset_seconds == 0 and duration_seconds is None:
        return waveform
    start = round(offset_seconds * rate)
    return waveform[start : None if duration_seconds is None else start + round(duration_seconds * rate)]
