"""What an epoch is worth on the validation clips."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from serx.data.corpus import Corpus
from serx.data.dataset import Dataset
from serx.recognizer import Recognizer
from serx.scoring.calibration import fit_temperature
from serx.scoring.classify import classify
from serx.scoring.metrics import Scores, confusion_matrix, ece, from_confusion, nll


def validate(
    recognizer: Recognizer, corpus: Corpus, dataset: Dataset, clips: Sequence[int]
) -> tuple[dict[str, Any], float, np.ndarray]:
    """Scores of `clips`, as `metrics.jsonl` has them, the temperature that fits them best, and their confusion."""
    chosen = np.asarray(clips)
    targets = dataset.targets[chosen]
    probabilities = classify(recognizer, corpus, chosen, dataset.pack.lengths[chosen])
    confusion = confusion_matrix(targets, probabilities.argmax(1), len(dataset.labels))
    scores = from_confusion(confusion)
    calibration = {"loss": nll(targets, probabilities), "ece": ece(targets, probabilities)}
    told = {**scalars(scores), **calibration, "recall": scores.recall.tolist()}
    return told, fit_temperature(targets, probabilities), confusion


def scalars(scores: Scores) -> dict[str, float]:
    """The scores of which there is one each."""
    return {name: float(getattr(scores, name)) for name in ("accuracy", "uar", "macro_f1", "weighted_f1")}
