"""Which clips hold the same recording? Filtered, noisy, cut, reverberant and slightly faster copies are found.

The search has three steps, each more exact and on fewer pairs:

1. `fingerprints` describe half-second segments by the shape of their spectrogram. Each clip's segments are compared
   with the most similar of all others (an inverted index, so that time grows little faster than the number of clips),
   and pairs of clips whose segments are similar at one time offset are nominated.
2. At that offset, one second of both waveforms is whitened and correlated: at the same speed, at that of the two
   durations, and at the speed by which the spectra are stretched against each other, on a logarithmic axis of frequency
   (Casasent & Psaltis 1976). The latter also finds a piece of a faster copy.
3. What passes is correlated over the whole overlap of both clips: `copy_correlation`.

Whitening divides each frequency by its magnitude, and keeps the phase (Knapp & Carter 1976, "PHAT"). A filter, a hum or
an offset then costs only the frequencies that it removes or covers, while two takes of a sentence by one speaker have
unrelated phases: they correlate like noise.

Measured on the 10,142 clips of RAVDESS, TESS, EMOVO, nEMO and ASED: the highest correlation of two different
recordings is 0.32, of two takes of TESS by one speaker, and 0.26 of two speakers; what these corpora hold twice has
0.53 to 1, and altered copies mostly 0.35 to 1 (`pytest -m long tests/reliability/test_altered_copies.py` counts them).
At a speed that was read from spectra, two takes of TESS by one speaker reached 0.35 and 0.42: 0.5 is asked there.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv1d, pad

F_MIN, F_MAX = 150.0, 3800.0  # Hz: above hum, and below what a telephone and the lowest mp3 rates cut off
BANDS = 24
FRAME, HOP = 0.032, 0.016  # seconds
FLOOR = 0.003  # of a band's power where it is loud: weaker sounds are noise, or the work of a codec
SEGMENT = 26  # frames of a segment
STEP = 2  # frames from one segment to the next
CEPSTRA, MODULATIONS = 8, 7  # coefficients of a segment over frequency and over time
DIMENSIONS = CEPSTRA * MODULATIONS
MIN_NORM = 4.0  # of a segment; less is silence or a steady sound
QUERIES = 12  # segments of a clip that are looked up
BLOCK = 4_000_000  # similarities at a time; few cells are many times as large as the others
CELL = 512  # segments in a cell of the index
PROBES = 6  # cells that are searched for each query
CANDIDATES = 4  # clips that are nominated for each clip
TOLERANCE = 6  # steps that offsets may differ, so that a copy at another speed still agrees

WINDOW, MARGIN = 0.6, 0.07  # seconds that are compared in step 2, and by how much the offset may be wrong
MIN_WINDOW = 0.13  # whitened correlation to pass step 2
MIN_CORRELATION = 0.34  # whitened correlation over the overlap, to call two clips copies
MIN_WHOLE = 0.08  # whitened correlation of the whole clips, for their overlap to be looked at
MIN_OVERLAP = 0.3  # seconds
FADE = 0.02  # seconds: cut ends are clicks, which correlate
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
    f"2|{F_MIN}|{F_MAX}|{BANDS}|{FRAME}|{HOP}|{FLOOR}|{SEGMENT}|{STEP}|{CEPSTRA}|{MODULATIONS}|{MIN_NORM}|{QUERIES}|{CELL}"
    f"|{PROBES}|{CANDIDATES}|{TOLERANCE}|{WINDOW}|{MARGIN}|{MIN_WINDOW}|{MIN_WHOLE}|{MIN_CORRELATION}|{MIN_OVERLAP}"
    f"|{POINTS}|{SMOOTHING}|{MIN_STRETCHED}|{MIN_STRETCH}|{MIN_STRETCHED_COPY}"
)


@dataclass(frozen=True)
class Copy:
    """Two clips, by index, that hold the same recording, and their whitened correlation (1: identical)."""

    first: int
    second: int
    correlation: float


@dataclass(frozen=True)
class Candidate:
    """Two clips, by index, and the segments (start, in frames) at which they are most similar."""

    first: int
    second: int
    first_frame: int
    second_frame: int


def fingerprints(waveform: Tensor, lengths: Tensor, sample_rate: int) -> list[Tensor]:
    """The segments of each clip: `(segments, DIMENSIONS)` float16, of norm 1; zeros where a clip is silent or steady.

    A segment is the two-dimensional cosine transform of its log power in `BANDS` mel bands. The mean over time is left
    out, and with it every filter.

    Args:
        waveform: `(B, T)`, zero beyond `lengths`.
        lengths: `(B,)` samples.
        sample_rate: in Hz; clips of different rates may be compared.
    """
    n_fft, hop_length = round(FRAME * sample_rate), round(HOP * sample_rate)
    inside = torch.arange(waveform.shape[1]) < lengths[:, None]
    waveform = torch.where(inside, waveform - waveform.sum(1, keepdim=True) / lengths.clamp(min=1)[:, None], 0.0)
    window = torch.hann_window(n_fft)
    spectrum = torch.stft(waveform, n_fft, hop_length, window=window, pad_mode="constant", return_complex=True)
    frames = 1 + lengths // hop_length
    power = _bands(n_fft, sample_rate) @ (spectrum.real.square() + spectrum.imag.square())
    power = power * (torch.arange(power.shape[2]) < frames[:, None])[:, None]
    loud = power.square().sum(2, keepdim=True) / power.sum(2, keepdim=True).clamp(min=1e-20)  # silence has no weight
    cepstra = _cosines(BANDS, 0, CEPSTRA) @ (power + FLOOR * loud + 1e-10).log()
    cepstra = pad(cepstra, (0, max(0, SEGMENT - cepstra.shape[2])))
    over_time = _cosines(SEGMENT, 1, MODULATIONS) * torch.hann_window(SEGMENT, periodic=False).sqrt()
    over_time = over_time - over_time.mean(1, keepdim=True)
    segments = conv1d(cepstra.flatten(0, 1)[:, None], over_time[:, None], stride=STEP)
    segments = segments.reshape(len(waveform), DIMENSIONS, -1).mT
    norm = segments.norm(dim=2, keepdim=True)
    segments = torch.where(norm > MIN_NORM, segments / norm.clamp(min=1e-6), 0.0).half()
    counts = ((frames - SEGMENT) // STEP + 1).clamp(min=1).tolist()
    return [clip[:n] for clip, n in zip(segments, counts, strict=True)]


def nominate(segments: Sequence[Tensor], groups: Sequence[int]) -> list[Candidate]:
    """For each clip the clips of other groups that are most similar to it: at most `CANDIDATES`, best first.

    Args:
        segments: `fingerprints` of each clip.
        groups: of each clip; clips of one group are not compared.
    """
    counts = torch.tensor([len(clip) for clip in segments])
    keys = torch.cat(list(segments)).float()
    clips = torch.arange(len(counts)).repeat_interleave(counts)
    places = torch.arange(len(keys)) - (counts.cumsum(0) - counts)[clips]
    audible = keys.any(1)
    keys, clips, places = keys[audible], clips[audible], places[audible]
    if len(keys) == 0:
        return []
    group = torch.as_tensor(groups)[clips]
    # Queries are spread evenly over the segments of a clip.
    counts = torch.bincount(clips, minlength=len(counts))
    rank = torch.arange(len(keys)) - (counts.cumsum(0) - counts)[clips]
    spread = counts[clips].clamp(min=QUERIES)
    queries = (((rank + 1) * QUERIES) // spread > (rank * QUERIES) // spread).nonzero()[:, 0]
    query, key, similarity = _most_similar(keys, group, queries)
    agreeing = _agreement(clips[query], clips[key], places[key] - places[query], similarity, len(segments))
    chosen = _best_of_each(agreeing, clips[query], clips[key], len(segments))
    found = zip(clips[query][chosen], clips[key][chosen], places[query][chosen], places[key][chosen], strict=True)
    ordered = [(int(a), int(b), STEP * int(s), STEP * int(t)) for a, b, s, t in found]
    return [Candidate(a, b, s, t) if a < b else Candidate(b, a, t, s) for a, b, s, t in ordered]


def _most_similar(keys: Tensor, group: Tensor, queries: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each query the most similar key of another group in each of the cells that are nearest to it.

    Returns:
        `(m,)` queries and keys, as rows of `keys`, and their similarity.
    """
    cells = max(1, len(keys) // CELL)
    centers = _cell_centers(keys, cells)
    nearest = _nearest(keys, centers, 1)[:, 0]
    probes = min(PROBES, cells)
    probed = _nearest(keys[queries], centers, probes).flatten()
    members, asking = nearest.argsort(stable=True), probed.argsort(stable=True)
    member_ends = torch.bincount(nearest, minlength=cells).cumsum(0).tolist()
    asking_ends = torch.bincount(probed, minlength=cells).cumsum(0).tolist()
    found = []
    for cell in range(cells):
        own = members[member_ends[cell - 1] if cell else 0 : member_ends[cell]]
        own_queries = queries[asking[asking_ends[cell - 1] if cell else 0 : asking_ends[cell]] // probes]
        for rows in own_queries.split(max(1, BLOCK // len(own))) if len(own) else ():
            similarity = keys[rows] @ keys[own].T
            best, which = similarity.masked_fill_(group[rows][:, None] == group[own], -1.0).max(1)
            found.append((rows, own[which], best))
    query, key, similarity = (torch.cat(parts) for parts in zip(*found, strict=True))
    similar = similarity > 0.5
    return query[similar], key[similar], similarity[similar]


def _nearest(keys: Tensor, centers: Tensor, count: int) -> Tensor:
    """`(n, count)`: the centers that are most similar to each key, the nearest first."""
    # Into one tensor: small results between large products would fragment the heap into gigabytes.
    nearest = torch.empty(len(keys), count, dtype=torch.int64)
    for rows, out in zip(keys.split(1024), nearest.split(1024), strict=True):
        similarity = rows @ centers.T
        out.copy_(similarity.argmax(1, keepdim=True) if count == 1 else similarity.topk(count).indices)
    return nearest


def _cell_centers(keys: Tensor, cells: int) -> Tensor:
    """`(cells, d)`: centers of keys by k-means on the sphere, from a fixed draw."""
    sample = keys[torch.randperm(len(keys), generator=torch.Generator().manual_seed(0))[: 20 * cells]]
    centers = sample[:cells]
    for _ in range(4):
        nearest = _nearest(sample, centers, 1)[:, 0]
        sums = torch.zeros_like(centers).index_add_(0, nearest, sample)
        centers = sums / sums.norm(dim=1, keepdim=True).clamp(min=1e-6)
    return centers


def _agreement(first: Tensor, second: Tensor, offset: Tensor, similarity: Tensor, n: int) -> Tensor:
    """`(m,)`: for each similar pair of segments, how much similarity their clips have at that offset in all."""
    reverse = first > second
    low, high = torch.minimum(first, second), torch.maximum(first, second)
    offset = torch.where(reverse, -offset, offset) + (1 << 20)
    total = torch.zeros(len(first))
    for shift in (0, TOLERANCE // 2):  # two grids, so that no offset lies at the edge of both
        bins = (low * n + high) * (1 << 20) + (offset + shift) // TOLERANCE
        _, which = bins.unique(return_inverse=True)
        sums = torch.zeros(int(which.max()) + 1 if len(which) else 0).index_add_(0, which, (similarity - 0.5).square())
        total = torch.maximum(total, sums[which])
    return total


def _best_of_each(score: Tensor, first: Tensor, second: Tensor, n: int) -> Tensor:
    """Rows of the best `CANDIDATES` pairs of each clip, best first; each pair once."""
    order = score.argsort(descending=True, stable=True)
    pair = (torch.minimum(first, second) * n + torch.maximum(first, second))[order].numpy()
    order = order[torch.from_numpy(np.sort(np.unique(pair, return_index=True)[1]))]  # the best offset of each pair
    ends = torch.stack([first[order], second[order]], dim=1).flatten()
    by_clip = ends.argsort(stable=True)  # within a clip in the order of the score
    counts = torch.bincount(ends, minlength=n)
    rank = torch.arange(len(ends)) - (counts.cumsum(0) - counts)[ends[by_clip]]
    return order[(by_clip[rank < CANDIDATES] // 2).unique()]


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
    magnitude = torch.from_numpy(np.abs(_spectrum(windows, size)))
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
        first[rows] = _spectrum(windows)[:, low:high]
    windows = np.zeros((len(pairs), size), np.float32)
    for window, (c, _) in zip(windows, pairs, strict=True):
        part = _window(clips[c.second], c.second_frame * HOP + middle, WINDOW / 2 + MARGIN, sample_rate)[:size]
        window[: len(part)] = part
    second[:] = _spectrum(windows)[:, low:high]
    return _peaks(first, second)[0]


def _window(clip: np.ndarray, center: float, half: float, sample_rate: int) -> np.ndarray:
    """The samples from `center - half` to `center + half`, in seconds, as far as the clip has them, with fades."""
    start, end = round((center - half) * sample_rate), round((center + half) * sample_rate)
    return _faded(clip[max(0, start) : max(0, end)], sample_rate)


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
    a = _spectrum(_faded(first, sample_rate)[None, :first_size], first_size)[:, low:high]
    b = _spectrum(_faded(second, sample_rate)[None], size)[:, low:high]
    peaks, places = _peaks(a, b)
    return float(peaks[0]), round(places[0] * size)


def _peaks(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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


def _spectrum(rows: np.ndarray, size: int | None = None) -> np.ndarray:
    """`(n, size // 2 + 1)` complex64; torch is several times as fast as NumPy at sizes with large prime factors."""
    return torch.fft.rfft(torch.from_numpy(rows), size).numpy()


def _faded(clip: np.ndarray, sample_rate: int) -> np.ndarray:
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


@cache
def _bands(n_fft: int, sample_rate: int) -> Tensor:
    """`(BANDS, n_fft // 2 + 1)`: how much of each bin is in each mel band."""
    low, high = (math.log10(1 + hz / 700) for hz in (F_MIN, F_MAX))
    hertz = 700 * (torch.logspace(low, high, BANDS + 1) - 1)
    edges, bins = hertz * n_fft / sample_rate + 0.5, torch.arange(n_fft // 2 + 1)  # bin k spans k - 1/2 to k + 1/2
    return (torch.minimum(edges[1:, None], bins + 1) - torch.maximum(edges[:-1, None], bins)).clamp(min=0)


@cache
def _cosines(n: int, first: int, count: int) -> Tensor:
    """`(count, n)`: rows of the orthonormal discrete cosine transform, from `first` on."""
    rows = torch.cos(math.pi * torch.arange(first, first + count)[:, None] * (torch.arange(n) + 0.5) / n)
    return rows / rows.norm(dim=1, keepdim=True)
