"""The pooled scores of a cross-validation as text, tables, figures and files."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serx import plots
from serx.evaluation.pooling import FoldResult, summarize_folds
from serx.evaluation.predictions import to_csv
from serx.evaluation.ratings import ratings_csv
from serx.evaluation.report import PREDICTIONS, RATINGS, report_head, report_tables, write_files
from serx.evaluation.tables import percent
from serx.files import plain, to_json
from serx.terminal import Block, Table, as_text, wrap

RESULT = "cross_validation.json"
SHOWN = {"uar": "UAR", "accuracy": "accuracy", "macro_f1": "macro F1", "ccc": "CCC"}  # in the tables, in this order
COLUMNS = ("seed", "fold")  # the first ones of the CSV files
FOLDS_IN_A_LINE = 8  # of the table of all runs
# Entries of the JSON about folds that are not pooled, and their names in the report.
NOT_POOLED = {"skipped": "skipped", "failed": "failed", "missing": "missing", "incomplete_seeds": "not pooled"}


def write_cross_validation(out: Path, results: Sequence[FoldResult], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Writes predictions.csv, confusion.png, speakers.png and, last, cross_validation.json; returns its content.

    Dimensions are in ratings.csv; without emotions there are only that and cross_validation.json.

    Args:
        out: the folder, created if it is missing.
        results: of the folds.
        extra: further entries of the JSON, such as the folds that are missing.

    Raises:
        DataError: the folds do not fit together.
        DiskError: a file cannot be written.
    """
    summary = plain({**summarize_folds(results), **extra})
    emotions = [((r.seed, r.fold), r.predictions) for r in results if r.predictions is not None]
    ratings = [((r.seed, r.fold), r.ratings) for r in results if r.ratings is not None]
    files: dict[str, bytes] = {}
    if emotions:
        files[PREDICTIONS] = to_csv(emotions, COLUMNS)
        files |= _figures(summary)
    if ratings:
        files[RATINGS] = ratings_csv(ratings, COLUMNS)
    files[RESULT] = to_json(summary)
    write_files(out, files)
    return summary


def _figures(summary: Mapping[str, Any]) -> dict[str, bytes]:
    protocol, title = summary["protocol"], f"UAR {100 * summary['uar']:.1f} %"
    confusion = np.array(summary["confusion"])
    chance = 1 / np.count_nonzero(confusion.sum(1))
    figures = {
        "confusion.png": plots.confusion_figure(
            confusion, summary["labels"], f"Confusion matrix, {title} [{protocol}]"
        ),
        "speakers.png": plots.speakers_figure(summary["per_speaker"], chance, f"Speakers, {title} [{protocol}]"),
    }
    return {name: plots.figure_png(figure) for name, figure in figures.items()}


def format_cross_validation(summary: Mapping[str, Any]) -> str:
    """The text report: protocol and clips, the scores of each fold, then the scores of all clips pooled."""
    return as_text(cross_validation_blocks(summary))


def cross_validation_blocks(summary: Mapping[str, Any]) -> list[Block]:
    """The same report as lines and tables."""
    several = len(summary["seeds"]) > 1
    shown = _shown(summary)
    rows = [[_fold_name(f), f["seed"], *_row(f, shown), len(f["speakers"])] for f in summary["folds"]]
    if len(summary["per_fold"]["fold"]) > 1:
        rows.append(["mean", "", *(_cell(name, summary["fold_mean"][name]) for name in shown), "", ""])
    title = "By corpus left out" if _is_loco(summary) else "By fold"
    unit = ", %" if "uar" in shown else ""
    lines: list[Block] = [*report_head(summary)]
    lines.append(Table(f"{title}{unit}", ["", "seed", *shown.values(), "clips", "speakers"], rows))
    if several:
        lines += _seeds_by_folds(summary)
    lines += _deviations(summary)
    if several:
        rows = [[f"seed {s['seed']}", *_row(s, shown)] for s in summary["seeds"]]
        lines.append(Table(f"By seed, folds pooled{unit}", ["", *shown.values(), "clips"], rows))
    if plain_scores := [fold["without_adaptation"] for fold in summary["folds"] if fold.get("without_adaptation")]:
        uar, accuracy = (f"{100 * np.mean([s[name] for s in plain_scores]):.1f} %" for name in ("uar", "accuracy"))
        lines += wrap(f"  without speaker adaptation: UAR {uar}, accuracy {accuracy}, mean of the folds")
    for key, title in NOT_POOLED.items():
        lines += [line for entry in summary.get(key) or [] for line in wrap(f"{title}: {entry}")]
    seeds = "; scores are means over seeds, tables count a clip once for each seed" if several else ""
    lines += ["", f"All folds pooled{seeds}"]
    return [*lines, *report_tables(summary)]


def _shown(summary: Mapping[str, Any]) -> dict[str, str]:
    """The scores of the tables, and their titles: of emotions, of dimensions, or of both."""
    return {name: title for name, title in SHOWN.items() if name in summary["fold_mean"]}


def _cell(name: str, score: float) -> str:
    return f"{score:.3f}" if name == "ccc" else percent(score)


def _seeds_by_folds(summary: Mapping[str, Any]) -> list[Table]:
    """The UAR of every run: a row for each seed, a column for each fold, as many as fit a line, and both means.

    Of a model of dimensions alone, their mean CCC.
    """
    score, title = next(iter(_shown(summary).items()))
    unit = "" if score == "ccc" else ", %"
    numbers, seeds = summary["per_fold"]["fold"], [s["seed"] for s in summary["seeds"]]
    of_run = {(f["seed"], f["fold"]): f[score] for f in summary["folds"]}
    names = {f["fold"]: _fold_name(f) if _is_loco(summary) else f"fold {f['fold']}" for f in summary["folds"]}
    tables: list[Table] = []
    for start in range(0, len(numbers), FOLDS_IN_A_LINE):
        shown = numbers[start : start + FOLDS_IN_A_LINE]
        rows = [[f"seed {seed}", *(_cell(score, of_run[seed, n]) for n in shown)] for seed in seeds]
        rows.append(["mean", *(_cell(score, np.mean([of_run[seed, n] for seed in seeds])) for n in shown)])
        if len(shown) == len(numbers):
            for row, own in zip(rows, [*([s] for s in seeds), seeds], strict=True):
                row.append(_cell(score, np.mean([of_run[seed, n] for seed in own for n in numbers])))
        header = ["", *(names[n] for n in shown), *(["mean"] if len(shown) == len(numbers) else [])]
        tables.append(Table(f"{title} of every run{unit}", header, rows))
    return tables


def _deviations(summary: Mapping[str, Any]) -> list[str]:
    """Mean and standard deviation of the folds; with several seeds also that of all runs, which is larger."""
    folds, seeds, runs = len(summary["per_fold"]["fold"]), len(summary["seeds"]), len(summary["folds"])

    def scores(deviation: str) -> str:
        mean, std = summary["fold_mean"], summary[deviation]
        return ", ".join(
            f"{title} {_cell(n, mean[n]).strip()} +- {_cell(n, std[n]).strip()}" for n, title in _shown(summary).items()
        )

    lines: list[str] = []
    if folds > 1:
        each = f", each the mean of {seeds} seeds" if seeds > 1 else ""
        lines += wrap(f"  mean and standard deviation of the {folds} folds{each}: {scores('fold_std')}")
    if seeds > 1:
        every = f"of all {runs} runs, {folds} {'fold' if folds == 1 else 'folds'} x {seeds} seeds"
        lines += wrap(f"  mean and standard deviation {every}: {scores('run_std')}")
    return lines


def _is_loco(summary: Mapping[str, Any]) -> bool:
    return str(summary["folds"][0]["protocol"]).startswith("loco ")


def _fold_name(fold: Mapping[str, Any]) -> str:
    """The number of a fold and, where it leaves a corpus out, the corpus; under loco the corpus alone."""
    corpora = ", ".join(sorted({speaker.partition("/")[0] for speaker in fold["speakers"]}))
    if fold["protocol"].startswith("loco "):
        return corpora
    return f"fold {fold['fold']}" + (f" ({corpora})" if fold["protocol"].startswith("cross_corpus") else "")


def _row(scores: Mapping[str, Any], shown: Iterable[str]) -> list[str]:
    return [*(_cell(name, scores[name]) for name in shown), str(scores["n_clips"])]
