"""Which clips an epoch takes, in which order and in which batches."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from serx.config.loader import Config
from serx.data.cache.clip_reader import by_windows
from serx.seeding import generator

Step: TypeAlias = list[np.ndarray]  # the batches of one optimizer step; each is an array of positions in TrainingClips


@dataclass(frozen=True)
class TrainingClips:
    """The training part of a split, and what the loss needs to know of it.

    Attributes:
        clips: `(n,)` int64, indices into the dataset. With `augment.copies: k` each is there k + 1 times.
        targets: `(n,)` int64, class indices; of votes, the class with most of them.
        class_weights: `(C,)` float32, on the device.
        vectors: `(n, F)`, on the device: the features of the clips if no epoch changes them (`constant_vectors`).
        corpora: `(n,)` int64, indices of the clips' corpora; None if all clips are of one corpus.
        logit_offsets: `(C,)` float32, on the device; None for zeros.
        possible: `(n, C)` bool, on the device: the classes of the clip's corpus; None if all corpora have the same.
        taught: `(n, C)` float32, on the device: the probabilities of `train.teachers`; None without teachers.
        shares: `(n, C)` float32, on the device: the shares of votes, which are the targets of the loss; None without
            votes.
        without_class: `(n,)` bool, on the device: clips that count in no score of classes, since they have no label, or
            their votes tie; None for none.
        weights: `(n,)` float32, on the device: the weights of the clips, whose mean is 1; None if all are equal.
        lengths: `(n,)` int64, samples of the clips; several processes pad their shares of a batch to the same width.
        ratings: `(n, D)` float32, on the device: 0 for the lowest rating of training, 1 for the highest, NaN for none;
            None without dimensions.
        blocks: `(n,)` int64, the block of the corpus in which each clip is (`clip_reader.blocks_of`); None for a corpus
            of one window.
    """

    clips: np.ndarray
    targets: np.ndarray
    class_weights: Tensor
    vectors: Tensor | None = None
    corpora: np.ndarray | None = None
    logit_offsets: Tensor | None = None
    possible: Tensor | None = None
    taught: Tensor | None = None
    shares: Tensor | None = None
    without_class: Tensor | None = None
    weights: Tensor | None = None
    lengths: np.ndarray | None = None
    ratings: Tensor | None = None
    blocks: np.ndarray | None = None

    @property
    def truth(self) -> np.ndarray:
        """`(n,)` class indices, or `(n, C)` shares of votes."""
        return self.targets if self.shares is None else self.shares.double().cpu().numpy()

    def target_columns(self, targets: Tensor, positions: Tensor) -> dict[str, Tensor]:
        """What the loss of the clips at `positions (B,)`, with the classes `targets (B,)`, is computed from.

        Each is float32 `(B, ...)` and on the device: `truth (B, C)`, and `possible`, `taught` and `weights (B, 1)` if
        there are any, `ratings (B, D)` with NaN for none. A mixture of two clips has the same mixture of these.
        """
        columns = {}
        if len(self.class_weights):
            one_hot = F.one_hot(targets, len(self.class_weights)).float()
            columns["truth"] = one_hot if self.shares is None else self.shares[positions]
        for name in ("possible", "taught", "weights", "ratings"):
            values: Tensor | None = getattr(self, name)
            if values is not None:
                columns[name] = values[positions].float().reshape(len(positions), -1)
        return columns

    def has_class(self, positions: Tensor) -> Tensor | None:
        """Which of the clips at `positions (B,)` scores of classes count, `(B,)` bool; None for all."""
        return None if self.without_class is None else ~self.without_class[positions]

    @property
    def clip_weights(self) -> np.ndarray | None:
        """`(n,)` float64 weights of the clips; None if all are equal."""
        return None if self.weights is None else self.weights.double().cpu().numpy()


def plan_epoch(training: TrainingClips, config: Config, epoch: int) -> list[Step]:
    """The optimizer steps of an epoch.

    All batches have the same size, give or take one clip, and at least two clips: batch norms need more than one. The
    order depends on `train.seed` and `epoch` alone: neither on where the audio is, nor on the number of processes.
    Corpora larger than `clip_reader.WINDOW_BYTES` are taken by windows of blocks, which a disk reads faster.
    """
    random, count = generator(config.train.seed, "order", epoch), len(training.clips)
    weights = sampling_weights(config.train.sampling, training.truth, training.corpora, training.clip_weights)
    if weights is not None:
        order = torch.multinomial(torch.from_numpy(weights), count, replacement=True, generator=random)
    else:
        order = torch.randperm(count, generator=random)
    if training.blocks is not None:
        order = by_windows(order, training.blocks, random)
    batches = np.array_split(order.numpy(), min(-(-count // config.train.batch_size), count // 2))
    size = config.train.accumulation_steps
    return [batches[i : i + size] for i in range(0, len(batches), size)]


def sampling_weights(
    mode: str, targets: np.ndarray, corpora: np.ndarray | None, clip_weights: np.ndarray | None = None
) -> np.ndarray | None:
    """How often each clip is drawn, `(n,)` up to a common factor; None if an epoch takes each clip once.

    With shares of votes a clip counts for each class by its share: `class_balanced` draws a class, each as often, then
    a clip in proportion to its share of the class.

    The weights of clips multiply their loss, and do not make a clip drawn more often. They count where classes or
    corpora are balanced: these then weigh the same in the loss.

    Args:
        mode: `train.sampling`. `corpus_and_class_balanced` gives every corpus the same weight, and every class within a
            corpus: neither then predicts the other, as it does if one corpus has more clips of a class.
        targets: `(n,)` class indices, or `(n, C)` shares of votes.
        corpora: `(n,)` indices of corpora; None if all clips are of one corpus.
        clip_weights: `(n,)`, what the loss of each clip is multiplied with; None for 1.

    >>> sampling_weights("class_balanced", np.array([0, 0, 0, 0, 1]), None)
    array([0.25, 0.25, 0.25, 0.25, 1.  ])
    """
    if mode == "shuffle":
        return None
    corpora = np.zeros(len(targets), np.int64) if corpora is None else corpora
    if mode == "corpus_balanced":
        return 1.0 / np.bincount(corpora, clip_weights)[corpora]
    shares = np.eye(targets.max() + 1)[targets] if targets.ndim == 1 else targets
    if mode == "class_balanced":
        corpora = np.zeros_like(corpora)
    counts = np.zeros((corpora.max() + 1, shares.shape[1]))
    np.add.at(counts, corpora, shares if clip_weights is None else shares * clip_weights[:, None])
    classes = np.count_nonzero(counts, axis=1)[:, None] if mode == "corpus_and_class_balanced" else 1
    rates = np.divide(1.0, classes * counts, out=np.zeros_like(counts), where=counts > 0)
    return (shares * rates[corpora]).sum(1)


def relative_weights(weights: np.ndarray) -> np.ndarray | None:
    """The weights `(n,)` of clips, divided by their mean, so that only their ratios matter; None if all are equal.

    >>> relative_weights(np.array([1.0, 3.0])), relative_weights(np.array([0.3, 0.3])) is None
    (array([0.5, 1.5]), True)
    """
    return None if (weights == weights[0]).all() else weights / weights.mean()
