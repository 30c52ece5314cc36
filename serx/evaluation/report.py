"""One evaluation as a person reads it: scores by class, speaker, sex and intensity, each under its protocol's name."""

import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serx.errors import DiskError
from serx.evaluation.class_report import report_figure
from serx.evaluation.curves import curves_figure
from serx.evaluation.intervals import FEW_SPEAKERS, RESAMPLES, clips_by_name, score_intervals
from serx.evaluation.predictions import Predictions, to_csv
from serx.files import free_space, write_atomically
from serx.scoring import metrics, pictures

WIDTH = 100  # columns of the terminal
HEADLINES = {"uar": "UAR", "accuracy": "accuracy", "macro_f1": "macro F1", "weighted_f1": "weighted F1"}


def evaluate(predictions: Predictions, protocol: str, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """Every score of the predictions, ready for JSON: fractions in [0, 1], None where a score is undefined.

    Args:
        predictions: of one part.
        protocol: the stamp under which the numbers may be compared, such as `luna5 fold 0`.
        resamples: draws of the speakers behind the 95 % intervals, which are None for a single speaker.
        seed: of those draws.
    """
    p = predictions
    guesses = p.probabilities.argmax(1)
    scores = metrics.score(p.targets, guesses, p.labels)

    def summary(clips: np.ndarray) -> dict[str, Any]:
        counts = metrics.confusion_matrix(p.targets[clips], guesses[clips], len(p.labels))
        return {"accuracy": float(metrics.accuracy(counts)), "uar": float(metrics.uar(counts)), "n_clips": len(clips)}

    speakers = clips_by_name(p.persons)
    per_speaker = {name: {**summary(clips), "sex": p.sexes[clips[0]]} for name, clips in speakers.items()}
    per_sex = {
        sex: {**summary(clips), "n_speakers": len({p.persons[clip] for clip in clips})}
        for sex, clips in clips_by_name(p.sexes).items()
    }
    gap = None
    if "male" in per_sex and "female" in per_sex:
        gap = 100 * (per_sex["male"]["accuracy"] - per_sex["female"]["accuracy"])
    columns = {"precision": scores.precision, "recall": scores.recall, "f1": scores.f1, "support": scores.support}
    return {
        **{name: getattr(scores, name) for name in metrics.CONFUSION_METRICS},
        "protocol": protocol,
        "n_clips": len(p.paths),
        "n_speakers": len(speakers),
        "intervals": score_intervals(p.targets, p.probabilities, p.persons, resamples, seed),
        "labels": list(p.labels),
        "per_class": {
            label: {name: column[index].item() for name, column in columns.items()}
            for index, label in enumerate(p.labels)
        },
        "confusion": scores.confusion.tolist(),
        "per_speaker": per_speaker,
        "worst_speaker": _worst_first(per_speaker)[0],
        "per_sex": per_sex,
        "sex_gap_accuracy": gap,
        "per_intensity": {name: summary(clips) for name, clips in clips_by_name(p.intensities).items()},
        "calibration": metrics.calibration(p.targets, p.probabilities),
        "selective": plain(metrics.selective(p.targets, p.probabilities)),
    }


def _worst_first(per_speaker: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return sorted(per_speaker, key=lambda name: (per_speaker[name]["uar"], per_speaker[name]["accuracy"], name))


def write_report(
    out: Path,
    predictions: Predictions,
    protocol: str,
    extra: Mapping[str, Any],
    epochs: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Writes evaluation.json, predictions.csv and pictures (confusion, report, speakers, calibration) into a folder.

    Each file is replaced whole or not at all, evaluation.json last: where it stands, the others stand too.

    Args:
        out: the folder, made where it is missing.
        predictions: of one part.
        protocol: the stamp of every number.
        extra: what else evaluation.json shall hold, such as checkpoint, part and warnings; NaN becomes null.
        epochs: the lines of the run's metrics.jsonl; where there are some, curves.png shows them.

    Returns:
        The path of evaluation.json, whose content `format_report` prints.

    Raises:
        DiskError: a file cannot be written.
        ValueError: `extra` would overwrite a score.
    """
    evaluation = evaluate(predictions, protocol)
    if taken := sorted(evaluation.keys() & extra.keys()):
        raise ValueError(f"extra would overwrite {taken} of the evaluation")
    text = json.dumps(plain({**evaluation, **extra}), indent=2, allow_nan=False)
    confusion = np.array(evaluation["confusion"])
    chance = 1 / np.count_nonzero(confusion.sum(1))  # the best UAR of a guess that does not listen
    counts = metrics.calibration_counts(predictions.targets, predictions.probabilities)
    uar, ece = f"UAR {100 * evaluation['uar']:.1f} %", f"ECE {100 * evaluation['calibration']['ece']:.1f} %"
    figures = {
        "confusion.png": pictures.confusion_figure(confusion, predictions.labels, f"Confusion, {uar} [{protocol}]"),
        "speakers.png": pictures.speakers_figure(evaluation["per_speaker"], chance, f"Speakers, {uar} [{protocol}]"),
        "report.png": report_figure(evaluation, f"Classification report, {uar} [{protocol}]"),
        "calibration.png": pictures.calibration_figure(counts, f"Calibration, {ece} [{protocol}]"),
    }
    epochs = [line for line in epochs if line.keys() >= {"train", "valid", "best", "protocol"}]  # not by another hand
    if epochs:
        figures["curves.png"] = curves_figure(epochs, f"Learning curves [{epochs[-1]['protocol']}]")
    files = {name: pictures.figure_png(figure) for name, figure in figures.items()}
    files["predictions.csv"] = to_csv([((), predictions)])
    files["evaluation.json"] = (text + "\n").encode()
    write_files(out, files)
    return out / "evaluation.json"


def write_files(out: Path, files: Mapping[str, bytes]) -> None:
    """Writes files into a folder, in order, each replaced whole or not at all.

    Raises:
        DiskError: a file cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            write_atomically(out / name, content)
    except OSError as error:
        raise DiskError(f"cannot write the report into {out} ({free_space(out)}): {error.strerror or error}") from error


def plain(value: Any) -> Any:
    """The value as strict JSON has it: no NaN or infinity, no arrays, no paths."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def format_report(evaluation: Mapping[str, Any]) -> str:
    """Tables for a terminal of 100 columns, from `evaluate` or from evaluation.json; every table bears the protocol."""
    e, stamp = evaluation, f"[{evaluation['protocol']}]"
    people = _count(e["n_speakers"], "speaker")
    about = [str(e[key]) for key in ("checkpoint", "part") if e.get(key)]
    clips = f"{_count(e['n_clips'], 'clip')} of {people} {stamp}"
    opening = [f"{', '.join(about)}: {clips}" if about else clips]
    opening += [f"warning: {warning}" for warning in e.get("warnings") or []]
    lines = [line for entry in opening for line in wrap(entry)] + ["", "Scores, with 95 % intervals"]
    for name, title in HEADLINES.items():
        bounds = e["intervals"][name]
        interval = f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f} over" if bounds else "no interval:"
        lines += wrap(f"  {title:<12}{percent(e[name])} %  ({interval} {people})  {stamp}")
    if 1 < e["n_speakers"] < FEW_SPEAKERS:
        lines += [f"  With {people} the intervals are narrower than they should be (serx/evaluation/intervals.py)."]
    if alone := e.get("alone"):
        heard = f"UAR {percent(alone['uar']).strip()} %, accuracy {percent(alone['accuracy']).strip()} %"
        lines += wrap(f"  of voices that are not enrolled, each clip heard by itself: {heard}")
    calibration = e["calibration"]
    row = f"  NLL {calibration['nll']:.3f} nats, Brier {calibration['brier']:.3f}, ECE {100 * calibration['ece']:.1f} %"
    lines += wrap(f"{row}  {stamp}")
    if "calibration_before" in e:
        nll, ece = e["calibration_before"]["nll"], 100 * e["calibration_before"]["ece"]
        lines += [f"  before its temperature of {e['temperature']:.2f}: NLL {nll:.3f} nats, ECE {ece:.1f} %"]

    if e.get("unlike_training") is not None:
        lines += [f"  clips unlike the recordings it was trained on:{percent(e['unlike_training'])} %"]

    rows = [[x, *map(percent, (c["precision"], c["recall"], c["f1"])), c["support"]] for x, c in e["per_class"].items()]
    lines += table(f"By emotion, % {stamp}", ["", "precision", "recall", "F1", "clips"], rows)

    labels = e["labels"]
    room = WIDTH - 2 - max(len(label[:16]) for label in labels)
    shown = room // (2 + max(5, *(len(label[:9]) for label in labels)))  # columns that fit beside each other
    for start in range(0, len(labels), shown):
        rows = []
        for label, counts in zip(labels, e["confusion"], strict=True):
            total = sum(counts)
            cells = [percent(count / total) if total else "-" for count in counts[start : start + shown]]
            rows.append([label[:16], *cells])
        header = ["", *(label[:9] for label in labels[start : start + shown])]
        lines += table(f"Confusion: predictions in columns, % of each true emotion {stamp}", header, rows)

    rows = [
        [f"{row['confidence']:.0%}", percent(row["coverage"]), percent(row["accuracy"])]
        for row in e["selective"]
        if row["accuracy"] is not None
    ]
    if rows:
        title = f"Where its confidence is so high or higher, as predict.py --sure asks for, % {stamp}"
        lines += table(title, ["", "clips", "right"], rows)

    groups = e["per_speaker"]
    rows = [[name, groups[name]["sex"] or "-", *_scores(groups[name])] for name in _worst_first(groups)]
    lines += table(f"By speaker, worst first, % {stamp}", ["", "sex", "UAR", "accuracy", "clips"], rows)
    if e["per_sex"]:
        rows = [[name, *_scores(group), group["n_speakers"]] for name, group in e["per_sex"].items()]
        lines += table(f"By sex, % {stamp}", ["", "UAR", "accuracy", "clips", "speakers"], rows)
    if e["sex_gap_accuracy"] is not None:
        lines += [f"  male minus female: {e['sex_gap_accuracy']:+.1f} points of accuracy"]
    if e["per_intensity"]:
        rows = [[name, *_scores(group)] for name, group in e["per_intensity"].items()]
        lines += table(f"By intensity, % {stamp}", ["", "UAR", "accuracy", "clips"], rows)
    return "\n".join(lines) + "\n"


def wrap(text: str) -> list[str]:
    """The text in lines of the terminal."""
    return textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [[cell.replace("|", "\\|") for cell in cells] for cells in (header, *rows)]
    lines.insert(1, ["---"] * len(header))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def percent(fraction: float) -> str:
    """A fraction as a table shows it, with one decimal."""
    return f"{100 * fraction:5.1f}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _scores(group: Mapping[str, Any]) -> list[str]:
    return [percent(group["uar"]), percent(group["accuracy"]), str(group["n_clips"])]


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of a titled table after a blank line: the first column flush left, the others flush right."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    body = [
        "  " + "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in cells
    ]
    return ["", *wrap(title), *body]
