"""`Recognizer`: waveform to logits in one module, so that no checkpoint can be fed the wrong features."""

import torch
from torch import Tensor, nn

from serx.models.registry import ModelConfig, build
from serx.transforms.features import FeaturesConfig, FeatureStack
from serx.transforms.normalize import Normalizer


class Recognizer(nn.Module):
    """Features, normaliser and backbone.

    Attributes:
        labels: the emotion of each logit, in order.
        sample_rate: what `waveform` must be sampled at, in Hz.
        temperature: what logits are divided by before they become probabilities (`evaluation/calibration.py`).
    """

    def __init__(
        self,
        features: FeaturesConfig,
        model: ModelConfig,
        labels: tuple[str, ...],
        sample_rate: int,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.labels, self.sample_rate, self.temperature = labels, sample_rate, 1.0
        self.features = FeatureStack(features, sample_rate)
        self.normalizer = Normalizer(features.bins, features.normalize, features.remove_level)
        self.backbone = build(model, features.bins, len(labels), pretrained)

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """`waveform (B, T)` in [-1, 1], zero beyond `lengths (B,)` samples -> `logits (B, C)` float32."""
        features, frames = self.features(waveform, lengths)
        return self.backbone(self.normalizer(features, frames), frames).float()

    @torch.inference_mode()
    def probabilities(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """`(B, C)` float32 rows that add up to 1."""
        return (self(waveform, lengths) / self.temperature).softmax(-1)
