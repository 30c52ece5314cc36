"""Which clips meet in which batch: the plan of one epoch, fixed by seed and epoch alone."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from serx.config import Config
from serx.seeding import generator


@dataclass(frozen=True)
class TrainingClips:
    """The training part: its clips' numbers and classes, what the loss makes of each class, whose clips they are."""

    clips: np.ndarray  # (n,) int64
    targets: np.ndarray  # (n,) int64
    class_weights: Tensor  # (C,) float32, on the device
    vectors: Tensor | None = None  # (n, F), on the device: what `unchanging_vectors` found
    corpora: np.ndarray | None = None  # (n,) int64, which of the corpora a clip is of; None: all of one
    persons: np.ndarray | None = None  # (n,) int64, who speaks in it; None: all are one person's
    logit_offsets: Tensor | None = None  # (C,) float32, on the device: what `logit_offsets` makes; None: zeros


def plan_epoch(part: TrainingClips, config: Config, epoch: int) -> list[list[np.ndarray]]:
    """The epoch's optimizer steps, each a list of batches, each an array of positions in `part`.

    Batches are of one size, give or take one clip, and of two at least, so that none is too small to normalise over.
    """
    random, count = generator(config.train.seed, "order", epoch), len(part.clips)
    shares = sampling_shares(config.train.sampling, part.targets, part.corpora)
    if config.train.batches == "voice":
        persons = np.zeros_like(part.targets) if part.persons is None else part.persons
        batches = voice_batches(shares, persons, config.train.batch_size, random)
    else:
        batches = _even(_draw(shares, count, count, random), config.train.batch_size)
    every = config.train.accumulate
    return [batches[i : i + every] for i in range(0, len(batches), every)]


def voice_batches(
    shares: np.ndarray | None, persons: np.ndarray, size: int, random: torch.Generator
) -> list[np.ndarray]:
    """An epoch of clips in batches of about `size`, each of one of the persons `(n,)` who speak, in random order.

    Voices of too few clips to fill half a batch share theirs. What tells one voice from another is then the same for a
    whole batch, and batch norms take it out, as they do when a voice is enrolled. Each voice has as many batches in
    every epoch: of the clips drawn by `shares (n,)`, those that it is to be expected to have.
    """
    counts = np.bincount(persons)
    few = (counts < size / 2)[persons]
    voices = [np.flatnonzero(persons == person) for person in np.flatnonzero(counts >= size / 2)]
    if few.sum() == 1 and voices:  # a clip by itself has no batch to normalise over
        voices[-1] = np.append(voices[-1], np.flatnonzero(few))
    elif few.any():
        voices.append(np.flatnonzero(few))
    drawn = []
    for clips, count in zip(voices, _quotas(shares, voices), strict=True):
        drawn += _even(clips[_draw(None if shares is None else shares[clips], len(clips), count, random)], size)
    return [drawn[i] for i in torch.randperm(len(drawn), generator=random).tolist()]


def _quotas(shares: np.ndarray | None, voices: list[np.ndarray]) -> np.ndarray:
    """How many of an epoch's clips are each voice's; two at least."""
    sizes = np.array([len(clips) for clips in voices])
    weights = sizes if shares is None else np.array([shares[clips].sum() for clips in voices])
    return np.maximum(2, np.round(sizes.sum() * weights / weights.sum()).astype(int))


def _draw(shares: np.ndarray | None, clips: int, count: int, random: torch.Generator) -> np.ndarray:
    """`count` numbers below `clips`: by their shares, or each once where there are none."""
    if shares is None:
        return torch.randperm(clips, generator=random).numpy()
    return torch.multinomial(torch.from_numpy(shares), count, replacement=True, generator=random).numpy()


def _even(clips: np.ndarray, size: int) -> list[np.ndarray]:
    return np.array_split(clips, max(1, min(-(-len(clips) // size), len(clips) // 2)))


def sampling_shares(mode: str, targets: np.ndarray, corpora: np.ndarray | None) -> np.ndarray | None:
    """How often each of the clips `(n,)` is drawn, up to a factor; None where each is taken once.

    `both` gives every corpus the same, and within it every class: then neither tells the other, as it would where one
    corpus has more of a class.
    """
    if mode == "shuffle":
        return None
    if mode == "balanced":
        return 1.0 / np.bincount(targets)[targets]
    corpora = np.zeros_like(targets) if corpora is None else corpora
    if mode == "corpus_balanced":
        return 1.0 / np.bincount(corpora)[corpora]
    clips = np.zeros((corpora.max() + 1, targets.max() + 1))
    np.add.at(clips, (corpora, targets), 1)
    classes = np.count_nonzero(clips, axis=1)
    return 1.0 / (classes[corpora] * clips[corpora, targets])
