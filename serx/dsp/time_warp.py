"""Time stretch of a mel spectrogram: reads it at fractional frames, between two frames by interpolation."""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Warp(NamedTuple):
    """How each clip of a batch is warped.

    Attributes:
        rate: `(B,)` float32, how many times faster; 1 leaves the clip.
        pitch_steps: `(B,)` int64 in 105..156, the pitch's ratio in 128ths; 128 leaves the clip.
        slowest: the least `rate` that can occur, a host number: it bounds the output's width.
    """

    rate: Tensor
    pitch_steps: Tensor
    slowest: float

    def width(self, frames: int) -> int:
        """How many frames the batch can become, from `frames`."""
        return 1 + math.floor((frames - 1) / min(self.slowest, 1.0))

    def split(self, size: int) -> "list[Warp]":
        """Pieces of `size` clips."""
        pieces = zip(self.rate.split(size), self.pitch_steps.split(size), strict=True)
        return [Warp(rate, steps, self.slowest) for rate, steps in pieces]


def stretched_count(frames: Tensor, rate: Tensor) -> Tensor:
    """Frames `(B,)` left of `frames (B,)`: those positions j * rate that lie on the clip.

    `1 + floor((frames - 1) / rate)`: what the really stretched waveform has, or one less where the clip's samples
    beyond its last whole hop would have made another.
    """
    return 1 + torch.floor((frames - 1).double() / rate.double()).long()


def stretch_frames(x: Tensor, frames: Tensor, warp: Warp) -> Tensor:
    """`x (B, N, F)` read at j * rate, between frames by interpolation -> `(B, 1 + floor((N - 1) / slowest), F)`.

    Valid up to `stretched_count(frames, rate)`; a rate of 1 gives the frames back bit for bit.
    """
    clips, size = x.shape[:2]
    width = warp.width(size)
    position = torch.arange(width, device=x.device, dtype=torch.float64) * warp.rate.double()[:, None]
    position = torch.minimum(position, (frames[:, None] - 1).double())
    before = position.long()
    share = (position - before).float()[..., None]
    start = torch.arange(clips, device=x.device)[:, None] * size
    rows = x.flatten(0, 1)
    here = rows.index_select(0, (start + before).flatten())
    there = rows.index_select(0, (start + (before + 1).clamp(max=size - 1)).flatten())
    return torch.lerp(here.view(clips, width, -1), there.view(clips, width, -1), share)
