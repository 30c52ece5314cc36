"""One evaluation as a person reads it: scores by class, speaker, sex and intensity, each under its protocol's name."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serx import metrics
from serx.errors import DiskError
from serx.evaluation.predictions import Predictions, to_csv
from serx.evaluation.scores import _worst_first, evaluate, plain
from serx.evaluation.tables import WIDTH, percent, table, wrap
from serx.files import free_space, write_atomically
from serx.metrics.intervals import FEW_SPEAKERS
from serx.plots.evaluation import calibration_figure, confusion_figure, report_figure, speakers_figure
from serx.plots.style import figure_png
from serx.plots.training import curves_figure

HEADLINES = {"uar": "UAR", "accuracy": "accuracy", "macro_f1": "macro F1", "weighted_f1": "weighted F1"}


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
        "confusion.png": confusion_figure(confusion, predictions.labels, f"Confusion, {uar} [{protocol}]"),
        "speakers.png": speakers_figure(evaluation["per_speaker"], chance, f"Speakers, {uar} [{protocol}]"),
        "report.png": report_figure(evaluation, f"Classification report, {uar} [{protocol}]"),
        "calibration.png": calibration_figure(counts, f"Calibration, {ece} [{protocol}]"),
    }
    epochs = [line for line in epochs if line.keys() >= {"train", "valid", "best", "protocol"}]  # not by another hand
    if epochs:
        figures["curves.png"] = curves_figure(epochs, f"Learning curves [{epochs[-1]['protocol']}]")
    files = {name: figure_png(figure) for name, figure in figures.items()}
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
        title = f"Where its confidence is so high or higher, as predict.py --min-confidence asks for, % {stamp}"
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


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _scores(group: Mapping[str, Any]) -> list[str]:
    return [percent(group["uar"]), percent(group["accuracy"]), str(group["n_clips"])]
