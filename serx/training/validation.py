"""Validation and selection: the scores of an epoch, whether it is the best so far, and when to stop or slow down."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from serx.config.training import OptimConfig, TrainConfig
from serx.data.batches import BatchSource
from serx.data.dataset import Dataset
from serx.inference.classify import predict
from serx.metrics import (
    Scores,
    ccc_from_sums,
    confusion_matrix,
    ece,
    fit_temperature,
    nll,
    regression_sums,
    score_from_confusion,
    soft_nll,
)
from serx.recognizer import Recognizer
from serx.training.state import Progress


@dataclass(frozen=True)
class Validation:
    """The results on the validation clips.

    Attributes:
        scores: as a line of `metrics.jsonl` has them.
        temperature: the temperature that fits the clips best.
        confusion: `(C, C)` counts, truth by prediction; `(0, 0)` without classes.
        probabilities: `(n, C)` of the clips, at the recognizer's own temperature.
    """

    scores: dict[str, Any]
    temperature: float
    confusion: np.ndarray
    probabilities: np.ndarray


def validate(
    recognizer: Recognizer, source: BatchSource, dataset: Dataset, clips: Sequence[int], dimension_weight: float = 1.0
) -> Validation:
    """Scores `clips`, dataset indices. With votes, the loss and the temperature are those of their shares.

    With dimensions the scores have the CCC of each and their mean, and the loss has 1 - that mean, times
    `dimension_weight`.
    """
    indices = np.asarray(clips)
    probabilities, values = predict(recognizer, source, indices, dataset.audio_cache.lengths[indices])
    result = Validation({"loss": 0.0}, 1.0, np.zeros((0, 0), np.int64), probabilities)
    if dataset.labels:
        result = _validate_classes(dataset, indices, probabilities)
    if not dataset.dimensions:
        return result
    ratings = dataset.ratings[indices]
    sums = np.zeros((len(dataset.dimensions), 6))
    for i, (truth, value) in enumerate(zip(ratings.T, values.T, strict=True)):
        rated = ~np.isnan(truth)
        sums[i] = regression_sums(truth[rated], value[rated]) if np.isfinite(value).all() else math.nan
    agreement = concordance(dataset.dimensions, sums)
    loss = result.scores["loss"] + dimension_weight * (1 - agreement["ccc"])
    return replace(result, scores={**result.scores, "loss": loss, **agreement})


def _validate_classes(dataset: Dataset, indices: np.ndarray, probabilities: np.ndarray) -> Validation:
    has_label, counted = dataset.has_label[indices], dataset.has_class[indices]
    targets = dataset.targets[indices]
    truth = targets if dataset.shares is None else dataset.shares[indices]
    confusion = confusion_matrix(targets[counted], probabilities[counted].argmax(1), len(dataset.labels))
    scores = score_from_confusion(confusion)
    calibration = {"loss": math.nan, "ece": math.nan}  # `select` never keeps an epoch with a score that is NaN
    if np.isfinite(probabilities).all():
        metric = nll if dataset.shares is None else soft_nll
        calibration = {
            "loss": metric(truth[has_label], probabilities[has_label]),
            "ece": ece(targets[counted], probabilities[counted]),
        }
    return Validation(
        scores={**scalars(scores), **calibration, "recall": scores.recall.tolist()},
        temperature=fit_temperature(truth[has_label], probabilities[has_label]),
        confusion=confusion,
        probabilities=probabilities,
    )


def concordance(dimensions: Sequence[str], sums: np.ndarray) -> dict[str, float]:
    """The CCC of each dimension, and as `ccc` their mean, from `regression_sums (D, 6)`; empty without dimensions."""
    if not len(dimensions):
        return {}
    values = [
        float(value) if np.isfinite(row).all() else math.nan
        for value, row in zip(ccc_from_sums(sums), sums, strict=True)
    ]
    return {"ccc": float(np.mean(values)), **{f"ccc_{name}": v for name, v in zip(dimensions, values, strict=True)}}


def scalars(scores: Scores) -> dict[str, float]:
    """The scores that are single numbers."""
    return {name: float(getattr(scores, name)) for name in ("accuracy", "uar", "macro_f1", "weighted_f1")}


def select(progress: Progress, line: dict[str, Any], train: TrainConfig, optim: OptimConfig) -> bool:
    """Whether an epoch is kept: the best so far by `train.select`, or with `last` any.

    Updates the best score, the patience and the plateau in `progress`.

    An epoch with a score that is NaN or infinite is never kept: NaN probabilities can have a finite UAR.

    Args:
        progress: of the run; `progress.epoch` is the epoch of `line`.
        line: the scores of the epoch, as in `metrics.jsonl`.
        train: the `train` section.
        optim: the `optim` section.

    >>> progress, valid = Progress(), {"uar": 0.5, "loss": 1.0}
    >>> select(progress, {"epoch": 0, "train": {"loss": 1.0}, "valid": valid}, TrainConfig(), OptimConfig())
    True
    >>> progress.best, progress.epochs_since_best
    (0.5, 0)
    """
    valid = line["valid"]
    scores = {"loss": -line["train"]["loss"]} if valid is None else {"loss": -valid["loss"]}
    scores |= {name: valid[name] for name in ("uar", "ccc") if valid is not None and name in valid}
    scores["last"] = float(line["epoch"])
    score, finite = scores[train.select], all(math.isfinite(value) for value in scores.values())
    is_best = finite and (progress.best is None or score > progress.best)
    if is_best:
        progress.best, progress.best_epoch = score, line["epoch"]
    progress.epochs_since_best = 0 if is_best else progress.epochs_since_best + 1
    progress.epochs_on_plateau = 0 if is_best else progress.epochs_on_plateau + 1
    if progress.epochs_on_plateau >= optim.plateau_patience:
        progress.plateau_scale, progress.epochs_on_plateau = progress.plateau_scale * optim.plateau_factor, 0
    return is_best
