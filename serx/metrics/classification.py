"""Scores of a classifier: what a confusion matrix says, and how far its confidence can be trusted.

Every score is a function of sums over clips (a confusion matrix, calibration counts, a sum of losses), vectorized over
leading axes: the sums of 2,000 resamples of the speakers are scored in one call (`intervals.speaker_interval`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from serx.errors import DataError

CALIBRATION_BINS = 15
CONFIDENCE_THRESHOLDS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Scores:
    """Scores of one set of clips, fractions in [0, 1]; rows of `confusion` are the truth.

    Attributes:
        accuracy: share of clips recognized (also called weighted accuracy, WA).
        uar: unweighted average recall (UA): the mean recall over the classes that occur in the targets. A class
            without a clip has no recall and is left out, as scikit-learn's `balanced_accuracy_score` does.
        macro_f1: mean F1 over all C classes. A class that neither occurs nor is predicted counts as 0.
        weighted_f1: mean F1 over classes, weighted by their clips.
        precision, recall, f1: (C,), 0 where undefined.
        support: (C,) int64, clips of each class.
        confusion: (C, C) int64.
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


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Elementwise quotient in float64, 0 where the denominator is 0 (scikit-learn's `zero_division=0`)."""
    numerator, denominator = np.broadcast_arrays(np.asarray(numerator, float), np.asarray(denominator, float))
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator > 0)


def _hits(confusion: np.ndarray) -> np.ndarray:
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def accuracy(confusion: np.ndarray) -> np.ndarray:
    """Share of clips on the diagonal: (..., C, C) counts -> (...)."""
    return _ratio(_hits(confusion).sum(-1), confusion.sum((-2, -1)))


def recall(confusion: np.ndarray) -> np.ndarray:
    """Recall of each class, 0 for a class that does not occur: (..., C, C) counts -> (..., C)."""
    return _ratio(_hits(confusion), confusion.sum(-1))


def precision(confusion: np.ndarray) -> np.ndarray:
    """Precision of each class, 0 for a class never predicted: (..., C, C) counts -> (..., C)."""
    return _ratio(_hits(confusion), confusion.sum(-2))


def f1(confusion: np.ndarray) -> np.ndarray:
    """F1 of each class, 2 hits / (occurrences + predictions): (..., C, C) counts -> (..., C)."""
    return _ratio(2 * _hits(confusion), confusion.sum(-1) + confusion.sum(-2))


def uar(confusion: np.ndarray) -> np.ndarray:
    """Unweighted average recall over the classes that occur: (..., C, C) counts -> (...)."""
    return _ratio(recall(confusion).sum(-1), (confusion.sum(-1) > 0).sum(-1))


def macro_f1(confusion: np.ndarray) -> np.ndarray:
    """Mean F1 over all C classes: (..., C, C) counts -> (...)."""
    return f1(confusion).mean(-1)


def weighted_f1(confusion: np.ndarray) -> np.ndarray:
    """Mean F1 weighted by each class's clips: (..., C, C) counts -> (...)."""
    return _ratio((f1(confusion) * confusion.sum(-1)).sum(-1), confusion.sum((-2, -1)))


CONFUSION_METRICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "accuracy": accuracy,
    "uar": uar,
    "macro_f1": macro_f1,
    "weighted_f1": weighted_f1,
}


def confusion_matrix(targets: np.ndarray, predictions: np.ndarray, n_classes: int) -> np.ndarray:
    """Counts (C, C) int64, rows = truth, from class indices (n,) each."""
    flat = np.asarray(targets, np.int64) * n_classes + np.asarray(predictions, np.int64)
    return np.bincount(flat, minlength=n_classes * n_classes).reshape(n_classes, n_classes)


def from_confusion(confusion: ArrayLike) -> Scores:
    """Every score from the confusion matrix alone, as the training loop accumulates it on the device.

    Args:
        confusion: (C, C) counts, rows = truth.

    Raises:
        DataError: the matrix is not square or holds no clip.
    """
    counts = np.asarray(confusion)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1]:
        raise DataError(f"a confusion matrix is square (classes, classes); this one has the shape {counts.shape}")
    if counts.sum() <= 0:
        raise DataError("the confusion matrix holds no clip: nothing to score; give the part at least one clip")
    summary = {name: float(metric(counts)) for name, metric in CONFUSION_METRICS.items()}
    return Scores(
        **summary,
        precision=precision(counts),
        recall=recall(counts),
        f1=f1(counts),
        support=counts.sum(1).astype(np.int64),
        confusion=counts.astype(np.int64),
    )


def score(targets: ArrayLike, outputs: ArrayLike, labels: tuple[str, ...]) -> Scores:
    """Every score of one set of clips, by scikit-learn with `labels=range(C)` and `zero_division=0`.

    Args:
        targets: (n,) class indices.
        outputs: (n,) predicted class indices, or (n, C) probabilities or logits, whose largest is the prediction.
        labels: the C class names.

    Raises:
        DataError: no clip, unequal lengths, or an index or a column count that does not fit `labels`.
    """
    # Imported here: the training loop scores by `from_confusion` and need not wait 0.6 s for scikit-learn.
    from sklearn import metrics as sk  # noqa: PLC0415

    truth, guess = np.asarray(targets), np.asarray(outputs)
    if guess.ndim == 2:
        if guess.shape[1] != len(labels):
            raise DataError(f"{guess.shape[1]} columns of probabilities do not fit {len(labels)} labels {labels}")
        guess = guess.argmax(1)
    if truth.shape != guess.shape or truth.ndim != 1 or truth.size == 0:
        raise DataError(f"scores need as many targets as predictions, at least one: {truth.shape} and {guess.shape}")
    for name, indices in (("targets", truth), ("predictions", guess)):
        if indices.min() < 0 or indices.max() >= len(labels):
            raise DataError(f"{name} run from {indices.min()} to {indices.max()} but there are {len(labels)} labels")
    classes = np.arange(len(labels))
    per_class = sk.precision_recall_fscore_support(truth, guess, labels=classes, average=None, zero_division=0)
    precisions, recalls, f1s, support = per_class
    return Scores(
        accuracy=float(sk.accuracy_score(truth, guess)),
        uar=float(recalls[support > 0].mean()),
        macro_f1=float(f1s.mean()),
        weighted_f1=float(np.average(f1s, weights=support)),
        precision=precisions,
        recall=recalls,
        f1=f1s,
        support=support.astype(np.int64),
        confusion=confusion_matrix(truth, guess, len(labels)),
    )


def log_losses(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Negative log-likelihood of each clip in nats (n,); p is held above 2.2e-16, so one clip costs at most 36."""
    chosen = np.asarray(probabilities, float)[np.arange(len(targets)), targets]
    return -np.log(np.maximum(chosen, np.finfo(float).eps))


def brier_losses(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Squared distance of each clip's probabilities to the one-hot truth (n,), 0 to 2 (Brier 1950)."""
    truth = np.eye(probabilities.shape[1])[targets]
    return np.square(np.asarray(probabilities, float) - truth).sum(1)


def nll(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean negative log-likelihood in nats of targets (n,) under probabilities (n, C)."""
    return float(log_losses(targets, probabilities).mean())


def brier(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean multi-class Brier score, 0 (sure and right) to 2 (sure and wrong)."""
    return float(brier_losses(targets, probabilities).mean())


def calibration_counts(targets: np.ndarray, probabilities: np.ndarray, bins: int = CALIBRATION_BINS) -> np.ndarray:
    """Sums behind a reliability diagram, over equal-width bins ((b-1)/bins, b/bins] of the confidence.

    Returns:
        (bins, 3) float64: clips, sum of confidence (the largest probability), clips recognized.
    """
    confidence = np.asarray(probabilities, float).max(1)
    correct = probabilities.argmax(1) == targets
    index = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    columns = (np.ones_like(confidence), confidence, correct)
    return np.stack([np.bincount(index, column, minlength=bins) for column in columns], axis=1)


def ece_from_counts(counts: np.ndarray) -> np.ndarray:
    """Expected calibration error, sum over bins of |confidence - accuracy| by share: (..., bins, 3) -> (...)."""
    return _ratio(np.abs(counts[..., 1] - counts[..., 2]).sum(-1), counts[..., 0].sum(-1))


def calibration(targets: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """nll, brier and ece of targets (n,) under probabilities (n, C)."""
    return {score.__name__: score(targets, probabilities) for score in (nll, brier, ece)}


def ece(targets: np.ndarray, probabilities: np.ndarray, bins: int = CALIBRATION_BINS) -> float:
    """Expected calibration error of the winning class (Guo et al. 2017, On calibration of modern neural networks)."""
    return float(ece_from_counts(calibration_counts(targets, probabilities, bins)))


def selective(
    targets: np.ndarray, probabilities: np.ndarray, thresholds: Sequence[float] = CONFIDENCE_THRESHOLDS
) -> list[dict[str, float]]:
    """What becomes of the clips where verdicts are told only when sure (El-Yaniv & Wiener 2010, selective prediction).

    Args:
        targets: (n,) class indices.
        probabilities: (n, C).
        thresholds: of the confidence, the largest probability.

    Returns:
        For each threshold: `confidence` itself, `coverage`, the share of clips at or above it, and `accuracy`, the
        share of those that is right, NaN where there are none.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == targets
    told = [(threshold, confidence >= threshold) for threshold in thresholds]
    return [
        {
            "confidence": threshold,
            "coverage": float(kept.mean()),
            "accuracy": float(right[kept].mean()) if kept.any() else float("nan"),
        }
        for threshold, kept in told
    ]
