"""`SpeakerModel`: infers a speaker's voice together with the emotions of the clips.

A voice, a room or a microphone shifts what a network sees of every clip: one speaker's neutral clips look angry. In the
embedding that a network's head reads,

    embedding = mean of the emotion + offset of the speaker + noise

per dimension, with an offset of variance B over speakers and noise of variance W. The means, B and W come from the
training clips. With some clips of a speaker, but not their emotions, offset and emotions are inferred by expectation
maximization: predict the emotions `q`; the mean of `embedding - q @ means` over the clips, shrunk as if W / B clips
without an offset had been heard too, is the offset; predict again without it. What a speaker's clips share because they
are all of one emotion is the mean of that emotion, and is not taken for the voice.

If it is known that the clips are of all emotions equally often, as in acted corpora, more can be gained (`balanced`):
the offset then does not depend on the predictions, and every emotion gets its share of them. Where that is not so, most
predictions become wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from serx.errors import CheckpointError

MIN_SPEAKERS = 4  # fewer have no measurable variance
MIN_PRIOR_CLIPS, MAX_PRIOR_CLIPS = 1e-3, 1000.0
ROUNDS = 10  # of expectation maximization
SHARE_ROUNDS = 30  # until every emotion has its share
_TINY = 1e-9

Head = Callable[[Tensor], Tensor]  # embeddings (n, D) -> logits (n, C)


@dataclass(frozen=True)
class Adjustment:
    """What is subtracted from the embedding of each head, and added to the logits, for one speaker.

    >>> Adjustment(offsets=(torch.zeros(4),), logits=torch.zeros(3)).logits.shape
    torch.Size([3])
    """

    offsets: tuple[Tensor, ...]
    logits: Tensor


@dataclass(frozen=True)
class SpeakerModel:
    """The parameters for each of the network's heads (an ensemble of four networks has four), float32.

    Attributes:
        means: `(C, D)` for each head: row y is the mean embedding of the clips of emotion y.
        prior_clips: `(D,)` for each head: W / B, the number of clips from which on a speaker's clips say more about the
            offset than is known without them.

    >>> random = np.random.default_rng(0)
    >>> speakers, emotions = np.repeat(np.arange(8), 30), np.tile(np.arange(3), 80)
    >>> embeddings = 3 * np.eye(3)[emotions] + 2 * random.standard_normal((8, 3))[speakers]
    >>> embeddings = torch.from_numpy(embeddings + random.standard_normal(embeddings.shape)).float()
    >>> model, head = SpeakerModel.fit([embeddings], emotions, [f"s{s}" for s in speakers]), torch.nn.Identity()
    >>> own = torch.from_numpy(speakers == 0)
    >>> [offset] = model.infer([head], [embeddings[own]]).offsets
    >>> right = [(e.argmax(1).numpy() == emotions[own]).mean() for e in (embeddings[own], embeddings[own] - offset)]
    >>> bool(right[1] > right[0])
    True
    """

    means: tuple[Tensor, ...]
    prior_clips: tuple[Tensor, ...]

    @classmethod
    def fit(
        cls, embeddings: Sequence[Tensor], targets: np.ndarray, speaker_ids: Sequence[str]
    ) -> "SpeakerModel | None":
        """Means and variances of clips whose emotions and speakers are known.

        Args:
            embeddings: `(n, D)` for each head.
            targets: `(n,)` class indices.
            speaker_ids: the n speakers.

        Returns:
            None if there are fewer than `MIN_SPEAKERS` speakers, or an emotion has no clip.
        """
        names, speakers = np.unique(np.asarray(speaker_ids), return_inverse=True)
        classes = int(targets.max()) + 1
        if len(names) < MIN_SPEAKERS or len(np.unique(targets)) < classes:
            return None
        target, speaker = torch.from_numpy(targets), torch.from_numpy(speakers)
        means, prior_clips = [], []
        for embedding in (e.detach().cpu().double() for e in embeddings):
            mean = _means(embedding, target, classes)
            residual = embedding - mean[target]
            offset = _means(residual, speaker, len(names))
            within = _means((residual - offset[speaker]).square(), speaker, len(names)).mean(0)
            clips = len(targets) / len(names)
            between = offset.var(0) - within / clips
            means.append(mean.float())
            prior = torch.where(between * MAX_PRIOR_CLIPS > within, within / between, MAX_PRIOR_CLIPS)
            prior_clips.append(prior.clamp(min=MIN_PRIOR_CLIPS).float())
        return cls(tuple(means), tuple(prior_clips))

    def infer(self, heads: Sequence[Head], embeddings: Sequence[Tensor], balanced: bool = False) -> Adjustment:
        """What the clips of one speaker say about that speaker.

        Args:
            heads: of the network, in evaluation mode.
            embeddings: `(n, D)` for each head: the speaker's n clips.
            balanced: the clips are known to be of all emotions equally often.
        """
        clips, classes = len(embeddings[0]), len(self.means[0])
        weights = [clips / (clips + prior) for prior in self.prior_clips]
        offsets = tuple(torch.zeros_like(prior) for prior in self.prior_clips)
        even = torch.full((clips, classes), 1 / classes, device=embeddings[0].device)
        for _ in range(1 if balanced else ROUNDS):
            emotions = even if balanced else _probabilities(heads, embeddings, offsets)
            offsets = tuple(
                weight * (embedding - emotions @ mean).mean(0)
                for weight, embedding, mean in zip(weights, embeddings, self.means, strict=True)
            )
        logits = even.new_zeros(classes)
        if balanced:
            logs = _probabilities(heads, embeddings, offsets).clamp(min=_TINY).log()
            for _ in range(SHARE_ROUNDS):
                shares = (logs + logits).softmax(1).mean(0)
                logits = logits - 0.5 * (classes * shares.clamp(min=_TINY)).log()
        return Adjustment(offsets, logits)

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name, for a checkpoint."""
        numbered = enumerate(zip(self.means, self.prior_clips, strict=True))
        return {
            f"{i}.{name}": t for i, pair in numbered for name, t in zip(("means", "prior_clips"), pair, strict=True)
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], heads: Sequence[Head], classes: int) -> "SpeakerModel | None":
        """The model that `tensors` returned; None without tensors.

        Raises:
            CheckpointError: a tensor is missing, or its shape, type or values are not those of a model of these heads.
        """
        if not tensors:
            return None
        expected = [f"{i}.{name}" for i in range(len(heads)) for name in ("means", "prior_clips")]
        for name in [*expected, *tensors]:
            if name not in expected or name not in tensors or tensors[name].dtype != torch.float32:
                raise CheckpointError(f"checkpoint: speaker.{name} is missing, unknown or of another type")
        means, prior_clips = (tuple(tensors[name] for name in expected[start::2]) for start in (0, 1))
        for i, (head, mean, prior) in enumerate(zip(heads, means, prior_clips, strict=True)):
            if mean.dim() != 2 or len(mean) != classes or prior.shape != mean.shape[1:] or not _fits(head, mean):
                raise CheckpointError(f"checkpoint: speaker.{i}.means or prior_clips has another shape than the model")
            if not mean.isfinite().all() or not ((prior > 0) & (prior <= MAX_PRIOR_CLIPS)).all():
                raise CheckpointError(f"checkpoint: speaker.{i} has values that training never writes")
        return cls(means, prior_clips)

    def to(self, device: torch.device) -> "SpeakerModel":
        """The same model on a device."""
        return SpeakerModel(tuple(t.to(device) for t in self.means), tuple(t.to(device) for t in self.prior_clips))


def _means(values: Tensor, groups: Tensor, count: int) -> Tensor:
    """The mean `(count, D)` of the rows of `values (n, D)` in each group."""
    sums = values.new_zeros(count, values.shape[1]).index_add_(0, groups, values)
    return sums / torch.bincount(groups, minlength=count)[:, None]


def _probabilities(heads: Sequence[Head], embeddings: Sequence[Tensor], offsets: Sequence[Tensor]) -> Tensor:
    """`(n, C)`: the mean over the heads."""
    votes = [head(e - o).float().softmax(-1) for head, e, o in zip(heads, embeddings, offsets, strict=True)]
    return torch.stack(votes).mean(0)


def _fits(head: Head, means: Tensor) -> bool:
    try:
        with torch.no_grad():
            return head(means).shape == (len(means), len(means))
    except RuntimeError:
        return False
