"""`Recognizer`: features, normalizer and backbone in one module, so that no checkpoint gets the wrong features."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from serx.dsp.resampling import RATIO_STEPS, change_speed_uniformly
from serx.features.normalizer import Normalizer
from serx.features.stack import FeaturesConfig, FeatureStack
from serx.models.backbone import build_model
from serx.models.classical import Classical
from serx.models.encoder_probe import FrozenEncoder
from serx.models.registry import BaseModelConfig
from serx.speaker_model import SpeakerModel


class Recognizer(nn.Module):
    """Waveform to logits.

    Attributes:
        labels: the emotion of each logit, in order.
        sample_rate: the sampling rate of `waveform`, in Hz.
        speaker_model: infers a speaker's voice from several clips; None if there were too few held-out speakers.
        temperature: divides the logits before they become probabilities (Guo et al. 2017); 1 until it is fitted.

    >>> from serx.features.stack import FeaturesConfig
    >>> from serx.models import Cnn2dConfig
    >>> recognizer = Recognizer(FeaturesConfig(), Cnn2dConfig(), ("angry", "happy", "sad"), 16_000).eval()
    >>> recognizer.probabilities(torch.zeros(2, 16_000), torch.tensor([16_000, 8_000])).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        features: FeaturesConfig,
        model: BaseModelConfig,
        labels: tuple[str, ...],
        sample_rate: int,
        pretrained: bool = False,
    ) -> None:
        """`pretrained` is for training: it loads published weights where `model` asks for them (`build_model`)."""
        super().__init__()
        self.labels, self.sample_rate, self.temperature = labels, sample_rate, 1.0
        self.speaker_model: SpeakerModel | None = None
        self.features = FeatureStack(features, sample_rate)
        self.normalizer = Normalizer(features.bins, features.normalize, features.remove_level)
        self.backbone = build_model(model, features.bins, len(labels), pretrained)
        self.tta_speeds = [round(speed * RATIO_STEPS) for speed in model.tta_speeds]

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """`waveform (B, T)` in [-1, 1], zero beyond `lengths (B,)` samples -> `logits (B, C)` float32.

        With several `model.tta_speeds` the logits are the mean of the log-probabilities at each speed.
        """
        if self.tta_speeds == [RATIO_STEPS]:
            return self.logits(waveform, lengths)
        versions = [change_speed_uniformly(waveform, lengths, speed) for speed in self.tta_speeds]
        return torch.stack([self.logits(*version).log_softmax(-1) for version in versions]).mean(0)

    def logits(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """The logits at the recorded speed: features -> normalizer -> backbone."""
        features, frames = self.features(waveform, lengths)
        return self.backbone(self.normalizer(features, frames), frames).float()

    @torch.inference_mode()
    def probabilities(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """`(B, C)` float32; each row adds up to 1."""
        return (self(waveform, lengths) / self.temperature).softmax(-1)

    def use_cache(self, folder: Path) -> None:
        """Keeps in `folder` what a frozen encoder computes from each clip; other models have nothing to keep."""
        part = self.backbone.constant_part
        if isinstance(part, FrozenEncoder):
            part.use_cache(folder)

    def resize_for(self, tensors: Mapping[str, Tensor]) -> None:
        """Resizes buffers to hold `tensors` where training, not the configuration, sets their size: support vectors."""
        support = tensors.get("backbone.members.0.kernel.support")
        member = self.backbone.members[0]
        if isinstance(member, Classical) and support is not None and support.dim() == 2:
            member.resize_support(len(support))
