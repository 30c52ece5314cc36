"""The whitened correlation of two waveforms: near 1 for copies of one recording, near 0 for two takes of a sentence.

Whitening divides each frequency by its magnitude, and keeps the phase (Knapp & Carter 1976, "PHAT"). A filter, a hum or
an offset then costs only the frequencies that it removes or covers, while two takes of a sentence by one speaker have
unrelated phases: they correlate like noise.
"""

import math

import numpy as np
import torch

F_MIN, F_MAX = 150.0, 3800.0  # Hz: above hum, and below what a telephone and the lowest mp3 rates cut off
MIN_WHOLE = 0.08  # whitened correlation of the whole clips, for their overlap to be looked at
MIN_OVERLAP = 0.3  # seconds
FADE = 0.02  # seconds: cut ends are clicks, which correlate


def copy_correlation(
    first: np.ndarray, second: np.ndarray, sample_rate: int, speed: float = 1.0, min_overlap: float = MIN_OVERLAP
) -> float:
    """The whitened correlation, 0 to 1, of two clips `(T,)`, `(U,)` over their overlap, at the best offset.

    Args:
        first: waveform.
        second: waveform.
        sample_rate: in Hz.
        speed: how much faster `second` is, if it is a copy.
        min_overlap: seconds; clips that overlap less have a correlation of 0.

    >>> noise = np.random.default_rng(0).standard_normal(16_000)
    >>> round(copy_correlation(noise, -0.1 * noise[2_000:] + 3, 16_000), 1)
    1.0
    """
    whole, lag = _whitened_correlation(first, second, sample_rate, speed)
    if whole < MIN_WHOLE:
        return whole
    # second[t] is first[speed * (t - lag)]
    start, end = max(0, lag), min(len(second), lag + round(len(first) / speed))
    if end - start < min_overlap * sample_rate:
        return 0.0
    own = first[round((start - lag) * speed) : round((end - lag) * speed)]
    overlap, _ = _whitened_correlation(own, second[start:end], sample_rate, speed)
    return max(whole, overlap)


def _whitened_correlation(first: np.ndarray, second: np.ndarray, sample_rate: int, speed: float) -> tuple[float, int]:
    """The largest whitened correlation over all offsets, and by how many samples `second` is later."""
    size = 1 << math.ceil(len(first) / speed + len(second)).bit_length()
    first_size = 4 * round(size * speed / 4)
    bins = min(size, first_size) // 2 + 1
    low, high = round(F_MIN * size / sample_rate), min(round(F_MAX * size / sample_rate), bins)
    a = spectrum(faded(first, sample_rate)[None, :first_size], first_size)[:, low:high]
    b = spectrum(faded(second, sample_rate)[None], size)[:, low:high]
    heights, places = peaks(a, b)
    return float(heights[0]), round(places[0] * size)


def peaks(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The whitened correlation of two spectra `(n, bins)`: its largest magnitude, and where in the period."""
    product = second * first.conj()
    product /= np.maximum(np.abs(product), 1e-20)
    bins = product.shape[1]
    points = 1 << (bins - 1).bit_length()
    correlation = (torch.fft.ifft(torch.from_numpy(product), points).abs() * (points / bins)).numpy()
    best = correlation.argmax(1)
    places = np.where(best < points / 2, best, best - points) / points
    # The spectra cover `bins` of the bins of the period, so that one point is `size / points` samples.
    return np.take_along_axis(correlation, best[:, None], 1)[:, 0], places


def spectrum(rows: np.ndarray, size: int | None = None) -> np.ndarray:
    """`(n, size // 2 + 1)` complex64; torch is several times as fast as NumPy at sizes with large prime factors."""
    return torch.fft.rfft(torch.from_numpy(rows), size).numpy()


def faded(clip: np.ndarray, sample_rate: int) -> np.ndarray:
    """Float32 without its mean, and with fades at both ends."""
    clip = clip.astype(np.float32)
    if len(clip) == 0:
        return clip
    clip -= clip.mean()
    n = min(round(FADE * sample_rate), len(clip) // 4)
    fade = (0.5 - 0.5 * np.cos(np.pi * (np.arange(n) + 0.5) / max(1, n))).astype(np.float32)
    clip[:n] *= fade
    clip[len(clip) - n :] *= fade[::-1]
    return clip
