"""What microphone, room and line make of a recording, in decibels: what is said in it, and how loudly, counts little.

Of each clip: how loud ten bands are beside the whole, in its quietest, middle and loudest frames (a noise fills the
pauses, a telephone empties the upper bands), and how fast four bands fade behind what was loud (a room lets nothing
fade fast).
"""

import itertools

import torch
from torch import Tensor

from serx.dsp.batching import valid_mask

BANDS_HZ = (60, 150, 250, 400, 630, 1000, 1600, 2500, 4000, 5600, 7800)
QUANTILES = (0.1, 0.5, 0.9)  # of the frames: pauses, middle, peaks
FADING_HZ = (250, 630, 1600, 4000, 7800)
FRAME_SECONDS, STEP_SECONDS = 0.064, 0.032
FADE_FRAME_SECONDS, FADE_STEP_SECONDS, FADE_STEPS = 0.032, 0.016, 3
LOUD_DB = 25.0  # what fades is within so much of the band's loudest frame
FADE_QUANTILE = 0.05
FLOOR = 1e-10  # of the clip's mean power, so that digital silence is a number and a gain changes nothing


def channel(waveform: Tensor, lengths: Tensor, sample_rate: int) -> Tensor:
    """`waveform (B, T)`, zero beyond `lengths (B,)` -> `(B, K)`: bands by quantiles, pauses first, then the fading.

    K is 3 bands and more: one fewer than `BANDS_HZ` for each quantile, one fewer than `FADING_HZ` behind them, of those
    that end below half the sample rate. NaN where a clip is too short to tell, some 80 ms.
    """
    long = _decibels(waveform, lengths, sample_rate, FRAME_SECONDS, STEP_SECONDS, BANDS_HZ)
    levels = long.nanquantile(torch.tensor(QUANTILES, device=long.device), dim=-1)  # (3, B, bands)
    short = _decibels(waveform, lengths, sample_rate, FADE_FRAME_SECONDS, FADE_STEP_SECONDS, FADING_HZ)
    loudest = short.nan_to_num(-torch.inf).amax(-1, keepdim=True)
    before, after = short[..., :-FADE_STEPS], short[..., FADE_STEPS:]
    fading = torch.where(before > loudest - LOUD_DB, after - before, torch.nan).nanquantile(FADE_QUANTILE, dim=-1)
    return torch.cat([*levels, fading], dim=1)


def names(sample_rate: int) -> list[tuple[str, int, int]]:
    """Of each of the K numbers: pauses, medians, peaks or fading, and its band in Hz."""
    bands, fading = _bands(BANDS_HZ, sample_rate), _bands(FADING_HZ, sample_rate)
    told = [(kind, low, high) for kind in ("pauses", "medians", "peaks") for low, high in bands]
    return told + [("fading", low, high) for low, high in fading]


def _bands(edges_hz: tuple[int, ...], sample_rate: int) -> list[tuple[int, int]]:
    return [(low, high) for low, high in itertools.pairwise(edges_hz) if high <= sample_rate / 2]


def _decibels(
    waveform: Tensor, lengths: Tensor, sample_rate: int, frame: float, step: float, edges_hz: tuple[int, ...]
) -> Tensor:
    """`(B, bands, N)` dB beside the clip's mean power in these bands; NaN in frames that reach beyond the clip."""
    size, hop = round(frame * sample_rate), round(step * sample_rate)
    padded = torch.nn.functional.pad(waveform, (0, max(0, size + (FADE_STEPS + 1) * hop - waveform.shape[1])))
    window = torch.hann_window(size, device=waveform.device)
    power = torch.stft(padded, size, hop, window=window, center=False, return_complex=True).abs().square()
    hertz = torch.arange(power.shape[1], device=waveform.device) * (sample_rate / size)
    within = [(hertz >= low) & (hertz < high) for low, high in _bands(edges_hz, sample_rate)]
    mixing = torch.stack([mask / mask.sum() for mask in within])  # (bands, bins): means
    frames = ((lengths - size) // hop + 1).clamp(min=0)
    valid = valid_mask(frames, power.shape[-1])[:, None]
    bands = (mixing @ power) * valid
    mean = bands.sum(dim=(1, 2), keepdim=True) / (frames[:, None, None] * len(within))
    return torch.where(valid, 10 * (bands / mean + FLOOR).log10(), torch.nan)
