"""`Recognizer`: features, normalizer and backbone in one module, so that no checkpoint gets the wrong features."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from serx.features.stack import FeaturesConfig
from serx.models.classical import Classical
from serx.models.encoder_probe import FrozenEncoder
from serx.models.registry import BaseModelConfig
from serx.models.waveform_model import WaveformModel
from serx.speaker_model import SpeakerModel


class Recognizer(WaveformModel):
    """Waveform to logits, as `WaveformModel` computes them, with what makes them a prediction.

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
        super().__init__(features, model, len(labels), sample_rate, pretrained)
        self.labels, self.sample_rate, self.temperature = labels, sample_rate, 1.0
        self.speaker_model: SpeakerModel | None = None

    @torch.inference_mode()
    def probabilities(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """`(B, C)` float32; each row adds up to 1."""
        return (self(waveform, lengths) / self.temperature).softmax(-1)

    def use_cache(self, folder: Path) -> None:
        """Keeps in `folder` what frozen encoders compute from each clip; other models have nothing to keep."""
        for module in self.modules():
            if isinstance(module, FrozenEncoder):
                module.use_cache(folder)

    def resize_for(self, tensors: Mapping[str, Tensor]) -> None:
        """Resizes buffers to hold `tensors` where training, not the configuration, sets their size: support vectors."""
        for name, module in self.named_modules():
            support = tensors.get(f"{name}.kernel.support")
            if isinstance(module, Classical) and support is not None and support.dim() == 2:
                module.resize_support(len(support))
