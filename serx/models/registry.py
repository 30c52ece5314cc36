"""The models by name: `model.kind` in a configuration chooses one of these."""

from typing import Annotated

from pydantic import Field
from torch import nn

from serx.models.classical import Classical, ClassicalConfig
from serx.models.cnn1d import Cnn1d, Cnn1dConfig
from serx.models.cnn2d import Cnn2d, Cnn2dConfig
from serx.models.ensemble import Ensemble
from serx.models.mlp import Mlp, MlpConfig
from serx.models.relaxed import Relaxed
from serx.models.sequential import Sequential, SequentialConfig
from serx.models.timm_backbone import TimmBackbone, TimmConfig

ModelConfig = Annotated[
    Cnn1dConfig | Cnn2dConfig | MlpConfig | TimmConfig | ClassicalConfig | SequentialConfig,
    Field(discriminator="kind"),
]


def build(config: ModelConfig, bins: int, classes: int, pretrained: bool = False) -> nn.Module:
    """A backbone `features (B, F, N), frames (B,) -> logits (B, C)` for F = `bins`, C = `classes`.

    With several `members` it is an `Ensemble`, which in training gives `(B, members, C)`. `pretrained` lets a timm
    model that asks for it load published weights; a checkpoint brings its own instead.
    """

    def one() -> nn.Module:
        if isinstance(config, TimmConfig):
            return TimmBackbone(config, bins, classes, pretrained and config.pretrained)
        if isinstance(config, Cnn1dConfig):
            return Cnn1d(config, bins, classes)
        if isinstance(config, MlpConfig):
            return Mlp(config, bins, classes)
        if isinstance(config, ClassicalConfig):
            return Classical(config, bins, classes)
        if isinstance(config, SequentialConfig):
            return Sequential(config, bins, classes)
        return Cnn2d(config, bins, classes)

    net = one() if config.members == 1 else Ensemble(one, config.members)
    return Relaxed(net, config.relax) if config.relax > 0 else net
