"""What each emotion sounds like in one voice, learnt from clips of it that bear no labels.

What a network says of a voice's clips one by one is a first guess. Clips that resemble each other feel alike, so the
guesses are evened out among neighbours: each emotion gets a prototype, the mean embedding of the clips it is guessed
for, and a clip's verdict moves towards the prototypes it lies near; then the same again. This is expectation
maximisation for a mixture of von Mises-Fisher distributions (Banerjee et al. 2005, "Clustering on the unit hypersphere
using von Mises-Fisher distributions") with the network's verdicts as priors, close to the prototypes of Iwasawa &
Matsuo 2021, "Test-time classifier adjustment module for model-agnostic domain generalization".
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

from serx.models.layers import Verdict
from serx.recognizer import Recognizer

CONCENTRATION = 4.0  # what a cosine of 1 to an emotion's prototype adds to the emotion's log-probability
DOUBT = 20.0  # a voice of that many clips has half of its prototypes' weight: few clips resemble each other by chance
OVERLAP = 0.7  # verdict and resemblance rest on the same clip: a sum of both is by so much too sure
ROUNDS = 20

Listener = Callable[[], Tensor]  # -> the embeddings `(B, D)` of the clips last heard, of unit length


def verdicts(recognizer: Recognizer) -> list[Verdict]:
    """The last layers of its networks; none in models whose clips have no single embedding (timm's windows)."""
    return [layer for layer in recognizer.backbone.modules() if isinstance(layer, Verdict)]


@contextmanager
def listening(recognizer: Recognizer) -> Iterator[Listener]:
    """The call it gives tells the embeddings of the last batch: means over the speeds, the members' side by side."""
    layers = verdicts(recognizer)
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
        """Verdicts `(B, C)` moved towards the prototypes that the clips resemble, as logits."""
        return self._summed(log_probabilities, embeddings) / (1 + OVERLAP * self._weight)

    def _summed(self, log_probabilities: Tensor, embeddings: Tensor) -> Tensor:
        return log_probabilities + self._weight * CONCENTRATION * embeddings @ self.directions.T


@contextmanager
def drawn_to_prototypes(recognizer: Recognizer, batches: Sequence[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Within the block `recognizer` draws its verdicts towards the prototypes of a voice.

    `batches` are the voice's clips, each `(B, T)` waveforms with their lengths `(B,)`. Models without a `Verdict` are
    left as they are.
    """
    if not verdicts(recognizer):
        yield
        return
    with listening(recognizer) as embeddings:
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
