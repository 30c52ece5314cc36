"""Pitch shift and time stretch inside the mel front end, without a vocoder (`serx.dsp.mel_warp`)."""

from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from serx.augment.transform import Probability
from serx.base_config import BaseConfig
from serx.dsp.mel_warp import PITCH_STEPS, Warp
from serx.seeding import ClipRandom

Rate = Annotated[float, Field(ge=0.5, le=2.0)]
Semitones = Annotated[float, Field(ge=-3.4, le=3.4)]


class MelWarp(BaseConfig):
    """Shifts pitch and stretches time while the mel spectrogram is computed: `augment.mel_warp`.

    It works for the features mel, logmel and mfcc, which have no phase. It is much faster than `PitchTempo` on
    waveforms and comes within 1 dB of it. Formants move with the pitch. Rates beyond 0.8 to 1.25 and shifts of three
    semitones or more begin to change the emotion, as with `TimeStretch` and `PitchShift`.

    It is no item of `Compose`: `FeatureStack` takes what `draw` returns.

    Args:
        p: probability of a change, per clip.
        rate: range of the playing rate, uniform; 1.1 is 10 % faster at the same pitch.
        semitones: range of the pitch shift, uniform.

    >>> import torch
    >>> from serx.features import FeaturesConfig, FeatureStack
    >>> waveform, lengths = torch.rand(2, 16000), torch.tensor([16000, 12000])
    >>> warp = MelWarp(p=1.0, rate=(1.25, 1.25)).draw(lengths, ClipRandom(torch.arange(2), key=0), 16000)
    >>> mel, frames = FeatureStack(FeaturesConfig(), sample_rate=16000)(waveform, lengths, warp)
    >>> frames  # instead of 63 and 47
    tensor([50, 37])
    """

    kind: Literal["mel_warp"] = "mel_warp"
    p: Probability = 0.5
    rate: tuple[Rate, Rate] = (0.88, 1.12)
    semitones: tuple[Semitones, Semitones] = (-2.0, 2.0)

    @model_validator(mode="after")
    def _ordered(self) -> "MelWarp":
        for name in ("rate", "semitones"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} {[low, high]} begins above its end; write [low, high]")
        return self

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> Warp:
        """The warp of each clip of `lengths (B,)`; `rate`, in samples per second, is not used."""
        on, speed, semitones = random.chance(self.p), random.uniform(*self.rate), random.uniform(*self.semitones)
        steps = (torch.exp2(semitones.double() / 12) * PITCH_STEPS).round()
        slowest = min(1.0, self.rate[0]) if self.p > 0 else 1.0
        return Warp(torch.where(on, speed, 1.0), torch.where(on, steps, PITCH_STEPS).long(), slowest)
