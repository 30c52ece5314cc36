"""Which clips hold the same recording? Filtered, noisy, cut, reverberant and slightly faster copies are found.

The search has three steps, each more exact and on fewer pairs:

1. `fingerprints` of half-second segments nominate pairs of clips (`serx.data.copies.candidates`).
2. Where their segments are similar, one second of both waveforms is whitened and correlated: at the same speed, at that
   of the two durations, and at the speed by which the spectra are stretched against each other, on a logarithmic axis
   of frequency (Casasent & Psaltis 1976). The latter also finds a piece of a faster copy.
3. What passes is correlated over the whole overlap of both clips (`serx.data.copies.whitened_correlation`).

Measured on the 10,142 clips of RAVDESS, TESS, EMOVO, nEMO and ASED: the highest correlation of two different
recordings is 0.32, of two takes of TESS by one speaker, and 0.26 of two speakers; what these corpora hold twice has
0.53 to 1, and altered copies mostly 0.35 to 1 (`pytest -m long tests/reliability/test_altered_copies.py` counts them).
At a speed that was read from spectra, two takes of TESS by one speaker reached 0.35 and 0.42: 0.5 is asked there.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from serx.data.copies.candidates import CANDIDATE_RULES, HOP, SEGMENT, Candidate
from serx.data.copies.whitened_correlation import (
    F_MAX,
    F_MIN,
    MIN_OVERLAP,
    MIN_WHOLE,
    copy_correlation,
    faded,
    peaks,
    spectrum,
)

WINDOW, MARGIN = 0.6, 0.07  # seconds that are compared in step 2, and by how much the offset may be wrong
MIN_WINDOW = 0.13  # whitened correlation to pass step 2
MIN_CORRELATION = 0.34  # whitened correlation over the overlap, to call two clips copies
MIN_CHANGE = 0.002  # of the speed; a smaller difference of two durations is a difference in silence
MAX_SPEED = 1.25  # largest speed that is tried
POINTS = 4096  # of a spectrum on a logarithmic axis: 0.08 % of the speed from one to the next
SMOOTHING = 201  # points whose mean is subtracted: what is left are harmonics, and no filter
MIN_STRETCHED = 0.45  # correlation of two stretched spectra; different clips have 0.15, and rarely more than 0.4
MIN_STRETCH = 0.0002  # of the speed; a smaller one costs no correlation
MIN_STRETCHED_COPY = 0.5  # whitened correlation at such a speed: it is the largest of many, and chance adds to it
REFINEMENT = np.linspace(-3e-4, 3e-4, 13)  # of a speed that was read from spectra
BATCH = 64  # pairs compared at a time

# Stored results are computed again when one of these has changed.
RULES = (
    f"2|{CANDIDATE_RULES}|{WINDOW}|{MARGIN}|{MIN_WINDOW}|{MIN_WHOLE}|{MIN_CORRELATION}|{MIN_OVERLAP}"
    f"|{POINTS}|{SMOOTHING}|{MIN_STRETCHED}|{MIN_STRETCH}|{MIN_STRETCHED_COPY}"
)


@dataclass(frozen=True)
class Copy:
    """Two clips, by index, that hold the same recording, and their whitened correlation (1: identical)."""

    first: int
    second: int
    correlation: float


def copies_among(
    candidates: Sequence[Candidate], waveform: Callable[[int], np.ndarray], sample_rate: int
) -> list[Copy]:
    """The candidates that hold the same recording, highest correlation first.

    Args:
        candidates: of `nominate`.
        waveform: from an index to the samples `(T,)` of that clip.
        sample_rate: in Hz.
    """
    copies: dict[tuple[int, int], Copy] = {}
    for start in range(0, len(candidates), BATCH):
        batch = candidates[start : start + BATCH]
        clips = {i: np.asarray(waveform(i)) for c in batch for i in (c.first, c.second)}
        pairs = [(c, 1.0) for c in batch]
        for c in batch:  # a whole copy at another speed is shorter or longer by just that speed
            ratio = len(clips[c.first]) / len(clips[c.second])
            if abs(ratio - 1) > MIN_CHANGE and 1 / MAX_SPEED < ratio < MAX_SPEED:
                pairs.append((c, ratio))
        exact = len(pairs)
        pairs += [(c, speed) for c, speed in zip(batch, _speeds(batch, clips, sample_rate), strict=True) if speed]
        close = _compare_windows(pairs, clips, sample_rate) > MIN_WINDOW
        for row, (c, speed) in enumerate(pairs):
            if close[row]:
                first, second = clips[c.first], clips[c.second]
                near, overlap, least = [speed], MIN_OVERLAP, MIN_CORRELATION
                if row >= exact:
                    near, overlap, least = list(speed * (1 + REFINEMENT)), WINDOW, MIN_STRETCHED_COPY
                correlation = max(copy_correlation(first, second, sample_rate, s, overlap) for s in near)
                known = copies.get((c.first, c.second))
                if correlation > max(least, known.correlation if known else 0):
                    copies[c.first, c.second] = Copy(c.first, c.second, correlation)
    return sorted(copies.values(), key=lambda copy: (-copy.correlation, copy.first, copy.second))


def _speeds(candidates: Sequence[Candidate], clips: dict[int, np.ndarray], sample_rate: int) -> list[float]:
    """For each candidate, how much faster the second clip is, by its spectrum around the similar segments.

    A copy at another speed has the same spectrum, shifted on a logarithmic axis of frequency. 0 where the spectra
    resemble each other at no shift, or at none but 0.
    """
    middle = SEGMENT * HOP / 2
    half = round(WINDOW / 2 * sample_rate)
    windows = np.zeros((2, len(candidates), 2 * half), np.float32)
    for row, c in enumerate(candidates):
        for side, (clip, frame) in enumerate(((c.first, c.first_frame), (c.second, c.second_frame))):
            center = round((frame * HOP + middle) * sample_rate)
            part = clips[clip][max(0, center - half) : center + half]
            start = max(0, half - center)
            windows[side, row, start : start + len(part)] = part
    windows *= np.hanning(2 * half).astype(np.float32)
    first, second = (torch.fft.rfft(_stretched_spectra(side, sample_rate), 2 * POINTS) for side in windows)
    octave = POINTS / math.log(_highest(sample_rate) / F_MIN)  # points by which a speed of e shifts a spectrum
    shifts = np.arange(-int(octave * math.log(MAX_SPEED)), int(octave * math.log(MAX_SPEED)) + 1)
    correlation = torch.fft.irfft(second * first.conj(), 2 * POINTS).numpy()[:, shifts] / (1 - np.abs(shifts) / POINTS)
    best = correlation.argmax(1)
    speeds = np.exp(shifts[best] / octave)
    found = (correlation.max(1) > MIN_STRETCHED) & (np.abs(speeds - 1) > MIN_STRETCH)
    return np.where(found, speeds, 0).tolist()


def _stretched_spectra(windows: np.ndarray, sample_rate: int) -> Tensor:
    """`(n, T)` -> `(n, POINTS)`: log magnitudes on a logarithmic axis of frequency, without what a filter changes, of
    norm 1."""
    size = 1 << windows.shape[1].bit_length()
    magnitude = torch.from_numpy(np.abs(spectrum(windows, size)))
    place = np.geomspace(F_MIN, _highest(sample_rate), POINTS, endpoint=False) * size / sample_rate
    below, share = place.astype(int), torch.from_numpy((place % 1).astype(np.float32))
    rows = (magnitude[:, below].lerp(magnitude[:, below + 1], share) + 1e-6).log()
    ends = pad(rows[:, None], (SMOOTHING // 2 + 1, SMOOTHING // 2), "replicate")[:, 0]
    sums = ends.cumsum(1, dtype=torch.float64)
    rows = rows - ((sums[:, SMOOTHING:] - sums[:, :-SMOOTHING]) / SMOOTHING).float()
    return rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-6)


def _highest(sample_rate: int) -> float:
    """The highest frequency that is compared, in Hz."""
    return min(F_MAX, 0.95 * sample_rate / 2)


def _compare_windows(
    pairs: Sequence[tuple[Candidate, float]], clips: dict[int, np.ndarray], sample_rate: int
) -> np.ndarray:
    """`(n,)`: the whitened correlation around the similar segments of pairs, each at its speed.

    A spectrum of `speed` times as many samples has the same frequencies, of a clip that is `speed` times as long, in
    the same bins. The correlation is circular; it is right for offsets up to `MARGIN`.
    """
    size = round((WINDOW + 2 * MARGIN) * sample_rate)
    by_size: dict[int, list[int]] = {}
    for row, (_, speed) in enumerate(pairs):
        by_size.setdefault(8 * round(size * speed / 8) if speed != 1 else size, []).append(row)
    bins = min(size, *by_size) // 2 + 1  # at 8 kHz a slower clip has no bins up to F_MAX
    low, high = round(F_MIN * size / sample_rate), min(round(F_MAX * size / sample_rate), bins)
    middle = SEGMENT * HOP / 2
    first = np.empty((len(pairs), high - low), np.complex64)
    second = np.empty_like(first)
    for first_size, rows in by_size.items():
        windows = np.zeros((len(rows), first_size), np.float32)
        for window, row in zip(windows, rows, strict=True):
            c = pairs[row][0]
            half = WINDOW / 2 * first_size / size
            part = _window(clips[c.first], c.first_frame * HOP + middle, half, sample_rate)[:first_size]
            window[: len(part)] = part
        first[rows] = spectrum(windows)[:, low:high]
    windows = np.zeros((len(pairs), size), np.float32)
    for window, (c, _) in zip(windows, pairs, strict=True):
        part = _window(clips[c.second], c.second_frame * HOP + middle, WINDOW / 2 + MARGIN, sample_rate)[:size]
        window[: len(part)] = part
    second[:] = spectrum(windows)[:, low:high]
    return peaks(first, second)[0]


def _window(clip: np.ndarray, center: float, half: float, sample_rate: int) -> np.ndarray:
    """The samples from `center - half` to `center + half`, in seconds, as far as the clip has them, with fades."""
    start, end = round((center - half) * sample_rate), round((center + half) * sample_rate)
    return faded(clip[max(0, start) : max(0, end)], sample_rate)
