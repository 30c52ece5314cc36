"""Scores against the votes of several raters, who rarely agree on an emotion.

The class of a clip is the one with most votes. A clip whose votes tie has no class: it counts in no score of classes.
Its votes are a distribution all the same, which predicted probabilities can meet well or badly.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from serx.errors import DataError
from serx.metrics.calibration import is_distribution
from serx.metrics.classification import accuracy_from_confusion, uar_from_confusion

_EQUAL = 1e-9  # sums of shares that differ by less, relative to all votes of the clip, are equal


def majority(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The class with most votes, and whether another class has as many.

    Args:
        votes: (n, C), not negative: the raters that chose each class, or their shares.

    Returns:
        Class indices (n,) int64, of the first class where votes tie; and (n,) bool, true where they tie.

    >>> majority(np.array([[3, 1, 1], [2, 2, 1]]))
    (array([0, 0]), array([False,  True]))
    """
    most = votes.max(1)
    near = votes >= (most - _EQUAL * votes.sum(1))[:, None]
    return near.argmax(1), near.sum(1) > 1


def to_shares(votes: np.ndarray) -> np.ndarray:
    """Votes `(n, C)` as distributions: each row adds up to 1.

    >>> to_shares(np.array([[3, 1], [0, 2]])).tolist()
    [[0.75, 0.25], [0.0, 1.0]]
    """
    return votes / votes.sum(1, keepdims=True)


def soft_nll(shares: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean cross-entropy of probabilities to the shares of votes, in nats. With unanimous votes it is `nll`.

    Args:
        shares: (n, C), rows sum to 1.
        probabilities: (n, C), rows sum to 1; at least 2.2e-16 is taken, as in `nll`.

    Raises:
        DataError: no clip, unequal shapes, or rows that are not probabilities.

    >>> round(soft_nll([[0.5, 0.5]], [[0.5, 0.5]]), 4)
    0.6931
    """
    truth, likely = _distributions(shares, probabilities)
    return float(-(truth * np.log(np.maximum(likely, np.finfo(float).eps))).sum(1).mean())


def kl_divergences(shares: ArrayLike, probabilities: ArrayLike) -> np.ndarray:
    """Kullback-Leibler divergence of the probabilities of each clip from its shares of votes: (n,), in nats.

    0 where they are equal. It is what `soft_nll` costs beyond the disagreement of the raters themselves.

    Args:
        shares, probabilities: see `soft_nll`.

    >>> kl_divergences([[0.5, 0.5], [1.0, 0.0]], [[0.5, 0.5], [0.5, 0.5]]).round(4)
    array([0.    , 0.6931])
    """
    truth, likely = _distributions(shares, probabilities)
    # Of 0 * log(0) the logarithm of 1 makes 0.
    ratios = np.where(truth > 0, truth, 1.0) / np.where(truth > 0, np.maximum(likely, np.finfo(float).eps), 1.0)
    return np.maximum((truth * np.log(ratios)).sum(1), 0.0)  # rounding may leave -1e-17


def rater_confusions(votes: np.ndarray) -> np.ndarray:
    """How a single rater, left out, answers where the other raters of the clip have a majority: (n, C, C).

    Each clip counts once: the mean over its raters, each left out in turn, with the majority of the others in rows and
    the rater's own answer in columns. If the others tie, each of their classes counts in part. (To leave such raters
    out would leave out those who agree: of 3 to 2 votes, the others of a rater of the three tie.)

    Args:
        votes: (n, C), the raters that chose each class. A clip of fewer than two raters, or with shares in place of
            whole numbers, says nothing about a single rater: its matrix is 0.

    >>> rater_confusions(np.array([[2, 1]])).round(3)  # the others of each rater of the two tie
    array([[[0.333, 0.333],
            [0.333, 0.   ]]])
    """
    clips, classes = votes.shape
    total = votes.sum(1)
    counted = (votes == np.round(votes)).all(1) & (total >= 2)
    confusions = np.zeros((clips, classes, classes))
    for answer in range(classes):
        rows = np.flatnonzero(counted & (votes[:, answer] >= 1))
        others = votes[rows].astype(float)
        others[:, answer] -= 1
        most = others == others.max(1, keepdims=True)
        share_of_raters = votes[rows, answer] / total[rows]
        confusions[rows, :, answer] = to_shares(most) * share_of_raters[:, None]
    return confusions


def rater_agreement(votes: np.ndarray, predictions: np.ndarray) -> dict[str, Any] | None:
    """What a single rater, left out, scores against the majority of the others (`rater_confusions`), and a model too.

    Args:
        votes: (n, C), the raters that chose each class.
        predictions: (n,) class indices, of the model.

    Returns:
        `uar` and `accuracy` of a rater, fractions; `model`, those of the predictions against the same majorities; and
        `n_clips`, the clips they are of. None if there is none.

    >>> rater_agreement(np.array([[5, 0], [0, 5]]), np.array([0, 0]))
    {'uar': 1.0, 'accuracy': 1.0, 'model': {'uar': 0.5, 'accuracy': 0.5}, 'n_clips': 2}
    """
    confusions = rater_confusions(votes)
    if not confusions.any():
        return None

    def scores(confusion: np.ndarray) -> dict[str, float]:
        metrics = {"uar": uar_from_confusion, "accuracy": accuracy_from_confusion}
        return {name: float(metric(confusion)) for name, metric in metrics.items()}

    truth = confusions.sum(2)
    return {
        **scores(confusions.sum(0)),
        "model": scores(truth.T @ np.eye(votes.shape[1])[predictions]),
        "n_clips": int(confusions.any((1, 2)).sum()),
    }


def _distributions(shares: ArrayLike, probabilities: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    truth, likely = np.asarray(shares, float), np.asarray(probabilities, float)
    if truth.ndim != 2 or truth.shape != likely.shape or not len(truth):
        raise DataError(f"give as many shares as probabilities: shares {truth.shape}, probabilities {likely.shape}")
    for name, rows in (("shares", truth), ("probabilities", likely)):
        bad = np.flatnonzero(~is_distribution(rows))
        if bad.size:
            raise DataError(f"{bad.size} of {len(rows)} rows of {name} are not distributions, such as row {bad[0]}")
    return truth, likely
