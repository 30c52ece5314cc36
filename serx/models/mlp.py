"""`Mlp`: dense layers over one vector a clip, such as `features.statistics` makes.

Input `(B, F, N)`, output `(B, C)`. A sequence is averaged over its valid frames first; a vector (N = 1) is itself.
With the defaults, 180 rows and 8 classes: 0.08 M parameters.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor, nn

from serx.base_config import Channels, Dropout
from serx.models.layers import OutputLayer, time_mask
from serx.models.registry import BaseModelConfig, register_model


class MlpConfig(BaseModelConfig):
    """Widths of the hidden layers.

    >>> MlpConfig(widths=(64,)).kind
    'mlp'
    """

    kind: Literal["mlp"] = "mlp"
    widths: tuple[Channels, ...] = Field(
        (256, 128), min_length=1, max_length=32, description="units of each hidden layer"
    )
    dropout: Dropout = Field(0.3, description="after each hidden layer")


@register_model(MlpConfig)
class Mlp(nn.Module):
    """Dense layers, each with batch norm, ReLU and dropout, and an output layer."""

    def __init__(self, config: MlpConfig, bins: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, width in zip([bins, *config.widths], config.widths, strict=False):
            layers += [
                nn.Linear(inputs, width, bias=False),
                nn.BatchNorm1d(width),
                nn.ReLU(),
                nn.Dropout(config.dropout),
            ]
        self.net = nn.Sequential(*layers, OutputLayer(config.widths[-1], classes))

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        return self.net((features * time_mask(frames, features)).sum(-1) / frames[:, None])
