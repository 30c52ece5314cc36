"""`Recognizer`: waveform to logits in one module, so that no checkpoint can be fed the wrong features."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from serx.dsp.resampling import RATIO_STEPS, play
from serx.features.normalizer import Normalizer
from serx.features.stack import FeaturesConfig, FeatureStack
from serx.models.classical import Classical
from serx.models.registry import ModelConfig, build


class Recognizer(nn.Module):
    """Features, normalizer and backbone.

    Attributes:
        labels: the emotion of each logit, in order.
        sample_rate: what `waveform` must be sampled at, in Hz.
        temperature: what logits are divided by before they become probabilities (`scoring/calibration.py`).
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
        self.tta_speeds = [round(speed * RATIO_STEPS) for speed in model.tta_speeds]

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """`waveform (B, T)` in [-1, 1], zero beyond `lengths (B,)` samples -> `logits (B, C)` float32.

        With several `model.tta_speeds` they are the mean of the log-probabilities at each.
        """
        if self.tta_speeds == [RATIO_STEPS]:
            return self._heard(waveform, lengths)
        played = [play(waveform, lengths, speed) for speed in self.tta_speeds]
        return torch.stack([self._heard(*clip).log_softmax(-1) for clip in played]).mean(0)

    def _heard(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        features, frames = self.features(waveform, lengths)
        return self.backbone(self.normalizer(features, frames), frames).float()

    def make_room(self, tensors: Mapping[str, Tensor]) -> None:
        """Prepares for tensors of a checkpoint whose number the configuration does not tell: support vectors."""
        support = tensors.get("backbone.kernel.support")
        if isinstance(self.backbone, Classical) and support is not None and support.dim() == 2:
            self.backbone.make_room(len(support))

    @torch.inference_mode()
    def probabilities(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """`(B, C)` float32 rows that add up to 1."""
        return (self(waveform, lengths) / self.temperature).softmax(-1)
