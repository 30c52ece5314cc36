"""Transforms of single samples: gain, polarity inversion and clipping."""

from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from serx.augment.transform import DecibelRange, Probability, WaveformTransform, ordered, register_transform
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
    kind: Literal["gain"] = "gain"
    p: Probability = 0.5
    gain_db: DecibelRange = (-12.0, 6.0)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> LevelParams:
        return LevelParams(random.chance(self.p), random.uniform(*self.gain_db))

    def apply(self, x: Tensor, lengths: Tensor, params: LevelParams) -> tuple[Tensor, Tensor]:
        gain = torch.where(params.on, 10 ** (params.db / 20), 1.0)
        return x * gain[:, None], lengths


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
    kind: Literal["polarity_inversion"] = "polarity_inversion"
    p: Probability = 0.5

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> Tensor:
        return random.chance(self.p)

    def apply(self, x: Tensor, lengths: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
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
    kind: Literal["clipping"] = "clipping"
    p: Probability = 0.2
    limit_db: Annotated[tuple[LimitDb, LimitDb], AfterValidator(ordered)] = (-12.0, -1.0)
    shape: Literal["hard", "soft"] = "hard"

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> LevelParams:
        return LevelParams(random.chance(self.p), random.uniform(*self.limit_db))

    def apply(self, x: Tensor, lengths: Tensor, params: LevelParams) -> tuple[Tensor, Tensor]:
        peak = torch.maximum(x.amax(1), -x.amin(1))
        limit = peak * 10 ** (params.db / 20)
        if self.shape == "hard":
            return _limited(x, torch.where(params.on, limit, torch.inf)), lengths
        limit = limit[:, None]
        clipped = torch.tanh(x / limit.clamp(min=1e-20)) * limit  # a silent clip stays silent
        return torch.where(params.on[:, None], clipped, x), lengths


def _limited(x: Tensor, limit: Tensor) -> Tensor:
    """`x (B, T)` between `-limit (B,)` and `limit`."""
    if not is_plain_on_cpu(x):
        return torch.maximum(torch.minimum(x, limit[:, None]), -limit[:, None])
    result = x.new_empty(x.shape)
    for row, clip, bound in zip(result.numpy(), x.numpy(), limit.numpy(), strict=True):
        np.clip(clip, -bound, bound, out=row)
    return result
