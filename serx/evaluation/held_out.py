"""Evaluate a checkpoint on speakers it never heard, and refuse those it did."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from serx.data.batches import BatchSource, make_batch_source
from serx.data.dataset import Dataset, load_dataset
from serx.data.manifest import same_speaker
from serx.errors import DataError, LeakError
from serx.evaluation.overlap import find_overlap
from serx.evaluation.predictions import Predictions
from serx.evaluation.stamps import adapted_stamp
from serx.inference.adaptation import adapted
from serx.inference.classify import classify
from serx.inference.predictor import Predictor
from serx.metrics import apply_temperature, calibration, score
from serx.metrics.intervals import clips_by_name

Part = Literal["test", "valid", "all"]
SHOWN = 5


@dataclass(frozen=True)
class EvaluationResult:
    """Predictions on one part, the stamp to print beside every number, and what else the reader must know."""

    predictions: Predictions
    stamp: str
    extra: dict[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class HeldOut:
    """A checkpoint and the clips it may be judged by, with the stamp to print beside every number."""

    predictor: Predictor
    dataset: Dataset
    clips: np.ndarray
    source: BatchSource
    stamp: str
    warnings: list[str]
    notes: tuple[str, ...]


def held_out(
    path: Path, root: str | None, part: Part, device: torch.device, allow_seen: bool = False, progress: bool = True
) -> HeldOut:
    """The clips of `part` in `root` (default: where the checkpoint was trained).

    `test` are the protocol's held-out speakers; in a root that holds none of them, every speaker the checkpoint never
    met. Clips are known by the digest of their audio, so that moved or renamed files do not slip through, and those
    that the training's own check has not seen are compared with the training clips, where these are still there: a
    copy that was made louder or encoded anew is found too, whoever it is said to speak.

    Raises:
        LeakError: the part holds speakers, audio or copies of audio of the training part, and `allow_seen` is False.
        DataError: the part is empty.
    """
    predictor = Predictor(path, device)
    metadata = predictor.metadata
    updates: dict[str, Any] = {"root": root} if root else {}
    config = predictor.config.data.model_copy(update=updates)
    dataset = load_dataset(config, predictor.labels, progress)
    clips, stamp = _choose(dataset, metadata, part)
    seen, notes = find_overlap(dataset, metadata, clips, predictor.config.data, progress)
    if seen and not allow_seen:
        names = ", ".join(seen[:SHOWN]) + (f" and {len(seen) - SHOWN} more" if len(seen) > SHOWN else "")
        way = "Take them out" if part == "test" else "Use --part test"
        raise LeakError(
            f"{path}: trained on {names}, which --part {part} would evaluate; such a number says nothing about new "
            f"voices. {way}, or add --allow-seen to print it with that warning"
        )
    warnings = [f"CONTAINS TRAINING SPEAKERS OR CLIPS: {', '.join(seen[:SHOWN])}"] if seen else []
    stamp = "; ".join([stamp, *warnings])
    source = make_batch_source(dataset.audio_cache, device, config.placement)
    return HeldOut(predictor, dataset, clips, source, stamp, warnings, (*dataset.notes, *notes))


def evaluate_checkpoint(
    path: Path,
    root: str | None,
    part: Part,
    device: torch.device,
    allow_seen: bool = False,
    progress: bool = True,
    adapt: bool | None = None,
) -> EvaluationResult:
    """Predicts the clips of `held_out`.

    With `enrol` (default: what the checkpoint's configuration says) the clips of each speaker, unlabeled, make the
    voice known; the stamp says so, and `extra["alone"]` has the scores of clips heard by themselves.

    Raises:
        LeakError, DataError: as `held_out` does.
    """
    held = held_out(path, root, part, device, allow_seen, progress)
    predictor, dataset, clips, source, stamp = held.predictor, held.dataset, held.clips, held.source, held.stamp
    adapt = predictor.config.model.adapt if adapt is None else adapt
    predictions = predict_clips(predictor, dataset, clips, source, adapt)
    about_voices: dict[str, Any] = {}
    if adapt:
        stamp = adapted_stamp(stamp, predictions.speaker_ids)
        alone = predict_clips(predictor, dataset, clips, source)
        scores = score(alone.targets, alone.probabilities.argmax(1), alone.labels)
        nll = calibration(alone.targets, alone.probabilities)["nll"]
        about_voices = {"alone": {"uar": scores.uar, "accuracy": scores.accuracy, "nll": nll}}
    temperature = predictor.recognizer.temperature
    known = predictor.ood_detector
    extra = {
        "unlike_training": known.ood_fraction(source.batch, clips, predictor.config.data.sample_rate)
        if known
        else None,
        "checkpoint": str(path),
        "part": part,
        "root": str(root or predictor.config.data.root),
        "epoch": predictor.metadata["progress"]["epoch"],
        "warnings": held.warnings,
        "environment": predictor.metadata["environment"],
        "temperature": temperature,
        "calibration_before": calibration(predictions.targets, apply_temperature(predictions.probabilities, 1 / temperature)),
        **about_voices,
    }
    return EvaluationResult(predictions, stamp, extra, held.notes)


def predict_clips(
    predictor: Predictor, dataset: Dataset, clips: np.ndarray, source: BatchSource, adapt: bool = False
) -> Predictions:
    """What a checkpoint says of `clips (n,)`, whoever speaks in them, beside what is known of them.

    With `enrol`, each speaker's clips among them make the voice known first.

    Raises:
        DataError: a speaker has too few of them for that.
    """
    chosen = [dataset.utterances[i] for i in clips]
    if adapt:
        probabilities = np.empty((len(clips), len(predictor.labels)))
        for speaker_id, rows in clips_by_name([u.speaker_id for u in chosen]).items():
            waveform, lengths = source.batch(clips[rows])
            try:
                with adapted(predictor.recognizer, [row[:n] for row, n in zip(waveform, lengths, strict=True)]):
                    heard = classify(
                        predictor.recognizer, source, clips[rows], dataset.audio_cache.lengths[clips[rows]]
                    )
            except DataError as error:
                raise DataError(f"{speaker_id}: {error}; --no-adapt hears each clip by itself") from error
            probabilities[rows] = heard
    else:
        probabilities = classify(predictor.recognizer, source, clips, dataset.audio_cache.lengths[clips])
    return Predictions(
        paths=tuple(str(u.path) for u in chosen),
        speaker_ids=tuple(u.speaker_id for u in chosen),
        sexes=tuple(u.sex for u in chosen),
        intensities=tuple(u.intensity for u in chosen),
        targets=dataset.targets[clips],
        probabilities=probabilities,
        labels=predictor.labels,
    )


def _choose(dataset: Dataset, metadata: dict[str, Any], part: Part) -> tuple[np.ndarray, str]:
    """The clips of the part and the protocol stamp that goes with them."""
    trained_under = metadata["protocol"]
    if part == "all":
        validators = set(metadata["speakers"]["valid"])
        count = sum(u.speaker_id in validators for u in dataset.utterances)
        told = f"; {count} VALIDATION clips among them chose the epoch and temperature" if count else ""
        return np.arange(len(dataset.utterances)), f"all clips of the root; trained under {trained_under}{told}"
    clips = _recorded(dataset, metadata, part)
    if len(clips):
        missing = len(metadata["digests"][part]) - len(clips)
        short = f"; {missing} of its {missing + len(clips)} clips are not in this root" if missing > 0 else ""
        used = "; these VALIDATION clips chose the epoch and temperature" if part == "valid" else ""
        return clips, f"{trained_under}{short}{used}"
    met = [*metadata["speakers"]["train"], *metadata["speakers"]["valid"]]
    new = [
        i for i, clip in enumerate(dataset.utterances) if not any(same_speaker(clip, speaker_id) for speaker_id in met)
    ]
    if part == "valid" or not new:
        speakers = ", ".join(metadata["speakers"][part]) or "none"
        nameless = not all(clip.corpus_named for clip in dataset.utterances)
        hint = "; if these are other people than it was trained on, say so in a column corpus" if nameless else ""
        raise DataError(
            f"no clip of part {part} (speakers {speakers}) is in this root; give the right one with --root{hint}"
        )
    corpora = " + ".join(sorted({dataset.utterances[i].corpus for i in new}))
    return np.asarray(new), f"speakers of {corpora} never met in training; trained under {trained_under}"


def _recorded(dataset: Dataset, metadata: dict[str, Any], part: Part) -> np.ndarray:
    """The clips of a part the checkpoint knows: by speaker where speakers are apart, else by their audio."""
    others = {
        speaker_id for name, speaker_ids in metadata["speakers"].items() if name != part for speaker_id in speaker_ids
    }
    speakers = set(metadata["speakers"][part])
    if not speakers & others:
        return np.asarray([i for i, u in enumerate(dataset.utterances) if u.speaker_id in speakers], np.int64)
    digests = set(metadata["digests"][part])
    return np.asarray([i for i, digest in enumerate(dataset.digests) if digest in digests], np.int64)
