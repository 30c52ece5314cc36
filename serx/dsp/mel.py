"""Mel filter banks and the mel power spectrogram, as librosa defines them.

The mel scale follows the ear: linear in Hz up to 1 kHz, logarithmic above. `n_mels` triangular filters are equally
spaced on it; each rises from the center of the filter below and falls to the center of the one above. Divided by half
its width in Hz, every filter has area 1.

A mel filter covers few bins. On a CPU the bank is therefore cut into groups of 16 filters, and each group is multiplied
with only the bins that it covers: a quarter of the work of one dense product. On a GPU one product is one launch, which
is faster.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from serx.dsp.batching import cached

BAND_FILTERS = 16  # filters of a group on a CPU


class MelScale(NamedTuple):
    """`n_mels` triangles between `f_min` and `f_max` Hz, over the `n_fft // 2 + 1` bins of a spectrum.

    >>> MelScale(sample_rate=16000, n_fft=1024, n_mels=64, f_min=0.0, f_max=8000.0).n_mels
    64
    """

    sample_rate: int
    n_fft: int
    n_mels: int
    f_min: float
    f_max: float


class Band(NamedTuple):
    """A group of filters over the bins `low` to `high` (exclusive): `weights (..., high - low, filters)`."""

    low: int
    high: int
    weights: Tensor


def mel_filters(scale: MelScale, ratio: float = 1.0) -> Tensor:
    """Filter bank `(n_fft // 2 + 1, n_mels)` in Slaney's scale and area norm, the transpose of `librosa.filters.mel`.

    Args:
        scale: the filters' number and range.
        ratio: the filters are evaluated at `ratio * f`, which shifts the pitch of what they measure by that ratio.

    >>> mel_filters(MelScale(16000, 1024, 64, 0.0, 8000.0)).shape
    torch.Size([513, 64])
    """
    corners = _corners(scale)
    left, center, right = corners[:-2], corners[1:-1], corners[2:]
    hertz = ratio * torch.linspace(0, scale.sample_rate / 2, scale.n_fft // 2 + 1, dtype=torch.float64)[:, None]
    triangles = torch.minimum((hertz - left) / (center - left), (right - hertz) / (right - center)).clamp(min=0)
    return (triangles * 2 / (right - left)).float()


def mel_centers(scale: MelScale) -> Tensor:
    """The frequency `(n_mels,)` in Hz at the peak of each filter, float64.

    >>> mel_centers(MelScale(16000, 1024, 3, 0.0, 8000.0)).round().tolist()
    [754.0, 1689.0, 3676.0]
    """
    return _corners(scale)[1:-1]


def mel_power(power: Tensor, scale: MelScale) -> Tensor:
    """`power (B, N, n_fft // 2 + 1)` -> mel power `(B, N, n_mels)`.

    >>> mel_power(torch.ones(2, 10, 513), MelScale(16000, 1024, 64, 0.0, 8000.0)).shape
    torch.Size([2, 10, 64])
    """
    return join_bands([power[..., band.low : band.high] @ band.weights for band in _mel_bands(scale, power.device)])


def join_bands(parts: list[Tensor]) -> Tensor:
    """Concatenates the outputs of the bands along the filters."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def cut_bands(filters: Tensor, device: torch.device) -> tuple[Band, ...]:
    """Cuts `filters (..., bins, n_mels)` into groups, each with the bins that any of its filters covers."""
    count = BAND_FILTERS if device.type == "cpu" else filters.shape[-1]
    bands = []
    for group in filters.split(count, dim=-1):
        covered = group.reshape(-1, *group.shape[-2:]).ne(0).any(0).any(-1).nonzero()[:, 0].tolist() or [0]
        low, high = covered[0], covered[-1] + 1
        bands.append(Band(low, high, group[..., low:high, :].contiguous().to(device)))
    return tuple(bands)


@cached
def _mel_bands(scale: MelScale, device: torch.device) -> tuple[Band, ...]:
    return cut_bands(mel_filters(scale), device)


def _corners(scale: MelScale) -> Tensor:
    """`(n_mels + 2,)` Hz: where each filter starts, peaks and ends; neighbors share them."""
    low, high = (_to_mel(torch.tensor(f, dtype=torch.float64)) for f in (scale.f_min, scale.f_max))
    return _to_hertz(low + (high - low) * torch.arange(scale.n_mels + 2, dtype=torch.float64) / (scale.n_mels + 1))


def _to_mel(hertz: Tensor) -> Tensor:
    """Slaney's scale: linear to 1 kHz, then logarithmic (Auditory Toolbox, 1998)."""
    return torch.where(hertz < 1000, hertz * 3 / 200, 15 + 27 * torch.log(hertz.clamp(min=1) / 1000) / math.log(6.4))


def _to_hertz(mel: Tensor) -> Tensor:
    return torch.where(mel < 15, mel * 200 / 3, 1000 * torch.exp((mel - 15) * math.log(6.4) / 27))
