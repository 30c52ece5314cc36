"""Confidence intervals by resampling speakers: the clips of one person are not independent evidence.

The cluster bootstrap: draw S of the S speakers with replacement, take all the clips of each, score, repeat (Efron &
Tibshirani 1993, An Introduction to the Bootstrap, ch. 8 and 13; Davison & Hinkley 1997, section 3.8). A draw is a row
of multinomial counts and every score is a function of sums over clips, so all resamples are one matrix product:
(resamples, speakers) counts @ (speakers, ...) sums.

A percentile interval is too narrow when there are few speakers. Nominal 95 % intervals of the UAR covered the truth of
a made-up population of speakers in 79 % of 600 tests with 4 speakers, 86 % with 5, 88 % with 10 and 95 % with 24 or 91.
"""

from collections.abc import Callable, Sequence

import numpy as np

from serx.metrics import classification as metrics

RESAMPLES = 2000
FEW_SPEAKERS = 15  # below this the interval is narrower than it says


def speaker_interval(
    sums: np.ndarray,
    metric: Callable[[np.ndarray], np.ndarray],
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of a metric over speakers.

    Args:
        sums: (S, ...) one entry a speaker, of anything that adds up over clips: confusion matrices (S, C, C),
            calibration counts (S, bins, 3), clips and total loss (S, 2).
        metric: from sums (resamples, ...) to scores (resamples,), such as `metrics.uar`.
        resamples: how many draws of S speakers.
        level: share of the resampled scores inside the interval.
        seed: of the draws; the same seed gives the same interval.

    Returns:
        (low, high), or None for a single speaker, whose clips say nothing about other people.
    """
    speakers = len(sums)
    if speakers < 2:
        return None
    draws = np.random.default_rng(seed).multinomial(speakers, np.full(speakers, 1 / speakers), size=resamples)
    totals = draws.astype(float) @ sums.reshape(speakers, -1).astype(float)
    scores = metric(totals.reshape(resamples, *sums.shape[1:]))
    low, high = np.quantile(scores, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def clips_by_name(names: Sequence[str | None]) -> dict[str, np.ndarray]:
    """Clip indices of each name, in order; unknown (None) ones last, as `unknown`; nothing when none is known."""
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

    The ECE adds absolute gaps, so noise raises it: resampled values tend to lie above the estimate, and its interval
    can begin there. Compare the NLL or Brier intervals of two systems instead.

    Args:
        targets: (n,) class indices.
        probabilities: (n, C).
        persons: n speakers' names.
        resamples: how many draws of the speakers, the same for every score.
        seed: of the draws.

    Returns:
        Score -> [low, high], or None where there is a single speaker.
    """
    guesses, classes = probabilities.argmax(1), probabilities.shape[1]
    losses = {
        "nll": metrics.log_losses(targets, probabilities),
        "brier": metrics.brier_losses(targets, probabilities),
    }
    speakers = list(clips_by_name(speaker_ids).values())
    confusions = np.stack([metrics.confusion_matrix(targets[clips], guesses[clips], classes) for clips in speakers])
    bins = np.stack([metrics.calibration_counts(targets[clips], probabilities[clips]) for clips in speakers])
    jobs = {name: (confusions, metric) for name, metric in metrics.CONFUSION_METRICS.items()}
    for name, loss in losses.items():
        totals = np.array([[loss[clips].sum(), len(clips)] for clips in speakers])
        jobs[name] = (totals, lambda sums: sums[:, 0] / sums[:, 1])
    jobs["ece"] = (bins, metrics.ece_from_counts)
    intervals = {name: speaker_interval(sums, metric, resamples, seed=seed) for name, (sums, metric) in jobs.items()}
    return {name: None if bounds is None else list(bounds) for name, bounds in intervals.items()}
