"""The models by name: `model.kind` in a configuration chooses one of these."""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import Field
from torch import nn

from serx.errors import ConfigError
from serx.models.classical import Classical, ClassicalConfig
from serx.models.cnn1d import Cnn1d, Cnn1dConfig
from serx.models.cnn2d import Cnn2d, Cnn2dConfig, Trunk
from serx.models.encoders import empty_encoder, pretrained_encoder
from serx.models.ensemble import BaseModelConfig, Ensemble
from serx.models.layers import RelaxedFreqNorm
from serx.models.mlp import Mlp, MlpConfig
from serx.models.sequential import Sequential, SequentialConfig
from serx.models.speech_encoder import SpeechEncoder, SpeechEncoderConfig
from serx.models.timm_backbone import TimmBackbone, TimmConfig

ModelConfig = Annotated[
    Cnn1dConfig | Cnn2dConfig | MlpConfig | TimmConfig | ClassicalConfig | SequentialConfig | SpeechEncoderConfig,
    Field(discriminator="kind"),
]

_FROM_SCRATCH: dict[type[BaseModelConfig], Callable[[Any, int, int], nn.Module]] = {
    Cnn1dConfig: Cnn1d,
    Cnn2dConfig: Cnn2d,
    MlpConfig: Mlp,
    ClassicalConfig: Classical,
    SequentialConfig: Sequential,
}


def build(config: ModelConfig, bins: int, classes: int, pretrained: bool = False) -> nn.Module:
    """A backbone `features (B, F, N), frames (B,) -> logits (B, C)` for F = `bins`, C = `classes`.

    With several `members` it is an `Ensemble`, which in training gives `(B, members, C)`. `pretrained` lets a
    speech encoder, and a timm model that asks for it, load published weights; a checkpoint brings its own instead.
    """

    def one() -> nn.Module:
        if isinstance(config, TimmConfig):
            return TimmBackbone(config, bins, classes, pretrained and config.pretrained)
        if isinstance(config, SpeechEncoderConfig):
            known = pretrained_encoder(config.bundle, config.weights) if pretrained else empty_encoder(config.bundle)
            return SpeechEncoder(config, known, classes)
        return _FROM_SCRATCH[type(config)](config, bins, classes)

    if config.ensemble_size == 1:
        net = one()
    elif isinstance(config, Cnn2dConfig) and config.shared_stages:
        net = Ensemble(lambda: Cnn2d(config, bins, classes, config.shared_stages), config.ensemble_size, Trunk(config))
    else:
        net = Ensemble(one, config.ensemble_size)
    if config.adapt:
        batch_norms(net)
    return RelaxedFreqNorm(net, config.relaxed_freq_norm) if config.relaxed_freq_norm > 0 else net


def batch_norms(net: nn.Module) -> list[nn.BatchNorm1d | nn.BatchNorm2d]:
    """The layers that hold statistics of the training voices, which `inference/enrolment.py` replaces by a voice's own.

    Raises:
        ConfigError: there are none.
    """
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    if not norms:
        raise ConfigError(
            "a voice is enrolled in batch norms, and this model has none: leave model.adapt, --adapt and --adapt-to out"
        )
    return norms
