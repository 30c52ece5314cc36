"""Descriptors of each frame in one number: level, zero crossings, and the shape of the spectrum, as librosa's.

`rms` and `zero_crossing_rate` read the waveform `(B, T)`. The others read `magnitude` or `power` `(B, N, bins)`. All
return `(B, N, rows)`, with one row except for the contrast, and depend on the frame alone; only the contrast's floor
depends on the clip's maximum. A silent frame has centroid, bandwidth and roll-off 0 Hz and flatness 1.
"""

import math
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from serx.dsp.batching import cached, running_sum, valid_mask
from serx.dsp.spectrum import TINY, power_to_db
from serx.errors import ConfigError
from serx.seeding import is_plain_on_cpu

ZERO_BELOW = 1e-10  # smaller samples count as zero, and zero as positive
CONTRAST_BASE = 200.0  # Hz, the upper edge of the lowest band; each band above it is an octave
CONTRAST_FRACTION = 0.02  # of a band's bins: the loudest and the quietest


def frame_sums(x: Tensor, size: int, hop_length: int) -> Tensor:
    """Sums over the centered frames of `size` samples: `(B, T)` -> `(B, N)`.

    Overlapping frames share work: blocks of gcd(size, hop_length) samples are summed once, then frames from blocks.
    """
    block = math.gcd(size, hop_length)
    padded = F.pad(x, (size // 2, size // 2 + -x.shape[1] % block))
    sums = padded.unflatten(-1, (-1, block)).sum(-1).unfold(-1, size // block, hop_length // block).sum(-1)
    return sums[:, : 1 + x.shape[1] // hop_length]


def zero_crossing_rate(waveform: Tensor, lengths: Tensor, size: int, hop_length: int) -> Tensor:
    """Sign changes a sample in frames of `size` samples: `(B, T)`, `(B,)` -> `(B, N, 1)`.

    The end of a clip is not a crossing, whatever its last sample is.

    >>> square = torch.tensor([1.0, -1.0]).repeat(1000)[None]
    >>> zero_crossing_rate(square, torch.tensor([2000]), 512, 256)[0, 3].item()  # as in librosa, 511 pairs of 512
    0.998046875
    """
    negative = waveform < -ZERO_BELOW
    crossing = F.pad(negative[:, 1:] != negative[:, :-1], (1, 0)) & valid_mask(lengths, waveform.shape[1])
    crossing = crossing.float()
    count = frame_sums(crossing, size, hop_length)
    # A frame's first sample may differ from the sample before the frame. librosa does not count that pair.
    at_first_sample = F.pad(crossing, (size // 2, 0))[:, ::hop_length][:, : count.shape[1]]
    return ((count - at_first_sample) / size)[..., None]


def rms(waveform: Tensor, size: int, hop_length: int) -> Tensor:
    """Root mean square of frames of `size` samples: `(B, T)` -> `(B, N, 1)`.

    Zeros around the clip count, as in `librosa.feature.rms(y=...)`.

    >>> rms(torch.full((1, 2000), 0.5), 512, 256)[0, 3].item()
    0.5
    """
    return torch.sqrt(frame_sums(waveform.square(), size, hop_length) / size)[..., None]


@cached
def bin_frequencies(sample_rate: int, bins: int, device: torch.device) -> Tensor:
    """Frequency `(bins,)` of each bin in Hz."""
    return torch.linspace(0, sample_rate / 2, bins, dtype=torch.float64).float().to(device)


def spectral_centroid(magnitude: Tensor, sample_rate: int) -> Tensor:
    """Mean frequency in Hz, weighted by `magnitude (B, N, bins)`: `(B, N, 1)`.

    >>> spectral_centroid(torch.ones(1, 1, 513), 16000).item()
    4000.0
    """
    hertz = bin_frequencies(sample_rate, magnitude.shape[-1], magnitude.device)
    return (magnitude @ hertz)[..., None] / magnitude.sum(-1, keepdim=True).clamp(min=TINY)


def spectral_bandwidth(magnitude: Tensor, sample_rate: int, centroid: Tensor) -> Tensor:
    """Standard deviation in Hz around the `centroid (B, N, 1)`, weighted by `magnitude (B, N, bins)`: `(B, N, 1)`.

    >>> magnitude = torch.ones(1, 1, 513)
    >>> round(spectral_bandwidth(magnitude, 16000, spectral_centroid(magnitude, 16000)).item())  # 8000 / sqrt(12)
    2314
    """
    hertz = bin_frequencies(sample_rate, magnitude.shape[-1], magnitude.device)
    moment = (hertz - centroid).square_().mul_(magnitude).sum(-1, keepdim=True)
    return (moment / magnitude.sum(-1, keepdim=True).clamp(min=TINY)).sqrt()


def spectral_rolloff(magnitude: Tensor, sample_rate: int, roll_percent: float = 0.85) -> Tensor:
    """Frequency in Hz of the first bin up to which `roll_percent` of the magnitude lies: `(B, N, 1)`.

    >>> spectral_rolloff(torch.ones(1, 1, 513), 16000).item()
    6812.5
    """
    below = running_sum(magnitude)
    index = (below < roll_percent * below[..., -1:]).sum(-1, keepdim=True)
    return index * (sample_rate / 2 / (magnitude.shape[-1] - 1))


def spectral_flatness(power: Tensor, amin: float = 1e-10) -> Tensor:
    """Geometric over arithmetic mean of `power (B, N, bins)` (Dubnov 2004): `(B, N, 1)`.

    It is 1 for a flat spectrum and near 0 for a tone.

    >>> spectral_flatness(torch.ones(1, 1, 513)).item()
    1.0
    """
    floored = power.clamp(min=amin)
    return floored.log().mean(-1, keepdim=True).exp() / floored.mean(-1, keepdim=True)


def spectral_contrast(magnitude: Tensor, valid: Tensor, sample_rate: int, bands: int) -> Tensor:
    """Decibels between the loudest and the quietest 2 % of each band (Jiang et al. 2002): `(B, N, bands + 1)`.

    The bands are 0-200 Hz and the octaves above; the last contains all bins above its lower edge. As in librosa,
    decibels are of magnitudes, and each side has a floor 80 dB below the clip's maximum over the frames that
    `valid (B, N)` marks.

    Raises:
        ConfigError: a band contains no bin.

    >>> spectral_contrast(torch.ones(1, 1, 513), torch.tensor([[True]]), 16000, bands=6).flatten().tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    ranges = contrast_bands(sample_rate, magnitude.shape[-1], bands)
    extremes = [_means_of_extremes(magnitude[..., low:high], count) for low, high, count in ranges]
    quiet, loud = zip(*extremes, strict=True)
    return power_to_db(torch.stack(loud, -1), valid) - power_to_db(torch.stack(quiet, -1), valid)


@lru_cache(maxsize=8)
def contrast_bands(sample_rate: int, bins: int, bands: int) -> tuple[tuple[int, int, int], ...]:
    """First bin, last bin (exclusive) and number of extreme bins of each band.

    librosa includes a band's upper edge, adds the bin below its lower edge, and then drops the highest bin. It drops
    that bin after it has counted the extremes.

    Raises:
        ConfigError: a band contains no bin.
    """
    hertz = torch.linspace(0, sample_rate / 2, bins, dtype=torch.float64)
    edges = [0.0, *[CONTRAST_BASE * 2**k for k in range(bands + 1)]]
    ranges = []
    for k, (low, high) in enumerate(pairwise(edges)):
        inside = ((hertz >= low) & (hertz <= high)).nonzero()[:, 0].tolist()
        if not inside:
            raise ConfigError(
                f"features.contrast_bands: no bin of the spectrum lies in {low:.0f}-{high:.0f} Hz at "
                f"{sample_rate} Hz; use fewer contrast_bands than {bands} or a larger n_fft"
            )
        first, end = inside[0] - (k > 0), bins if k == bands else inside[-1] + 1
        count = max(1, round(CONTRAST_FRACTION * (end - first)))
        ranges.append((first, max(first + 1, end - (k < bands)), count))
    return tuple(ranges)


def _means_of_extremes(band: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The means of the `count` smallest and of the `count` largest of the last axis."""
    if count == 1:
        return band.amin(-1), band.amax(-1)
    if is_plain_on_cpu(band):  # NumPy sorts by vector instructions, many times as fast as torch finds the extremes
        ordered = np.sort(band.numpy(), axis=-1)
        means = (np.ascontiguousarray(part).mean(-1) for part in (ordered[..., :count], ordered[..., -count:]))
        quiet, loud = map(torch.from_numpy, means)
        return quiet, loud
    smallest, largest = (band.topk(count, dim=-1, largest=side, sorted=False).values.mean(-1) for side in (False, True))
    return smallest, largest
