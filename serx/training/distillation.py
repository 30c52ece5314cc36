"""Knowledge distillation: a model learns the probabilities that other models, its teachers, give the training clips.

Hinton et al. 2015, "Distilling the knowledge in a neural network". A teacher is sure of the clips that it was trained
on, and then teaches little more than their labels. So a clip's targets come from the teachers that were not trained on
its speaker, if there are any: with the models of a cross-validation as teachers, every clip has one.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from serx.config.loader import Config
from serx.data.audio.config import AudioConfig
from serx.data.batches import BatchSource
from serx.data.dataset import Dataset
from serx.errors import ConfigError
from serx.inference.classify import classify
from serx.inference.predictor import Predictor


def teacher_probabilities(
    config: Config, dataset: Dataset, clips: np.ndarray, source: BatchSource, device: torch.device
) -> Tensor | None:
    """The probabilities `(n, C)` float32 that the teachers give `clips (n,)`; None without teachers.

    The logarithms of the teachers' probabilities are averaged, divided by `train.teacher_temperature`.

    Raises:
        ConfigError: a teacher decodes audio in another way, or does not know a class.
        CheckpointError: a teacher cannot be read.
    """
    if not config.train.teachers:
        return None
    labels, lengths = dataset.labels, dataset.audio_cache.lengths[clips]
    speaker_ids = np.array(dataset.utterances.speaker_ids_of(clips))
    log_probabilities, is_new = [], []
    for path in config.train.teachers:
        teacher = Predictor.load(path, device)
        _check_fits(path, teacher, config, labels)
        teacher.recognizer.use_cache(dataset.audio_cache.folder.parent / "encoders")
        columns = [teacher.labels.index(label) for label in labels]
        probabilities = classify(teacher.recognizer, source, clips, lengths)[:, columns]
        log_probabilities.append(np.log(np.maximum(probabilities, np.finfo(np.float32).tiny)))
        is_new.append(~np.isin(speaker_ids, teacher.metadata["speakers"]["train"]))
    weights = np.array(is_new, float)
    weights[:, ~weights.any(0)] = 1.0  # every teacher was trained on these speakers
    mean = (weights[..., None] * np.array(log_probabilities)).sum(0) / weights.sum(0)[:, None]
    logits = torch.from_numpy(mean.astype(np.float32)) / config.train.teacher_temperature
    return logits.softmax(-1).to(device)


def _check_fits(path: str, teacher: Predictor, config: Config, labels: Sequence[str]) -> None:
    missing = [label for label in labels if label not in teacher.labels]
    if missing:
        raise ConfigError(
            f"train.teachers: {path} does not know {', '.join(missing)}; its classes are {', '.join(teacher.labels)}; "
            "set data.labels or data.label_map so that the classes are the same"
        )
    for key in AudioConfig.model_fields:
        own, other = getattr(config.data, key), getattr(teacher.config.data, key)
        if own != other:
            raise ConfigError(
                f"train.teachers: {path} decodes audio with data.{key}={other}, this run with {own}; use the same value"
            )
