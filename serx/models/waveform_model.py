"""`WaveformModel`: features, normalizer and backbone of one model, waveform to logits."""

import torch
from torch import Tensor, nn

from serx.dsp.resampling import RATIO_STEPS, change_speed_uniformly
from serx.features.normalizer import Normalizer
from serx.features.stack import FeaturesConfig, FeatureStack
from serx.models.backbone import build_model, split_outputs
from serx.models.registry import BaseModelConfig
from serx.speaker_model import SpeakerModel


class WaveformModel(nn.Module):
    """`waveform (B, T)` in [-1, 1], zero beyond `lengths (B,)` samples -> `logits (B, C)` float32.

    With several `model.tta_speeds` the logits are the mean of the log-probabilities at each speed. A model of D
    `dimensions` has their values behind the logits, `(B, C + D)`; with several speeds it averages them.

    Attributes:
        speaker_model: infers a speaker's voice from several clips; None for models without one.

    >>> from serx.models import MlpConfig
    >>> model = WaveformModel(FeaturesConfig(), MlpConfig(), classes=3, sample_rate=16_000).eval()
    >>> model(torch.zeros(2, 16_000), torch.tensor([16_000, 8_000])).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        features: FeaturesConfig,
        model: BaseModelConfig,
        classes: int,
        sample_rate: int,
        pretrained: bool = False,
        dimensions: int = 0,
    ) -> None:
        """`pretrained` is for training: it loads published weights where `model` asks for them (`build_model`)."""
        super().__init__()
        with torch.device("cpu"):  # filters are computed, also where the sizes of a model are asked for without memory
            self.features = FeatureStack(features, sample_rate)
        self.normalizer = Normalizer(features.bins, features.normalize, features.remove_level)
        self.backbone = build_model(model, features.bins, classes, pretrained, dimensions)
        self.speaker_model: SpeakerModel | None = None
        self.tta_speeds = [round(speed * RATIO_STEPS) for speed in model.tta_speeds]

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        if self.tta_speeds == [RATIO_STEPS]:
            return self.logits(waveform, lengths)
        versions = [change_speed_uniformly(waveform, lengths, speed) for speed in self.tta_speeds]
        outputs = torch.stack([self.logits(*version) for version in versions])
        logits, values = split_outputs(outputs, self.backbone.dimensions)
        mean = logits.log_softmax(-1).mean(0)
        return torch.cat([mean, values.mean(0)], -1) if self.backbone.dimensions else mean

    def logits(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """The outputs at the recorded speed: features -> normalizer -> backbone."""
        features, frames = self.features(waveform, lengths)
        return self.backbone(self.normalizer(features, frames), frames).float()
