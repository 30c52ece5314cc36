"""`Sequential`: plain convolutions, pooling and dense layers in a row, as published 1-D CNNs are built.

Input `(B, F, N)`, output `(B, C)`. It reads features in one of two ways:

- Without `frames`, over time: rows are channels, and the frames that are left at the end are averaged.
- With `frames: n`, as the published systems do: n frames, cut or filled with zeros, become one sequence of `F * n`
  values in a single channel, row after row. The dense layers then have weights for each position. `frames: 1` reads a
  vector of `features.statistics` in this way.

With 22 rows, `frames: 108` and the widths of `configs/published/three_corpora_cnn1d.yaml`: 7.2 M parameters.
"""

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from serx.base_config import Channels, Dropout, Stride
from serx.models.layers import Kernel, OutputLayer, strided_frames, time_mask
from serx.models.registry import BaseModelConfig, register_model

PoolSize = Annotated[int, Field(ge=1, le=1024)]


class SequentialConfig(BaseModelConfig):
    """Convolutional stages, then dense layers. `kernels`, `pools` and `dropouts` have one item a stage, or one for all.

    >>> SequentialConfig(frames=1, widths=(64, 64), pools=((8, 8), (1, 1)), dense=(32,)).kernels
    (5,)
    """

    kind: Literal["sequential"] = "sequential"
    frames: int | None = Field(
        None, ge=1, le=65_536, description="read so many frames as one flat sequence; null: convolve over time"
    )
    widths: tuple[Channels, ...] = Field(
        (128, 128), min_length=1, max_length=32, description="channels of each convolution"
    )
    kernels: tuple[Kernel, ...] = Field((5,), min_length=1, max_length=32, description="size of each convolution")
    pools: tuple[tuple[PoolSize, Stride], ...] = Field(
        ((5, 2),), min_length=1, max_length=32, description="size and stride of each maximum pooling; [1, 1]: none"
    )
    dropouts: tuple[Dropout, ...] = Field((0.2,), min_length=1, max_length=32, description="after each stage")
    dense: tuple[Channels, ...] = Field((), max_length=32, description="units of the hidden dense layers")
    dense_dropout: Dropout = Field(0.3, description="after each hidden dense layer")
    batch_norm: bool = Field(True, description="batch norm after each convolution and each hidden dense layer")

    @model_validator(mode="after")
    def _check_stages(self) -> "SequentialConfig":
        for name in ("kernels", "pools", "dropouts"):
            if len(getattr(self, name)) not in (1, len(self.widths)):
                raise ValueError(f"{name} has {len(getattr(self, name))} items for {len(self.widths)} widths; give one")
        return self


@register_model(SequentialConfig)
class Sequential(nn.Module):
    """Convolutional stages, dense layers (with batch norm where configured, ReLU and dropout) and an output layer."""

    def __init__(self, config: SequentialConfig, bins: int, classes: int) -> None:
        super().__init__()
        self.layout: FrameSequence | FlattenedFrames = (
            FrameSequence() if config.frames is None else FlattenedFrames(config.frames)
        )
        channels, length = (bins, None) if config.frames is None else (1, bins * config.frames)
        count = len(config.widths)
        self.stages = nn.ModuleList()
        for width, kernel, pool, dropout in zip(
            config.widths,
            _one_per_stage(config.kernels, count),
            _one_per_stage(config.pools, count),
            _one_per_stage(config.dropouts, count),
            strict=True,
        ):
            self.stages.append(ConvStage(channels, width, kernel, pool, dropout, config.batch_norm))
            channels, length = width, None if length is None else -(-length // pool[1])
        inputs = channels * (length or 1)
        layers: list[nn.Module] = []
        for width in config.dense:
            layers += [nn.Linear(inputs, width, bias=not config.batch_norm)]
            layers += [nn.BatchNorm1d(width)] if config.batch_norm else []
            layers += [nn.ReLU(), nn.Dropout(config.dense_dropout)]
            inputs = width
        self.classifier = nn.Sequential(*layers, OutputLayer(inputs, classes))

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        x, lengths = self.layout(features, frames)
        for stage in self.stages:
            x, lengths = stage(x, lengths)
        return self.classifier(self.layout.pool(x, lengths))


class FrameSequence(nn.Module):
    """Keeps `features (B, F, N)` as a sequence of frames; its pooling is the mean over valid frames."""

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        return features, frames

    def pool(self, x: Tensor, lengths: Tensor) -> Tensor:
        """`(B, C, N)`, zero beyond `lengths (B,)` -> `(B, C)`."""
        return x.sum(-1) / lengths[:, None]


class FlattenedFrames(nn.Module):
    """Cuts or fills `features (B, F, N)` to `count` frames and flattens them to `(B, 1, F * count)`, row after row.

    Its pooling only flattens, so that each position keeps its own weights. All `F * count` positions count as valid.
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        fixed = F.pad(features[..., : self.count], (0, max(0, self.count - features.shape[-1])))
        sequence = fixed.flatten(1)[:, None]
        return sequence, torch.full_like(frames, sequence.shape[-1])

    def pool(self, x: Tensor, lengths: Tensor) -> Tensor:
        """`(B, C, L)` -> `(B, C * L)`."""
        return x.flatten(1)


class ConvStage(nn.Module):
    """Convolution, batch norm where configured, ReLU, max pooling, dropout."""

    def __init__(
        self, inputs: int, width: int, kernel: int, pool: tuple[int, int], dropout: float, batch_norm: bool
    ) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, width, kernel, padding=kernel // 2, bias=not batch_norm)
        self.norm = nn.BatchNorm1d(width) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.pool_size, self.pool_stride = pool

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """`x (B, C, N)`, zero beyond `lengths (B,)` -> the result, zero beyond `ceil(lengths / stride)`, and those."""
        x = self.norm(self.conv(x)).relu()
        x = self.dropout(max_pool(x * time_mask(lengths, x), self.pool_size, self.pool_stride))
        return x, strided_frames(lengths, self.pool_stride)


def max_pool(x: Tensor, size: int, stride: int) -> Tensor:
    """The maximum over `size` positions from every `stride`-th on: `(B, C, N)` -> `(B, C, ceil(N / stride))`.

    `x` must not be negative: then the zeros that fill the last windows change nothing.
    """
    return F.max_pool1d(F.pad(x, (0, size - 1)), size, stride)


def _one_per_stage(items: tuple, stages: int) -> tuple:
    return items * stages if len(items) == 1 else items
