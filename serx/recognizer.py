"""`Recognizer`: features, normalizer and backbone in one module, so that no checkpoint gets the wrong features."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from serx.errors import ConfigError
from serx.features.stack import FeaturesConfig
from serx.models.backbone import split_outputs
from serx.models.classical import ABSENT_CLASS_LOGIT, Classical
from serx.models.encoder_probe import FrozenEncoder
from serx.models.registry import BaseModelConfig
from serx.models.speech_encoder import SpeechEncoder
from serx.models.waveform_model import WaveformModel


class Dimension(NamedTuple):
    """A dimension such as arousal, and the lowest and the highest rating of the training clips.

    An output of 0 is the lowest and 1 the highest.

    >>> Dimension("arousal", 1.0, 7.0).high
    7.0
    """

    name: str
    low: float
    high: float


class Recognizer(WaveformModel):
    """Waveform to logits, as `WaveformModel` computes them, with what makes them a prediction.

    Attributes:
        labels: the emotion of each logit, in order; none for a model of dimensions alone.
        dimensions: the dimensions of the outputs behind the logits, in order; none for a model of emotions alone.
        sample_rate: the sampling rate of `waveform`, in Hz.
        temperature: divides the logits before they become probabilities (Guo et al. 2017); 1 until it is fitted.
        among: indices of the emotions that it chooses among (`choose_among`); None: all.
        adapted: whether it is adapted to a speaker at the moment (`serx.inference.adaptation`).

    Raises:
        ConfigError: the features do not suit the model, or what the model's settings name cannot be used.

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
        dimensions: tuple[Dimension, ...] = (),
    ) -> None:
        """`pretrained` is for training: it loads published weights where `model` asks for them (`build_model`)."""
        super().__init__(features, model, len(labels), sample_rate, pretrained, len(dimensions))
        self.dimensions = dimensions
        self.labels, self.sample_rate, self.temperature = labels, sample_rate, 1.0
        self.among: list[int] | None = None
        self.adapted = False

    def choose_among(self, emotions: Collection[str] | None) -> None:
        """From now on one of these emotions is predicted; the others get no probability. None: one of all.

        Raises:
            ConfigError: the model has no such emotion, or they are fewer than two.

        >>> from serx.features.stack import FeaturesConfig
        >>> from serx.models import Cnn1dConfig
        >>> recognizer = Recognizer(FeaturesConfig(), Cnn1dConfig(), ("angry", "happy", "sad"), 16_000).eval()
        >>> recognizer.choose_among(["angry", "sad"])
        >>> recognizer.probabilities(torch.zeros(1, 16_000), torch.tensor([16_000]))[0, 1].round(decimals=6)
        tensor(0.)
        """
        if emotions is None:
            self.among = None
            return
        unknown = [emotion for emotion in emotions if emotion not in self.labels]
        if unknown or len(set(emotions)) < 2:
            what = f"{unknown[0]!r:.100}: the model does not know it" if unknown else "give two or more"
            raise ConfigError(f"emotions: {what}; it predicts {', '.join(self.labels) or 'none'}")
        self.among = [index for index, label in enumerate(self.labels) if label in set(emotions)]

    def forward(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Logits `(B, C)` float32, and behind them the values of D dimensions if it has some: `(B, C + D)`.

        Args:
            waveform: `(B, T)` float32 in [-1, 1] at `sample_rate`, zero beyond `lengths`.
            lengths: `(B,)` int64, in samples.
        """
        outputs = super().forward(waveform, lengths)
        if self.among is None:
            return outputs
        possible = torch.full_like(outputs, ABSENT_CLASS_LOGIT * max(1.0, self.temperature))
        possible[:, self.among] = outputs[:, self.among].log_softmax(-1)
        possible[:, len(self.labels) :] = outputs[:, len(self.labels) :]
        return possible

    @torch.inference_mode()
    def probabilities(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """`(B, C)` float32 in the order of `labels`; each row adds up to 1. The arguments are those of `forward`."""
        return self.predictions(waveform, lengths)[0]

    @torch.inference_mode()
    def predictions(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities `(B, C)`, and the value of each dimension `(B, D)` in units of the ratings; float32.

        The arguments are those of `forward`.
        """
        logits, values = split_outputs(self(waveform, lengths), len(self.dimensions))
        return (logits / self.temperature).softmax(-1), self.ratings(values) if self.dimensions else values

    def ratings(self, values: Tensor) -> Tensor:
        """Values of the dimensions `(..., D)`, as the network gives them, in units of the ratings."""
        low, high = (values.new_tensor([getattr(d, end) for d in self.dimensions]) for end in ("low", "high"))
        return low + (high - low) * values

    def use_cache(self, folder: Path) -> None:
        """Keeps in `folder` what frozen encoders compute from each clip; other models have nothing to keep."""
        for module in self.modules():
            if isinstance(module, FrozenEncoder):
                module.use_cache(folder)

    def use_frame_cache(self, folder: Path) -> None:
        """Keeps in `folder` the frames of frozen encoders whose `cache_frames` says so: for clips that come again."""
        for module in self.modules():
            if isinstance(module, SpeechEncoder):
                module.use_frame_cache(folder)

    def waveform_models(self) -> dict[str, WaveformModel]:
        """The models in it by name: itself, or the voters of an ensemble too."""
        return {name: module for name, module in self.named_modules() if isinstance(module, WaveformModel)}

    def resize_for(self, tensors: Mapping[str, Tensor]) -> None:
        """Resizes buffers to hold `tensors` where training, not the configuration, sets their size: support vectors."""
        for name, module in self.named_modules():
            support = tensors.get(f"{name}.kernel.support")
            if isinstance(module, Classical) and support is not None and support.dim() == 2:
                module.resize_support(len(support))


def embeddings_of(
    recognizer: Recognizer, heads: Sequence[nn.Module], batches: Iterable[tuple[Tensor, Tensor]]
) -> list[Tensor]:
    """What each of `heads` reads, `(n, D)` float32: the mean over test-time speeds.

    Args:
        recognizer: in evaluation mode.
        heads: modules of it (`serx.models.layers.embedding_heads`).
        batches: waveforms `(B, T)` and lengths `(B,)` of the n clips.
    """
    read: list[list[Tensor]] = [[] for _ in heads]
    handles = [
        head.register_forward_pre_hook(lambda _module, inputs, own=own: own.append(inputs[0].float()))
        for head, own in zip(heads, read, strict=True)
    ]
    embeddings: list[list[Tensor]] = [[] for _ in heads]
    try:
        for batch in batches:
            recognizer(*batch)
            for own, of_head in zip(read, embeddings, strict=True):
                of_head.append(torch.stack(own).mean(0))
                own.clear()
    finally:
        for handle in handles:
            handle.remove()
    return [torch.cat(of_head) for of_head in embeddings]
