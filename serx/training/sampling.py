"""Which clips an epoch takes, in which order and in which batches."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from serx.config.loader import Config
from serx.seeding import generator

Step: TypeAlias = list[np.ndarray]  # the batches of one optimizer step; each is an array of positions in TrainingClips


@dataclass(frozen=True)
class TrainingClips:
    """The training part of a split, and what the loss needs to know of it.

    Attributes:
        clips: `(n,)` int64, indices into the dataset. With `augment.copies: k` each is there k + 1 times.
        targets: `(n,)` int64, class indices.
        class_weights: `(C,)` float32, on the device.
        vectors: `(n, F)`, on the device: the features of the clips if no epoch changes them (`constant_vectors`).
        corpora: `(n,)` int64, indices of the clips' corpora; None if all clips are of one corpus.
        logit_offsets: `(C,)` float32, on the device; None for zeros.
        possible: `(n, C)` bool, on the device: the classes of the clip's corpus; None if all corpora have the same.
        taught: `(n, C)` float32, on the device: the probabilities of `train.teachers`; None without teachers.
    """

    clips: np.ndarray
    targets: np.ndarray
    class_weights: Tensor
    vectors: Tensor | None = None
    corpora: np.ndarray | None = None
    logit_offsets: Tensor | None = None
    possible: Tensor | None = None
    taught: Tensor | None = None


def plan_epoch(training: TrainingClips, config: Config, epoch: int) -> list[Step]:
    """The optimizer steps of an epoch.

    All batches have the same size, give or take one clip, and at least two clips: batch norms need more than one. The
    order depends on `train.seed` and `epoch` alone.
    """
    random, count = generator(config.train.seed, "order", epoch), len(training.clips)
    weights = sampling_weights(config.train.sampling, training.targets, training.corpora)
    if weights is not None:
        order = torch.multinomial(torch.from_numpy(weights), count, replacement=True, generator=random)
    else:
        order = torch.randperm(count, generator=random)
    batches = np.array_split(order.numpy(), min(-(-count // config.train.batch_size), count // 2))
    size = config.train.accumulation_steps
    return [batches[i : i + size] for i in range(0, len(batches), size)]


def sampling_weights(mode: str, targets: np.ndarray, corpora: np.ndarray | None) -> np.ndarray | None:
    """How often each clip is drawn, `(n,)` up to a common factor; None if an epoch takes each clip once.

    Args:
        mode: `train.sampling`. `corpus_and_class_balanced` gives every corpus the same weight, and every class within a
            corpus: neither then predicts the other, as it does if one corpus has more clips of a class.
        targets: `(n,)` class indices.
        corpora: `(n,)` indices of corpora; None if all clips are of one corpus.

    >>> sampling_weights("class_balanced", np.array([0, 0, 0, 0, 1]), None)
    array([0.25, 0.25, 0.25, 0.25, 1.  ])
    """
    if mode == "shuffle":
        return None
    if mode == "class_balanced":
        return 1.0 / np.bincount(targets)[targets]
    corpora = np.zeros_like(targets) if corpora is None else corpora
    if mode == "corpus_balanced":
        return 1.0 / np.bincount(corpora)[corpora]
    counts = np.zeros((corpora.max() + 1, targets.max() + 1))
    np.add.at(counts, (corpora, targets), 1)
    classes = np.count_nonzero(counts, axis=1)
    return 1.0 / (classes[corpora] * counts[corpora, targets])
