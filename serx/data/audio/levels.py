"""The level of samples: what is too loud, silent or not a number, and a constant offset."""

import math

import numpy as np

from serx.data.audio.error import AudioError
from serx.data.audio.trimming import FRAME_SECONDS
from serx.files import StrPath

MAX_LEVEL = 1e4  # a float file may exceed full scale (1); beyond this level it is not audio
# dB re full scale. A clip whose loudest 25 ms stay below is `silent`: the last two or three of 16 bits, not speech. The
# quietest clip of RAVDESS, TESS, EMOVO, nEMO and ASED has -54.7.
SILENT_DB = -80.0
# A mean below this part of the standard deviation (-26 dB) is left alone: the largest of the 10,142 clips of RAVDESS,
# TESS, EMOVO, nEMO and ASED is 0.036, so those are unchanged bit for bit.
MAX_OFFSET = 0.05
_ONES = np.ones(1 << 18, np.float32)  # for sums of up to 16 s at 16 kHz


def check_samples(mono: np.ndarray, sum_of_squares: float, source: StrPath) -> None:
    """Raises if a sample of `mono (T,)` is not finite, if one is beyond `MAX_LEVEL`, or if all are zero."""
    # None of these is so if the sum of the squares, which is at least the largest one, is in this range.
    if 1e-30 < sum_of_squares < MAX_LEVEL**2 / 2:
        return
    highest, lowest = float(mono.max()), float(mono.min())
    if not (math.isfinite(highest) and math.isfinite(lowest)):  # both are NaN if a sample is
        raise AudioError(source, "nonfinite", "NaN or infinite samples; export it again")
    peak = max(highest, -lowest)
    if peak == 0.0:
        raise AudioError(source, "silent", "every sample is zero")
    if peak > MAX_LEVEL:
        raise AudioError(source, "absurd_level", f"peak {peak:.3g}, full scale is 1")


def loudest_level_db(waveform: np.ndarray, sample_rate: int) -> float:
    """The level of the loudest 25 ms of `waveform (T,)`: the root mean square around their mean, in dB re full scale.

    A constant offset has no level. Where all samples are equal, or there are none, it is minus infinity.

    >>> loudest_level_db(np.array([0.1, -0.1] * 8000), 16_000)
    -20.0
    """
    size = min(len(waveform), _level_size(sample_rate))
    if size == 0:
        return -math.inf
    frames = waveform[: len(waveform) // size * size].reshape(-1, size)
    power = max(float(part.var(axis=1, dtype=np.float64).max()) for part in (frames, waveform[None, -size:]))
    return round(10 * math.log10(power), 6) if power > 0 else -math.inf


def check_level(level_db: float, source: StrPath) -> None:
    """Raises the `AudioError` of a silent clip if `level_db`, of `loudest_level_db`, is below `SILENT_DB`."""
    if level_db >= SILENT_DB:
        return
    level = "all samples are equal"
    if level_db > -math.inf:
        level = (
            f"its loudest 25 ms have a level of {level_db:.0f} dB re full scale, speech has more than {SILENT_DB:.0f}"
        )
    raise AudioError(source, "silent", f"{level}; was the microphone muted?")


def check_not_silent(waveform: np.ndarray, sample_rate: int, source: StrPath) -> None:
    """`check_level` of `loudest_level_db`, unless 25 ms in the middle are certainly loud enough, as they mostly are."""
    size = min(len(waveform), _level_size(sample_rate))
    start = len(waveform) // 2 // size * size  # one of the frames of `loudest_level_db`, and whole
    middle = waveform[start : start + size]
    mean, power = np.dot(middle, _ONES[:size]) / size, np.dot(middle, middle) / size
    if not power - mean**2 > max(2 * 10 ** (SILENT_DB / 10), 1e-3 * power):
        check_level(loudest_level_db(waveform, sample_rate), source)


def _level_size(sample_rate: int) -> int:
    return max(2, round(FRAME_SECONDS * sample_rate))


def remove_offset(waveform: np.ndarray, moments: tuple[float, float] | None = None) -> np.ndarray:
    """`waveform (T,)` minus its mean; unchanged if the mean is small (`MAX_OFFSET`), as in any sound recording.

    `moments` are its mean and its mean square, to some 1e-5, where they are known.

    >>> remove_offset(np.array([0.75, 0.25], np.float32)), remove_offset(np.array([0.5, -0.49], np.float32))
    (array([ 0.25, -0.25], dtype=float32), array([ 0.5 , -0.49], dtype=float32))
    """
    mean, power = quick_moments(waveform) if moments is None else moments
    if abs(mean) < MAX_OFFSET / 2 * math.sqrt(max(0.0, power - mean**2)):
        return waveform
    mean = waveform.mean(dtype=np.float64)
    if abs(mean) <= MAX_OFFSET * waveform.std(dtype=np.float64):
        return waveform
    return waveform - np.float32(mean)


def quick_moments(waveform: np.ndarray) -> tuple[float, float]:
    """The mean and the mean square of `waveform (T,)` by BLAS in float32: the quickest way, right to some 1e-5."""
    size = max(1, len(waveform))
    with np.errstate(over="ignore", invalid="ignore"):
        is_short = len(waveform) <= len(_ONES)
        total = np.dot(waveform, _ONES[: len(waveform)]) if is_short else np.einsum("i->", waveform)
        return float(total) / size, float(np.dot(waveform, waveform)) / size
