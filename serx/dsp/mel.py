"""Mel filter banks, plain and shifted in pitch, applied in narrow bands.

A mel filter touches few bins. On a CPU the bank is cut into groups of 16 filters, each multiplied with the bins it
reaches alone: a quarter of the work of one dense product. On a GPU one product is one launch, and faster.

A pitch shift by the ratio r moves what was at f to r f, so the shifted clip's mel power is the plain spectrum under
filters read at r f. The banks of all ratios P / 128 are cached and each clip picks its own.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from serx.dsp.batching import cached

PITCH_STEPS = 128  # ratios are multiples of 1 / 128, about 13 cents apart
FIRST_STEP, LAST_STEP = 105, 156  # -3.43 to +3.42 semitones; more would widen the bands
BAND_FILTERS = 16  # filters a group on a CPU


class MelScale(NamedTuple):
    """`n_mels` triangles between `f_min` and `f_max` Hz over the `n_fft // 2 + 1` bins of a spectrum."""

    sample_rate: int
    n_fft: int
    n_mels: int
    f_min: float
    f_max: float


class Band(NamedTuple):
    """Filters over the bins `low` to `high`: `weights (..., high - low, filters)`."""

    low: int
    high: int
    weights: Tensor


def mel_filters(scale: MelScale, ratio: float = 1.0) -> Tensor:
    """`(n_fft // 2 + 1, n_mels)`, Slaney's scale and area norm as in `librosa.filters.mel`, read at `ratio` * f."""
    low, high = (_to_mel(torch.tensor(f, dtype=torch.float64)) for f in (scale.f_min, scale.f_max))
    corners = _to_hertz(low + (high - low) * torch.arange(scale.n_mels + 2, dtype=torch.float64) / (scale.n_mels + 1))
    left, center, right = corners[:-2], corners[1:-1], corners[2:]
    hertz = ratio * torch.linspace(0, scale.sample_rate / 2, scale.n_fft // 2 + 1, dtype=torch.float64)[:, None]
    triangles = torch.minimum((hertz - left) / (center - left), (right - hertz) / (right - center)).clamp(min=0)
    return (triangles * 2 / (right - left)).float()


def mel_power(power: Tensor, scale: MelScale) -> Tensor:
    """`power (B, N, bins)` -> `(B, N, n_mels)`."""
    return _joined([power[..., b.low : b.high] @ b.weights for b in _plain_bands(scale, power.device)])


def shifted_mel_power(power: Tensor, scale: MelScale, steps: Tensor) -> Tensor:
    """Mel power of clips shifted in pitch by `steps / 128`, `steps (B,)` int64; 128 leaves the clip bit for bit."""
    bands = _shifted_bands(scale, power.device)
    index = steps - FIRST_STEP
    shifted = _joined([torch.bmm(power[..., b.low : b.high], b.weights.index_select(0, index)) for b in bands])
    still = steps == PITCH_STEPS
    if steps.device.type == "cpu" and not still.any():  # a CPU waits for nothing when it reads its own numbers
        return shifted
    return torch.where(still[:, None, None], mel_power(power, scale), shifted)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


@cached
def _plain_bands(scale: MelScale, device: torch.device) -> tuple[Band, ...]:
    return _bands(mel_filters(scale), device)


@cached
def _shifted_bands(scale: MelScale, device: torch.device) -> tuple[Band, ...]:
    ratios = [step / PITCH_STEPS for step in range(FIRST_STEP, LAST_STEP + 1)]
    return _bands(torch.stack([mel_filters(scale, ratio) for ratio in ratios]), device)


def _bands(filters: Tensor, device: torch.device) -> tuple[Band, ...]:
    """Cuts `filters (..., bins, n_mels)` into groups, each with the bins that any of its filters reaches."""
    count = BAND_FILTERS if device.type == "cpu" else filters.shape[-1]
    bands = []
    for group in filters.split(count, dim=-1):
        reached = group.reshape(-1, *group.shape[-2:]).ne(0).any(0).any(-1).nonzero()[:, 0].tolist() or [0]
        low, high = reached[0], reached[-1] + 1
        bands.append(Band(low, high, group[..., low:high, :].contiguous().to(device)))
    return tuple(bands)


def _to_mel(hertz: Tensor) -> Tensor:
    """Slaney's scale: linear to 1 kHz, then logarithmic (Auditory Toolbox, 1998)."""
    return torch.where(hertz < 1000, hertz * 3 / 200, 15 + 27 * torch.log(hertz.clamp(min=1) / 1000) / math.log(6.4))


def _to_hertz(mel: Tensor) -> Tensor:
    return torch.where(mel < 15, mel * 200 / 3, 1000 * torch.exp((mel - 15) * math.log(6.4) / 27))
