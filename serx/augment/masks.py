"""SpecAugment: masks over the frames and the rows of a spectrogram (Park et al. 2019)."""

from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from serx.augment.transform import Probability
from serx.base_config import BaseConfig
from serx.seeding import ClipRandom

_WIDE = 1 << 40  # a draw that is reduced modulo the number of choices, once that is known


class MaskParams(NamedTuple):
    """`start` and `width (B,)` of each of the masks."""

    start: tuple[Tensor, ...]
    width: tuple[Tensor, ...]


class TimeMask(BaseConfig):
    """Sets up to `width` frames to zero, `count` times, within the clip.

    Emotion is spread over an utterance, words are not: masks of up to a fifth of the clip leave it audible.
    """

    kind: Literal["time_mask"] = "time_mask"
    p: Probability = 1.0
    count: int = Field(2, ge=1, le=10)
    width: int = Field(14, ge=1)
    max_fraction: float = Field(0.2, gt=0, le=1)  # at most so much of the clip by one mask

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> MaskParams:
        on = random.chance(self.p)
        widest = (lengths * self.max_fraction).long().clamp(max=self.width)
        widths = tuple(torch.where(on, random.integers(widest + 1), 0) for _ in range(self.count))
        return MaskParams(tuple(random.integers(lengths - width + 1) for width in widths), widths)

    def apply(self, x: Tensor, lengths: Tensor, params: MaskParams) -> tuple[Tensor, Tensor]:
        return x.masked_fill(_covered(params, x.shape[2])[:, None, :], 0.0), lengths


class RowDraws(NamedTuple):
    """`on (B,)` and large integers `(B,)` for each mask, from which start and width follow given the rows."""

    on: Tensor
    start: tuple[Tensor, ...]
    width: tuple[Tensor, ...]


class FrequencyMask(BaseConfig):
    """Sets up to `width` of the rows there are to zero, `count` times."""

    kind: Literal["frequency_mask"] = "frequency_mask"
    p: Probability = 1.0
    count: int = Field(2, ge=1, le=10)
    width: int = Field(8, ge=1)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> RowDraws:
        on = random.chance(self.p)
        widths = tuple(random.integers(_WIDE) for _ in range(self.count))
        return RowDraws(on, tuple(random.integers(_WIDE) for _ in range(self.count)), widths)

    def apply(self, x: Tensor, lengths: Tensor, params: RowDraws) -> tuple[Tensor, Tensor]:
        rows = x.shape[1]
        choices = min(self.width, rows) + 1
        widths = tuple(torch.where(params.on, draw % choices, 0) for draw in params.width)
        starts = tuple(draw % (rows - width + 1) for draw, width in zip(params.start, widths, strict=True))
        return x.masked_fill(_covered(MaskParams(starts, widths), rows)[:, :, None], 0.0), lengths


def _covered(params: MaskParams, size: int) -> Tensor:
    """`(B, size)` bool, true under any of the masks; positions are integers, whatever the precision around."""
    position = torch.arange(size, device=params.start[0].device)
    covered = torch.zeros((), dtype=torch.bool, device=position.device)
    for start, width in zip(params.start, params.width, strict=True):
        covered = covered | ((position >= start[:, None]) & (position < (start + width)[:, None]))
    return covered
