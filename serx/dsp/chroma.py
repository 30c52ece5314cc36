"""Pitch classes: chroma of an STFT or of a constant-Q transform, and tonal centroids, as librosa defines them.

Twelve rows from C to B, A at 440 Hz; librosa's `tuning=0` (its default guesses a tuning for each clip, which for
speech is noise). Each frame is scaled to a maximum of 1; a silent frame is 0.
"""

import math

import torch
from torch import Tensor

from serx.dsp.batching import cached
from serx.dsp.spectrum import TINY

CLASSES = 12
CENTER_OCTAVE, OCTAVE_WIDTH = 5.0, 2.0  # librosa's: a Gaussian over octaves around 880 Hz


def chroma(power: Tensor, sample_rate: int) -> Tensor:
    """`power (B, N, bins)` -> `(B, N, 12)`, as `librosa.feature.chroma_stft(tuning=0)`."""
    return _scaled(power @ chroma_filters(sample_rate, power.shape[-1], power.device))


def fold_octaves(magnitude: Tensor, bins_per_octave: int) -> Tensor:
    """A constant-Q magnitude `(B, N, bins)` whose first bin is a C -> `(B, N, 12)`, as `librosa.feature.chroma_cqt`."""
    width = bins_per_octave // CLASSES
    centered = magnitude.roll(width // 2, dims=-1)  # a class takes the bins around its own
    return _scaled(centered.unflatten(-1, (-1, CLASSES, width)).sum(dim=(-3, -1)))


def tonnetz(classes: Tensor) -> Tensor:
    """Chroma `(B, N, 12)` -> `(B, N, 6)`: fifths, minor and major thirds, each as two coordinates on a circle.

    `librosa.feature.tonnetz(chroma=...)` (Harte, Sandler & Gasser 2006).
    """
    return classes @ _tonal_circles(classes.device) / classes.sum(-1, keepdim=True).clamp(min=TINY)


def _scaled(classes: Tensor) -> Tensor:
    return classes / classes.amax(-1, keepdim=True).clamp(min=TINY)


@cached
def chroma_filters(sample_rate: int, bins: int, device: torch.device) -> Tensor:
    """`(bins, 12)`, `librosa.filters.chroma(tuning=0)`: Gaussians one bin wide (at least a class) around each class."""
    n_fft = 2 * (bins - 1)
    hertz = torch.arange(1, n_fft, dtype=torch.float64) * sample_rate / n_fft
    place = CLASSES * torch.log2(hertz / (440 / 16))  # classes above A0
    place = torch.cat([place[:1] - 1.5 * CLASSES, place])
    width = torch.cat([place.diff().clamp(min=1), torch.ones(1, dtype=torch.float64)])
    away = place[:, None] - torch.arange(CLASSES, dtype=torch.float64)
    away = torch.remainder(away + CLASSES / 2, CLASSES) - CLASSES / 2
    weights = torch.exp(-0.5 * (2 * away / width[:, None]).square())
    weights = weights / weights.norm(dim=1, keepdim=True)
    weights = weights * torch.exp(-0.5 * ((place / CLASSES - CENTER_OCTAVE) / OCTAVE_WIDTH).square())[:, None]
    return weights.roll(-3, dims=1)[:bins].float().to(device)  # from A to C


@cached
def _tonal_circles(device: torch.device) -> Tensor:
    """`(12, 6)`, sine and cosine of each class's place on the three circles."""
    turns = torch.tensor([7 / 6, 7 / 6, 3 / 2, 3 / 2, 2 / 3, 2 / 3], dtype=torch.float64)
    angle = torch.arange(CLASSES, dtype=torch.float64)[:, None] * turns
    angle[:, ::2] -= 0.5
    radius = torch.tensor([1, 1, 1, 1, 0.5, 0.5], dtype=torch.float64)
    return (radius * torch.cos(math.pi * angle)).float().to(device)
