"""How well a linear probe tells from embeddings which corpus a clip is of: how much of its corpus a model keeps.

What a model knows of a corpus, of its room, microphone, codec, level or language, it can take for an emotion.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

MAX_FOLDS = 5
RIDGE = 0.1  # of the mean eigenvalue of the embeddings' correlation matrix


def corpus_probe(
    embeddings: np.ndarray, corpora: Sequence[str], speaker_ids: Sequence[str], seed: int = 0
) -> dict[str, Any] | None:
    """Fits ridge regression on the corpora of other speakers, and predicts the corpus of each clip.

    Each corpus weighs the same. Up to five folds of speakers, with some of every corpus in each.

    Args:
        embeddings: `(n, D)`.
        corpora: the n corpora. Those with a single speaker are left out: no other one could teach them.
        speaker_ids: the n speakers.
        seed: of the speakers of each fold.

    Returns:
        `balanced_accuracy`, the mean over corpora of the share of their clips that are recognized; `chance`, one over
        the number of corpora; `recall` of each corpus; `n_clips`, `n_speakers`. None if fewer than two corpora are
        left.

    >>> speakers = [f"{corpus}/{speaker}" for corpus in "ab" for speaker in range(4) for _ in range(10)]
    >>> corpora = [speaker[0] for speaker in speakers]
    >>> noise = np.random.default_rng(0).standard_normal((80, 3))
    >>> told = noise + 9.0 * np.array([[corpus == "a"] for corpus in corpora])
    >>> corpus_probe(told, corpora, speakers)["balanced_accuracy"], corpus_probe(told, corpora, speakers)["chance"]
    (1.0, 0.5)
    """
    corpus_of, speaker_of = np.asarray(corpora), np.asarray(speaker_ids)
    people = {name: np.unique(speaker_of[corpus_of == name]) for name in np.unique(corpus_of)}
    names = [name for name, own in people.items() if len(own) > 1]
    if len(names) < 2:
        return None
    kept = np.isin(corpus_of, names)
    embeddings, corpus_of, speaker_of = embeddings[kept].astype(float), corpus_of[kept], speaker_of[kept]
    random = np.random.default_rng(seed)
    folds = min(MAX_FOLDS, *(len(people[name]) for name in names))
    fold_of_speaker = {who: i % folds for name in names for i, who in enumerate(random.permutation(people[name]))}
    fold = np.array([fold_of_speaker[who] for who in speaker_of])
    target = np.searchsorted(names, corpus_of)
    predicted = np.empty_like(target)
    for number in range(folds):
        test = fold == number
        predicted[test] = _ridge(embeddings[~test], target[~test], embeddings[test])
    recall = {name: float((predicted[target == i] == i).mean()) for i, name in enumerate(names)}
    return {
        "balanced_accuracy": float(np.mean(list(recall.values()))),
        "chance": 1 / len(names),
        "recall": recall,
        "n_clips": len(target),
        "n_speakers": len(fold_of_speaker),
    }


def _ridge(train: np.ndarray, target: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The classes `(m,)` of `test (m, D)`: regression on indicators of the classes `(n,)` of `train (n, D)`."""
    weight = 1 / np.bincount(target)[target]
    weight = weight / weight.sum()
    center = weight @ train
    deviation = np.sqrt(weight @ np.square(train - center))
    scale = np.divide(
        1, deviation, out=np.zeros_like(deviation), where=deviation > 1e-9 * np.abs(center).max(initial=1)
    )
    root = np.sqrt(weight)[:, None]
    x, new = root * (train - center) * scale, (test - center) * scale
    classes = np.arange(target.max() + 1)
    y = root * ((target[:, None] == classes) - 1 / len(classes))
    if len(x) <= x.shape[1]:
        coefficients = x.T @ np.linalg.solve(x @ x.T + RIDGE * np.eye(len(x)), y)
    else:
        coefficients = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ y)
    return (new @ coefficients).argmax(1)
