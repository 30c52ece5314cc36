"""`Cnn1d`: residual convolutions over the feature sequence, each row of the features an input channel.

Input `(B, F, N)`, output `(B, C)`. As configured here: receptive field 73 frames (1.2 s at a hop of 16 ms),
0.9 M parameters with 64 rows and 8 classes.
"""

from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from serx.base_config import Positive
from serx.models.ensemble import BaseModelConfig
from serx.models.layers import AttentiveStatistics, Classifier, Kernel, ResidualBlock, relu_within, time_mask


class Cnn1dConfig(BaseModelConfig):
    """Widths and strides of the stages, one residual block each."""

    kind: Literal["cnn1d"] = "cnn1d"
    stem: int = Field(128, ge=1)
    widths: tuple[Positive, ...] = Field((128, 160, 192), min_length=1)
    strides: tuple[Positive, ...] = Field((2, 2, 1), min_length=1)
    kernel: Kernel = 5
    dropout: float = Field(0.3, ge=0, lt=1)

    @model_validator(mode="after")
    def _one_stride_a_stage(self) -> "Cnn1dConfig":
        if len(self.strides) != len(self.widths):
            raise ValueError(f"{len(self.widths)} widths and {len(self.strides)} strides; give each stage one of both")
        return self


class Cnn1d(nn.Module):
    """See the module's first lines."""

    def __init__(self, config: Cnn1dConfig, bins: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv1d(bins, config.stem, config.kernel, padding=config.kernel // 2, bias=False)
        self.norm = nn.BatchNorm1d(config.stem)
        inputs = [config.stem, *config.widths[:-1]]
        self.blocks = nn.ModuleList(
            ResidualBlock(before, width, (stride,), config.kernel, config.dropout / 2)
            for before, width, stride in zip(inputs, config.widths, config.strides, strict=True)
        )
        self.pool = AttentiveStatistics(config.widths[-1])
        self.classify = Classifier(2 * config.widths[-1], classes, config.dropout)

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        x = self.norm(self.stem(features))
        x = relu_within(x, time_mask(frames, x))
        for block in self.blocks:
            x, frames = block(x, frames)
        return self.classify(self.pool(x, frames))
