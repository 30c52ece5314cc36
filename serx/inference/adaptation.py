"""Adapt a recognizer to one speaker with unlabeled clips, for as long as a `with` block lasts.

A model with a `SpeakerModel`, as those on pretrained encoders have, infers the speaker's offset together with the
emotions of the clips, and subtracts it; a `LinearProbe` otherwise subtracts the offset that each clip tells of itself.
For other models two things change within `adapted`:

1. *Batch-norm statistics.* A batch norm holds the mean and variance of each channel over the training speakers. For a
   new speaker, room or language they lie elsewhere, and the network mistakes that offset for an emotion. The
   speaker's own clips give new statistics (adaptive batch normalization: Li et al. 2018, "Adaptive batch
   normalization for practical domain adaptation"). The training statistics keep the weight of a few clips, so that
   adapting to two clips does no harm (Schneider et al. 2020, "Improving robustness against common corruptions by
   covariate shift adaptation").
2. *Class prototypes.* Clips of one speaker that resemble each other usually express the same emotion. Each emotion
   gets a prototype, the mean embedding of the clips predicted as that emotion, and each prediction moves toward the
   prototypes that its clip resembles; this is repeated until it settles. It is expectation maximization for a mixture
   of von Mises-Fisher distributions (Banerjee et al. 2005, "Clustering on the unit hypersphere using von Mises-Fisher
   distributions") with the network's predictions as priors, close to the prototypes of Iwasawa and Matsuo 2021,
   "Test-time classifier adjustment module for model-agnostic domain generalization".

What clips of one emotion share would be taken for the speaker's. So everything counts only as far as the network, not
adapted, hears several emotions and is sure of them (`_trust`): the mutual information of clip and emotion.

A clip's result then depends on the speaker's other clips, which happens nowhere else in serx. Therefore every number
that was computed with adaptation says so.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from serx.errors import ConfigError, DataError
from serx.models.backbone import batch_norms
from serx.models.encoders import Encoder
from serx.models.layers import OutputLayer, embedding_heads
from serx.models.linear_probe import ClipOffsetHead, classifiers
from serx.models.waveform_model import WaveformModel
from serx.recognizer import Recognizer, embeddings_of
from serx.speaker_model import Adjustment

# Batch-norm statistics
PRIOR_CLIPS = 8  # the training statistics weigh as much as this many clips of the speaker
TRUST = (
    0.2,
    0.4,
)  # of the mutual information that is possible: up to the first clips do not count, from the second fully
TRUST_OF_PROBE = (0.1, 0.3)  # the same for a `LinearProbe`, whose speaker model is more cautious
PIECE_SECONDS = 4.0  # longer clips are cut; otherwise the short clips of a batch would be mostly padding
MIN_PADDING = 0.3  # fraction of zeros in a batch, as in training, where batch norms count the padding of short clips
NORM_BATCH = 64  # clips per batch while statistics are collected
MAX_PIECES = 32  # of running speech that are computed again for each clip; more of them add little
MAX_EMBEDDINGS = 1000  # of running speech that are kept
# Class prototypes
PREDICTION_BATCH = 16  # clips per batch otherwise: more of them leave a CPU's cache
CONCENTRATION = 4.0  # added to an emotion's log-probability at cosine similarity 1 to its prototype
HALF_WEIGHT_CLIPS = 20.0  # prototypes of this many clips get half their weight: few clips are alike by chance
REDUNDANCY = 0.7  # prediction and similarity come from the same clip, so their sum is overconfident by this much
ROUNDS = 20  # of expectation maximization

EmbeddingReader = Callable[[], Tensor]
Encoded = tuple[list[Tensor], Tensor]  # states and frames, as `Encoder` returns them


@contextmanager
def adapted(recognizer: Recognizer, clips: Sequence[Tensor], balanced: bool = False) -> Iterator[None]:
    """Adapts `recognizer` to the speaker of `clips` within the block, and restores it to the bit afterward.

    Args:
        recognizer: is put into evaluation mode.
        clips: waveforms `(T,)` of one speaker on the recognizer's device, better ten or more, of several emotions.
        balanced: the clips are known to be of all emotions equally often (`SpeakerModel.infer`).

    Raises:
        DataError: fewer than two pieces of speech, which have no variance.
        ConfigError: the model has neither a speaker model nor batch norms, or `balanced` and no speaker model; or it
            predicts dimensions.

    >>> from serx.features.stack import FeaturesConfig
    >>> from serx.models import Cnn1dConfig
    >>> recognizer = Recognizer(FeaturesConfig(), Cnn1dConfig(), ("angry", "happy"), 16_000)
    >>> clips = [torch.randn(8000), torch.randn(12_000), torch.randn(9000)]
    >>> with adapted(recognizer, clips):
    ...     recognizer.probabilities(clips[0][None], torch.tensor([8000])).shape
    torch.Size([1, 2])
    """
    _check_adaptable(recognizer)
    pieces = [piece for clip in clips for piece in _pieces(clip, recognizer.sample_rate)]
    if len(pieces) < 2:
        raise DataError(f"{len(pieces)} clips are too few to adapt to a speaker; give two or more, better ten")
    batches = [_padded(batch) for batch in _batches(pieces, PREDICTION_BATCH)]
    models = [model for model in recognizer.waveform_models().values() if model.speaker_model is not None]
    recognizer.eval()
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(_adjusted_by_speaker_model(recognizer, model, batches, balanced))
        if not models:
            if balanced:
                raise ConfigError(
                    "balanced: only models on a pretrained encoder infer a speaker in two ways; leave it out"
                )
            emotions = torch.cat([recognizer.probabilities(*batch) for batch in batches])
            stack.enter_context(_adjusted_by_norms_and_prototypes(recognizer, pieces, _trust(emotions)))
        stack.enter_context(_marked_as_adapted(recognizer))
        yield


@contextmanager
def _marked_as_adapted(recognizer: Recognizer) -> Iterator[None]:
    recognizer.adapted = True
    try:
        yield
    finally:
        recognizer.adapted = False


@contextmanager
def _adjusted_by_speaker_model(
    recognizer: Recognizer, model: WaveformModel, batches: Sequence[tuple[Tensor, Tensor]], balanced: bool
) -> Iterator[None]:
    """Within the block the offset of the speaker of `batches` is subtracted from the embeddings of `model`."""
    assert model.speaker_model is not None
    heads = embedding_heads(model)
    with torch.no_grad():  # tensors made in inference mode could not be exported
        embeddings = embeddings_of(recognizer, heads, batches)
        adjustment = model.speaker_model.infer(classifiers(heads), embeddings, balanced)
        trust = 1.0 if balanced else _trust_of_heads(model, heads, embeddings)
    with _adjusted(model, adjustment, trust):
        yield


@contextmanager
def _adjusted(model: WaveformModel, adjustment: Adjustment, trust: float) -> Iterator[None]:
    """Within the block the adjustment for a speaker is applied to embeddings and logits of `model`.

    `trust`, from 0 to 1, is how far the offset counts.
    """
    heads = embedding_heads(model)
    handles = [model.register_forward_hook(lambda _module, _inputs, logits: logits + adjustment.logits)]
    for head, offset in zip(heads, adjustment.offsets, strict=True):
        if isinstance(head, ClipOffsetHead):
            head.offset, head.trust = offset, trust
        else:
            own = trust * offset
            handles.append(head.register_forward_pre_hook(lambda _module, inputs, own=own: (inputs[0] - own,)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for head in heads:
            if isinstance(head, ClipOffsetHead):
                head.offset = None


class RunningAdaptation:
    """Adapts a recognizer to the speaker of running speech: for each clip, to the clips so far and that one.

    One speaker is assumed. A clip's result is that of `adapted` with the clips up to it, and depends on no later clip.
    The first one is predicted without adaptation. Of a model with a speaker model the embeddings of the last
    `MAX_EMBEDDINGS` pieces are kept, so that no clip is encoded again. Other models compute the last `MAX_PIECES` again
    for each clip, since batch norms change with every clip; these alone count then.

    Attributes:
        clips: the number of clips so far.

    Raises:
        ConfigError: the model has neither a speaker model nor batch norms, predicts dimensions, or is adapted already.
    """

    def __init__(self, recognizer: Recognizer) -> None:
        """`recognizer` is put into evaluation mode."""
        _check_adaptable(recognizer)
        self.clips = 0
        self._recognizer = recognizer.eval()
        self._models = [model for model in recognizer.waveform_models().values() if model.speaker_model is not None]
        if not self._models:
            batch_norms(recognizer.backbone)  # or an error that says that there are none
        self._heads = [embedding_heads(model) for model in self._models]
        self._embeddings = [[deque[Tensor](maxlen=MAX_EMBEDDINGS) for _ in heads] for heads in self._heads]
        self._pieces: deque[Tensor] = deque(maxlen=MAX_PIECES)
        self._emotions: deque[Tensor] = deque(maxlen=MAX_PIECES)

    @contextmanager
    def including(self, clip: Tensor) -> Iterator[None]:
        """Within the block the recognizer, called with `clip (T,)` alone, is adapted to the clips up to this one.

        An encoder has then run already, and is not run again. Of a clip that is longer than `PIECE_SECONDS` it also
        encodes the pieces, since these tell the speaker.
        """
        pieces = list(_pieces(clip, self._recognizer.sample_rate))
        self.clips += 1
        with ExitStack() as stack, torch.no_grad():
            if self._models:
                stack.enter_context(_encoded_once(self._recognizer))
                self._add_embeddings(clip, pieces)
                for model, heads, embeddings in zip(self._models, self._heads, self._embeddings, strict=True):
                    assert model.speaker_model is not None
                    if self.clips > 1:
                        own = [torch.stack(list(kept)) for kept in embeddings]
                        adjustment = model.speaker_model.infer(classifiers(heads), own)
                        trust = _trust_of_heads(model, heads, own)
                        stack.enter_context(_adjusted(model, adjustment, trust))
            else:
                self._pieces.extend(pieces)
                self._emotions.extend(self._recognizer.probabilities(*_padded(pieces)))
                if self.clips > 1:
                    trust = _trust(torch.stack(list(self._emotions)))
                    norms = _adjusted_by_norms_and_prototypes(self._recognizer, list(self._pieces), trust)
                    stack.enter_context(norms)
            stack.enter_context(_marked_as_adapted(self._recognizer))
            yield

    def _add_embeddings(self, clip: Tensor, pieces: list[Tensor]) -> None:
        every = [head for heads in self._heads for head in heads]
        lengths = torch.tensor([len(clip)], device=clip.device)
        own = embeddings_of(self._recognizer, every, [(clip[None], lengths)])
        if len(pieces) > 1:
            own = embeddings_of(self._recognizer, every, [_padded(pieces)])
        rows = iter(own)
        for of_model in self._embeddings:
            for kept in of_model:
                kept.extend(next(rows))


def _check_adaptable(recognizer: Recognizer) -> None:
    """Raises ConfigError for a model that predicts dimensions, or is adapted already."""
    if recognizer.dimensions:
        names = ", ".join(dimension.name for dimension in recognizer.dimensions)
        raise ConfigError(
            f"speaker adaptation adjusts probabilities of emotions, and this model predicts {names}: drop model.adapt, "
            "--adapt and --adapt-to"
        )
    if recognizer.adapted:
        raise ConfigError("the model is adapted to recordings of a speaker already; choose one way to adapt it")


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


@contextmanager
def _adjusted_by_norms_and_prototypes(recognizer: Recognizer, pieces: Sequence[Tensor], trust: float) -> Iterator[None]:
    """Within the block batch norms and prototypes of `pieces` count as far as `trust`, from 0 to 1, says."""
    with _adapted_norms(recognizer, pieces, trust):
        batches = [_padded(batch) for batch in _batches(pieces, PREDICTION_BATCH)]
        with adjusted_by_prototypes(recognizer, batches, trust):
            yield


@contextmanager
def _adapted_norms(recognizer: Recognizer, pieces: Sequence[Tensor], trust: float) -> Iterator[None]:
    """Gives the batch norms statistics of `pieces`, mixed with those of training, within the block."""
    weight = trust * len(pieces) / (len(pieces) + PRIOR_CLIPS)
    norms = batch_norms(recognizer.backbone)
    saved = [{name: tensor.clone() for name, tensor in norm.named_buffers()} for norm in norms]
    momenta = [norm.momentum for norm in norms]
    try:
        recognizer.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over batches
            norm.train()
        with torch.inference_mode():
            for batch in _batches(pieces, NORM_BATCH):
                recognizer(*_padded(batch))
            for norm, before in zip(norms, saved, strict=True):
                for name in ("running_mean", "running_var"):
                    norm.get_buffer(name).lerp_(before[name], 1 - weight)
        recognizer.eval()
        yield
    finally:
        for norm, before, momentum in zip(norms, saved, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
            for name, tensor in before.items():
                norm.get_buffer(name).copy_(tensor)


def _trust_of_heads(model: WaveformModel, heads: Sequence[nn.Module], embeddings: Sequence[Tensor]) -> float:
    """`_trust` by what the heads of a model, not adapted, predict from embeddings `(n, D)`."""
    temperature = getattr(model, "temperature", 1.0)  # a recognizer's; its voters have none
    votes = [(head(own) / temperature).softmax(-1) for head, own in zip(heads, embeddings, strict=True)]
    is_probe = any(isinstance(head, ClipOffsetHead) for head in heads)
    return _trust(torch.stack(votes).mean(0), TRUST_OF_PROBE if is_probe else TRUST)


def _trust(emotions: Tensor, bounds: tuple[float, float] = TRUST) -> float:
    """How far the clips of a speaker count, from 0 to 1, by their probabilities `(n, C)` without adaptation.

    The mutual information of clip and emotion is the entropy of the mean of all predictions less the mean of their
    entropies. It is low where one emotion alone is heard, and where the predictions say nothing; log(C) is possible.
    """
    information = (_entropy(emotions.mean(0)) - _entropy(emotions).mean()) / math.log(emotions.shape[1])
    return float(((information - bounds[0]) / (bounds[1] - bounds[0])).clamp(0.0, 1.0))


def _entropy(probabilities: Tensor) -> Tensor:
    """In nats, over the last dimension."""
    return -torch.special.xlogy(probabilities, probabilities).sum(-1)


def _pieces(clip: Tensor, sample_rate: int) -> Sequence[Tensor]:
    """`clip (T,)` in the fewest equal parts that are no longer than `PIECE_SECONDS`."""
    return clip.tensor_split(max(1, -(-len(clip) // round(PIECE_SECONDS * sample_rate))))


def _padded(batch: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Waveform `(B, T)` and lengths `(B,)`. T is large enough that at least `MIN_PADDING` of all samples are zeros."""
    lengths = torch.tensor([len(piece) for piece in batch], device=batch[0].device)
    waveform = pad_sequence(batch, batch_first=True)
    width = round(sum(map(len, batch)) / len(batch) / (1 - MIN_PADDING))
    return F.pad(waveform, (0, max(0, width - waveform.shape[1]))), lengths


def _batches(pieces: Sequence[Tensor], size: int) -> list[list[Tensor]]:
    """Batches of every n-th piece: emotions that follow each other in a folder are spread over the batches."""
    count = -(-len(pieces) // size)
    return [list(pieces[start::count]) for start in range(count)]


class Prototypes:
    """The center of each emotion among the embeddings of one speaker.

    Attributes:
        directions: `(C, D)`, of unit length.

    >>> embeddings = torch.eye(2).repeat(6, 1)  # two clusters of six clips
    >>> log_probabilities = torch.tensor([[0.6, 0.4], [0.4, 0.6]]).log().repeat(6, 1)
    >>> prototypes = Prototypes(log_probabilities, embeddings)
    >>> (prototypes.directions @ embeddings[:2].T).argmax(1)
    tensor([0, 1])
    """

    def __init__(self, log_probabilities: Tensor, embeddings: Tensor, trust: float = 1.0) -> None:
        """Expectation maximization, started from predictions `(n, C)`, over `embeddings (n, D)` of unit length.

        `trust`, from 0 to 1, is the share of their weight that the prototypes get.
        """
        self._weight = trust * len(embeddings) / (len(embeddings) + HALF_WEIGHT_CLIPS)
        membership = log_probabilities.softmax(1)
        for _ in range(ROUNDS):
            self.directions = F.normalize(membership.T @ embeddings)
            membership = self._scores(log_probabilities, embeddings).softmax(1)

    def adjust(self, log_probabilities: Tensor, embeddings: Tensor) -> Tensor:
        """Moves predictions `(B, C)` toward the prototypes that `embeddings (B, D)` resemble; returns logits."""
        return self._scores(log_probabilities, embeddings) / (1 + REDUNDANCY * self._weight)

    def _scores(self, log_probabilities: Tensor, embeddings: Tensor) -> Tensor:
        return log_probabilities + self._weight * CONCENTRATION * embeddings @ self.directions.T


@contextmanager
def adjusted_by_prototypes(
    recognizer: Recognizer, batches: Sequence[tuple[Tensor, Tensor]], trust: float = 1.0
) -> Iterator[None]:
    """Within the block the logits of `recognizer` are adjusted by the prototypes of a speaker.

    Args:
        recognizer: a model without an `OutputLayer` is left unchanged.
        batches: the speaker's clips, each batch a waveform `(B, T)` and lengths `(B,)`.
        trust: from 0 to 1, the share of their weight that the prototypes get.
    """
    if not output_layers(recognizer):
        yield
        return
    with captured_embeddings(recognizer) as read_embeddings:
        with torch.no_grad():  # tensors made in inference mode could not be exported
            results = [(recognizer(*batch).log_softmax(1), read_embeddings()) for batch in batches]
            log_probabilities, embeddings = (torch.cat(parts) for parts in zip(*results, strict=True))
            prototypes = Prototypes(log_probabilities, embeddings, trust)

        def adjust(_module: Recognizer, _inputs: tuple[Tensor, ...], logits: Tensor) -> Tensor:
            return prototypes.adjust(logits.log_softmax(1), read_embeddings())

        hook = recognizer.register_forward_hook(adjust)
        try:
            yield
        finally:
            hook.remove()


@contextmanager
def captured_embeddings(recognizer: Recognizer) -> Iterator[EmbeddingReader]:
    """Yields a function that returns the embeddings `(B, D)`, of unit length, of the last batch.

    They are what the output layers read: the mean over test-time speeds, and the members of an ensemble concatenated.
    The function must be called once after each batch.
    """
    layers = output_layers(recognizer)
    inputs_of_layer: list[list[Tensor]] = [[] for _ in layers]  # one tensor per speed

    def capture(index: int) -> Callable[..., None]:
        return lambda _, inputs: inputs_of_layer[index].append(inputs[0].float())

    def read_embeddings() -> Tensor:
        joined = torch.cat([torch.stack(inputs).mean(0) for inputs in inputs_of_layer], dim=1)
        for inputs in inputs_of_layer:
            inputs.clear()
        return F.normalize(joined)

    hooks = [layer.register_forward_pre_hook(capture(index)) for index, layer in enumerate(layers)]
    try:
        yield read_embeddings
    finally:
        for hook in hooks:
            hook.remove()


def output_layers(recognizer: Recognizer) -> list[OutputLayer]:
    """The last layer of each network. Models without one embedding per clip (timm's windows) have none."""
    return [layer for layer in recognizer.backbone.modules() if isinstance(layer, OutputLayer)]
