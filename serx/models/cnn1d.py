"""`Cnn1d`: residual convolutions over time; each feature row is an input channel.

Input `(B, F, N)`, output `(B, C)`. With the defaults: receptive field 73 frames (1.2 s at a hop of 16 ms), and
0.9 M parameters for 64 rows and 8 classes.
"""

from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from serx.base_config import Channels, Dropout, Stride
from serx.models.layers import AttentiveStatistics, Classifier, Kernel, ResidualBlock, masked_relu_, time_mask
from serx.models.registry import BaseModelConfig, register_model


class Cnn1dConfig(BaseModelConfig):
    """Width and stride of each stage; a stage is one residual block.

    >>> Cnn1dConfig(widths=(64, 96), strides=(2, 1)).kernel
    5
    """

    kind: Literal["cnn1d"] = "cnn1d"
    stem: Channels = Field(128, description="channels of the first convolution")
    widths: tuple[Channels, ...] = Field(
        (128, 160, 192), min_length=1, max_length=32, description="channels of each residual block"
    )
    strides: tuple[Stride, ...] = Field(
        (2, 2, 1), min_length=1, max_length=32, description="stride over time of each residual block"
    )
    kernel: Kernel = Field(5, description="frames that a convolution spans")
    dropout: Dropout = Field(0.3, description="before the output layer; half of it within each residual block")

    @model_validator(mode="after")
    def _check_stages(self) -> "Cnn1dConfig":
        if len(self.strides) != len(self.widths):
            raise ValueError(f"{len(self.widths)} widths and {len(self.strides)} strides; give each stage one of both")
        return self


@register_model(Cnn1dConfig)
class Cnn1d(nn.Module):
    """Stem, residual blocks, attentive statistics, classifier."""

    def __init__(self, config: Cnn1dConfig, bins: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv1d(bins, config.stem, config.kernel, padding=config.kernel // 2, bias=False)
        self.norm = nn.BatchNorm1d(config.stem)
        inputs = [config.stem, *config.widths[:-1]]
        self.blocks = nn.ModuleList(
            ResidualBlock(channels, width, (stride,), config.kernel, config.dropout / 2)
            for channels, width, stride in zip(inputs, config.widths, config.strides, strict=True)
        )
        self.pool = AttentiveStatistics(config.widths[-1])
        self.classifier = Classifier(2 * config.widths[-1], classes, config.dropout)

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        x = self.norm(self.stem(features))
        x = masked_relu_(x, time_mask(frames, x))
        for block in self.blocks:
            x, frames = block(x, frames)
        return self.classifier(self.pool(x, frames))
