"""Pitch shift and time stretch within the mel spectrogram, where they cost almost nothing.

A mel power spectrogram has no phase, so both changes are one reading of it at other points:

    pitch    a shift by the ratio r takes frequency f to r f. The mel power of the shifted clip is therefore the clip's
             own spectrum under filters that are evaluated at r f.
    time     a stretch by the rate v reads the frames 0, v, 2 v, ...; between two frames by linear interpolation.

Pitch ratios are P / 128. The filter banks of all of them are cached, and each clip of a batch picks its own.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from serx.dsp.batching import cached
from serx.dsp.mel import Band, MelScale, cut_bands, join_bands, mel_filters, mel_power

PITCH_STEPS = 128  # ratios are multiples of 1 / 128, about 13 cents apart
FIRST_STEP, LAST_STEP = 105, 156  # -3.43 to +3.42 semitones; a wider range would widen the bands


class Warp(NamedTuple):
    """How each clip of a batch is warped.

    Attributes:
        rate: `(B,)` float32, how many times faster the clip gets; 1 leaves it unchanged.
        pitch_steps: `(B,)` int64 in 105..156, the pitch ratio in 128ths; 128 leaves the clip unchanged.
        slowest: the least `rate` that can occur, a Python number. It bounds the width of the output.

    >>> warp = Warp(torch.tensor([0.8, 1.25]), torch.tensor([128, 140]), slowest=0.8)
    >>> warp.width(101)
    126
    """

    rate: Tensor
    pitch_steps: Tensor
    slowest: float

    def width(self, frames: int) -> int:
        """The number of frames that a batch of `frames` can become."""
        return 1 + math.floor((frames - 1) / min(self.slowest, 1.0))

    def split(self, size: int) -> "list[Warp]":
        """Pieces of `size` clips."""
        pieces = zip(self.rate.split(size), self.pitch_steps.split(size), strict=True)
        return [Warp(rate, steps, self.slowest) for rate, steps in pieces]


def shifted_mel_power(power: Tensor, scale: MelScale, steps: Tensor) -> Tensor:
    """Mel power `(B, N, n_mels)` of `power (B, N, bins)`, each clip shifted in pitch by `steps / 128`.

    `steps (B,)` is int64 in 105..156. A clip at 128 has the values of `mel_power` bit for bit.

    >>> power, scale = torch.ones(2, 10, 129), MelScale(16000, 256, 8, 0.0, 8000.0)
    >>> shifted = shifted_mel_power(power, scale, torch.tensor([128, 140]))
    >>> torch.equal(shifted[0], mel_power(power, scale)[0])
    True
    """
    bands = _shifted_bands(scale, power.device)
    index = steps - FIRST_STEP
    shifted = join_bands([torch.bmm(power[..., b.low : b.high], b.weights.index_select(0, index)) for b in bands])
    unchanged = steps == PITCH_STEPS
    if steps.device.type == "cpu" and not unchanged.any():  # reading a value on a CPU waits for nothing
        return shifted
    return torch.where(unchanged[:, None, None], mel_power(power, scale), shifted)


def stretched_count(frames: Tensor, rate: Tensor) -> Tensor:
    """Frames `(B,)` that are left of `frames (B,)` at `rate (B,)`: those positions j * rate that lie on the clip.

    This is `1 + floor((frames - 1) / rate)`. The stretched waveform itself has as many, or one more if the samples
    beyond the last whole hop give another frame.
    """
    return 1 + torch.floor((frames - 1).double() / rate.double()).long()


def stretch_frames(x: Tensor, frames: Tensor, warp: Warp) -> Tensor:
    """Reads each clip of `x (B, N, F)` at the frames j * rate -> `(B, 1 + floor((N - 1) / slowest), F)`.

    The result is valid up to `stretched_count(frames, rate)`. A rate of 1 returns the frames bit for bit.

    >>> ramp = torch.arange(5.0).reshape(1, 5, 1)
    >>> half = Warp(torch.tensor([0.5]), torch.tensor([128]), slowest=0.5)
    >>> stretch_frames(ramp, torch.tensor([5]), half).flatten().tolist()
    [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]
    """
    clips, size = x.shape[:2]
    width = warp.width(size)
    position = torch.arange(width, device=x.device, dtype=torch.float64) * warp.rate.double()[:, None]
    position = torch.minimum(position, (frames[:, None] - 1).double())
    before = position.long()
    fraction = (position - before).float()[..., None]
    start = torch.arange(clips, device=x.device)[:, None] * size
    rows = x.flatten(0, 1)
    earlier = rows.index_select(0, (start + before).flatten())
    later = rows.index_select(0, (start + (before + 1).clamp(max=size - 1)).flatten())
    return torch.lerp(earlier.view(clips, width, -1), later.view(clips, width, -1), fraction)


@cached
def _shifted_bands(scale: MelScale, device: torch.device) -> tuple[Band, ...]:
    """The bands of all pitch steps; their weights are `(steps, high - low, filters)`."""
    ratios = [step / PITCH_STEPS for step in range(FIRST_STEP, LAST_STEP + 1)]
    return cut_bands(torch.stack([mel_filters(scale, ratio) for ratio in ratios]), device)
