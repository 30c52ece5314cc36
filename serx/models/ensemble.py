"""`Ensemble`: trained models of any kinds that vote. `serx ensemble` builds it from checkpoints; it is not trained.

Models that err in different ways correct each other: a network of log-mels, and a classifier on the layers of a speech
encoder. Each keeps its own features, normalizer, test-time speeds and temperature. Their log-probabilities are averaged
with weights, which is the geometric mean of their probabilities (a logarithmic opinion pool: Hinton 2002, "Training
products of experts by minimizing contrastive divergence", section 1).

Values of dimensions such as arousal are averaged with the same weights, in units of the ratings.

Input: waveforms as features `(B, 1, T)` and their `lengths (B,)`; output: log-probabilities `(B, C)` up to a constant
of each clip, and behind them the values of dimensions, `(B, C + D)`.
"""

from typing import Annotated, Any, Literal, NoReturn

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from serx.base_config import BaseConfig
from serx.errors import ConfigError
from serx.features.stack import FeaturesConfig
from serx.models.backbone import split_outputs
from serx.models.registry import BaseModelConfig, ModelConfig, register_model
from serx.models.waveform_model import WaveformModel

MAX_VOTERS = 16
MAX_WEIGHT = 1e6
NOT_TRAINED = (
    "model.kind ensemble is built of trained checkpoints and not trained: "
    "serx ensemble CHECKPOINT CHECKPOINT ... --output FILE"
)


class VoterConfig(BaseConfig):
    """A trained model that votes in an ensemble: its features, its network, and how its logits count.

    >>> from serx.models import MlpConfig
    >>> VoterConfig(model=MlpConfig(), weight=2.0).temperature
    1.0
    """

    features: FeaturesConfig = FeaturesConfig()
    model: ModelConfig
    temperature: float = Field(1.0, gt=0.01, lt=100, description="divides its logits")
    weight: float = Field(1.0, gt=0, le=MAX_WEIGHT, description="of its vote, relative to the others")
    dimension_scales: tuple[tuple[float, float], ...] = Field(
        (), description="for each dimension of the ensemble (a, b): its value, as a share of the range, is a + b * own"
    )
    label_order: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None, description="for each label of the ensemble, which of its logits that is; null: the same order"
    )

    @model_validator(mode="after")
    def _check_kind(self) -> "VoterConfig":
        if isinstance(self.model, EnsembleConfig):
            raise ValueError("an ensemble cannot vote in another one; give the checkpoints that it was built of")
        return self


class EnsembleConfig(BaseModelConfig):
    """The models that vote, and the sampling rate that all of them read.

    >>> from serx.models import Cnn1dConfig, MlpConfig
    >>> EnsembleConfig(voters=(VoterConfig(model=MlpConfig()), VoterConfig(model=Cnn1dConfig()))).sample_rate
    16000
    """

    is_trained = False

    kind: Literal["ensemble"] = "ensemble"
    voters: tuple[VoterConfig, ...] = Field(min_length=2, max_length=MAX_VOTERS, description="the models that vote")
    sample_rate: int = Field(16_000, ge=4_000, le=192_000, description="of the waveforms")

    @model_validator(mode="before")
    @classmethod
    def _check_voters(cls, given: Any) -> Any:
        if isinstance(given, dict) and "voters" not in given:
            raise ValueError(NOT_TRAINED)
        return given

    @model_validator(mode="after")
    def _check_settings(self) -> "EnsembleConfig":
        own = self.ensemble_size, self.relaxed_freq_norm, self.tta_speeds, self.tta_shifts
        if own != (1, 0.0, (1.0,), (0,)):
            raise ValueError("ensemble_size, relaxed_freq_norm, tta_speeds and tta_shifts are settings of each voter")
        return self

    def resolved(self) -> NoReturn:
        """Raises ConfigError, which names the command that builds an ensemble."""
        raise ConfigError(NOT_TRAINED)

    def resumed(self, saved: BaseModelConfig) -> NoReturn:
        """Raises ConfigError, as `resolved` does."""
        raise ConfigError(NOT_TRAINED)


@register_model(EnsembleConfig)
class Ensemble(nn.Module):
    """The weighted mean of the log-probabilities, and of the values of dimensions, of trained models.

    Raises:
        ConfigError: a `label_order` does not list every class once, or voters have other numbers of dimensions.
    """

    label_orders: Tensor
    dimension_scales: Tensor

    def __init__(self, config: EnsembleConfig, bins: int, classes: int) -> None:
        """`bins` is 1, since waveforms are the features. `classes` counts the dimensions as well."""
        super().__init__()
        self.dimensions = len(config.voters[0].dimension_scales)
        if any(len(voter.dimension_scales) != self.dimensions for voter in config.voters):
            raise ConfigError("model.voters: dimension_scales have different lengths")
        labels = classes - self.dimensions
        in_order = tuple(range(labels))
        orders = [voter.label_order or in_order for voter in config.voters]
        if any(tuple(sorted(order)) != in_order for order in orders):
            raise ConfigError(f"model.voters: a label_order does not list each of the {labels} labels once")
        self.voters = nn.ModuleList(
            WaveformModel(voter.features, voter.model, labels, config.sample_rate, dimensions=self.dimensions)
            for voter in config.voters
        )
        self.register_buffer("label_orders", torch.tensor(orders, dtype=torch.int64), persistent=False)
        scales = torch.tensor([voter.dimension_scales for voter in config.voters]).view(
            len(config.voters), self.dimensions, 2
        )
        self.register_buffer("dimension_scales", scales, persistent=False)
        total = sum(voter.weight for voter in config.voters)
        self.weights = [voter.weight / total for voter in config.voters]
        self.temperatures = [voter.temperature for voter in config.voters]

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        waveform, votes, values = features[:, 0], [], []
        for voter, order, scale, weight, temperature in zip(
            self.voters, self.label_orders, self.dimension_scales, self.weights, self.temperatures, strict=True
        ):
            logits, own = split_outputs(voter(waveform, frames), self.dimensions)
            votes.append(weight * (logits / temperature).log_softmax(-1).index_select(-1, order))
            values.append(weight * (scale[:, 0] + scale[:, 1] * own))
        mean = torch.stack(votes).sum(0)
        return torch.cat([mean, torch.stack(values).sum(0)], -1) if self.dimensions else mean
