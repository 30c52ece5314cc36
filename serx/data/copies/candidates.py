"""Pairs of clips that may hold the same recording, by the shape of their spectrograms: fast, for large corpora.

`fingerprints` describe half-second segments. Each clip's segments are compared with the most similar of all others (an
inverted index, so that time grows little faster than the number of clips), and pairs of clips whose segments are
similar at one time offset are nominated. `serx.data.copies.pairs` then compares their waveforms.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv1d, pad

from serx.data.copies.whitened_correlation import F_MAX, F_MIN

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

# Stored results are computed again when one of these has changed; see `serx.data.copies.pairs.RULES`.
CANDIDATE_RULES = (
    f"{F_MIN}|{F_MAX}|{BANDS}|{FRAME}|{HOP}|{FLOOR}|{SEGMENT}|{STEP}|{CEPSTRA}|{MODULATIONS}|{MIN_NORM}|{QUERIES}|{CELL}"
    f"|{PROBES}|{CANDIDATES}|{TOLERANCE}"
)


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
