"""What an epoch is worth on the validation clips."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from serx.data.batches import BatchSource
from serx.data.dataset import Dataset
from serx.inference.classify import classify
from serx.metrics import Scores, confusion_matrix, ece, fit_temperature, nll, score_from_confusion
from serx.recognizer import Recognizer


def validate(
    recognizer: Recognizer, source: BatchSource, dataset: Dataset, clips: Sequence[int]
) -> tuple[dict[str, Any], float, np.ndarray]:
    """Scores of `clips`, as `metrics.jsonl` has them, the temperature that fits them best, and their confusion."""
    chosen = np.asarray(clips)
    targets = dataset.targets[chosen]
    probabilities = classify(recognizer, source, chosen, dataset.audio_cache.lengths[chosen])
    confusion = confusion_matrix(targets, probabilities.argmax(1), len(dataset.labels))
    scores = score_from_confusion(confusion)
    calibration = {"loss": nll(targets, probabilities), "ece": ece(targets, probabilities)}
    told = {**scalars(scores), **calibration, "recall": scores.recall.tolist()}
    return told, fit_temperature(targets, probabilities), confusion


def scalars(scores: Scores) -> dict[str, float]:
    """The scores of which there is one each."""
    return {name: float(getattr(scores, name)) for name in ("accuracy", "uar", "macro_f1", "weighted_f1")}
