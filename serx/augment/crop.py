"""Transforms of the position in time: a random crop, and a shift."""

from ctypes import c_float
from typing import Annotated, ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Tensor

from serx.augment.transform import Probability, RowTransform, WaveformTransform, ordered, register_transform
from serx.dsp.batching import change_rows, read_from, valid_mask, zero_beyond
from serx.seeding import ClipRandom, is_plain_on_cpu

Seconds = Annotated[float, Field(ge=-60, le=60)]


class CropParams(NamedTuple):
    """The first sample of each window, `start (B,)`, and their `size` in samples, a Python int."""

    start: Tensor
    size: int


@register_transform
class Crop(WaveformTransform):
    """Cuts a window of fixed duration at a random position. Shorter clips are kept whole. Every clip is cropped.

    A crop of less than about 1 s often loses the words that carry the emotion.

    Args:
        seconds: duration of the window.

    >>> import torch
    >>> from serx.augment import Compose
    >>> waveform, lengths = Compose([Crop(seconds=0.5)])(torch.ones(2, 16000), torch.tensor([16000, 4000]))
    >>> waveform.shape, lengths
    (torch.Size([2, 8000]), tensor([8000, 4000]))
    """

    is_one_pass: ClassVar[bool] = True
    kind: Literal["crop"] = "crop"
    seconds: float = Field(2.3, ge=0.01, le=600)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> CropParams:
        size = max(1, round(self.seconds * rate))
        return CropParams(random.integers((lengths - size).clamp(min=0) + 1), size)

    def apply(self, x: Tensor, lengths: Tensor, params: CropParams) -> tuple[Tensor, Tensor]:
        lengths = lengths.clamp(max=params.size)
        cropped = _read_rows(x, params.start, min(params.size, x.shape[1]))
        return zero_beyond(cropped, lengths), lengths


@register_transform
class Shift(RowTransform):
    """Moves a clip later (positive) or earlier in time. Its length stays: zeros enter, samples leave at the other end.

    A clip moves by at most half its length, so speech is never lost completely. Shifts much longer than the silence
    around the speech cut words off.

    Args:
        p: probability of a change, per clip.
        seconds: range of the shift, uniform.

    >>> import torch
    >>> from serx.augment import Compose
    >>> shift = Compose([Shift(p=1.0, seconds=(2, 2))], sample_rate=1)
    >>> shift(torch.tensor([[1.0, 2, 3, 4, 5]]))[0]
    tensor([[0., 0., 1., 2., 3.]])
    """

    kind: Literal["shift"] = "shift"
    p: Probability = 0.5
    seconds: Annotated[tuple[Seconds, Seconds], AfterValidator(ordered)] = (-0.2, 0.2)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> Tensor:
        on, offset = random.chance(self.p), (random.uniform(*self.seconds) * rate).round_().long()
        half = lengths >> 1
        return torch.minimum(offset, half).maximum(-half).mul_(on)

    def apply(self, x: Tensor, lengths: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        if is_plain_on_cpu(x):
            return change_rows(_move, params, x, params, lengths), lengths
        size = x.shape[1]
        margin = size // 2  # the largest possible offset
        shifted = _read_rows(F.pad(x, (margin, margin)), margin - params, size)
        return shifted.mul_(valid_mask(lengths, size)), lengths

    def change(self, x: Tensor, lengths: Tensor, random: ClipRandom, rate: float) -> None:
        drawn = zip(random.chances(self.p), random.uniforms(*self.seconds), lengths.tolist(), strict=True)
        for row, (is_on, seconds, length) in zip(x.numpy(), drawn, strict=True):
            if is_on:
                offset = round(c_float(seconds * c_float(rate).value).value)
                _move(row, row, max(-(length >> 1), min(length >> 1, offset)), length)


def _move(clip: np.ndarray, row: np.ndarray, samples: int, length: int) -> None:
    """Writes `clip (T,)`, of which `length` samples are sound, into `row (T,)` later by `samples`, at most `length`."""
    start, end = max(samples, 0), length + min(samples, 0)
    row.data[start:end] = clip.data[start - samples : end - samples]  # they may overlap
    row[:start] = 0
    row[end:] = 0


def _read_rows(x: Tensor, start: Tensor, size: int) -> Tensor:
    """`size` samples of each clip of `x (B, T)` from its `start (B,)`, which is at most T - size."""
    rows = torch.arange(len(x), device=x.device) * x.shape[1]
    return read_from(x.flatten(), rows + start, size)
