"""Transforms of where a clip begins and ends: a random window, and a shift in time."""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from serx.augment.transform import Probability, Range
from serx.base_config import BaseConfig
from serx.dsp.batching import read_from, valid_mask
from serx.seeding import ClipRandom


class CropParams(NamedTuple):
    """`start (B,)` in samples and the window's `size`, a host number."""

    start: Tensor
    size: int


class Crop(BaseConfig):
    """A window of `seconds` from a random place; a shorter clip is kept whole. Every clip is cropped."""

    kind: Literal["crop"] = "crop"
    seconds: float = Field(2.3, gt=0)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> CropParams:
        size = max(1, round(self.seconds * rate))
        return CropParams(random.integers((lengths - size).clamp(min=0) + 1), size)

    def apply(self, x: Tensor, lengths: Tensor, params: CropParams) -> tuple[Tensor, Tensor]:
        lengths = lengths.clamp(max=params.size)
        cropped = _read_rows(x, params.start, min(params.size, x.shape[1]))
        return cropped.mul_(valid_mask(lengths, cropped.shape[1])), lengths


class Shift(BaseConfig):
    """Moves the clip later, or earlier, by `seconds`, its length kept: zeros come in, samples fall out.

    No clip moves by more than half its length, so that no utterance is lost whole.
    """

    kind: Literal["shift"] = "shift"
    p: Probability = 0.5
    seconds: Range = (-0.2, 0.2)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> Tensor:
        on, offset = random.chance(self.p), (random.uniform(*self.seconds) * rate).round().long()
        offset = torch.maximum(torch.minimum(offset, lengths // 2), -(lengths // 2))
        return torch.where(on, offset, 0)

    def apply(self, x: Tensor, lengths: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        size = x.shape[1]
        # As far as a clip may be moved; a CPU waits for nothing when it reads how far one is.
        margin = int(params.abs().max()) if x.device.type == "cpu" else size // 2
        moved = _read_rows(F.pad(x, (margin, margin)), margin - params, size)
        return moved.mul_(valid_mask(lengths, size)), lengths


def _read_rows(x: Tensor, start: Tensor, size: int) -> Tensor:
    """`size` samples of each clip of `x (B, T)` from its own `start (B,)` on, at most T - size."""
    rows = torch.arange(len(x), device=x.device) * x.shape[1]
    return read_from(x.flatten(), rows + start, size)
