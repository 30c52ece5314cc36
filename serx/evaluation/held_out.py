"""Evaluate a checkpoint on speakers it never heard, and refuse those it did."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from serx.data.corpus import Corpus, place
from serx.data.dataset import Dataset, load_dataset
from serx.data.manifest import same_voice
from serx.errors import DataError, LeakError
from serx.evaluation.heard import already_heard
from serx.evaluation.intervals import clips_by_name
from serx.evaluation.predictions import Predictions
from serx.evaluation.stamps import enrolled_stamp
from serx.inference.enrolment import enrolled
from serx.inference.predictor import Predictor
from serx.scoring.calibration import tempered
from serx.scoring.classify import classify
from serx.scoring.metrics import calibration, score

Part = Literal["test", "valid", "all"]
SHOWN = 5


@dataclass(frozen=True)
class Evaluated:
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
    corpus: Corpus
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
    facts = predictor.facts
    updates: dict[str, Any] = {"root": root} if root else {}
    config = predictor.config.data.model_copy(update=updates)
    dataset = load_dataset(config, predictor.labels, progress)
    clips, stamp = _choose(dataset, facts, part)
    seen, notes = already_heard(dataset, facts, clips, predictor.config.data, progress)
    if seen and not allow_seen:
        names = ", ".join(seen[:SHOWN]) + (f" and {len(seen) - SHOWN} more" if len(seen) > SHOWN else "")
        way = "Take them out" if part == "test" else "Use --part test"
        raise LeakError(
            f"{path}: trained on {names}, which --part {part} would evaluate; such a number says nothing about new "
            f"voices. {way}, or add --allow-seen to print it with that warning"
        )
    warnings = [f"CONTAINS TRAINING SPEAKERS OR CLIPS: {', '.join(seen[:SHOWN])}"] if seen else []
    stamp = "; ".join([stamp, *warnings])
    corpus = place(dataset.pack, device, config.placement)
    return HeldOut(predictor, dataset, clips, corpus, stamp, warnings, (*dataset.notes, *notes))


def evaluate_checkpoint(
    path: Path,
    root: str | None,
    part: Part,
    device: torch.device,
    allow_seen: bool = False,
    progress: bool = True,
    enrol: bool | None = None,
) -> Evaluated:
    """Predicts the clips of `held_out`.

    With `enrol` (default: what the checkpoint's configuration says) the clips of each speaker, unlabelled, make the
    voice known; the stamp says so, and `extra["alone"]` has the scores of clips heard by themselves.

    Raises:
        LeakError, DataError: as `held_out` does.
    """
    held = held_out(path, root, part, device, allow_seen, progress)
    predictor, dataset, clips, corpus, stamp = held.predictor, held.dataset, held.clips, held.corpus, held.stamp
    enrol = predictor.config.model.enrol if enrol is None else enrol
    predictions = predict_clips(predictor, dataset, clips, corpus, enrol)
    about_voices: dict[str, Any] = {}
    if enrol:
        stamp = enrolled_stamp(stamp, predictions.persons)
        alone = predict_clips(predictor, dataset, clips, corpus)
        scores = score(alone.targets, alone.probabilities.argmax(1), alone.labels)
        nll = calibration(alone.targets, alone.probabilities)["nll"]
        about_voices = {"alone": {"uar": scores.uar, "accuracy": scores.accuracy, "nll": nll}}
    temperature = predictor.recognizer.temperature
    known = predictor.familiar
    extra = {
        "unlike_training": known.share_unlike(corpus, clips, predictor.config.data.sample_rate) if known else None,
        "checkpoint": str(path),
        "part": part,
        "root": str(root or predictor.config.data.root),
        "epoch": predictor.facts["progress"]["epoch"],
        "warnings": held.warnings,
        "environment": predictor.facts["environment"],
        "temperature": temperature,
        "calibration_before": calibration(predictions.targets, tempered(predictions.probabilities, 1 / temperature)),
        **about_voices,
    }
    return Evaluated(predictions, stamp, extra, held.notes)


def predict_clips(
    predictor: Predictor, dataset: Dataset, clips: np.ndarray, corpus: Corpus, enrol: bool = False
) -> Predictions:
    """What a checkpoint says of `clips (n,)`, whoever speaks in them, beside what is known of them.

    With `enrol`, each speaker's clips among them make the voice known first.

    Raises:
        DataError: a speaker has too few of them for that.
    """
    chosen = [dataset.utterances[i] for i in clips]
    if enrol:
        probabilities = np.empty((len(clips), len(predictor.labels)))
        for person, rows in clips_by_name([u.person for u in chosen]).items():
            waveform, lengths = corpus.batch(clips[rows])
            try:
                with enrolled(predictor.recognizer, [row[:n] for row, n in zip(waveform, lengths, strict=True)]):
                    heard = classify(predictor.recognizer, corpus, clips[rows], dataset.pack.lengths[clips[rows]])
            except DataError as error:
                raise DataError(f"{person}: {error}; --no-enrol hears each clip by itself") from error
            probabilities[rows] = heard
    else:
        probabilities = classify(predictor.recognizer, corpus, clips, dataset.pack.lengths[clips])
    return Predictions(
        paths=tuple(str(u.path) for u in chosen),
        persons=tuple(u.person for u in chosen),
        sexes=tuple(u.sex for u in chosen),
        intensities=tuple(u.intensity for u in chosen),
        targets=dataset.targets[clips],
        probabilities=probabilities,
        labels=predictor.labels,
    )


def _choose(dataset: Dataset, facts: dict[str, Any], part: Part) -> tuple[np.ndarray, str]:
    """The clips of the part and the protocol stamp that goes with them."""
    trained_under = facts["protocol"]
    if part == "all":
        validators = set(facts["speakers"]["valid"])
        count = sum(u.person in validators for u in dataset.utterances)
        told = f"; {count} VALIDATION clips among them chose the epoch and temperature" if count else ""
        return np.arange(len(dataset.utterances)), f"all clips of the root; trained under {trained_under}{told}"
    clips = _recorded(dataset, facts, part)
    if len(clips):
        missing = len(facts["digests"][part]) - len(clips)
        short = f"; {missing} of its {missing + len(clips)} clips are not in this root" if missing > 0 else ""
        used = "; these VALIDATION clips chose the epoch and temperature" if part == "valid" else ""
        return clips, f"{trained_under}{short}{used}"
    met = [*facts["speakers"]["train"], *facts["speakers"]["valid"]]
    new = [i for i, clip in enumerate(dataset.utterances) if not any(same_voice(clip, person) for person in met)]
    if part == "valid" or not new:
        speakers = ", ".join(facts["speakers"][part]) or "none"
        nameless = not all(clip.corpus_named for clip in dataset.utterances)
        hint = "; if these are other people than it was trained on, say so in a column corpus" if nameless else ""
        raise DataError(
            f"no clip of part {part} (speakers {speakers}) is in this root; give the right one with --root{hint}"
        )
    corpora = " + ".join(sorted({dataset.utterances[i].corpus for i in new}))
    return np.asarray(new), f"speakers of {corpora} never met in training; trained under {trained_under}"


def _recorded(dataset: Dataset, facts: dict[str, Any], part: Part) -> np.ndarray:
    """The clips of a part the checkpoint knows: by speaker where speakers are apart, else by their audio."""
    others = {person for name, persons in facts["speakers"].items() if name != part for person in persons}
    speakers = set(facts["speakers"][part])
    if not speakers & others:
        return np.asarray([i for i, u in enumerate(dataset.utterances) if u.person in speakers], np.int64)
    digests = set(facts["digests"][part])
    return np.asarray([i for i, digest in enumerate(dataset.digests) if digest in digests], np.int64)
