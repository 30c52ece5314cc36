"""`SpeakerModel`: separates a speaker's voice from the emotions, given several clips without labels.

A voice, a room or a microphone shifts a network's predictions for all clips alike: all clips of one speaker look
angrier than they are. In the logits,

    logits = mean logits of the emotion + offset of the speaker + noise

with an offset of variance B over speakers and noise of variance W. The means, B and W come from the training clips.
Three things about a new speaker are inferred from several clips:

1. *The offset* is the mean of the clips' logits minus the mean logits of the emotions, each weighted by how often it is
   predicted; the less certain a clip's emotion, the more evenly it counts for all. It is shrunk as if there were W / B
   more clips without an offset.
2. *How far it counts* (`trust`). Clips of one emotion say nothing about the voice: what they share may be the voice or
   the emotion. After the mean of the clips is subtracted, the mutual information of clip and emotion is high if there
   are several emotions, and low if there is one, whichever the network predicted.
3. *Prototypes.* Clips of one speaker that resemble each other usually express the same emotion. Each emotion gets a
   prototype, the mean direction of the embeddings of the clips predicted as that emotion, after the mean of all clips
   is subtracted. Each prediction moves toward the prototypes that its clip resembles. This is expectation maximization
   for a mixture of von Mises-Fisher distributions (Banerjee et al. 2005, "Clustering on the unit hypersphere using von
   Mises-Fisher distributions") with the network's predictions as priors, close to the prototypes of Iwasawa and Matsuo
   2021, "Test-time classifier adjustment module for model-agnostic domain generalization".

No share of emotions is assumed. Without an embedding the logits take its place, so any classifier can be adapted.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from serx.errors import CheckpointError

MIN_SPEAKERS = 2  # fewer have no variance
MIN_PRIOR_CLIPS, MAX_PRIOR_CLIPS = 1e-3, 1000.0
SHARE_ROUNDS = 5  # of offset and shares of the emotions in turn
# Up to the first share of the mutual information that is possible, clips do not count; from the second on fully.
TRUST = (0.2, 0.4)
CHANCE = 1.5  # few clips have mutual information by chance: this much, divided by their number, does not count
CONCENTRATION = 12.0  # added to an emotion's log-probability at cosine similarity 1 to its prototype
HALF_WEIGHT_CLIPS = 40.0  # prototypes of this many clips get half their weight: few clips are alike by chance
REDUNDANCY = 1.5  # prediction and similarity come from the same clip, so their sum is overconfident by this much
PROTOTYPE_ROUNDS = 10  # of expectation maximization


@dataclass(frozen=True)
class Adjustment:
    """What changes in the logits of one speaker.

    Attributes:
        offset: `(C,)`, subtracted from the logits.
        center: `(D,)`, the mean embedding of the speaker's clips.
        prototypes: `(C, D)`, the direction of each emotion from there, of unit length.
        trust: from 0 to 1, how far `offset` counts.
        weight: from 0 to 1, how far `prototypes` count.
        temperature: divides logits before they become probabilities.

    >>> nothing = Adjustment(torch.zeros(3), torch.zeros(3), torch.eye(3), trust=0.0, weight=0.0, temperature=1.0)
    >>> nothing.apply(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[1., 2., 3.]])
    """

    offset: Tensor
    center: Tensor
    prototypes: Tensor
    trust: float
    weight: float
    temperature: float

    def apply(self, logits: Tensor, embeddings: Tensor | None = None) -> Tensor:
        """Adjusted logits `(B, C)` of clips of the speaker.

        Args:
            logits: `(B, C)`.
            embeddings: `(B, D)`; None or D = 0: the logits.
        """
        if self.trust == 0:
            return logits
        moved = _centered(logits) - self.trust * self.offset
        directions = F.normalize(_embeddings(logits, embeddings) - self.center)
        scores = _scores((moved / self.temperature).log_softmax(-1), directions, self.prototypes, self.weight)
        return scores * (self.temperature / (1 + REDUNDANCY * self.weight))


@dataclass(frozen=True)
class SpeakerModel:
    """The parameters, float32.

    Attributes:
        means: `(C, C)`: row y is the mean of the logits of the training clips of emotion y, those of each clip less
            their own mean. Every corpus counts alike.
        prior_clips: `(C,)`: W / B, the number of clips from which on a speaker's clips say more about the offset than
            is known without them.

    >>> random = np.random.default_rng(0)
    >>> speakers, emotions = np.repeat(np.arange(8), 30), np.tile(np.arange(3), 80)
    >>> logits = 3 * np.eye(3)[emotions] + 2 * random.standard_normal((8, 3))[speakers]
    >>> logits = torch.from_numpy(logits + random.standard_normal(logits.shape)).float()
    >>> model = SpeakerModel.fit(logits, emotions, [f"s{s}" for s in speakers])
    >>> own = torch.from_numpy(speakers == 0)
    >>> adjusted = model.infer(logits[own]).apply(logits[own])
    >>> right = [(x.argmax(1).numpy() == emotions[own]).mean() for x in (logits[own], adjusted)]
    >>> bool(right[1] > right[0])
    True
    """

    means: Tensor
    prior_clips: Tensor

    @classmethod
    def fit(
        cls, logits: Tensor, targets: np.ndarray, speaker_ids: Sequence[str], corpora: Sequence[str] | None = None
    ) -> "SpeakerModel | None":
        """Means and variances of clips whose emotions and speakers are known.

        Args:
            logits: `(n, C)`.
            targets: `(n,)` class indices.
            speaker_ids: the n speakers.
            corpora: the n corpora; None: one.

        Returns:
            None if there are fewer than `MIN_SPEAKERS` speakers. An emotion without a clip gets the mean of the others.
        """
        names, speakers = np.unique(np.asarray(speaker_ids), return_inverse=True)
        classes = logits.shape[1]
        if len(names) < MIN_SPEAKERS:
            return None
        target, speaker = torch.from_numpy(targets), torch.from_numpy(speakers)
        values = _centered(logits.detach().cpu().double())
        corpus = (
            torch.zeros_like(target)
            if corpora is None
            else torch.from_numpy(np.unique(corpora, return_inverse=True)[1])
        )
        present = [y for y in range(classes) if (targets == y).any()]
        of_present = torch.stack([_mean_of_groups(values[target == y], corpus[target == y]) for y in present])
        means = of_present.mean(0).repeat(classes, 1)
        means[present] = of_present
        residual = values - means[target]
        offset = _means(residual, speaker, len(names))
        within = _means((residual - offset[speaker]).square(), speaker, len(names)).mean(0)
        between = offset.var(0) - within * len(names) / len(targets)
        prior = torch.where(between * MAX_PRIOR_CLIPS > within, within / between, MAX_PRIOR_CLIPS)
        return cls(means.float(), prior.clamp(min=MIN_PRIOR_CLIPS).float())

    def among(self, classes: Sequence[int] | None) -> "SpeakerModel":
        """The model of these classes alone, by index; None: of all."""
        if classes is None:
            return self
        return SpeakerModel(_centered(self.means[classes][:, classes]), self.prior_clips[classes])

    def infer(self, logits: Tensor, temperature: float = 1.0, embeddings: Tensor | None = None) -> Adjustment:
        """What the clips of one speaker say about that speaker.

        Args:
            logits: `(n, C)` of the speaker's n clips.
            temperature: divides logits before they become probabilities.
            embeddings: `(n, D)`; None or D = 0: the logits.
        """
        values, clips = _centered(logits.float()), len(logits)
        shares = self.prior_clips.new_full((len(self.means),), 1 / len(self.means))
        unshrunk = values.mean(0) - shares @ self.means
        trust = _trust(((values - unshrunk) / temperature).softmax(-1))
        offset = unshrunk
        for _ in range(SHARE_ROUNDS):
            offset = (values.mean(0) - shares @ self.means) / (1 + self.prior_clips / clips)
            shares = _shares(((values - offset) / temperature).softmax(-1))
        weight = trust * clips / (clips + HALF_WEIGHT_CLIPS)
        embeddings = _embeddings(logits, embeddings)
        center = embeddings.mean(0)
        log_probabilities = ((values - trust * offset) / temperature).log_softmax(-1)
        prototypes = _prototypes(log_probabilities, F.normalize(embeddings - center), weight)
        return Adjustment(offset, center, prototypes, trust, weight, temperature)

    def tensors(self) -> dict[str, Tensor]:
        """The parameters by name, for a checkpoint."""
        return {"means": self.means, "prior_clips": self.prior_clips}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], classes: int) -> "SpeakerModel | None":
        """The model that `tensors` returned; None without tensors.

        Raises:
            CheckpointError: a tensor is missing, or its shape, type or values are not those of these classes.
        """
        if not tensors:
            return None
        for name in ("means", "prior_clips"):
            if name not in tensors or tensors[name].dtype != torch.float32:
                raise CheckpointError(f"checkpoint: speaker.{name} is missing or of another type")
        means, prior_clips = tensors["means"], tensors["prior_clips"]
        if means.shape != (classes, classes) or prior_clips.shape != (classes,):
            raise CheckpointError("checkpoint: speaker.means or speaker.prior_clips has another shape than the model")
        if not means.isfinite().all() or not ((prior_clips > 0) & (prior_clips <= MAX_PRIOR_CLIPS)).all():
            raise CheckpointError("checkpoint: speaker has values that training never writes")
        return cls(means, prior_clips)

    def to(self, device: torch.device) -> "SpeakerModel":
        """The same model on a device."""
        return SpeakerModel(self.means.to(device), self.prior_clips.to(device))


def _embeddings(logits: Tensor, embeddings: Tensor | None) -> Tensor:
    """`(n, D)`, or the logits where there are none."""
    return _centered(logits.float()) if embeddings is None or not embeddings.shape[1] else embeddings


def _centered(logits: Tensor) -> Tensor:
    return logits - logits.mean(-1, keepdim=True)


def _mean_of_groups(values: Tensor, groups: Tensor) -> Tensor:
    """The mean `(C,)` of the means of the groups of the rows of `values (n, C)`."""
    return torch.stack([values[groups == group].mean(0) for group in groups.unique()]).mean(0)


def _means(values: Tensor, groups: Tensor, count: int) -> Tensor:
    """The mean `(count, C)` of the rows of `values (n, C)` in each group."""
    sums = values.new_zeros(count, values.shape[1]).index_add_(0, groups, values)
    return sums / torch.from_numpy(np.bincount(groups.numpy(), minlength=count))[:, None]


def _trust(emotions: Tensor) -> float:
    """How far clips count, from 0 to 1, by their probabilities `(n, C)` with their mean taken for the voice.

    The mutual information of clip and emotion is the entropy of the mean of all predictions less the mean of their
    entropies; log(C) is possible.
    """
    information = (_entropy(emotions.mean(0)) - _entropy(emotions).mean()) / math.log(emotions.shape[1])
    low, high = TRUST
    return float(((information - CHANCE / len(emotions) - low) / (high - low)).clamp(0.0, 1.0))


def _entropy(probabilities: Tensor) -> Tensor:
    """In nats, over the last dimension."""
    return -torch.special.xlogy(probabilities, probabilities).sum(-1)


def _shares(emotions: Tensor) -> Tensor:
    """How often each emotion is predicted, `(C,)`; a clip of `emotions (n, C)` counts for all alike if it is unsure."""
    classes = emotions.shape[1]
    unsure = (_entropy(emotions) / math.log(classes))[:, None]
    return torch.lerp(emotions, torch.full_like(emotions, 1 / classes), unsure).mean(0)


def _prototypes(log_probabilities: Tensor, directions: Tensor, weight: float) -> Tensor:
    """`(C, D)`: expectation maximization, started from predictions `(n, C)`, over `directions (n, D)`."""
    membership = log_probabilities.softmax(-1)
    prototypes = F.normalize(membership.T @ directions)
    for _ in range(PROTOTYPE_ROUNDS - 1):
        membership = _scores(log_probabilities, directions, prototypes, weight).softmax(-1)
        prototypes = F.normalize(membership.T @ directions)
    return prototypes


def _scores(log_probabilities: Tensor, directions: Tensor, prototypes: Tensor, weight: float) -> Tensor:
    """Predictions `(n, C)`, moved toward the prototypes that `directions (n, D)` resemble."""
    return log_probabilities + weight * CONCENTRATION * directions @ prototypes.T
