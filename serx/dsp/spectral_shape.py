"""Shape of the spectrum, frame by frame: centroid, bandwidth, roll-off, flatness and contrast, as librosa defines them.

Each takes `magnitude` or `power` `(B, N, bins)` and gives `(B, N, rows)`; all but the contrast are functions of one
frame alone. A silent frame has centroid, bandwidth and roll-off 0 Hz and flatness 1.
"""

from functools import lru_cache
from itertools import pairwise

import torch
from torch import Tensor

from serx.dsp.batching import cached, running_sum
from serx.dsp.spectrum import TINY, power_to_db
from serx.errors import ConfigError

CONTRAST_BASE = 200.0  # Hz, upper edge of the lowest band; each further band is an octave
CONTRAST_SHARE = 0.02  # of a band's bins, on the loud and on the quiet side


@cached
def bin_frequencies(sample_rate: int, bins: int, device: torch.device) -> Tensor:
    """`(bins,)` Hz."""
    return torch.linspace(0, sample_rate / 2, bins, dtype=torch.float64).float().to(device)


def centroid(magnitude: Tensor, sample_rate: int) -> Tensor:
    """Mean frequency in Hz, weighted by magnitude."""
    hertz = bin_frequencies(sample_rate, magnitude.shape[-1], magnitude.device)
    return (magnitude @ hertz)[..., None] / magnitude.sum(-1, keepdim=True).clamp(min=TINY)


def bandwidth(magnitude: Tensor, sample_rate: int, center: Tensor) -> Tensor:
    """Standard deviation in Hz around the centroid `center (B, N, 1)`, weighted by magnitude."""
    hertz = bin_frequencies(sample_rate, magnitude.shape[-1], magnitude.device)
    moment = (hertz - center).square_().mul_(magnitude).sum(-1, keepdim=True)
    return (moment / magnitude.sum(-1, keepdim=True).clamp(min=TINY)).sqrt()


def rolloff(magnitude: Tensor, sample_rate: int, share: float = 0.85) -> Tensor:
    """The first bin's frequency in Hz at or below which `share` of the magnitude lies."""
    below = running_sum(magnitude)
    index = (below < share * below[..., -1:]).sum(-1, keepdim=True)
    return index * (sample_rate / 2 / (magnitude.shape[-1] - 1))


def flatness(power: Tensor, amin: float = 1e-10) -> Tensor:
    """Geometric over arithmetic mean of the power (Dubnov 2004): 1 for white noise's mean spectrum, 0 for a tone."""
    floored = power.clamp(min=amin)
    return floored.log().mean(-1, keepdim=True).exp() / floored.mean(-1, keepdim=True)


def contrast(magnitude: Tensor, valid: Tensor, sample_rate: int, bands: int) -> Tensor:
    """Decibels between the loudest and the quietest 2 % of each band (Jiang et al. 2002): `bands + 1` rows.

    Bands are 0-200 Hz and octaves from there; the last takes all bins above. As in librosa the decibels are of
    magnitudes, and neither side lies more than 80 dB below the clip's greatest, over the frames `valid (B, N)`.
    """
    loud, quiet = [], []
    for low, high, count in contrast_bands(sample_rate, magnitude.shape[-1], bands):
        band = magnitude[..., low:high]
        loud.append(_mean_of_extremes(band, count, True))
        quiet.append(_mean_of_extremes(band, count, False))
    return power_to_db(torch.stack(loud, -1), valid) - power_to_db(torch.stack(quiet, -1), valid)


@lru_cache(maxsize=8)
def contrast_bands(sample_rate: int, bins: int, bands: int) -> tuple[tuple[int, int, int], ...]:
    """First and last bin (exclusive) of each band, and how many of its bins count as extreme.

    librosa counts a band's upper edge in, adds the bin below its lower edge, and drops the highest bin again; the
    drop comes after the extremes are counted.

    Raises:
        ConfigError: a band holds no bin.
    """
    hertz = torch.linspace(0, sample_rate / 2, bins, dtype=torch.float64)
    edges = [0.0, *[CONTRAST_BASE * 2**k for k in range(bands + 1)]]
    found = []
    for k, (low, high) in enumerate(pairwise(edges)):
        inside = ((hertz >= low) & (hertz <= high)).nonzero()[:, 0].tolist()
        if not inside:
            raise ConfigError(
                f"features.contrast_bands: no bin of the spectrum lies in {low:.0f}-{high:.0f} Hz at "
                f"{sample_rate} Hz; take fewer contrast_bands than {bands} or a larger n_fft"
            )
        first, end = inside[0] - (k > 0), bins if k == bands else inside[-1] + 1
        count = max(1, round(CONTRAST_SHARE * (end - first)))
        found.append((first, max(first + 1, end - (k < bands)), count))
    return tuple(found)


def _mean_of_extremes(band: Tensor, count: int, largest: bool) -> Tensor:
    if count == 1:
        return band.amax(-1) if largest else band.amin(-1)
    return band.topk(count, dim=-1, largest=largest, sorted=False).values.mean(-1)
