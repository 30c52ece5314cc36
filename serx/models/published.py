"""`PublishedClassifier`: an emotion model of the Hugging Face hub, encoder and head, for prediction and evaluation.

Two layouts of heads are read. transformers' `...ForSequenceClassification` and `WhisperForAudioClassification` average
the projected frames; `layer_weights`, if there are any, mix the layers (the models of SUPERB), the last one after the
final norm. The other head is that of many fine-tuned wav2vec 2.0: mean over time, `classifier.dense`, tanh, then
`classifier.output` or `classifier.out_proj`. The stock class of transformers would leave that one random. Its outputs
may be values of dimensions in place of logits, as in audEERING's model of arousal, dominance and valence (Wagner et al.
2023, "Dawn of the transformer era in speech emotion recognition: closing the valence gap").
"""

from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from serx.dsp.batching import valid_mask
from serx.errors import ConfigError
from serx.models.encoders import (
    Architecture,
    Encoder,
    EncoderOptions,
    EncoderSource,
    WhisperArchitecture,
    build_encoder,
)
from serx.models.encoders.loading import fetched_weights, fill_encoder, read_tensors, refused
from serx.models.layers import OutputLayer
from serx.models.registry import BaseModelConfig, register_model

# The names of a head's layers in a file: hidden layer and output layer.
_HEADS = {
    ("projector", "classifier"): False,
    ("classifier.dense", "classifier.output"): True,
    ("classifier.dense", "classifier.out_proj"): True,
}
LAYER_WEIGHTS = "layer_weights"
_DIMENSIONS = {"arousal", "dominance", "valence", "activation"}


class PublishedClassifierConfig(BaseModelConfig):
    """An emotion model of the hub. `serx.Predictor.load` makes these settings; such a model is not trained.

    >>> PublishedClassifierConfig(tanh=True).kind
    'published_classifier'
    """

    kind: Literal["published_classifier"] = "published_classifier"
    source: str = Field("", max_length=4096, description="its id on the Hugging Face hub, or its folder")
    revision: str | None = Field(
        None, max_length=255, description="the commit on the hub, or sha256:... of the folder's weights"
    )
    architecture: Architecture | None = Field(None, description="what its encoder is built of")
    hidden: int = Field(256, ge=1, le=1 << 15, description="width of the layer before the output layer")
    tanh: bool = Field(False, description="whether that layer ends with tanh")
    layer_sum: bool = Field(False, description="whether all layers are mixed with learned weights")


@register_model(PublishedClassifierConfig)
class PublishedClassifier(nn.Module):
    """Encoder, mean over each clip's frames, a hidden layer and the output layer: `(B, 1, T)`, `(B,)` -> `(B, C)`.

    Whisper's classifiers average the whole window of 30 s, since they were trained so.
    """

    def __init__(self, config: PublishedClassifierConfig, bins: int, classes: int) -> None:
        super().__init__()
        if config.architecture is None:
            raise ConfigError("model.architecture is missing; open a published model with serx.Predictor.load")
        whisper = config.architecture if isinstance(config.architecture, WhisperArchitecture) else None
        self.window = whisper.max_source_positions if whisper else 1
        seconds = self.window / 50 if whisper else None
        self.encoder: Encoder = build_encoder(config.architecture, EncoderOptions(pad_seconds=seconds))
        self.layer_weights = nn.Parameter(torch.zeros(self.encoder.depth + 1)) if config.layer_sum else None
        self.dense = nn.Linear(self.encoder.width, config.hidden)
        self.activation = nn.Tanh() if config.tanh else nn.Identity()
        self.output = OutputLayer(config.hidden, classes)

    @classmethod
    def from_pretrained(cls, config: PublishedClassifierConfig, bins: int, classes: int) -> "PublishedClassifier":
        """Always an error: training starts from an encoder.

        Raises:
            ConfigError: names the kind of model to train.
        """
        raise ConfigError("model.kind published_classifier is not trained; train kind speech_encoder with this source")

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        states, frames = self.encoder(features[:, 0], frames)
        frames = frames.clamp(min=self.window)
        if self.layer_weights is None:
            state = states[-1].float()
        else:
            weights = self.layer_weights.softmax(0)
            state = torch.stack([weight * h.float() for weight, h in zip(weights, states, strict=True)]).sum(0)
        mask = valid_mask(frames, state.shape[1])[..., None]
        mean = (state * mask).sum(1) / frames[:, None]
        return self.output(self.activation(self.dense(mean)))


class PublishedModel(NamedTuple):
    """The settings of a published classifier, its labels as published, and its tensors by the names of its module.

    Of a model of dimensions there are no labels, and `dimensions` are their names.
    """

    config: PublishedClassifierConfig
    labels: tuple[str, ...]
    dimensions: tuple[str, ...]
    tensors: dict[str, Tensor]


def read_published_classifier(found: EncoderSource) -> PublishedModel:
    """Reads the encoder and the head of a published classifier.

    Raises:
        ConfigError: it has no head that can be read, a tensor is missing or left over, or its labels have no names.
    """
    labels, dimensions = _outputs(found)
    paths = fetched_weights(found)
    encoder = build_encoder(found.architecture)
    others = fill_encoder(encoder, found, paths)
    dense, output, tanh = _head(found, set(others))
    head = dict(read_tensors(found.source, sorted((path, name) for name, path in others.items())))
    renamed = {f"encoder.{name}": tensor for name, tensor in encoder.state_dict().items()}
    if LAYER_WEIGHTS in head:
        renamed[LAYER_WEIGHTS] = head[LAYER_WEIGHTS]
    for part in ("weight", "bias"):
        renamed[f"dense.{part}"], renamed[f"output.{part}"] = head[f"{dense}.{part}"], head[f"{output}.{part}"]
    config = PublishedClassifierConfig(
        source=found.source,
        revision=found.revision,
        architecture=found.architecture,
        hidden=max(1, len(renamed["dense.weight"])),
        tanh=tanh,
        layer_sum=LAYER_WEIGHTS in head,
    )
    with torch.device("meta"):
        expected = PublishedClassifier(config, 1, len(labels) + len(dimensions)).state_dict()
    for name, tensor in expected.items():
        if renamed[name].shape != tensor.shape:
            shapes = f"is {tuple(renamed[name].shape)}, but its config.json needs {tuple(tensor.shape)}"
            raise refused(found.source, f"{name} of its head {shapes}")
    return PublishedModel(config, labels, dimensions, renamed)


def _head(found: EncoderSource, names: set[str]) -> tuple[str, str, bool]:
    """The names of the head's two layers, and whether the first ends with tanh."""
    weighted = bool(found.settings.get("use_weighted_layer_sum", False))
    for (dense, output), tanh in _HEADS.items():
        expected = {f"{layer}.{part}" for layer in (dense, output) for part in ("weight", "bias")}
        if weighted and not tanh:
            expected.add(LAYER_WEIGHTS)
        if names == expected:
            pooling = found.settings.get("pooling_mode", "mean")
            if tanh and pooling != "mean":
                raise refused(found.source, f"its head pools by {pooling}; only mean is supported")
            return dense, output, tanh
    listed = ", ".join(sorted(names)[:6]) + (" ..." if len(names) > 6 else "") if names else "nothing but the encoder"
    raise refused(
        found.source,
        f"it has no emotion head that serx can read (beside the encoder: {listed}); train one with model.kind "
        "speech_encoder and this source",
    )


def _outputs(found: EncoderSource) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The labels of `config.json` in the order of the logits, or the dimensions in the order of the values."""
    named = found.settings.get("id2label")
    try:
        by_number = {int(number): str(label) for number, label in named.items()} if isinstance(named, dict) else {}
    except ValueError:
        by_number = {}
    labels = tuple(by_number[number] for number in sorted(by_number))
    known = _DIMENSIONS & {label.lower() for label in labels}
    is_regression = bool(known) or found.settings.get("problem_type") == "regression"
    if len(labels) < (1 if is_regression else 2) or sorted(by_number) != list(range(len(labels))):
        raise refused(found.source, "its config.json names no emotions (id2label); it is no classifier")
    if all(label.upper().startswith("LABEL_") for label in labels):
        what = "dimensions" if is_regression else "classes"
        raise refused(found.source, f"its {what} have no names ({', '.join(labels[:3])} ...), only numbers")
    if not is_regression:
        return labels, ()
    dimensions = tuple(label.lower() for label in labels)
    if len(set(dimensions)) < len(dimensions):
        raise refused(found.source, f"two of its dimensions have one name: {', '.join(labels)}")
    if 0 < len(known) < len(labels):
        raise refused(found.source, f"it predicts dimensions and something else ({', '.join(labels)})")
    return (), dimensions
