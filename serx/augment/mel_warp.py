"""Pitch shift and time stretch inside the mel front end: no vocoder, since log-mels and MFCCs throw the phase away.

A time stretch by `rate` is the mel power read at frames 0, rate, 2 rate, ..., between two frames by interpolation; a
pitch shift is a mel filter bank read at scaled frequencies (`mel.py`). Each clip has its own of both.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from serx.base_config import BaseConfig
from serx.dsp.mel_warp import PITCH_STEPS, Warp
from serx.seeding import ClipRandom

Rate = Annotated[float, Field(ge=0.5, le=2.0)]


Semitones = Annotated[float, Field(ge=-3.4, le=3.4)]


class MelWarp(BaseConfig):
    """With probability `p` a clip plays at a `rate` and is shifted by `semitones`, each drawn on its own.

    Works within stacks of mel, logmel and mfcc. Faster than the same on waveforms, to which it comes within a
    decibel; formants move with the pitch.
    """

    kind: Literal["mel_warp"] = "mel_warp"
    p: Annotated[float, Field(ge=0, le=1)] = 0.5
    rate: tuple[Rate, Rate] = (0.88, 1.12)
    semitones: tuple[Semitones, Semitones] = (-2.0, 2.0)

    @model_validator(mode="after")
    def _ordered(self) -> "MelWarp":
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
