"""`Ensemble`: several networks of one kind, apart in their first weights and dropout, that vote.

Lakshminarayanan et al. 2017, "Simple and scalable predictive uncertainty estimation using deep ensembles". All members
hear the same batch, so features and augmentation are computed once; so are the first layers, where they share these.
With 13 training speakers, which of them a single network comes to rely on is a matter of luck; the vote evens it out.
"""

from collections.abc import Callable
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from serx.base_config import BaseConfig
from serx.dsp.resampling import FIRST, LAST, RATIO_STEPS

Speed = Annotated[float, Field(ge=FIRST / RATIO_STEPS, le=LAST / RATIO_STEPS)]


class BaseModelConfig(BaseConfig):
    """What every kind of model may add."""

    ensemble_size: int = Field(1, ge=1, le=16)  # networks that vote
    tta_speeds: tuple[Speed, ...] = Field(
        (1.0,), min_length=1
    )  # it is heard at each of them and the verdicts are averaged
    relaxed_freq_norm: float = Field(0.0, ge=0, le=1)  # share of each row's own statistics that is taken out first
    adapt: bool = False  # evaluated on voices that are known by their clips, not by labels: inference/enrolment.py


class Ensemble(nn.Module):
    """`features (B, F, N)`, `frames (B,)` -> in training the members' logits `(B, M, C)`, each to be judged alone.

    In evaluation `(B, C)`: the logarithm of the members' mean probability, whose softmax is that mean. The members
    read what the `trunk` makes of features and frames, if there is one.
    """

    def __init__(self, make: Callable[[], nn.Module], members: int, trunk: nn.Module | None = None) -> None:
        super().__init__()
        self.trunk = trunk
        self.members = nn.ModuleList(make() for _ in range(members))

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        if self.trunk is not None:
            features, frames = self.trunk(features, frames)
        logits = torch.stack([member(features, frames) for member in self.members], dim=1)
        if self.training:
            return logits
        return logits.float().softmax(-1).mean(1).clamp(min=torch.finfo(torch.float32).tiny).log()
