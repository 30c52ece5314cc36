"""Scores of a classifier's confidence, and the temperature that corrects it.

The confidence of a prediction is its probability, the largest of the clip. A classifier is calibrated if 80 % of the
predictions with confidence 0.8 are correct.

Temperature scaling divides all logits by one number T > 0 before the softmax (Guo et al. 2017, On calibration of modern
neural networks, section 4.2). No prediction changes, only the confidence. T minimizes the negative log-likelihood of
validation clips. With b = 1/T the mean of log-sum-exp(b z) - b z[target] is convex in b, so its slope has one zero and
bisection finds it.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from serx.errors import DataError
from serx.metrics.classification import ratio, to_indices

CALIBRATION_BINS = 15
CONFIDENCE_THRESHOLDS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# Without bounds, validation clips that are all predicted correctly would give T = 0, which is certainty.
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.25, 10.0
_HALVINGS = 60  # of an interval of length 4: to the last bit
_TINY = 1e-38  # the smallest probability that a float32 softmax can give


def nll(targets: ArrayLike, probabilities: ArrayLike, labels: Sequence[Any] | None = None) -> float:
    """Mean negative log-likelihood (cross-entropy) in nats.

    Args:
        targets: (n,) class indices, or labels if `labels` is given.
        probabilities: (n, C), rows sum to 1.
        labels: the C labels in the order of the columns.

    Raises:
        DataError: no clip, shapes or targets that do not fit, or rows that are not probabilities, such as NaN.

    >>> round(nll(["happy", "sad"], [[0.8, 0.2], [0.4, 0.6]], labels=["happy", "sad"]), 4)
    0.367
    """
    return float(log_losses(*_arrays(targets, probabilities, labels)).mean())


def brier(targets: ArrayLike, probabilities: ArrayLike, labels: Sequence[Any] | None = None) -> float:
    """Mean multi-class Brier score, 0 (certain and correct) to 2 (certain and wrong) (Brier 1950).

    Args:
        targets, probabilities, labels: see `nll`.

    >>> round(brier([0, 1], [[0.8, 0.2], [0.4, 0.6]]), 4)
    0.2
    """
    return float(brier_losses(*_arrays(targets, probabilities, labels)).mean())


def ece(
    targets: ArrayLike,
    probabilities: ArrayLike,
    labels: Sequence[Any] | None = None,
    bins: int = CALIBRATION_BINS,
) -> float:
    """Expected calibration error: the mean gap between confidence and accuracy over bins of the confidence (Guo 2017).

    Args:
        targets, probabilities, labels: see `nll`.
        bins: number of equal-width bins.

    >>> round(ece([0, 1], [[0.8, 0.2], [0.8, 0.2]]), 4)  # confidence 0.8, accuracy 0.5
    0.3
    """
    return float(ece_from_counts(calibration_counts(*_arrays(targets, probabilities, labels), bins)))


def calibration(targets: ArrayLike, probabilities: ArrayLike, labels: Sequence[Any] | None = None) -> dict[str, float]:
    """`nll`, `brier` and `ece` in one dictionary.

    >>> scores = calibration([0, 1], [[0.8, 0.2], [0.4, 0.6]])
    >>> {name: round(value, 3) for name, value in scores.items()}
    {'nll': 0.367, 'brier': 0.2, 'ece': 0.3}
    """
    arrays = _arrays(targets, probabilities, labels)
    return {metric.__name__: metric(*arrays) for metric in (nll, brier, ece)}


def selective(
    targets: ArrayLike,
    probabilities: ArrayLike,
    thresholds: Sequence[float] = CONFIDENCE_THRESHOLDS,
    labels: Sequence[Any] | None = None,
) -> list[dict[str, float]]:
    """Selective prediction: coverage and accuracy where only confident predictions are kept (El-Yaniv & Wiener 2010).

    Args:
        targets, probabilities, labels: see `nll`.
        thresholds: minimum confidences.

    Returns:
        A row for each threshold: the threshold as `confidence`; `coverage`, the share of clips kept; and `accuracy` of
        the clips kept, NaN where there is none.

    >>> selective([0, 1], [[0.9, 0.1], [0.6, 0.4]], thresholds=[0.5, 0.8])
    [{'confidence': 0.5, 'coverage': 1.0, 'accuracy': 0.5}, {'confidence': 0.8, 'coverage': 0.5, 'accuracy': 1.0}]
    """
    truth, likely = _arrays(targets, probabilities, labels)
    confidence, correct = likely.max(1), likely.argmax(1) == truth
    rows = []
    for threshold in thresholds:
        kept = confidence >= threshold
        rows.append(
            {
                "confidence": threshold,
                "coverage": float(kept.mean()),
                "accuracy": float(correct[kept].mean()) if kept.any() else float("nan"),
            }
        )
    return rows


def calibration_counts(targets: np.ndarray, probabilities: np.ndarray, bins: int = CALIBRATION_BINS) -> np.ndarray:
    """Sums for a reliability diagram, over equal-width bins ((b-1)/bins, b/bins] of the confidence.

    Args:
        targets: (n,) class indices.
        probabilities: (n, C).
        bins: number of bins.

    Returns:
        (bins, 3) float64: clips, sum of their confidence, correct predictions.

    >>> calibration_counts(np.array([0, 1]), np.array([[0.75, 0.25], [1.0, 0.0]]), bins=2)
    array([[0.  , 0.  , 0.  ],
           [2.  , 1.75, 1.  ]])
    """
    confidence = np.asarray(probabilities, float).max(1)
    correct = probabilities.argmax(1) == targets
    index = np.digitize(confidence, np.linspace(0, 1, bins + 1)[1:-1], right=True)
    columns = (np.ones_like(confidence), confidence, correct)
    return np.stack([np.bincount(index, column, minlength=bins) for column in columns], axis=1)


def ece_from_counts(counts: np.ndarray) -> np.ndarray:
    """Expected calibration error from `calibration_counts`: (..., bins, 3) -> (...).

    >>> ece_from_counts(np.array([[[0, 0, 0], [2, 1.6, 1]]])).round(4)
    array([0.3])
    """
    return ratio(np.abs(counts[..., 1] - counts[..., 2]).sum(-1), counts[..., 0].sum(-1))


def log_losses(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Negative log-likelihood of each clip in nats (n,); p is at least 2.2e-16, so one clip costs at most 36."""
    chosen = np.asarray(probabilities, float)[np.arange(len(targets)), targets]
    return -np.log(np.maximum(chosen, np.finfo(float).eps))


def brier_losses(targets: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Squared distance of the probabilities of each clip to its one-hot target (n,), 0 to 2."""
    truth = np.eye(probabilities.shape[1])[targets]
    return np.square(np.asarray(probabilities, float) - truth).sum(1)


def fit_temperature(targets: ArrayLike, probabilities: ArrayLike, labels: Sequence[Any] | None = None) -> float:
    """The temperature of least negative log-likelihood, from `MIN_TEMPERATURE` to `MAX_TEMPERATURE`.

    Args:
        targets: (n,) class indices, or labels if `labels` is given; or (n, C) shares of votes. Of validation clips,
            never of test clips.
        probabilities: (n, C) at temperature 1. Their logarithms are the logits up to a constant, which cancels.
        labels: the C labels in the order of the columns.

    Returns:
        T; 1 if there is no clip or a probability is not finite.

    >>> overconfident = [[0.99, 0.01]] * 4  # three of four predictions are correct
    >>> temperature = fit_temperature([0, 0, 0, 1], overconfident)
    >>> round(temperature, 3), apply_temperature(overconfident, temperature)[0].round(3)
    (4.183, array([0.75, 0.25]))
    """
    if not np.size(targets) or not np.isfinite(probabilities).all():
        return 1.0
    shares = np.asarray(targets)
    truth, likely = _arrays(shares if shares.ndim == 1 else shares.argmax(1), probabilities, labels)
    logits = np.log(np.maximum(np.asarray(likely, float), _TINY))
    chosen = logits[np.arange(len(truth)), truth] if shares.ndim == 1 else (shares * logits).sum(1)
    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        slope = ((_softmax(middle * logits) * logits).sum(1) - chosen).mean()
        low, high = (middle, high) if slope < 0 else (low, middle)
    return float(np.clip(2 / (low + high), MIN_TEMPERATURE, MAX_TEMPERATURE))


def apply_temperature(probabilities: ArrayLike, temperature: float) -> np.ndarray:
    """Probabilities `(n, C)` whose logits are divided by `temperature`; the inverse temperature undoes it.

    >>> apply_temperature([[0.9, 0.1]], 2.0)
    array([[0.75, 0.25]])
    """
    return _softmax(np.log(np.maximum(np.asarray(probabilities, float), _TINY)) / temperature)


def _arrays(
    targets: ArrayLike, probabilities: ArrayLike, labels: Sequence[Any] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Class indices (n,) and probabilities (n, C), of their own dtype.

    Raises:
        DataError: no clip, shapes or targets that do not fit, or rows that are not probabilities.
    """
    likely = np.asarray(probabilities)
    if likely.ndim != 2 or len(likely) != np.size(targets) or not len(likely):
        shapes = f"targets {np.shape(targets)}, probabilities {likely.shape}"
        raise DataError(f"give one row of probabilities for each target, and at least one: {shapes}")
    if labels is not None and len(labels) != likely.shape[1]:
        raise DataError(f"{likely.shape[1]} columns of probabilities do not fit {len(labels)} labels {labels}")
    bad = np.flatnonzero(~is_distribution(likely))
    if bad.size:
        raise DataError(
            f"{bad.size} of {len(likely)} rows are not probabilities, such as row {bad[0]}: {likely[bad[0]]}"
        )
    return to_indices(targets, likely.shape[1] if labels is None else labels), likely


def is_distribution(probabilities: np.ndarray) -> np.ndarray:
    """Whether each row of `probabilities (n, C)` is finite, not negative and adds up to 1 within 0.001: (n,) bool.

    >>> is_distribution(np.array([[0.4, 0.6], [0.4, 0.4], [1.5, -0.5], [np.nan, 1.0]])).tolist()
    [True, False, False, False]
    """
    return (np.abs(probabilities.sum(1, dtype=float) - 1) < 1e-3) & (probabilities >= 0).all(1)


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
