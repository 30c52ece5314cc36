"""Pitch shift and time stretch inside the mel front end: no vocoder, since log-mels and MFCCs throw the phase away.

A time stretch by `rate` is the mel power read at frames 0, rate, 2 rate, ..., between two frames by interpolation; a
pitch shift is a mel filter bank read at scaled frequencies (`mel.py`). Each clip has its own of both.
"""

import math
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor

from serx.section import Section
from serx.seeding import ClipRandom
from serx.transforms.mel import PITCH_STEPS

Rate = Annotated[float, Field(ge=0.5, le=2.0)]
Semitones = Annotated[float, Field(ge=-3.4, le=3.4)]


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


class FusedWarp(Section):
    """With probability `p` a clip plays at a `rate` and is shifted by `semitones`, each drawn on its own.

    Works within stacks of mel, logmel and mfcc. Faster than the same on waveforms, to which it comes within a
    decibel; formants move with the pitch.
    """

    kind: Literal["fused"] = "fused"
    p: Annotated[float, Field(ge=0, le=1)] = 0.5
    rate: tuple[Rate, Rate] = (0.88, 1.12)
    semitones: tuple[Semitones, Semitones] = (-2.0, 2.0)

    @model_validator(mode="after")
    def _ordered(self) -> "FusedWarp":
        for name in ("rate", "semitones"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} runs from {low} down to {high}; write the smaller first")
        return self

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> Warp:
        """One warp for each clip of `lengths (B,)`; `rate` (samples a second) plays no part."""
        on, speed, semitones = random.chance(self.p), random.uniform(*self.rate), random.uniform(*self.semitones)
        steps = (torch.exp2(semitones.double() / 12) * PITCH_STEPS).round()
        slowest = min(1.0, self.rate[0]) if self.p > 0 else 1.0
        return Warp(torch.where(on, speed, 1.0), torch.where(on, steps, PITCH_STEPS).long(), slowest)


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
