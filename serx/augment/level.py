"""Transforms of single samples: gain, polarity inversion and clipping."""

from ctypes import c_float
from typing import Annotated, Literal, NamedTuple, cast

import numpy as np
import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from serx.augment.transform import DecibelRange, Probability, RowTransform, ordered, register_transform
from serx.dsp.batching import change_rows
from serx.seeding import ClipRandom, is_plain_on_cpu

LimitDb = Annotated[float, Field(ge=-100, le=0)]  # a limit above the peak changes nothing


class LevelParams(NamedTuple):
    """Whether each clip is changed, `on (B,)` bool, and a level `db (B,)`."""

    on: Tensor
    db: Tensor


@register_transform
class Gain(RowTransform):
    """Multiplies a clip by a gain, in dB. The result may exceed full scale, since signals are float.

    Anger is loud and sadness is soft. A wide range hides this cue, unless every clip is normalized to one level anyway.

    Args:
        p: probability of a change, per clip.
        gain_db: range of the gain in dB, uniform.

    >>> import torch
    >>> from serx.augment import Compose
    >>> y, _ = Compose([Gain(p=1.0, gain_db=(20, 20))])(torch.full((1, 3), 0.01))
    >>> y
    tensor([[0.1000, 0.1000, 0.1000]])
    """

    kind: Literal["gain"] = "gain"
    p: Probability = 0.5
    gain_db: DecibelRange = (-12.0, 6.0)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> LevelParams:
        return LevelParams(random.chance(self.p), random.uniform(*self.gain_db))

    def apply(self, x: Tensor, lengths: Tensor, params: LevelParams) -> tuple[Tensor, Tensor]:
        if is_plain_on_cpu(x):
            return change_rows(_multiply, params.on, x, params.db), lengths
        return x * torch.where(params.on, 10 ** (params.db / 20), 1.0)[:, None], lengths

    def change(self, x: Tensor, lengths: Tensor, random: ClipRandom, rate: float) -> None:
        for row, is_on, db in zip(x.numpy(), random.chances(self.p), random.uniforms(*self.gain_db), strict=True):
            if is_on:
                _multiply(row, row, db)


@register_transform
class PolarityInversion(RowTransform):
    """Multiplies a clip by -1, as a microphone with swapped wires does. It is inaudible, so it is never too strong.

    Args:
        p: probability of a change, per clip.

    >>> import torch
    >>> from serx.augment import Compose
    >>> Compose([PolarityInversion(p=1.0)])(torch.tensor([[0.5, -0.25]]))[0]
    tensor([[-0.5000,  0.2500]])
    """

    kind: Literal["polarity_inversion"] = "polarity_inversion"
    p: Probability = 0.5

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> Tensor:
        return random.chance(self.p)

    def apply(self, x: Tensor, lengths: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        if is_plain_on_cpu(x):
            return change_rows(np.negative, params, x), lengths
        return x * torch.where(params, -1.0, 1.0)[:, None], lengths

    def change(self, x: Tensor, lengths: Tensor, random: ClipRandom, rate: float) -> None:
        chances = random.chances(self.p)
        if all(chances):
            x.neg_()
            return
        for row, is_on in zip(x.numpy(), chances, strict=True):
            if is_on:
                np.negative(row, row)


@register_transform
class Clipping(RowTransform):
    """Limits a clip to a level below its own peak, as an overloaded microphone does.

    Shouting overloads microphones, so strong clipping makes a clip sound angry. Below about -12 dB expect confusion.

    Args:
        p: probability of a change, per clip.
        limit_db: range of the limit in dB relative to the clip's peak, uniform.
        shape: `hard` cuts samples off at the limit, `soft` bends them by tanh.

    >>> import torch
    >>> from serx.augment import Compose
    >>> Compose([Clipping(p=1.0, limit_db=(-20, -20))])(torch.tensor([[1.0, -0.5, 0.05]]))[0]
    tensor([[ 0.1000, -0.1000,  0.0500]])
    """

    kind: Literal["clipping"] = "clipping"
    p: Probability = 0.2
    limit_db: Annotated[tuple[LimitDb, LimitDb], AfterValidator(ordered)] = (-12.0, -1.0)
    shape: Literal["hard", "soft"] = "hard"

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> LevelParams:
        return LevelParams(random.chance(self.p), random.uniform(*self.limit_db))

    def apply(self, x: Tensor, lengths: Tensor, params: LevelParams) -> tuple[Tensor, Tensor]:
        if self.shape == "hard" and is_plain_on_cpu(x):
            return change_rows(_limit, params.on, x, params.db), lengths
        limit = (torch.maximum(x.amax(1), -x.amin(1)) * 10 ** (params.db / 20))[:, None]
        if self.shape == "hard":
            limit = torch.where(params.on[:, None], limit, torch.inf)
            return torch.maximum(torch.minimum(x, limit), -limit), lengths
        clipped = torch.tanh(x / limit.clamp(min=1e-20)) * limit  # a silent clip stays silent
        return torch.where(params.on[:, None], clipped, x), lengths

    def change(self, x: Tensor, lengths: Tensor, random: ClipRandom, rate: float) -> None:
        if self.shape == "soft":
            x.copy_(self.apply(x, lengths, self.draw(lengths, random, rate))[0])
            return
        for row, is_on, db in zip(x.numpy(), random.chances(self.p), random.uniforms(*self.limit_db), strict=True):
            if is_on:
                _limit(row, row, db)


def _multiply(clip: np.ndarray, row: np.ndarray, db: float) -> None:
    np.multiply(clip, _factor(db), row)


def _limit(clip: np.ndarray, row: np.ndarray, db: float) -> None:
    """Writes `clip (T,)` into `row (T,)`, limited to a level relative to its peak."""
    bound = np.maximum(clip.max(), -clip.min()) * np.float32(_factor(db))
    clip.clip(-bound, bound, row)


def _factor(db: float) -> float:
    """The factor of a level. torch's power of float32 has other bits for one clip than for eight; Python's has not."""
    return cast(float, 10.0 ** c_float(db / 20).value)
