"""Transforms sample by sample: gain, polarity and clipping."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from serx.augment.transform import Probability, Range
from serx.base_config import BaseConfig
from serx.seeding import ClipRandom


class LevelParams(NamedTuple):
    """`on` and a level `db`, each `(B,)`."""

    on: Tensor
    db: Tensor


class Gain(BaseConfig):
    """Louder or softer by `gain_db`; the result may exceed full scale, as float signals may.

    Anger is loud and sadness soft: wide ranges hide it, unless the corpus was leveled clip by clip anyway.
    """

    kind: Literal["gain"] = "gain"
    p: Probability = 0.5
    gain_db: Range = (-12.0, 6.0)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> LevelParams:
        return LevelParams(random.chance(self.p), random.uniform(*self.gain_db))

    def apply(self, x: Tensor, lengths: Tensor, params: LevelParams) -> tuple[Tensor, Tensor]:
        gain = torch.where(params.on, 10 ** (params.db / 20), 1.0)
        return x * gain[:, None], lengths


class PolarityInversion(BaseConfig):
    """Turns the waveform upside down, as a microphone wired the other way does; nobody hears it."""

    kind: Literal["polarity_inversion"] = "polarity_inversion"
    p: Probability = 0.5

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> Tensor:
        return random.chance(self.p)

    def apply(self, x: Tensor, lengths: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(params[:, None], -x, x), lengths


class Clipping(BaseConfig):
    """Overloads: what exceeds a limit `limit_db` below the clip's own peak is cut off, or bent (`shape: soft`, tanh).

    Shouting overloads microphones, so much of it makes clips sound angry: below about -12 dB expect confusion.
    """

    kind: Literal["clipping"] = "clipping"
    p: Probability = 0.2
    limit_db: Range = (-12.0, -1.0)
    shape: Literal["hard", "soft"] = "hard"

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> LevelParams:
        return LevelParams(random.chance(self.p), random.uniform(*self.limit_db))

    def apply(self, x: Tensor, lengths: Tensor, params: LevelParams) -> tuple[Tensor, Tensor]:
        limit = (x.abs().amax(1) * 10 ** (params.db / 20))[:, None]
        if self.shape == "hard":
            clipped = torch.maximum(torch.minimum(x, limit), -limit)
        else:
            clipped = torch.tanh(x / limit.clamp(min=1e-20)) * limit  # a silent clip stays silent
        return torch.where(params.on[:, None], clipped, x), lengths
