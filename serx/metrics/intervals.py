"""Confidence intervals by resampling speakers, because the clips of one speaker are not independent.

The cluster bootstrap: draw S of the S speakers with replacement, take all clips of each, score, repeat (Efron &
Tibshirani 1993, An Introduction to the Bootstrap, chapters 8 and 13; Davison & Hinkley 1997, section 3.8). A draw is a
row of multinomial counts, and every score is a function of sums over clips. So all resamples are one matrix product:
(resamples, speakers) counts @ (speakers, ...) sums.

A percentile interval is too narrow when there are few speakers. Nominal 95 % intervals of the UAR covered the true
value of a simulated population of speakers in 79 % of 600 tests with 4 speakers, in 86 % with 5, in 88 % with 10 and in
95 % with 24 or 91.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from serx.metrics.calibration import brier_losses, calibration_counts, ece_from_counts, log_losses
from serx.metrics.classification import CONFUSION_METRICS, Labels, confusion_matrix, uar_from_confusion

RESAMPLES = 2000
FEW_SPEAKERS = 15  # with fewer, the interval is narrower than its level says


def few_speakers_warning(speakers: int) -> str | None:
    """A sentence for a report with intervals over so few speakers that they are too narrow; None if it needs none.

    >>> few_speakers_warning(4)[:63]
    'With 4 speakers the intervals are narrower than they should be:'
    >>> few_speakers_warning(1) is few_speakers_warning(15) is None  # a single speaker has no interval
    True
    """
    if not 1 < speakers < FEW_SPEAKERS:
        return None
    return (
        f"With {speakers} speakers the intervals are narrower than they should be: 90 % of them or fewer hold the true "
        "score, not 95 %."
    )


def speaker_interval(
    targets: ArrayLike,
    predictions: ArrayLike,
    speakers: Sequence[str],
    metric: Callable[[np.ndarray], np.ndarray] = uar_from_confusion,
    labels: Labels = None,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval over speakers of a score of predicted classes.

    Args:
        targets: (n,) true labels, or class indices.
        predictions: (n,) predicted labels, or class indices.
        speakers: the speaker of each of the n clips.
        metric: from confusion matrices (resamples, C, C) to scores (resamples,), such as `accuracy_from_confusion`.
        labels: see `confusion_matrix`.
        resamples: number of resamples of the speakers.
        level: share of the resampled scores inside the interval.
        seed: of the resamples; the same seed gives the same interval.

    Returns:
        (low, high), or None for a single speaker.

    >>> targets = ["sad", "happy"] * 3
    >>> predictions = ["sad", "happy", "sad", "sad", "sad", "happy"]
    >>> speaker_interval(targets, predictions, ["ann", "ann", "ben", "ben", "cleo", "cleo"])
    (0.5, 1.0)
    """
    truth, guess = np.asarray(targets), np.asarray(predictions)
    if labels is None:
        labels = sorted({*truth.tolist(), *guess.tolist()})
    sums = np.stack([confusion_matrix(truth[rows], guess[rows], labels) for rows in clips_by_name(speakers).values()])
    return bootstrap_interval(sums, metric, resamples, level, seed)


def bootstrap_interval(
    sums: np.ndarray,
    metric: Callable[[np.ndarray], np.ndarray],
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval over speakers of any score of sums over clips.

    Args:
        sums: (S, ...) one entry for each speaker, of anything that adds up over clips: confusion matrices (S, C, C),
            calibration counts (S, bins, 3), clips and total loss (S, 2).
        metric: from sums (resamples, ...) to scores (resamples,), such as `uar_from_confusion`.
        resamples: number of resamples of the S speakers.
        level: share of the resampled scores inside the interval.
        seed: of the resamples; the same seed gives the same interval.

    Returns:
        (low, high), or None for a single speaker.

    >>> perfect, chance = np.array([[2, 0], [0, 2]]), np.array([[1, 1], [1, 1]])
    >>> bootstrap_interval(np.stack([perfect, chance]), uar_from_confusion)
    (0.5, 1.0)
    """
    speakers = len(sums)
    if speakers < 2:
        return None
    counts = np.random.default_rng(seed).multinomial(speakers, np.full(speakers, 1 / speakers), size=resamples)
    totals = counts.astype(float) @ sums.reshape(speakers, -1).astype(float)
    scores = metric(totals.reshape(resamples, *sums.shape[1:]))
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def clips_by_name(names: Sequence[str | None]) -> dict[str, np.ndarray]:
    """Clip indices of each name, names sorted; clips without a name last, as `unknown`; empty if no clip has a name.

    >>> clips_by_name(["ben", "ann", "ben"])
    {'ann': array([1]), 'ben': array([0, 2])}
    """
    known = sorted({name for name in names if name is not None})
    indices: dict[str, list[int]] = {name: [] for name in [*known, "unknown"]}
    for index, name in enumerate(names):
        indices["unknown" if name is None else name].append(index)
    return {name: np.array(clips) for name, clips in indices.items() if known and clips}


def score_intervals(
    targets: np.ndarray,
    probabilities: np.ndarray,
    speaker_ids: Sequence[str],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, list[float] | None]:
    """95 % intervals over speakers of accuracy, uar, macro_f1, weighted_f1, nll, brier and ece.

    The ECE adds up absolute gaps, so noise raises it: resampled values tend to lie above the estimate, and its interval
    can begin there. Compare the NLL or Brier intervals of two systems instead.

    Args:
        targets: (n,) class indices.
        probabilities: (n, C).
        speaker_ids: the speaker of each of the n clips.
        resamples: number of resamples of the speakers, the same for every score.
        seed: of the resamples.

    Returns:
        Score -> [low, high], or None if there is a single speaker.

    >>> probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.6, 0.4], [0.7, 0.3]])
    >>> score_intervals(np.array([0, 1, 0, 1]), probabilities, ["ann", "ann", "ben", "ben"])["accuracy"]
    [0.5, 1.0]
    """
    guesses, classes = probabilities.argmax(1), probabilities.shape[1]
    losses = {"nll": log_losses(targets, probabilities), "brier": brier_losses(targets, probabilities)}
    speakers = list(clips_by_name(speaker_ids).values())
    confusions = np.stack([confusion_matrix(targets[clips], guesses[clips], classes) for clips in speakers])
    bins = np.stack([calibration_counts(targets[clips], probabilities[clips]) for clips in speakers])
    jobs: dict[str, Any] = {name: (confusions, metric) for name, metric in CONFUSION_METRICS.items()}
    for name, loss in losses.items():
        totals = np.array([[loss[clips].sum(), len(clips)] for clips in speakers])
        jobs[name] = (totals, lambda sums: sums[:, 0] / sums[:, 1])
    jobs["ece"] = (bins, ece_from_counts)
    intervals = {name: bootstrap_interval(sums, metric, resamples, seed=seed) for name, (sums, metric) in jobs.items()}
    return {name: None if bounds is None else list(bounds) for name, bounds in intervals.items()}
