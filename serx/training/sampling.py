"""Which clips an epoch takes, in which order and in which batches."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from serx.config.loader import Config
from serx.seeding import generator


@dataclass(frozen=True)
class TrainingClips:
    """The training part: its clips' numbers and classes, what the loss makes of each class, the clips' corpora."""

    clips: np.ndarray  # (n,) int64
    targets: np.ndarray  # (n,) int64
    class_weights: Tensor  # (C,) float32, on the device
    vectors: Tensor | None = None  # (n, F), on the device: what `unchanging_vectors` found
    corpora: np.ndarray | None = None  # (n,) int64, which of the corpora a clip is of; None: all of one
    logit_offsets: Tensor | None = None  # (C,) float32, on the device: what `logit_offsets` makes; None: zeros


def plan_epoch(part: TrainingClips, config: Config, epoch: int) -> list[list[np.ndarray]]:
    """The epoch's optimizer steps, each a list of batches, each an array of positions in `part`.

    Batches are of one size, give or take one clip, and of two at least, so that none is too small to normalize over.
    """
    random, count = generator(config.train.seed, "order", epoch), len(part.clips)
    shares = sampling_shares(config.train.sampling, part.targets, part.corpora)
    if shares is not None:
        order = torch.multinomial(torch.from_numpy(shares), count, replacement=True, generator=random)
    else:
        order = torch.randperm(count, generator=random)
    batches = np.array_split(order.numpy(), min(-(-count // config.train.batch_size), count // 2))
    every = config.train.accumulation_steps
    return [batches[i : i + every] for i in range(0, len(batches), every)]


def sampling_shares(mode: str, targets: np.ndarray, corpora: np.ndarray | None) -> np.ndarray | None:
    """How often each of the clips `(n,)` is drawn, up to a factor; None where each is taken once.

    `both` gives every corpus the same, and within it every class: then neither tells the other, as it would where one
    corpus has more of a class.
    """
    if mode == "shuffle":
        return None
    if mode == "class_balanced":
        return 1.0 / np.bincount(targets)[targets]
    corpora = np.zeros_like(targets) if corpora is None else corpora
    if mode == "corpus_balanced":
        return 1.0 / np.bincount(corpora)[corpora]
    clips = np.zeros((corpora.max() + 1, targets.max() + 1))
    np.add.at(clips, (corpora, targets), 1)
    classes = np.count_nonzero(clips, axis=1)
    return 1.0 / (classes[corpora] * clips[corpora, targets])
