"""Cuts the silence off both ends of a clip."""

import numpy as np

FRAME_SECONDS, STEP_SECONDS = 0.025, 0.010
THRESHOLDS = 11  # of which the cut is the mean where `spread_db` is above 0


def trim_silence(
    waveform: np.ndarray, sample_rate: int, trim_db: float, keep_seconds: float, spread_db: float = 0.0
) -> np.ndarray:
    """What remains of `waveform (T,)` between its `trim_bounds`."""
    start, end = trim_bounds(waveform, sample_rate, trim_db, keep_seconds, spread_db)
    return waveform[start:end]


def trim_bounds(
    waveform: np.ndarray, sample_rate: int, trim_db: float, keep_seconds: float, spread_db: float = 0.0
) -> tuple[int, int]:
    """The first sample to keep of `waveform (T,)`, and the one behind the last.

    Both ends are cut where frames of 25 ms stay below a threshold, but for `keep_seconds`. A single threshold keeps or
    cuts a breath at its level as a whole: whether the clip was encoded as MP3 can decide it. The mean of the cuts at
    several thresholds moves little where the level changes little.

    Args:
        waveform: one clip.
        sample_rate: in Hz.
        trim_db: how far the threshold is below the loudest frame.
        keep_seconds: of what is cut.
        spread_db: the thresholds reach from this much above `trim_db` to this much below; 0: one threshold.

    >>> tone = np.sin(np.arange(8000, dtype=np.float32))
    >>> trim_bounds(np.concatenate([np.zeros(8000, np.float32), tone]), 16_000, trim_db=35.0, keep_seconds=0.0)
    (7680, 15920)
    """
    size, step = round(FRAME_SECONDS * sample_rate), round(STEP_SECONDS * sample_rate)
    if len(waveform) <= size:
        return 0, len(waveform)
    energy = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    starts = np.arange(0, len(waveform) - size + 1, step)
    power = energy[starts + size] - energy[starts]
    least = power.max() * 10 ** (-trim_thresholds(trim_db, spread_db) / 10)
    first = step * np.searchsorted(np.maximum.accumulate(power), least)
    last = step * (len(power) - 1 - np.searchsorted(np.maximum.accumulate(power[::-1]), least))
    keep = round(keep_seconds * sample_rate)
    start, end = int(first.sum()) // len(least), int(last.sum()) // len(least) + size
    return max(0, start - keep), min(len(waveform), end + keep)


def trim_thresholds(trim_db: float, spread_db: float) -> np.ndarray:
    """How far each threshold is below the loudest frame, in dB.

    >>> trim_thresholds(35.0, 5.0)[[0, 1, -1]].tolist(), trim_thresholds(35.0, 0.0).tolist()
    ([30.0, 31.0, 40.0], [35.0])
    """
    return np.linspace(trim_db - spread_db, trim_db + spread_db, THRESHOLDS if spread_db else 1)
