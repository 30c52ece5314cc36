"""`Sequential`: plain convolutions, pooling and dense layers in a row, as the published 1-D CNNs are built.

Input `(B, F, N)`, output `(B, C)`. It reads in one of two ways. Without `frames`, over time: the rows are channels, and
what is left of the frames is averaged at the end. With `frames: n`, as the published systems do: n frames, cut or
filled with zeros, are laid end to end row by row as one long sequence of a single channel, whose every place keeps
weights of its own in the dense layers; `frames: 1` reads a vector of `features.statistics` so.
With 22 rows, `frames: 108` and the widths of `configs/published/three_corpora_cnn1d.yaml`: 7.2 M parameters.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from serx.base_config import Positive
from serx.models.ensemble import BaseModelConfig
from serx.models.layers import Kernel, OutputLayer, strided, time_mask

Share = Annotated[float, Field(ge=0, lt=1)]


class SequentialConfig(BaseModelConfig):
    """Stages of convolution, then dense layers. Of the lists that go with `widths`, one item stands for every stage."""

    kind: Literal["sequential"] = "sequential"
    frames: int | None = Field(None, ge=1)
    widths: tuple[Positive, ...] = Field((128, 128), min_length=1)
    kernels: tuple[Kernel, ...] = Field((5,), min_length=1)
    pools: tuple[tuple[Positive, Positive], ...] = Field(((5, 2),), min_length=1)  # size and stride; [1, 1] is none
    dropouts: tuple[Share, ...] = Field((0.2,), min_length=1)  # behind each stage
    dense: tuple[Positive, ...] = ()  # widths of the hidden dense layers
    dense_dropout: Share = 0.3
    batch_norm: bool = True

    @model_validator(mode="after")
    def _fitting(self) -> "SequentialConfig":
        for name in ("kernels", "pools", "dropouts"):
            if len(getattr(self, name)) not in (1, len(self.widths)):
                raise ValueError(f"{name} has {len(getattr(self, name))} items for {len(self.widths)} widths; give one")
        return self


class Sequential(nn.Module):
    """See the module's first lines."""

    def __init__(self, config: SequentialConfig, bins: int, classes: int) -> None:
        super().__init__()
        stages = len(config.widths)
        self.read: FrameSequence | FlattenedFrames = (
            FrameSequence() if config.frames is None else FlattenedFrames(config.frames)
        )
        channels, length = (bins, None) if config.frames is None else (1, bins * config.frames)
        self.stages = nn.ModuleList()
        for width, kernel, pool, dropout in zip(
            config.widths,
            _each(config.kernels, stages),
            _each(config.pools, stages),
            _each(config.dropouts, stages),
            strict=True,
        ):
            self.stages.append(Stage(channels, width, kernel, pool, dropout, config.batch_norm))
            channels, length = width, None if length is None else -(-length // pool[1])
        inputs = channels * (length or 1)
        layers: list[nn.Module] = []
        for width in config.dense:
            layers += [nn.Linear(inputs, width, bias=not config.batch_norm)]
            layers += [nn.BatchNorm1d(width)] if config.batch_norm else []
            layers += [nn.ReLU(), nn.Dropout(config.dense_dropout)]
            inputs = width
        self.classify = nn.Sequential(*layers, OutputLayer(inputs, classes))

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        x, places = self.read(features, frames)
        for stage in self.stages:
            x, places = stage(x, places)
        return self.classify(self.read.summarize(x, places))


class FrameSequence(nn.Module):
    """Reads frame after frame, the rows as channels, and ends with their mean."""

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        return features, frames

    def summarize(self, x: Tensor, places: Tensor) -> Tensor:
        """`(B, C, N)`, zero beyond `places (B,)` -> `(B, C)`."""
        return x.sum(-1) / places[:, None]


class FlattenedFrames(nn.Module):
    """Reads a fixed number of frames, row after row, as one channel of `F * count` places, and keeps every place."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        fixed = F.pad(features[..., : self.count], (0, max(0, self.count - features.shape[-1])))
        line = fixed.flatten(1)[:, None]
        return line, torch.full_like(frames, line.shape[-1])

    def summarize(self, x: Tensor, places: Tensor) -> Tensor:
        """`(B, C, L)` -> `(B, C * L)`."""
        return x.flatten(1)


class Stage(nn.Module):
    """Convolution, batch norm where wanted, ReLU, the largest of every few places, dropout."""

    def __init__(
        self, inputs: int, width: int, kernel: int, pool: tuple[int, int], dropout: float, batch_norm: bool
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, width, kernel, padding=kernel // 2, bias=not batch_norm)
        self.norm = nn.BatchNorm1d(width) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.size, self.stride = pool

    def forward(self, x: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """`x (B, C, N)` zero beyond `places (B,)` -> the same promise, and the places left, `ceil(places / stride)`."""
        x = self.norm(self.conv(x)).relu()
        x = self.dropout(largest(x * time_mask(places, x), self.size, self.stride))
        return x, strided(places, self.stride)


def largest(x: Tensor, size: int, stride: int) -> Tensor:
    """The largest of `size` places from every `stride`-th on, `(B, C, N)` -> `(B, C, ceil(N / stride))`.

    `x` is not negative, so zeros past the end change nothing.
    """
    return F.max_pool1d(F.pad(x, (0, size - 1)), size, stride)


def _each(items: tuple, stages: int) -> tuple:
    """One item for every stage, or the items as they are."""
    return items * stages if len(items) == 1 else items
