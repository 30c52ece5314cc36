"""Adapt a recognizer to one speaker with unlabeled clips, for as long as a `with` block lasts.

Each model in it that has a `SpeakerModel` infers from the logits and embeddings of the speaker's clips what is the
speaker's and not the emotion's, and its logits are adjusted. Nothing within a network changes. A `LinearProbe`
subtracts an offset that it estimates from each single clip; the less the speaker's offset is trusted, the more that one
counts.

A clip's result then depends on the speaker's other clips, which happens nowhere else in serx. Therefore every number
that was computed with adaptation says so.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from serx.errors import ConfigError, DataError
from serx.models.classical import ABSENT_CLASS_LOGIT
from serx.models.encoders import Encoder
from serx.models.ensemble import Ensemble
from serx.models.layers import output_layers
from serx.models.linear_probe import ClipOffsetHead
from serx.models.waveform_model import WaveformModel
from serx.recognizer import Recognizer
from serx.speaker_model import Adjustment

BATCH = 16
PIECE_SECONDS = 4.0  # a longer recording counts as several clips, as each may be of another emotion
MAX_PIECES = 1000  # of running speech: the latest that count

Encoded = tuple[list[Tensor], Tensor]  # states and frames, as `Encoder` returns them


@contextmanager
def adapted(recognizer: Recognizer, clips: Sequence[Tensor]) -> Iterator[None]:
    """Adapts `recognizer` to the speaker of `clips` within the block, and restores it to the bit afterward.

    Args:
        recognizer: is put into evaluation mode.
        clips: waveforms `(T,)` of one speaker on the recognizer's device, better ten or more, of several emotions.

    Raises:
        DataError: fewer than two pieces of speech, which have no mean to speak of.
        ConfigError: the model has no speaker model, predicts dimensions, or is adapted already.

    >>> from serx.features.stack import FeaturesConfig
    >>> from serx.models import Cnn1dConfig
    >>> from serx.speaker_model import SpeakerModel
    >>> recognizer = Recognizer(FeaturesConfig(), Cnn1dConfig(), ("angry", "happy"), 16_000)
    >>> recognizer.speaker_model = SpeakerModel(means=torch.eye(2), prior_clips=torch.ones(2))
    >>> clips = [torch.randn(8000), torch.randn(12_000), torch.randn(9000)]
    >>> with adapted(recognizer, clips):
    ...     recognizer.probabilities(clips[0][None], torch.tensor([8000])).shape
    torch.Size([1, 2])
    """
    models = _adaptable_models(recognizer)
    pieces = [piece for clip in clips for piece in _pieces(clip, recognizer.sample_rate)]
    if len(pieces) < 2:
        raise DataError(f"{len(pieces)} clips are too few to adapt to a speaker; give two or more, better ten")
    recognizer.eval()
    outputs = _outputs(recognizer, models, _batches(pieces))
    with _adjusted(recognizer, models, outputs):
        yield


class RunningAdaptation:
    """Adapts a recognizer to the speaker of running speech: for each clip, to the clips so far and that one.

    One speaker is assumed. A clip's result is that of `adapted` with the clips up to it, and depends on no later clip.
    The first one is predicted without adaptation. Logits and embeddings of the last `MAX_PIECES` pieces are kept, so
    that no clip is encoded again.

    Attributes:
        clips: the number of clips so far.

    Raises:
        ConfigError: the model has no speaker model, predicts dimensions, or is adapted already.
    """

    def __init__(self, recognizer: Recognizer) -> None:
        """`recognizer` is put into evaluation mode."""
        self.clips = 0
        self._models = _adaptable_models(recognizer)
        self._recognizer = recognizer.eval()
        self._outputs = [[deque[Tensor](maxlen=MAX_PIECES) for _ in Outputs._fields] for _ in self._models]

    @contextmanager
    def including(self, clip: Tensor) -> Iterator[None]:
        """Within the block the recognizer, called with `clip (T,)` alone, is adapted to the clips up to this one.

        An encoder has then run already, and is not run again. Of a clip that is longer than `PIECE_SECONDS` it also
        encodes the pieces, since these tell the speaker.
        """
        pieces = list(_pieces(clip, self._recognizer.sample_rate))
        self.clips += 1
        with ExitStack() as stack:
            stack.enter_context(_encoded_once(self._recognizer))
            outputs = _outputs(self._recognizer, self._models, _batches(pieces))
            for of_model, own in zip(self._outputs, outputs, strict=True):
                for kept, rows in zip(of_model, own, strict=True):
                    kept.extend(rows)
            if self.clips > 1:
                so_far = [Outputs(*(torch.stack(list(kept)) for kept in of_model)) for of_model in self._outputs]
                stack.enter_context(_adjusted(self._recognizer, self._models, so_far))
            else:
                stack.enter_context(_marked_as_adapted(self._recognizer))
            yield


def _adaptable_models(recognizer: Recognizer) -> list[WaveformModel]:
    """The models in it that have a speaker model.

    Raises:
        ConfigError: there is none, the recognizer predicts dimensions, or it is adapted already.
    """
    if recognizer.dimensions:
        names = ", ".join(dimension.name for dimension in recognizer.dimensions)
        raise ConfigError(
            f"speaker adaptation adjusts probabilities of emotions, and this model predicts {names}: drop model.adapt, "
            "--adapt and --adapt-to"
        )
    if recognizer.adapted:
        raise ConfigError("the model is adapted to recordings of a speaker already; choose one way to adapt it")
    models = [model for model in recognizer.waveform_models().values() if model.speaker_model is not None]
    if not models:
        raise ConfigError(
            "speaker adaptation needs to know how speakers differ, and this model was trained on a single speaker, on "
            "unknown ones, or before checkpoints held it: train it again, or drop model.adapt, --adapt and --adapt-to"
        )
    return models


class Outputs(NamedTuple):
    """What a model says of n clips: logits `(n, C)` and embeddings `(n, D)`; D is 0 if it has none."""

    logits: Tensor
    embeddings: Tensor


def _outputs(
    recognizer: Recognizer, models: Sequence[WaveformModel], batches: Iterable[tuple[Tensor, Tensor]]
) -> list[Outputs]:
    """The outputs of each of `models`, whose clips keep the offsets that they tell of themselves."""
    read: list[list[Outputs]] = [[] for _ in models]
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())  # tensors made in inference mode could not be exported
        stack.enter_context(own_offsets(models, 0.0))
        for model, own in zip(models, read, strict=True):
            stack.enter_context(_reading(model, own.append))
        for batch in batches:
            recognizer(*batch)
    return [Outputs(*(torch.cat(parts) for parts in zip(*own, strict=True))) for own in read]


@contextmanager
def _reading(model: WaveformModel, read: Callable[[Outputs], Tensor | None]) -> Iterator[None]:
    """Within the block `read` gets what `model` says of each batch; what it returns, unless None, are the new logits.

    The embedding is what the last layer of each network reads, the mean over test-time speeds and shifts. That of a
    linear probe holds all of a clip, not just its emotion, and is not used.
    """
    is_probe = any(isinstance(module, ClipOffsetHead) for module in model.modules())
    layers = [] if is_probe else output_layers(model)
    inputs: list[list[Tensor]] = [[] for _ in layers]

    def keep(index: int) -> Callable[..., None]:
        return lambda _layer, given: inputs[index].append(given[0].float())

    def hook(_model: WaveformModel, _inputs: tuple[Tensor, ...], logits: Tensor) -> Tensor | None:
        embeddings = torch.cat([logits[:, :0], *(torch.stack(own).mean(0) for own in inputs if own)], -1)
        for of_layer in inputs:
            of_layer.clear()
        return read(Outputs(logits, embeddings))

    handles = [layer.register_forward_pre_hook(keep(index)) for index, layer in enumerate(layers)]
    handles.append(model.register_forward_hook(hook))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _adjusted(recognizer: Recognizer, models: Sequence[WaveformModel], outputs: Sequence[Outputs]) -> Iterator[None]:
    """Within the block each of `models` is adjusted to the speaker of clips with these `outputs`."""
    with ExitStack() as stack:
        for model, own in zip(models, outputs, strict=True):
            assert model.speaker_model is not None
            among = recognizer.among if model is recognizer else None  # voters decide among all, the ensemble chooses
            classes = list(range(own.logits.shape[1])) if among is None else among
            with torch.no_grad():
                adjustment = model.speaker_model.among(among).infer(
                    own.logits[:, classes], _temperature(recognizer, model), own.embeddings
                )
            stack.enter_context(own_offsets([model], 1 - adjustment.trust))
            stack.enter_context(_reading(model, partial(_adjust, adjustment, classes)))
        stack.enter_context(_marked_as_adapted(recognizer))
        yield


def _adjust(adjustment: Adjustment, classes: list[int], outputs: Outputs) -> Tensor:
    """The logits of `classes` adjusted, and all others far below them."""
    logits = outputs.logits
    if len(classes) == logits.shape[1]:
        return adjustment.apply(logits, outputs.embeddings)
    adjusted = torch.full_like(logits, ABSENT_CLASS_LOGIT * max(1.0, adjustment.temperature))
    adjusted[:, classes] = adjustment.apply(logits[:, classes], outputs.embeddings).log_softmax(-1)
    return adjusted


def _temperature(recognizer: Recognizer, model: WaveformModel) -> float:
    """What divides the logits of `model`, the recognizer or a voter in it, before they become probabilities."""
    for module in recognizer.modules():
        if isinstance(module, Ensemble) and model in list(module.voters):
            return float(module.temperatures[list(module.voters).index(model)])
    return recognizer.temperature


@contextmanager
def own_offsets(models: Sequence[WaveformModel], share: float) -> Iterator[None]:
    """Within the block the offset that each clip tells of itself counts as far as `share`, from 0 to 1, says."""
    heads = [head for model in models for head in model.modules() if isinstance(head, ClipOffsetHead)]
    before = [head.own_share for head in heads]
    try:
        for head in heads:
            head.own_share = share
        yield
    finally:
        for head, own_share in zip(heads, before, strict=True):
            head.own_share = own_share


@contextmanager
def _marked_as_adapted(recognizer: Recognizer) -> Iterator[None]:
    recognizer.adapted = True
    try:
        yield
    finally:
        recognizer.adapted = False


@contextmanager
def _encoded_once(recognizer: Recognizer) -> Iterator[None]:
    """Within the block an encoder that is called again with equal waveforms returns its earlier result."""
    encoders = [module for module in recognizer.modules() if isinstance(module, Encoder)]

    def remembering(encode: Callable[[Tensor, Tensor], Encoded]) -> Callable[[Tensor, Tensor], Encoded]:
        results: list[tuple[Tensor, Encoded]] = []

        def forward(waveform: Tensor, lengths: Tensor) -> Encoded:
            for known, result in results:
                if torch.equal(known, waveform):
                    return result
            results.append((waveform, encode(waveform, lengths)))
            return results[-1][1]

        return forward

    try:
        for encoder in encoders:
            encoder.forward = remembering(encoder.forward)  # type: ignore[method-assign, assignment]
        yield
    finally:
        for encoder in encoders:
            encoder.__dict__.pop("forward", None)


def _pieces(clip: Tensor, sample_rate: int) -> Sequence[Tensor]:
    """`clip (T,)` in the fewest equal parts that are no longer than `PIECE_SECONDS`."""
    return clip.tensor_split(max(1, -(-len(clip) // round(PIECE_SECONDS * sample_rate))))


def _batches(pieces: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Waveforms `(B, T)` and lengths `(B,)`."""
    for start in range(0, len(pieces), BATCH):
        batch = pieces[start : start + BATCH]
        yield pad_sequence(list(batch), batch_first=True), torch.tensor([len(p) for p in batch], device=batch[0].device)
