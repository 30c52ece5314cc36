"""Pitch classes: chroma from an STFT or a constant-Q transform, and tonal centroids, as librosa defines them.

The twelve rows are the classes C to B with A at 440 Hz, which is librosa's `tuning=0`. (By default librosa estimates a
tuning for each clip; for speech that estimate is noise.) Each frame is scaled to a maximum of 1. A silent frame is 0.
"""

import math

import torch
from torch import Tensor

from serx.dsp.batching import cached
from serx.dsp.spectrum import TINY

CLASSES = 12
CENTER_OCTAVE, OCTAVE_WIDTH = 5.0, 2.0  # librosa's: a Gaussian over octaves, centered on 880 Hz


def chroma_stft(power: Tensor, sample_rate: int) -> Tensor:
    """`power (B, N, bins)` -> `(B, N, 12)`, as `librosa.feature.chroma_stft(tuning=0)`.

    >>> power = torch.zeros(1, 1, 1025)
    >>> power[0, 0, 41] = 1.0  # 440 Hz at 22,050 Hz
    >>> "C C# D D# E F F# G G# A A# B".split()[int(chroma_stft(power, 22050).argmax())]
    'A'
    """
    return _scaled(power @ chroma_filters(sample_rate, power.shape[-1], power.device))


def chroma_cqt(magnitude: Tensor, bins_per_octave: int) -> Tensor:
    """Constant-Q `magnitude (B, N, bins)` -> `(B, N, 12)`, as `librosa.feature.chroma_cqt`. The first bin is a C.

    >>> chroma_cqt(torch.eye(24)[None, 14:15], bins_per_octave=12).argmax().item()  # two semitones above C
    2
    """
    width = bins_per_octave // CLASSES
    centered = magnitude.roll(width // 2, dims=-1)  # a class takes the bins around its center
    return _scaled(centered.unflatten(-1, (-1, CLASSES, width)).sum(dim=(-3, -1)))


def tonnetz(chroma: Tensor) -> Tensor:
    """Chroma `(B, N, 12)` -> tonal centroids `(B, N, 6)`, as `librosa.feature.tonnetz(chroma=...)`.

    Each class is a point on three circles: of fifths, of minor thirds, and of major thirds. The rows are the sine and
    cosine coordinates of the mean point, weighted by the chroma (Harte, Sandler & Gasser 2006, "Detecting harmonic
    change in musical audio").

    >>> tonnetz(torch.eye(12)[None, :1]).shape
    torch.Size([1, 1, 6])
    """
    return chroma @ _tonal_circles(chroma.device) / chroma.sum(-1, keepdim=True).clamp(min=TINY)


def _scaled(chroma: Tensor) -> Tensor:
    return chroma / chroma.amax(-1, keepdim=True).clamp(min=TINY)


@cached
def chroma_filters(sample_rate: int, bins: int, device: torch.device) -> Tensor:
    """`(bins, 12)`, the transpose of `librosa.filters.chroma(tuning=0)`.

    Around each class, a Gaussian over pitch with the width of one bin, and of one class at least.
    """
    n_fft = 2 * (bins - 1)
    hertz = torch.arange(1, n_fft, dtype=torch.float64) * sample_rate / n_fft
    pitch = CLASSES * torch.log2(hertz / (440 / 16))  # in classes above A0
    pitch = torch.cat([pitch[:1] - 1.5 * CLASSES, pitch])
    width = torch.cat([pitch.diff().clamp(min=1), torch.ones(1, dtype=torch.float64)])
    distance = pitch[:, None] - torch.arange(CLASSES, dtype=torch.float64)
    distance = torch.remainder(distance + CLASSES / 2, CLASSES) - CLASSES / 2
    weights = torch.exp(-0.5 * (2 * distance / width[:, None]).square())
    weights = weights / weights.norm(dim=1, keepdim=True)
    weights = weights * torch.exp(-0.5 * ((pitch / CLASSES - CENTER_OCTAVE) / OCTAVE_WIDTH).square())[:, None]
    return weights.roll(-3, dims=1)[:bins].float().to(device)  # from A to C


@cached
def _tonal_circles(device: torch.device) -> Tensor:
    """`(12, 6)`, the sine and cosine of each class on the three circles."""
    turns = torch.tensor([7 / 6, 7 / 6, 3 / 2, 3 / 2, 2 / 3, 2 / 3], dtype=torch.float64)
    angle = torch.arange(CLASSES, dtype=torch.float64)[:, None] * turns
    angle[:, ::2] -= 0.5
    radius = torch.tensor([1, 1, 1, 1, 0.5, 0.5], dtype=torch.float64)
    return (radius * torch.cos(math.pi * angle)).float().to(device)
