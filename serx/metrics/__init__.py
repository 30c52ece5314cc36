"""Metrics: plain functions of arrays, as in audmetric. Targets and predictions in, numbers out.

classification.py   UAR, accuracy, F1, confusion matrix
calibration.py      NLL, Brier, ECE, selective prediction, temperature
regression.py       CCC, RMSE and Pearson's correlation of dimensions such as arousal
votes.py            votes of several raters: majority, divergence, what a single rater scores
intervals.py        confidence intervals over speakers
corpus_probe.py     how well a linear probe tells the corpus of an embedding

>>> import serx.metrics
>>> serx.metrics.uar(["sad", "sad", "happy", "angry"], ["sad", "happy", "happy", "angry"])
0.8333333333333334
"""

from serx.metrics.calibration import (
    apply_temperature,
    brier,
    calibration,
    calibration_counts,
    ece,
    ece_from_counts,
    fit_temperature,
    nll,
    selective,
)
from serx.metrics.classification import (
    Scores,
    accuracy,
    accuracy_from_confusion,
    confusion_matrix,
    f1_from_confusion,
    f1_per_class,
    macro_f1,
    macro_f1_from_confusion,
    precision_from_confusion,
    precision_per_class,
    recall_from_confusion,
    recall_per_class,
    score,
    score_from_confusion,
    uar,
    uar_from_confusion,
    weighted_f1,
    weighted_f1_from_confusion,
)
from serx.metrics.intervals import bootstrap_interval, clips_by_name, score_intervals, speaker_interval
from serx.metrics.regression import (
    ccc,
    ccc_from_sums,
    pearson,
    pearson_from_sums,
    regression_sums,
    rmse,
    rmse_from_sums,
)
from serx.metrics.votes import kl_divergences, majority, rater_agreement, rater_confusions, soft_nll, to_shares

__all__ = [
    "Scores",
    "accuracy",
    "accuracy_from_confusion",
    "apply_temperature",
    "bootstrap_interval",
    "brier",
    "calibration",
    "calibration_counts",
    "ccc",
    "ccc_from_sums",
    "clips_by_name",
    "confusion_matrix",
    "ece",
    "ece_from_counts",
    "f1_from_confusion",
    "f1_per_class",
    "fit_temperature",
    "kl_divergences",
    "macro_f1",
    "macro_f1_from_confusion",
    "majority",
    "nll",
    "pearson",
    "pearson_from_sums",
    "precision_from_confusion",
    "precision_per_class",
    "rater_agreement",
    "rater_confusions",
    "recall_from_confusion",
    "recall_per_class",
    "regression_sums",
    "rmse",
    "rmse_from_sums",
    "score",
    "score_from_confusion",
    "score_intervals",
    "selective",
    "soft_nll",
    "speaker_interval",
    "to_shares",
    "uar",
    "uar_from_confusion",
    "weighted_f1",
    "weighted_f1_from_confusion",
]
