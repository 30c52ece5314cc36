"""SpecAugment: masks over the frames and the rows of a spectrogram (Park et al. 2019)."""

from collections.abc import Iterator
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from serx.augment.transform import Probability, SpectrogramTransform, register_transform
from serx.seeding import ClipRandom, is_plain_on_cpu

_WIDE = 1 << 40  # random integers below it are reduced modulo the number of choices once that is known


class MaskParams(NamedTuple):
    """The `start (B,)` and `width (B,)` of each mask."""

    start: tuple[Tensor, ...]
    width: tuple[Tensor, ...]


@register_transform
class TimeMask(SpectrogramTransform):
    """Sets random stretches of frames to zero, which after normalization is the mean (Park et al. 2019).

    Emotion is spread over an utterance. Masks of up to a fifth of the clip leave enough of it.

    Args:
        p: probability of masks, per clip.
        count: number of masks. They may overlap.
        width: the widest mask, in frames. Widths are uniform from 0 on.
        max_fraction: the widest mask as a fraction of the clip.

    >>> import torch
    >>> from serx.augment import Compose
    >>> masked, _ = Compose([TimeMask(width=20)])(torch.ones(1, 64, 100), clips=[0])
    >>> int((masked[0] == 0).all(0).sum())  # frames, at most 2 x 20
    30
    """

    works_in_place: ClassVar[bool] = True
    kind: Literal["time_mask"] = "time_mask"
    p: Probability = 1.0
    count: int = Field(2, ge=1, le=10)
    width: int = Field(14, ge=1, le=65_536)
    max_fraction: float = Field(0.2, gt=0, le=1)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> MaskParams:
        on = random.chance(self.p)
        widest = (lengths * self.max_fraction).long().clamp(max=self.width)
        widths = tuple(torch.where(on, random.integers(widest + 1), 0) for _ in range(self.count))
        return MaskParams(tuple(random.integers(lengths - width + 1) for width in widths), widths)

    def apply(self, x: Tensor, lengths: Tensor, params: MaskParams, in_place: bool = False) -> tuple[Tensor, Tensor]:
        if is_plain_on_cpu(x):
            masked = x if in_place else x.clone(memory_format=torch.contiguous_format)
            for spectrogram, start, end in _spans(masked, params):
                spectrogram[:, start:end] = 0
            return masked, lengths
        return x.masked_fill(_covered(params, x.shape[2])[:, None, :], 0.0), lengths


class RowMaskParams(NamedTuple):
    """`on (B,)` bool, and for each mask two large random integers `(B,)` that give start and width once F is known."""

    on: Tensor
    start: tuple[Tensor, ...]
    width: tuple[Tensor, ...]


@register_transform
class FrequencyMask(SpectrogramTransform):
    """Sets random bands of rows to zero, in all frames (Park et al. 2019).

    Masks of more than about a quarter of the rows remove the fundamental or all formants at once.

    Args:
        p: probability of masks, per clip.
        count: number of masks. They may overlap.
        width: the widest mask, in rows. Widths are uniform from 0 on.

    >>> import torch
    >>> from serx.augment import Compose
    >>> masked, _ = Compose([FrequencyMask(width=8)])(torch.ones(1, 64, 100), clips=[0])
    >>> int((masked[0] == 0).all(1).sum())  # rows, at most 2 x 8
    1
    """

    works_in_place: ClassVar[bool] = True
    kind: Literal["frequency_mask"] = "frequency_mask"
    p: Probability = 1.0
    count: int = Field(2, ge=1, le=10)
    width: int = Field(8, ge=1, le=65_536)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> RowMaskParams:
        on = random.chance(self.p)
        widths = tuple(random.integers(_WIDE) for _ in range(self.count))
        return RowMaskParams(on, tuple(random.integers(_WIDE) for _ in range(self.count)), widths)

    def apply(self, x: Tensor, lengths: Tensor, params: RowMaskParams, in_place: bool = False) -> tuple[Tensor, Tensor]:
        rows = x.shape[1]
        choices = min(self.width, rows) + 1
        widths = tuple(torch.where(params.on, wide % choices, 0) for wide in params.width)
        starts = tuple(wide % (rows - width + 1) for wide, width in zip(params.start, widths, strict=True))
        drawn = MaskParams(starts, widths)
        if is_plain_on_cpu(x):
            masked = x if in_place else x.clone(memory_format=torch.contiguous_format)
            for spectrogram, start, end in _spans(masked, drawn):
                spectrogram[start:end] = 0
            return masked, lengths
        return x.masked_fill(_covered(drawn, rows)[:, :, None], 0.0), lengths


def _spans(x: Tensor, params: MaskParams) -> Iterator[tuple[np.ndarray, int, int]]:
    """The memory `(F, N)` of each clip of `x`, with the start and the end of each of its masks."""
    spectrograms = x.numpy()
    for start, width in zip(params.start, params.width, strict=True):
        for spectrogram, first, count in zip(spectrograms, start.tolist(), width.tolist(), strict=True):
            yield spectrogram, first, first + count


def _covered(params: MaskParams, size: int) -> Tensor:
    """`(B, size)` bool, true where any mask lies. Positions are integers, so autocast cannot round them."""
    position = torch.arange(size, device=params.start[0].device)
    covered = torch.zeros((), dtype=torch.bool, device=position.device)
    for start, width in zip(params.start, params.width, strict=True):
        covered = covered | ((position >= start[:, None]) & (position < (start + width)[:, None]))
    return covered
