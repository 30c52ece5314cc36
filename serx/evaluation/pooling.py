"""The folds of a protocol taken together: every clip predicted by a model that never met its speaker, then scored.

Pooled figures weigh every clip alike, whichever fold tests it. Under several seeds each is pooled for itself and the
figures are means over seeds; their intervals resample speakers, all seeds of a speaker together, since a second seed
is no second person.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serx import metrics
from serx.errors import DataError
from serx.evaluation.predictions import Predictions, from_csv, join, to_csv
from serx.evaluation.report import format_report, write_files
from serx.evaluation.scores import evaluate, plain
from serx.evaluation.stamps import named, pooled_stamp
from serx.evaluation.tables import percent, table, wrap
from serx.metrics.classification import CONFUSION_METRICS
from serx.metrics.intervals import RESAMPLES, bootstrap_interval, clips_by_name
from serx.plots.evaluation import confusion_figure, speakers_figure
from serx.plots.style import figure_png

RESULT, ROWS = "cross_validation.json", "predictions.csv"
COLUMNS = ("seed", "fold")


@dataclass(frozen=True)
class FoldResult:
    """What the model of one seed said about the test part of one fold; `stamp` is that of its evaluation.

    `alone` are UAR and accuracy of the same clips heard by themselves, where voices were enrolled.
    """

    seed: int
    fold: int
    stamp: str
    predictions: Predictions
    alone: Mapping[str, float] | None = None


def complete_seeds(tested: Sequence[FoldResult]) -> tuple[list[FoldResult], list[str]]:
    """The folds of the seeds that can be pooled side by side, and a line on each seed that must wait.

    Those are the seeds with the most folds (among equals, with the first seed's): a mean over seeds of which one has
    tested half of the speakers would be a mean over other people.
    """
    folds = {seed: sorted(t.fold for t in tested if t.seed == seed) for seed in _in_order(t.seed for t in tested)}
    most = max(folds.values(), key=len, default=[])
    waiting = [f"seed {seed}, which has only {named(own)} yet" for seed, own in folds.items() if own != most]
    return [t for t in tested if folds[t.seed] == most], waiting


def summarize_folds(tested: Sequence[FoldResult], resamples: int = RESAMPLES) -> dict[str, Any]:
    """Every score of the folds, ready for JSON: what `report.evaluate` says of all clips, and more.

    `accuracy`, `uar`, `macro_f1` and `weighted_f1` are means over seeds of pooled figures, `seeds` holds each seed's,
    `folds` each fold's, `per_fold` their means over seeds in the order of the folds, with `fold_mean` and `fold_std`
    (n - 1) of those; `intervals` are over speakers.

    Raises:
        DataError: no fold, other labels in one of them, a clip that two folds of one seed tested, or seeds that tested
            different folds.
    """
    if not tested:
        raise DataError("no fold has been tested yet")
    if complete_seeds(tested)[1]:
        raise DataError("seeds have tested different folds; take those of even_seeds")
    seeds = {
        seed: join([t.predictions for t in tested if t.seed == seed]) for seed in _in_order(t.seed for t in tested)
    }
    for seed, pooled in seeds.items():
        if len(set(pooled.paths)) < len(pooled.paths):
            raise DataError(f"seed {seed}: folds share clips of their test parts; keep one protocol in one folder")
    everything = join(list(seeds.values()))
    stamp = stamp_of(tested)
    confusions = speaker_confusions(list(seeds.values()))  # (S, seeds, C, C)
    folds = [
        {"seed": t.seed, "fold": t.fold, "protocol": t.stamp, **_scores(t.predictions), "alone": t.alone}
        for t in tested
    ]
    numbers = _in_order(t.fold for t in tested)
    per_fold = {
        name: [float(np.mean([f[name] for f in folds if f["fold"] == number])) for number in numbers]
        for name in CONFUSION_METRICS
    }
    whole = evaluate(everything, stamp, resamples)
    for name, metric in CONFUSION_METRICS.items():
        whole[name] = float(metric(confusions.sum(0)).mean())
        bounds = bootstrap_interval(confusions, over_seeds(metric), resamples)
        whole["intervals"][name] = None if bounds is None else list(bounds)
    return {
        **whole,
        "n_clips": len(set(everything.paths)),
        "seeds": [{"seed": seed, **_scores(pooled)} for seed, pooled in seeds.items()],
        "folds": folds,
        "per_fold": {"fold": numbers, **per_fold},
        "fold_mean": {name: float(np.mean(values)) for name, values in per_fold.items()},
        "fold_std": {
            name: float(np.std(values, ddof=1)) if len(values) > 1 else None for name, values in per_fold.items()
        },
    }


def speaker_confusions(runs: Sequence[Predictions]) -> np.ndarray:
    """`(S, runs, C, C)` counts: each speaker's confusion matrix in each run, speakers in the order of their names."""
    speaker_ids = sorted({speaker_id for p in runs for speaker_id in p.speaker_ids})
    counts = np.zeros((len(speaker_ids), len(runs), len(runs[0].labels), len(runs[0].labels)))
    for run, p in enumerate(runs):
        guesses = p.probabilities.argmax(1)
        for speaker_id, clips in clips_by_name(p.speaker_ids).items():
            matrix = metrics.confusion_matrix(p.targets[clips], guesses[clips], len(p.labels))
            counts[speaker_ids.index(speaker_id), run] = matrix
    return counts


def over_seeds(metric: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """The mean of a metric over the seeds of counts `(..., seeds, C, C)`."""
    return lambda counts: metric(counts).mean(-1)


def stamp_of(tested: Sequence[FoldResult]) -> str:
    """The stamp of the folds together."""
    return pooled_stamp([t.stamp for t in tested], {t.fold for t in tested}, {t.seed for t in tested})


def write_cross_validation(out: Path, tested: Sequence[FoldResult], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Writes predictions.csv, confusion.png, speakers.png and, last, cross_validation.json; returns its content.

    Args:
        out: the folder, made where it is missing.
        tested: the folds.
        extra: what else the JSON shall hold, such as the folds that are missing.

    Raises:
        DataError: the folds do not fit together.
        DiskError: a file cannot be written.
    """
    summary = plain({**summarize_folds(tested), **extra})
    stamp, title = summary["protocol"], f"UAR {100 * summary['uar']:.1f} %"
    confusion = np.array(summary["confusion"])
    chance = 1 / np.count_nonzero(confusion.sum(1))
    figures = {
        "confusion.png": confusion_figure(confusion, summary["labels"], f"Confusion, {title} [{stamp}]"),
        "speakers.png": speakers_figure(summary["per_speaker"], chance, f"Speakers, {title} [{stamp}]"),
    }
    files = {ROWS: to_csv([((t.seed, t.fold), t.predictions) for t in tested], COLUMNS)}
    files |= {name: figure_png(figure) for name, figure in figures.items()}
    files[RESULT] = (json.dumps(summary, indent=2, allow_nan=False) + "\n").encode()
    write_files(out, files)
    return summary


def read_cross_validation(out: Path) -> list[FoldResult]:
    """The folds that `write_cross_validation` wrote into a folder.

    Raises:
        DataError: there is no cross-validation in the folder.
    """
    try:
        summary = json.loads((out / RESULT).read_text())
        stamps = {(fold["seed"], fold["fold"]): fold["protocol"] for fold in summary["folds"]}
        groups = from_csv(out / ROWS, COLUMNS)
        return [FoldResult(int(s), int(f), stamps[int(s), int(f)], rows) for (s, f), rows in groups]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{out}: no finished cross-validation ({error}); run scripts/cross_validate.py first"
        ) from error


def format_cross_validation(summary: Mapping[str, Any]) -> str:
    """Tables for a terminal of 100 columns: fold by fold, then the pooled clips as a report of one evaluation."""
    stamp, several = summary["protocol"], len(summary["seeds"]) > 1
    rows = [[f"fold {f['fold']}{_left_out(f)}", f["seed"], *_row(f), len(f["speakers"])] for f in summary["folds"]]
    lines = table(f"By fold, % [{stamp}]", ["", "seed", "UAR", "accuracy", "macro F1", "clips", "speakers"], rows)[1:]
    if len(summary["per_fold"]["fold"]) > 1:
        mean, std = summary["fold_mean"], summary["fold_std"]
        told = [f"{100 * mean[n]:.1f} +- {100 * std[n]:.1f}" for n in ("uar", "accuracy", "macro_f1")]
        lines += wrap(f"  mean and deviation of the folds: UAR {told[0]}, accuracy {told[1]}, macro F1 {told[2]}")
    if several:
        rows = [[f"seed {s['seed']}", *_row(s)] for s in summary["seeds"]]
        lines += table(f"By seed, folds pooled, % [{stamp}]", ["", "UAR", "accuracy", "macro F1", "clips"], rows)
    if alone := [fold["alone"] for fold in summary["folds"] if fold.get("alone")]:
        uar, accuracy = (float(np.mean([scores[name] for scores in alone])) for name in ("uar", "accuracy"))
        heard = f"UAR {100 * uar:.1f} %, accuracy {100 * accuracy:.1f} %, mean of the folds"
        lines += wrap(f"  of voices that are not enrolled, each clip heard by itself: {heard}")
    for key in ("skipped", "failed", "missing", "uncounted"):
        lines += [line for told in summary.get(key) or [] for line in wrap(f"{key}: {told}")]
    lines += [
        "",
        "All folds pooled" + ("; means over seeds, and tables that count a clip once a seed" if several else ""),
    ]
    return "\n".join(lines) + "\n" + format_report(summary)


def _left_out(fold: Mapping[str, Any]) -> str:
    """Which corpus a fold of cross_corpus has left out: its number does not tell."""
    corpora = sorted({speaker.partition("/")[0] for speaker in fold["speakers"]})
    return f" ({', '.join(corpora)})" if fold["protocol"].startswith("cross_corpus") else ""


def _row(scores: Mapping[str, Any]) -> list[str]:
    return [*(percent(scores[name]) for name in ("uar", "accuracy", "macro_f1")), str(scores["n_clips"])]


def _scores(p: Predictions) -> dict[str, Any]:
    counts = metrics.confusion_matrix(p.targets, p.probabilities.argmax(1), len(p.labels))
    scores = {name: float(metric(counts)) for name, metric in CONFUSION_METRICS.items()}
    return {**scores, "n_clips": len(p.paths), "speakers": sorted(set(p.speaker_ids))}


def _in_order(numbers: Any) -> list[int]:
    return sorted(set(numbers))
