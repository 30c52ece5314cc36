"""A description of the recording channel (microphone, room, telephone line), mostly independent of what is said.

Two groups of numbers describe each clip, all in decibels and none changed by a gain:

    levels   the level of ten frequency bands relative to the whole, in the clip's quietest, middle and loudest frames.
             Noise fills the pauses; a telephone line empties the upper bands.
    fading   how fast four bands fade after a loud frame. In a reverberant room nothing fades fast.
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
LOUD_DB = 25.0  # a band's frame is loud within this range below its loudest
FADE_QUANTILE = 0.05
FLOOR = 1e-10  # of the clip's mean power: digital silence gets a number, and a gain changes nothing


def channel_features(waveform: Tensor, lengths: Tensor, sample_rate: int) -> Tensor:
    """`waveform (B, T)`, zero beyond `lengths (B,)` -> `(B, K)` decibels, NaN for clips shorter than about 80 ms.

    The K columns are the levels in pauses, then those in middle frames, those in peaks, and the fading. Only bands
    that end below half the sample rate count: K is 34 at 16 kHz. `channel_feature_names` names the columns.

    >>> noise = torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    >>> channel_features(noise, torch.tensor([16000]), 16000).shape
    torch.Size([1, 34])
    """
    level = _band_decibels(waveform, lengths, sample_rate, FRAME_SECONDS, STEP_SECONDS, BANDS_HZ)
    levels = level.nanquantile(torch.tensor(QUANTILES, device=level.device), dim=-1)  # (3, B, bands)
    short = _band_decibels(waveform, lengths, sample_rate, FADE_FRAME_SECONDS, FADE_STEP_SECONDS, FADING_HZ)
    loudest = short.nan_to_num(-torch.inf).amax(-1, keepdim=True)
    before, after = short[..., :-FADE_STEPS], short[..., FADE_STEPS:]
    fading = torch.where(before > loudest - LOUD_DB, after - before, torch.nan).nanquantile(FADE_QUANTILE, dim=-1)
    return torch.cat([*levels, fading], dim=1)


def channel_feature_names(sample_rate: int) -> list[tuple[str, int, int]]:
    """Kind (pauses, medians, peaks or fading) and band edges in Hz of each column of `channel_features`.

    >>> channel_feature_names(16000)[0]
    ('pauses', 60, 150)
    """
    bands, fading = _bands(BANDS_HZ, sample_rate), _bands(FADING_HZ, sample_rate)
    levels = [(kind, low, high) for kind in ("pauses", "medians", "peaks") for low, high in bands]
    return levels + [("fading", low, high) for low, high in fading]


def _bands(edges_hz: tuple[int, ...], sample_rate: int) -> list[tuple[int, int]]:
    return [(low, high) for low, high in itertools.pairwise(edges_hz) if high <= sample_rate / 2]


def _band_decibels(
    waveform: Tensor, lengths: Tensor, sample_rate: int, frame: float, step: float, edges_hz: tuple[int, ...]
) -> Tensor:
    """`(B, bands, N)` dB relative to the clip's mean power in these bands; NaN in frames that reach past the clip."""
    size, hop = round(frame * sample_rate), round(step * sample_rate)
    padded = torch.nn.functional.pad(waveform, (0, max(0, size + (FADE_STEPS + 1) * hop - waveform.shape[1])))
    window = torch.hann_window(size, device=waveform.device)
    power = torch.stft(padded, size, hop, window=window, center=False, return_complex=True).abs().square()
    hertz = torch.arange(power.shape[1], device=waveform.device) * (sample_rate / size)
    masks = [(hertz >= low) & (hertz < high) for low, high in _bands(edges_hz, sample_rate)]
    averaging = torch.stack([mask / mask.sum() for mask in masks])  # (bands, bins)
    frames = ((lengths - size) // hop + 1).clamp(min=0)
    valid = valid_mask(frames, power.shape[-1])[:, None]
    bands = (averaging @ power) * valid
    mean = bands.sum(dim=(1, 2), keepdim=True) / (frames[:, None, None] * len(masks))
    return torch.where(valid, 10 * (bands / mean + FLOOR).log10(), torch.nan)
