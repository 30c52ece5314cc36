"""`evaluate`: a checkpoint predicts the held-out clips, and the predictions are scored."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from serx.data.batches import BatchSource
from serx.data.dataset import Dataset
from serx.errors import ConfigError, DataError, explaining_out_of_memory
from serx.evaluation.corpora import probe_corpora
from serx.evaluation.held_out import HeldOut, Part, load_held_out
from serx.evaluation.predictions import Predictions
from serx.evaluation.ratings import Ratings
from serx.evaluation.report import Evaluation
from serx.evaluation.stamps import adapted_stamp
from serx.inference.adaptation import adapted
from serx.inference.classify import classify, predict
from serx.inference.predictor import Predictor
from serx.metrics import apply_temperature, calibration, clips_by_name, score
from serx.recognizer import Dimension


@explaining_out_of_memory('evaluate on the CPU with device="cpu", or give shorter recordings')
def evaluate(
    checkpoint: str | Path | None = None,
    root: str | Path | None = None,
    part: Part = "test",
    device: str | torch.device = "auto",
    allow_seen: bool = False,
    progress: bool = True,
    adapt: bool | None = None,
    cache: str | Path | None = None,
    emotions: Collection[str] | None = None,
) -> Evaluation:
    """Predicts the held-out clips of a checkpoint and scores the predictions.

    Args:
        checkpoint: best.safetensors or last.safetensors of a run; default: the model that ships with serx.
        root: a corpus folder or manifest; default: that of the training.
        part: `test`, the protocol's test speakers, or in a root without any of them all speakers that were not in the
            training; `valid`, the validation speakers; `all`, every clip of the root.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        allow_seen: evaluates training speakers too, with a warning in the protocol stamp.
        progress: shows progress bars.
        adapt: adapts the model to each speaker with the unlabeled clips of the part, and says so in the protocol
            stamp; `details["without_adaptation"]` then holds the scores of the model as it is. Default: what the
            recipe says (`model.adapt`).
        cache: the folder for decoded audio; default: $SERX_CACHE or ~/.cache/serx. What the checkpoint's configuration
            says is not used: no path in a checkpoint decides where anything is written.
        emotions: predictions are among these alone, and clips of others are left out; the protocol stamp says so.
            Default: all of the model; where the protocol leaves a corpus out (`loco`, `cross_corpus`), those of that
            corpus.

    Raises:
        CheckpointError: the file is missing or damaged, or its weights give no probabilities.
        LeakError: the part holds speakers, audio or copies of audio of the training part, and `allow_seen` is False.
        DataError: the part is empty, or a speaker has too few clips for adaptation.
        ConfigError: there is no such part or device, or an argument has another type.

    >>> evaluate("runs/missing/best.safetensors")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    serx.errors.CheckpointError: runs/missing/best.safetensors: ...
    """
    held = load_held_out(checkpoint, root, part, device, allow_seen, progress, cache, emotions)
    return evaluate_held_out(held, adapt, progress)


@explaining_out_of_memory('evaluate on the CPU with device="cpu", or give shorter recordings')
def evaluate_held_out(held: HeldOut, adapt: bool | None = None, progress: bool = True) -> Evaluation:
    """What `evaluate` does with the clips of `load_held_out`; the other arguments are those of `evaluate`."""
    predictor, source, clips = held.predictor, held.source, held.clips
    adapt = predictor.config.model.adapt if adapt is None else adapt
    protocol, predictions, of_classes = held.protocol, None, {}
    if predictor.labels:
        predictions = predict_clips(predictor, held.dataset, clips, source, adapt, progress)
        protocol = adapted_stamp(protocol, predictions.speaker_ids) if adapt else protocol
        of_classes = _details_of_classes(held, predictions, adapt)
    elif adapt:
        raise ConfigError(f"{held.checkpoint}: speaker adaptation is for emotions, and it predicts dimensions alone")
    details = {
        "ood_fraction": held.ood_fraction(source),
        "ood_unknown": predictor.ood_unknown,
        "checkpoint": held.checkpoint,
        "part": held.part,
        "root": held.root,
        "epoch": predictor.metadata["progress"]["epoch"],
        "warnings": held.warnings,
        "environment": predictor.metadata["environment"],
        "data_sha256": held.dataset.sha256(clips.tolist()),
        **of_classes,
    }
    if probe := probe_corpora(predictor.recognizer, held.dataset, clips, source):
        details["corpus_probe"] = probe
    ratings = predict_ratings(predictor, held.dataset, clips, source) if held.dataset.dimensions else None
    details["warnings"] = [*held.warnings, *(_other_scales(ratings, predictor.dimensions) if ratings else [])]
    return Evaluation(predictions, protocol, details, held.notes, ratings)


def _other_scales(ratings: Ratings, dimensions: Sequence[Dimension]) -> list[str]:
    """Warnings about dimensions that are rated on another scale than in training, as far as that shows."""
    warnings = []
    for dimension, truth in zip(dimensions, ratings.targets.T, strict=True):
        low, high, beyond = np.nanmin(truth), np.nanmax(truth), 0.5 * (dimension.high - dimension.low)
        if low < dimension.low - beyond or high > dimension.high + beyond:
            warnings.append(
                f"{dimension.name} is rated from {low:g} to {high:g} here, and the model predicts {dimension.low:g} to "
                f"{dimension.high:g}: CCC and RMSE compare two scales; Pearson's correlation does not depend on them"
            )
    return warnings


def _details_of_classes(held: HeldOut, predictions: Predictions, adapt: bool) -> dict[str, Any]:
    """What temperature scaling changed, and the scores without adaptation where the model is adapted."""
    adaptation: dict[str, Any] = {}
    if adapt:
        plain = predict_clips(held.predictor, held.dataset, held.clips, held.source).with_class()
        scores = score(plain.targets, plain.predicted, plain.labels)
        nll = calibration(plain.targets, plain.probabilities)["nll"]
        adaptation = {"without_adaptation": {"uar": scores.uar, "accuracy": scores.accuracy, "nll": nll}}
    temperature, known = held.predictor.recognizer.temperature, predictions.with_class()
    unscaled = apply_temperature(known.probabilities, 1 / temperature)
    return {
        "temperature": temperature,
        "calibration_before": calibration(known.targets, unscaled),
        **adaptation,
    }


def predict_clips(
    predictor: Predictor,
    dataset: Dataset,
    clips: np.ndarray,
    source: BatchSource,
    adapt: bool = False,
    progress: bool = False,
) -> Predictions:
    """Predictions for those of `clips (n,)` of a dataset that have a label, by any speaker.

    Args:
        adapt: adapts the model to each speaker first, with that speaker's clips among these.
        progress: shows a bar on a terminal.

    Raises:
        DataError: a speaker has too few clips for adaptation, or is unknown.
    """
    clips = clips[dataset.has_label[clips]]
    chosen = [dataset.utterances[i] for i in clips]
    lengths = dataset.audio_cache.lengths
    if adapt:
        if unknown := [clip.source for clip in chosen if not clip.speaker_known]:
            raise DataError(
                f"{unknown[0]}: speaker adaptation needs to know who speaks, and {len(unknown)} clips have no speaker; "
                "--no-adapt evaluates without adaptation"
            )
        probabilities = np.empty((len(clips), len(predictor.labels)))
        for speaker_id, rows in clips_by_name([u.speaker_id for u in chosen]).items():
            own = clips[rows]
            waveform, sizes = source.batch(own)
            try:
                own_clips = [row[:n] for row, n in zip(waveform, sizes, strict=True)]
                with adapted(predictor.recognizer, own_clips):
                    probabilities[rows] = classify(predictor.recognizer, source, own, lengths[own])
            except DataError as error:
                raise DataError(f"{speaker_id}: {error}; --no-adapt evaluates without adaptation") from error
    else:
        probabilities = classify(predictor.recognizer, source, clips, lengths[clips], progress)
    predictor.check_probabilities(probabilities)
    return Predictions(
        paths=tuple(str(u.segment) for u in chosen),
        speaker_ids=tuple(u.speaker_id for u in chosen),
        sexes=tuple(u.sex for u in chosen),
        intensities=tuple(u.intensity for u in chosen),
        targets=dataset.targets[clips],
        probabilities=probabilities,
        labels=predictor.labels,
        votes=None if dataset.votes is None else dataset.votes[clips],
    )


def predict_ratings(predictor: Predictor, dataset: Dataset, clips: np.ndarray, source: BatchSource) -> Ratings:
    """Values of the dimensions for those of `clips (n,)` of a dataset that have a rating.

    Raises:
        DataError: no clip has a rating of a dimension.
    """
    clips = clips[~np.isnan(dataset.ratings[clips]).all(1)]
    if not len(clips):
        names = " or ".join(dataset.dimensions)
        raise DataError(f"no clip of this part has a rating of {names}; choose another part or other data")
    chosen = [dataset.utterances[i] for i in clips]
    values = predict(predictor.recognizer, source, clips, dataset.audio_cache.lengths[clips])[1]
    predictor.check_probabilities(values)
    return Ratings(
        paths=tuple(str(u.segment) for u in chosen),
        speaker_ids=tuple(u.speaker_id for u in chosen),
        sexes=tuple(u.sex for u in chosen),
        dimensions=dataset.dimensions,
        targets=dataset.ratings[clips],
        predicted=values,
    )
