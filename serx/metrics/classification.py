"""Scores of predicted classes: unweighted average recall (UAR), accuracy, F1 and the confusion matrix.

UAR and macro F1 are means over the same classes: those that occur in the targets. A class without a clip has no recall,
and an F1 of 0 for it would lower only one of the two scores. In scikit-learn: `recall_score` and `f1_score` with
`average="macro"` and `labels=np.unique(targets)`.

Each score has two forms and one implementation. `uar(targets, predictions)` takes labels or class indices, as audmetric
and scikit-learn do. `uar_from_confusion(confusion)` takes counts `(..., C, C)` and is vectorized over the leading axes:
a bootstrap scores its 2,000 resamples in one call.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from serx.errors import DataError

Labels = Sequence[Any] | int | None


def confusion_matrix(targets: ArrayLike, predictions: ArrayLike, labels: Labels = None) -> np.ndarray:
    """Counts how often each true class receives each prediction.

    Args:
        targets: (n,) true labels, or class indices.
        predictions: (n,) predicted labels, or class indices.
        labels: the C labels in the order of the rows; or the number of classes, if targets and predictions are
            indices from 0 to C - 1; default: all labels that occur, sorted.

    Returns:
        (C, C) int64; a row is a true class, a column a predicted class.

    Raises:
        DataError: unequal lengths, or a value that is not among `labels`.

    >>> confusion_matrix(["sad", "sad", "happy"], ["sad", "happy", "happy"], labels=["happy", "sad"])
    array([[1, 0],
           [1, 1]])
    >>> confusion_matrix([0, 0, 1], [0, 1, 1], labels=3)
    array([[1, 1, 0],
           [0, 1, 0],
           [0, 0, 0]])
    """
    truth, guess = np.asarray(targets), np.asarray(predictions)
    if truth.ndim != 1 or truth.shape != guess.shape:
        raise DataError(f"scores need one prediction for each target: targets {truth.shape}, predictions {guess.shape}")
    if labels is None:
        labels = sorted({*truth.tolist(), *guess.tolist()})
    classes = labels if isinstance(labels, int) else len(labels)
    rows, columns = (to_indices(values, labels, name) for values, name in ((truth, "targets"), (guess, "predictions")))
    return np.bincount(rows * classes + columns, minlength=classes * classes).reshape(classes, classes)


def to_indices(values: ArrayLike, labels: Sequence[Any] | int, name: str = "targets") -> np.ndarray:
    """Class indices (n,) int64 of labels, in the order of `labels`; of a number of classes, the checked indices.

    Raises:
        DataError: a value that is not among `labels`.
    """
    given = np.asarray(values)
    if isinstance(labels, int):
        if given.size and not np.issubdtype(given.dtype, np.number):
            raise DataError(f"{name} are no class indices, such as {given.flat[0]!r}; give the labels as well")
        if given.size and not (given.min() >= 0 and given.max() < labels):  # true for NaN
            raise DataError(f"{name} range from {given.min()} to {given.max()} but there are {labels} classes")
        if not (given == np.round(given)).all():
            raise DataError(f"{name} hold {given[given != np.round(given)][0]}, which is no class index")
        return given.astype(np.int64)
    index = {label: i for i, label in enumerate(labels)}
    if unknown := {value for value in given.tolist() if value not in index}:
        known = ", ".join(map(str, labels))
        raise DataError(f"{name} hold {min(unknown, key=str)!r}, which is not among the labels {known}")
    return np.array([index[value] for value in given.tolist()], np.int64)


def _counts(targets: ArrayLike, predictions: ArrayLike, labels: Labels) -> np.ndarray:
    """The confusion matrix; raises `DataError` if it holds no clip, because a score of nothing is no number."""
    counts = confusion_matrix(targets, predictions, labels)
    if not counts.any():
        raise DataError("there is no clip, so there is no score; give at least one target and its prediction")
    return counts


def uar(targets: ArrayLike, predictions: ArrayLike, labels: Labels = None) -> float:
    """Unweighted average recall (UAR, UA): the mean recall of the classes that occur in the targets.

    The usual score in speech emotion recognition, because corpora are unbalanced. A class without a clip has no recall
    and is left out, as scikit-learn's `balanced_accuracy_score` does. Guessing scores 1 / C.

    Args:
        targets: (n,) true labels, or class indices.
        predictions: (n,) predicted labels, or class indices.
        labels: see `confusion_matrix`.

    >>> uar(["sad", "sad", "sad", "happy"], ["sad", "sad", "happy", "happy"])
    0.8333333333333333
    """
    return float(uar_from_confusion(_counts(targets, predictions, labels)))


def accuracy(targets: ArrayLike, predictions: ArrayLike, labels: Labels = None) -> float:
    """Share of correct predictions, also called weighted accuracy (WA).

    >>> accuracy(["sad", "sad", "sad", "happy"], ["sad", "sad", "happy", "happy"])
    0.75
    """
    return float(accuracy_from_confusion(_counts(targets, predictions, labels)))


def macro_f1(targets: ArrayLike, predictions: ArrayLike, labels: Labels = None) -> float:
    """Mean F1 of the classes that occur in the targets, the classes of `uar`.

    scikit-learn's `f1_score(average="macro")` also counts classes that are only predicted, with an F1 of 0. With
    `labels=np.unique(targets)` it gives the same score.

    >>> round(macro_f1(["sad", "sad", "sad", "happy"], ["sad", "sad", "happy", "happy"]), 4)
    0.7333
    """
    return float(macro_f1_from_confusion(_counts(targets, predictions, labels)))


def weighted_f1(targets: ArrayLike, predictions: ArrayLike, labels: Labels = None) -> float:
    """Mean F1 of the classes, weighted by their number of clips.

    >>> round(weighted_f1(["sad", "sad", "sad", "happy"], ["sad", "sad", "happy", "happy"]), 4)
    0.7667
    """
    return float(weighted_f1_from_confusion(_counts(targets, predictions, labels)))


def recall_per_class(targets: ArrayLike, predictions: ArrayLike, labels: Labels = None) -> np.ndarray:
    """Recall of each class (C,), 0 for a class that does not occur.

    >>> recall_per_class([0, 0, 1, 1], [0, 1, 1, 1], labels=2)
    array([0.5, 1. ])
    """
    return recall_from_confusion(_counts(targets, predictions, labels))


def precision_per_class(targets: ArrayLike, predictions: ArrayLike, labels: Labels = None) -> np.ndarray:
    """Precision of each class (C,), 0 for a class that is never predicted.

    >>> precision_per_class([0, 0, 1, 1], [0, 0, 0, 0], labels=2)
    array([0.5, 0. ])
    """
    return precision_from_confusion(_counts(targets, predictions, labels))


def f1_per_class(targets: ArrayLike, predictions: ArrayLike, labels: Labels = None) -> np.ndarray:
    """F1 of each class (C,), the harmonic mean of precision and recall.

    >>> f1_per_class([0, 0, 1, 1], [0, 1, 1, 1], labels=2).round(3)
    array([0.667, 0.8  ])
    """
    return f1_from_confusion(_counts(targets, predictions, labels))


@dataclass(frozen=True)
class Scores:
    """Scores of one set of clips, fractions in [0, 1].

    Attributes:
        accuracy, uar, macro_f1, weighted_f1: see the functions of these names.
        precision, recall, f1: (C,), 0 where undefined.
        support: (C,) int64, clips of each class.
        confusion: (C, C) int64, rows are the true classes.
    """

    accuracy: float
    uar: float
    macro_f1: float
    weighted_f1: float
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray
    support: np.ndarray
    confusion: np.ndarray


def score(targets: ArrayLike, outputs: ArrayLike, labels: Sequence[Any]) -> Scores:
    """All scores of one set of clips.

    Args:
        targets: (n,) class indices into `labels`.
        outputs: (n,) predicted class indices, or (n, C) probabilities or logits, whose largest is the prediction.
        labels: the C labels.

    Raises:
        DataError: no clip, unequal lengths, outputs that are NaN or infinite, or an index or a number of columns that
            does not fit `labels`.

    >>> scores = score([0, 0, 1], [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]], ("happy", "sad"))
    >>> scores.uar, scores.recall
    (0.75, array([0.5, 1. ]))
    """
    guess = np.asarray(outputs)
    if guess.ndim == 2:
        if guess.shape[1] != len(labels):
            raise DataError(f"{guess.shape[1]} columns of probabilities do not fit {len(labels)} labels {labels}")
        if not np.isfinite(guess).all():
            bad = int((~np.isfinite(guess)).any(1).sum())
            raise DataError(f"the outputs of {bad} of {len(guess)} clips are NaN or infinite, so they predict nothing")
        guess = guess.argmax(1)
    return score_from_confusion(confusion_matrix(targets, guess, len(labels)))


def score_from_confusion(confusion: ArrayLike) -> Scores:
    """All scores from the confusion matrix alone, as the training loop accumulates it on the device.

    Args:
        confusion: (C, C) counts, rows are the true classes.

    Raises:
        DataError: the matrix is not square or holds no clip.

    >>> score_from_confusion([[3, 1], [0, 4]]).uar
    0.875
    """
    counts = np.asarray(confusion)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise DataError(f"a confusion matrix is square (classes, classes); this one has the shape {counts.shape}")
    if counts.sum() <= 0:
        raise DataError("the confusion matrix holds no clip, so there is no score; give at least one clip")
    summary = {name: float(metric(counts)) for name, metric in CONFUSION_METRICS.items()}
    return Scores(
        **summary,
        precision=precision_from_confusion(counts),
        recall=recall_from_confusion(counts),
        f1=f1_from_confusion(counts),
        support=counts.sum(1).astype(np.int64),
        confusion=counts.astype(np.int64),
    )


def accuracy_from_confusion(confusion: np.ndarray) -> np.ndarray:
    """Share of clips on the diagonal: (..., C, C) counts -> (...).

    >>> accuracy_from_confusion(np.array([[3, 1], [0, 4]]))
    array(0.875)
    """
    return ratio(_hits(confusion).sum(-1), confusion.sum((-2, -1)))


def recall_from_confusion(confusion: np.ndarray) -> np.ndarray:
    """Recall of each class, 0 for a class that does not occur: (..., C, C) counts -> (..., C).

    >>> recall_from_confusion(np.array([[3, 1], [0, 4]]))
    array([0.75, 1.  ])
    """
    return ratio(_hits(confusion), confusion.sum(-1))


def precision_from_confusion(confusion: np.ndarray) -> np.ndarray:
    """Precision of each class, 0 for a class that is never predicted: (..., C, C) counts -> (..., C).

    >>> precision_from_confusion(np.array([[3, 1], [0, 4]]))
    array([1. , 0.8])
    """
    return ratio(_hits(confusion), confusion.sum(-2))


def f1_from_confusion(confusion: np.ndarray) -> np.ndarray:
    """F1 of each class, 2 hits / (occurrences + predictions): (..., C, C) counts -> (..., C).

    >>> f1_from_confusion(np.array([[3, 1], [1, 3]]))
    array([0.75, 0.75])
    """
    return ratio(2 * _hits(confusion), confusion.sum(-1) + confusion.sum(-2))


def uar_from_confusion(confusion: np.ndarray) -> np.ndarray:
    """Unweighted average recall of the classes that occur: (..., C, C) counts -> (...).

    >>> uar_from_confusion(np.array([[[3, 1], [0, 4]], [[2, 2], [2, 2]]]))
    array([0.875, 0.5  ])
    """
    return ratio(recall_from_confusion(confusion).sum(-1), (confusion.sum(-1) > 0).sum(-1))


def macro_f1_from_confusion(confusion: np.ndarray) -> np.ndarray:
    """Mean F1 of the classes that occur: (..., C, C) counts -> (...).

    >>> macro_f1_from_confusion(np.array([[[3, 1], [1, 3]]]))
    array([0.75])
    """
    occurs = confusion.sum(-1) > 0
    return ratio((f1_from_confusion(confusion) * occurs).sum(-1), occurs.sum(-1))


def weighted_f1_from_confusion(confusion: np.ndarray) -> np.ndarray:
    """Mean F1 weighted by the clips of each class: (..., C, C) counts -> (...).

    >>> weighted_f1_from_confusion(np.array([[[3, 1], [1, 3]]]))
    array([0.75])
    """
    return ratio((f1_from_confusion(confusion) * confusion.sum(-1)).sum(-1), confusion.sum((-2, -1)))


CONFUSION_METRICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "accuracy": accuracy_from_confusion,
    "uar": uar_from_confusion,
    "macro_f1": macro_f1_from_confusion,
    "weighted_f1": weighted_f1_from_confusion,
}


def _hits(confusion: np.ndarray) -> np.ndarray:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Elementwise quotient in float64, 0 where the denominator is 0 (scikit-learn's `zero_division=0`)."""
    numerator, denominator = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator > 0)
