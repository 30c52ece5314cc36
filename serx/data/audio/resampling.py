"""Convert sample rates by soxr (quality HQ: aliases at -132 dB). The only module that imports it."""

import numpy as np
import soxr


def resample(waveform: np.ndarray, from_rate: int, to_rate: int) -> np.ndarray:
    """`waveform (T,)` at `to_rate` instead of `from_rate`, in Hz."""
    return soxr.resample(waveform, from_rate, to_rate, quality="HQ")


def make_resampler(from_rate: int, to_rate: int) -> soxr.ResampleStream:
    """A stream that resamples blocks of mono float32, of any sizes, from `from_rate` to `to_rate`."""
    return soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")
