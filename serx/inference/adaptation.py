"""`enrolled`: a recognizer that has heard a voice before, without being told what it felt.

A batch norm holds the mean and variance of each channel over the training voices. In a voice, room or language of
another kind they lie elsewhere, and what is common there is taken for an emotion. For as long as a voice is enrolled,
its own clips say what is common: adaptive batch normalization (Li et al. 2018, "Adaptive batch normalization for
practical domain adaptation"), the training voices keeping the weight of a few clips (Schneider et al. 2020, "Improving
robustness against common corruptions by covariate shift adaptation"), so that two clips do no harm. Then the clips say
what each emotion sounds like in this voice (prototypes.py).

A clip's result depends on the voice's other clips then, which nowhere else it does; hence a number made so says so.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from serx.errors import DataError
from serx.models.layers import OutputLayer
from serx.models.backbone import batch_norms
from serx.recognizer import Recognizer

PRIOR = 8  # stretches of speech that the training voices' statistics are worth beside the voice's own


STRETCH_SECONDS = 4.0  # long recordings are cut: beside them short clips would be mostly padding


PADDING = 0.3  # share of zeros, at least: in training, batch norms count those behind short clips too


BATCH = 64


EVALUATED = 16  # where no statistics are wanted: more clips at once leave a CPU's cache


@contextmanager
def adapted(recognizer: Recognizer, clips: Sequence[Tensor]) -> Iterator[None]:
    """Within the block `recognizer` knows the voice of `clips`, waveforms `(T,)`; behind it, it is as it was.

    Raises:
        DataError: less than two stretches of speech, which have no variance.
        ConfigError: the model has no batch norms.
    """
    stretches = [part for clip in clips for part in _stretches(clip, recognizer.sample_rate)]
    if len(stretches) < 2:
        raise DataError(f"{len(stretches)} clips of a voice are too few to enrol it by; give two or more, better ten")
    norms = batch_norms(recognizer.backbone)
    kept = [{name: tensor.clone() for name, tensor in norm.named_buffers()} for norm in norms]
    momenta = [norm.momentum for norm in norms]
    try:
        recognizer.eval()
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over batches
            norm.train()
        with torch.inference_mode():
            for batch in _batches(stretches, BATCH):
                recognizer(*_padded(batch))
            for norm, before in zip(norms, kept, strict=True):
                for name in ("running_mean", "running_var"):
                    norm.get_buffer(name).lerp_(before[name], PRIOR / (len(stretches) + PRIOR))
        recognizer.eval()
        with toward_prototypes(recognizer, [_padded(batch) for batch in _batches(stretches, EVALUATED)]):
            yield
    finally:
        for norm, before, momentum in zip(norms, kept, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()
            for name, tensor in before.items():
                norm.get_buffer(name).copy_(tensor)


def _stretches(clip: Tensor, sample_rate: int) -> Sequence[Tensor]:
    """The clip in equal parts, as few as are no longer than `STRETCH_SECONDS`."""
    return clip.tensor_split(max(1, -(-len(clip) // round(STRETCH_SECONDS * sample_rate))))


def _padded(batch: list[Tensor]) -> tuple[Tensor, Tensor]:
    """`(B, T)` and lengths `(B,)`; T is that of the longest, or more, so that `PADDING` of all samples are zeros."""
    lengths = torch.tensor([len(part) for part in batch], device=batch[0].device)
    waveform = pad_sequence(batch, batch_first=True)
    width = round(sum(map(len, batch)) / len(batch) / (1 - PADDING))
    return F.pad(waveform, (0, max(0, width - waveform.shape[1]))), lengths


def _batches(stretches: Sequence[Tensor], size: int) -> list[list[Tensor]]:
    """Every n-th stretch together: moods that follow each other in a folder are spread over the batches."""
    count = -(-len(stretches) // size)
    return [list(stretches[start::count]) for start in range(count)]


CONCENTRATION = 4.0  # what a cosine of 1 to an emotion's prototype adds to the emotion's log-probability


DOUBT = 20.0  # a voice of that many clips has half of its prototypes' weight: few clips resemble each other by chance


OVERLAP = 0.7  # verdict and resemblance rest on the same clip: a sum of both is by so much too sure


ROUNDS = 20


EmbeddingReader = Callable[[], Tensor]  # -> the embeddings `(B, D)` of the clips last heard, of unit length


def output_layers(recognizer: Recognizer) -> list[OutputLayer]:
    """The last layers of its networks; none in models whose clips have no single embedding (timm's windows)."""
    return [layer for layer in recognizer.backbone.modules() if isinstance(layer, OutputLayer)]


@contextmanager
def capture_embeddings(recognizer: Recognizer) -> Iterator[EmbeddingReader]:
    """The call it gives tells the embeddings of the last batch: means over the speeds, the members' side by side."""
    layers = output_layers(recognizer)
    heard: list[list[Tensor]] = [[] for _ in layers]

    def remember(place: int) -> Callable[..., None]:
        return lambda _, inputs: heard[place].append(inputs[0].float())

    def embeddings() -> Tensor:
        joined = torch.cat([torch.stack(speeds).mean(0) for speeds in heard], dim=1)
        for speeds in heard:
            speeds.clear()
        return F.normalize(joined)

    hooks = [layer.register_forward_pre_hook(remember(place)) for place, layer in enumerate(layers)]
    try:
        yield embeddings
    finally:
        for hook in hooks:
            hook.remove()


class Prototypes:
    """Each emotion's direction among the embeddings of one voice.

    Attributes:
        directions: `(C, D)`, of unit length.
    """

    def __init__(self, log_probabilities: Tensor, embeddings: Tensor) -> None:
        """From `(n, C)` and `(n, D)`, embeddings of unit length."""
        self._weight = len(embeddings) / (len(embeddings) + DOUBT)
        share = log_probabilities.softmax(1)
        for _ in range(ROUNDS):
            self.directions = F.normalize(share.T @ embeddings)
            share = self._summed(log_probabilities, embeddings).softmax(1)

    def draw(self, log_probabilities: Tensor, embeddings: Tensor) -> Tensor:
        """Verdicts `(B, C)` moved toward the prototypes that the clips resemble, as logits."""
        return self._summed(log_probabilities, embeddings) / (1 + OVERLAP * self._weight)

    def _summed(self, log_probabilities: Tensor, embeddings: Tensor) -> Tensor:
        return log_probabilities + self._weight * CONCENTRATION * embeddings @ self.directions.T


@contextmanager
def toward_prototypes(recognizer: Recognizer, batches: Sequence[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Within the block `recognizer` draws its verdicts toward the prototypes of a voice.

    `batches` are the voice's clips, each `(B, T)` waveforms with their lengths `(B,)`. Models without a `Verdict` are
    left as they are.
    """
    if not output_layers(recognizer):
        yield
        return
    with capture_embeddings(recognizer) as embeddings:
        with torch.no_grad():  # not inference mode, whose tensors could not be exported
            told = [(recognizer(*batch).log_softmax(1), embeddings()) for batch in batches]
            prototypes = Prototypes(*(torch.cat(parts) for parts in zip(*told, strict=True)))

        def draw(_module: Recognizer, _inputs: tuple[Tensor, ...], logits: Tensor) -> Tensor:
            return prototypes.draw(logits.log_softmax(1), embeddings())

        hook = recognizer.register_forward_hook(draw)
        try:
            yield
        finally:
            hook.remove()
