"""Transforms of single samples: gain, polarity inversion and clipping."""

from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from serx.augment.transform import DecibelRange, Probability, WaveformTransform, ordered, register_transform
from serx.dsp.batching import change_rows
from serx.seeding import ClipRandom, is_plain_on_cpu

LimitDb = Annotated[float, Field(ge=-100, le=0)]  # a limit above the peak changes nothing


class LevelParams(NamedTuple):
    """Whether each clip is changed, `on (B,)` bool, and a level `db (B,)`."""

    on: Tensor
    db: Tensor


@register_transform
class Gain(WaveformTransform):
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

    is_one_pass: ClassVar[bool] = True
    works_in_place: ClassVar[bool] = True
    kind: Literal["gain"] = "gain"
    p: Probability = 0.5
    gain_db: DecibelRange = (-12.0, 6.0)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> LevelParams:
        return LevelParams(random.chance(self.p), random.uniform(*self.gain_db))

    def apply(self, x: Tensor, lengths: Tensor, params: LevelParams, in_place: bool = False) -> tuple[Tensor, Tensor]:
        gain = 10 ** (params.db / 20)
        if is_plain_on_cpu(x):
            return change_rows(_multiply, params.on, x, in_place, gain), lengths
        return x * torch.where(params.on, gain, 1.0)[:, None], lengths


@register_transform
class PolarityInversion(WaveformTransform):
    """Multiplies a clip by -1, as a microphone with swapped wires does. It is inaudible, so it is never too strong.

    Args:
        p: probability of a change, per clip.

    >>> import torch
    >>> from serx.augment import Compose
    >>> Compose([PolarityInversion(p=1.0)])(torch.tensor([[0.5, -0.25]]))[0]
    tensor([[-0.5000,  0.2500]])
    """

    is_one_pass: ClassVar[bool] = True
    works_in_place: ClassVar[bool] = True
    kind: Literal["polarity_inversion"] = "polarity_inversion"
    p: Probability = 0.5

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> Tensor:
        return random.chance(self.p)

    def apply(self, x: Tensor, lengths: Tensor, params: Tensor, in_place: bool = False) -> tuple[Tensor, Tensor]:
        if is_plain_on_cpu(x):
            return change_rows(np.negative, params, x, in_place), lengths
        return x * torch.where(params, -1.0, 1.0)[:, None], lengths


@register_transform
class Clipping(WaveformTransform):
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

    is_one_pass: ClassVar[bool] = True
    works_in_place: ClassVar[bool] = True
    kind: Literal["clipping"] = "clipping"
    p: Probability = 0.2
    limit_db: Annotated[tuple[LimitDb, LimitDb], AfterValidator(ordered)] = (-12.0, -1.0)
    shape: Literal["hard", "soft"] = "hard"

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> LevelParams:
        return LevelParams(random.chance(self.p), random.uniform(*self.limit_db))

    def apply(self, x: Tensor, lengths: Tensor, params: LevelParams, in_place: bool = False) -> tuple[Tensor, Tensor]:
        level = 10 ** (params.db / 20)
        if self.shape == "hard" and is_plain_on_cpu(x):
            return change_rows(_limit, params.on, x, in_place, level), lengths
        limit = (torch.maximum(x.amax(1), -x.amin(1)) * level)[:, None]
        if self.shape == "hard":
            limit = torch.where(params.on[:, None], limit, torch.inf)
            return torch.maximum(torch.minimum(x, limit), -limit), lengths
        clipped = torch.tanh(x / limit.clamp(min=1e-20)) * limit  # a silent clip stays silent
        return torch.where(params.on[:, None], clipped, x), lengths


def _multiply(clip: np.ndarray, row: np.ndarray, gain: float) -> None:
    np.multiply(clip, np.float32(gain), out=row)


def _limit(clip: np.ndarray, row: np.ndarray, level: float) -> None:
    """Writes `clip (T,)` into `row (T,)`, limited to `level` relative to its peak."""
    bound = np.maximum(clip.max(), -clip.min()) * np.float32(level)
    np.clip(clip, -bound, bound, out=row)
