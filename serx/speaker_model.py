"""`SpeakerModel`: infers a speaker's voice together with the emotions of the clips.

A voice, a room or a microphone shifts what a network sees of every clip: one speaker's neutral clips look angry. In the
embedding that a network's head reads,

    embedding = mean of the emotion + offset of the speaker + noise

per dimension, with an offset of variance B over speakers and noise of variance W. The means, B and W come from the
training clips. With some clips of a speaker, but not their emotions, offset and emotions are inferred by expectation
maximization: predict the emotions `q`; the mean of `embedding - q @ means` over the clips, shrunk as if W / B clips
without an offset had been heard too, is the offset; predict again without it. What a speaker's clips share because they
are all of one emotion is the mean of that emotion, and is not taken for the voice. Where the fewer emotions seem to be
heard, the less sure the offset is, it can be shrunk the more (`share_prior`).

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
        share_prior: `(D,)` for each head: by how much clips of one emotion, however many, add to 1 + W / (n B), whose
            inverse is the weight of the evidence; clips of all emotions alike add nothing. None: 0.

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
    share_prior: tuple[Tensor, ...] | None = None

    @classmethod
    def of_variances(cls, means: Tensor, within: Tensor, between: Tensor, share_penalty: float) -> "SpeakerModel":
        """The model of one head.

        Args:
            means: `(C, D)` of the emotions.
            within: `(D,)`, the variance of a speaker's clips of one emotion.
            between: `(D,)`, the variance of speakers' offsets.
            share_penalty: `share_prior` in units of the variance of the emotions' means over `between`.
        """
        prior = (within / between).nan_to_num(MAX_PRIOR_CLIPS).clamp(MIN_PRIOR_CLIPS, MAX_PRIOR_CLIPS)
        share = (share_penalty * means.var(0, correction=0) / between).nan_to_num(0.0).clamp(0.0, MAX_PRIOR_CLIPS)
        return cls((means.float(),), (prior.float(),), (share.float(),))

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
        share_prior = self.share_prior or tuple(torch.zeros_like(prior) for prior in self.prior_clips)
        offsets = tuple(torch.zeros_like(prior) for prior in self.prior_clips)
        even = torch.full((clips, classes), 1 / classes, device=embeddings[0].device)
        for _ in range(1 if balanced else ROUNDS):
            emotions = even if balanced else _probabilities(heads, embeddings, offsets)
            one_sided = _one_sidedness(emotions)
            offsets = tuple(
                (embedding - emotions @ mean).mean(0) / (1 + prior / clips + one_sided * share)
                for embedding, mean, prior, share in zip(
                    embeddings, self.means, self.prior_clips, share_prior, strict=True
                )
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
        parts = {"means": self.means, "prior_clips": self.prior_clips, "share_prior": self.share_prior or ()}
        return {f"{i}.{name}": tensor for name, tensors in parts.items() for i, tensor in enumerate(tensors)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], heads: Sequence[Head], classes: int) -> "SpeakerModel | None":
        """The model that `tensors` returned; None without tensors.

        Raises:
            CheckpointError: a tensor is missing, or its shape, type or values are not those of a model of these heads.
        """
        if not tensors:
            return None
        names = ("means", "prior_clips") + (("share_prior",) if "0.share_prior" in tensors else ())
        expected = [f"{i}.{name}" for i in range(len(heads)) for name in names]
        for name in [*expected, *tensors]:
            if name not in expected or name not in tensors or tensors[name].dtype != torch.float32:
                raise CheckpointError(f"checkpoint: speaker.{name} is missing, unknown or of another type")
        parts = {name: tuple(tensors[f"{i}.{name}"] for i in range(len(heads))) for name in names}
        means, prior_clips, shares = parts["means"], parts["prior_clips"], parts.get("share_prior")
        for i, (head, mean, prior) in enumerate(zip(heads, means, prior_clips, strict=True)):
            if mean.dim() != 2 or len(mean) != classes or prior.shape != mean.shape[1:] or not _fits(head, mean):
                raise CheckpointError(f"checkpoint: speaker.{i}.means or prior_clips has another shape than the model")
            if not mean.isfinite().all() or not ((prior > 0) & (prior <= MAX_PRIOR_CLIPS)).all():
                raise CheckpointError(f"checkpoint: speaker.{i} has values that training never writes")
        for i, (share, prior) in enumerate(zip(shares or (), prior_clips, strict=False)):
            if share.shape != prior.shape or not ((share >= 0) & (share <= MAX_PRIOR_CLIPS)).all():
                raise CheckpointError(f"checkpoint: speaker.{i}.share_prior has values that training never writes")
        return cls(means, prior_clips, shares)

    def to(self, device: torch.device) -> "SpeakerModel":
        """The same model on a device."""

        def moved(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return tuple(tensor.to(device) for tensor in tensors)

        share_prior = None if self.share_prior is None else moved(self.share_prior)
        return SpeakerModel(moved(self.means), moved(self.prior_clips), share_prior)


def speaker_variances(
    residual: Tensor, offsets: Tensor, speakers: Tensor, corpora: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """The variance of a speaker's clips of one emotion, and that of speakers' offsets; `(D,)` each.

    Args:
        residual: `(n, D)`, embeddings without the means of their emotions.
        offsets: `(S, D)`, the mean residual of each speaker; all 0: their variance is 0 too.
        speakers: `(n,)` indices.
        corpora: `(n,)` indices; every corpus counts alike.
        weights: `(n,)`, how much each clip counts.
    """
    share = (weights / weights.sum())[:, None]
    within = (share * (residual - offsets[speakers]).square()).sum(0)
    by_corpus = [offsets[speakers[corpora == c].unique()].square().mean(0) for c in corpora.unique()]
    clips = len(speakers) / len(speakers.unique())
    return within, (torch.stack(by_corpus).mean(0) - within / clips).clamp(min=0.0)


def _one_sidedness(emotions: Tensor) -> Tensor:
    """0 if the clips' probabilities `(n, C)` add up to all emotions alike, 1 if to a single one."""
    even = 1 / emotions.shape[1]
    return ((emotions.mean(0).square().sum() - even) / (1 - even)).clamp(min=0.0)


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
