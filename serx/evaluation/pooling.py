"""The folds of a protocol pooled: every clip is predicted by a model that was not trained on its speaker, then scored.

Pooled scores weigh all clips alike, whichever fold tests them. With several seeds, the clips of each seed are pooled,
and the scores are means over seeds. Their intervals resample speakers with all seeds of a speaker together, because a
second seed is not a second speaker.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serx import metrics, plots
from serx.errors import DataError
from serx.evaluation.predictions import Predictions, from_csv, join, to_csv
from serx.evaluation.report import report_head, report_tables, write_files
from serx.evaluation.scores import score_predictions, score_votes
from serx.evaluation.stamps import fold_names, pooled_stamp
from serx.evaluation.tables import percent
from serx.files import plain, read_json, to_json
from serx.metrics.classification import CONFUSION_METRICS
from serx.metrics.intervals import RESAMPLES, bootstrap_interval, clips_by_name
from serx.terminal import Block, Table, as_text, wrap

RESULT, EVALUATION, PREDICTIONS = "cross_validation.json", "evaluation.json", "predictions.csv"
ROUNDING = 1e-9  # of a UAR
COLUMNS = ("seed", "fold")
FOLDS_IN_A_LINE = 8  # of the table of all runs
# Entries of the JSON about folds that are not pooled, and their names in the report.
NOT_POOLED = {"skipped": "skipped", "failed": "failed", "missing": "missing", "incomplete_seeds": "not pooled"}


@dataclass(frozen=True)
class FoldResult:
    """The predictions for the test part of one fold by the model of one seed.

    Attributes:
        protocol: the protocol stamp of the fold's evaluation.
        without_adaptation: UAR and accuracy of the same clips without speaker adaptation, if the model was adapted.

    >>> p = Predictions(("a.wav",), ("ann",), (None,), (None,), np.array([0]), np.array([[0.9, 0.1]]), ("happy", "sad"))
    >>> FoldResult(seed=0, fold=2, protocol="loso fold 2", predictions=p).predictions.predicted
    array([0])
    """

    seed: int
    fold: int
    protocol: str
    predictions: Predictions
    without_adaptation: Mapping[str, float] | None = None


def complete_seeds(results: Sequence[FoldResult]) -> tuple[list[FoldResult], list[str]]:
    """The results of the seeds that can be pooled, and a line on each seed that cannot be yet.

    Those are the seeds with the most folds (among equals, the folds of the first seed): a mean over seeds, one of which
    has tested half of the speakers, would be a mean over different speakers.
    """
    folds = {seed: sorted(r.fold for r in results if r.seed == seed) for seed in _sorted(r.seed for r in results)}
    most = max(folds.values(), key=len, default=[])
    incomplete = [f"seed {seed}, which has only {fold_names(own)} yet" for seed, own in folds.items() if own != most]
    return [r for r in results if folds[r.seed] == most], incomplete


def summarize_folds(results: Sequence[FoldResult], resamples: int = RESAMPLES) -> dict[str, Any]:
    """All scores of the folds, ready for JSON: those of `score_predictions` for all clips, and more.

    `accuracy`, `uar`, `macro_f1` and `weighted_f1` are means over seeds of pooled scores; `intervals` are over
    speakers. `seeds` holds the scores of each seed, `folds` those of each fold, `per_fold` their means over seeds in
    the order of the folds, `fold_mean` and `fold_std` (n - 1) the mean and standard deviation of those. `run_std`
    (n - 1) is the standard deviation of all runs, every fold under every seed.

    Raises:
        DataError: no fold, folds with different labels, a clip that two folds of one seed tested, or seeds that tested
            different folds.
    """
    if not results:
        raise DataError("no fold has been tested yet")
    if complete_seeds(results)[1]:
        raise DataError("the seeds have tested different folds; pass the results of complete_seeds")
    seeds = {
        seed: join([r.predictions for r in results if r.seed == seed]) for seed in _sorted(r.seed for r in results)
    }
    for seed, pooled in seeds.items():
        if len(set(pooled.paths)) < len(pooled.paths):
            raise DataError(f"seed {seed}: folds share clips of their test parts; keep one protocol in one folder")
    everything = join(list(seeds.values()))
    confusions = speaker_confusions(list(seeds.values()))  # (S, seeds, C, C)
    folds = [
        {
            "seed": r.seed,
            "fold": r.fold,
            "protocol": r.protocol,
            **_scores(r.predictions),
            "without_adaptation": r.without_adaptation,
        }
        for r in results
    ]
    numbers = _sorted(r.fold for r in results)
    per_fold = {
        name: [float(np.mean([f[name] for f in folds if f["fold"] == number])) for number in numbers]
        for name in CONFUSION_METRICS
    }
    scores = score_predictions(everything, pooled_protocol(results), resamples)
    if "votes" in scores:  # the same clips under every seed have the same raters
        of_one_seed = score_votes(next(iter(seeds.values())), resamples)
        scores["votes"] |= {name: of_one_seed[name] for name in ("tied", "rater")}
    for name, metric in CONFUSION_METRICS.items():
        scores[name] = float(metric(confusions.sum(0)).mean())
        bounds = bootstrap_interval(confusions, _mean_over_seeds(metric), resamples)
        scores["intervals"][name] = None if bounds is None else list(bounds)
    return {
        **scores,
        "n_clips": len(set(everything.paths)),
        "seeds": [{"seed": seed, **_scores(pooled)} for seed, pooled in seeds.items()],
        "folds": folds,
        "per_fold": {"fold": numbers, **per_fold},
        "fold_mean": {name: float(np.mean(values)) for name, values in per_fold.items()},
        "fold_std": {
            name: float(np.std(values, ddof=1)) if len(values) > 1 else None for name, values in per_fold.items()
        },
        "run_std": {
            name: float(np.std([f[name] for f in folds], ddof=1)) if len(folds) > 1 else None
            for name in CONFUSION_METRICS
        },
    }


def speaker_confusions(runs: Sequence[Predictions]) -> np.ndarray:
    """`(S, runs, C, C)` counts: the confusion matrix of each speaker in each run, speakers sorted by name."""
    speaker_ids = sorted({speaker_id for p in runs for speaker_id in p.speaker_ids})
    counts = np.zeros((len(speaker_ids), len(runs), len(runs[0].labels), len(runs[0].labels)))
    for run, p in enumerate(p.with_class() for p in runs):
        predicted = p.predicted
        for speaker_id, clips in clips_by_name(p.speaker_ids).items():
            matrix = metrics.confusion_matrix(p.targets[clips], predicted[clips], len(p.labels))
            counts[speaker_ids.index(speaker_id), run] = matrix
    return counts


def _mean_over_seeds(metric: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """From counts `(..., seeds, C, C)` to the mean of a metric over the seeds."""
    return lambda counts: metric(counts).mean(-1)


def pooled_protocol(results: Sequence[FoldResult]) -> str:
    """The protocol stamp of all folds together."""
    return pooled_stamp([r.protocol for r in results], {r.fold for r in results}, {r.seed for r in results})


def write_cross_validation(out: Path, results: Sequence[FoldResult], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Writes predictions.csv, confusion.png, speakers.png and, last, cross_validation.json; returns its content.

    Args:
        out: the folder, created if it is missing.
        results: of the folds.
        extra: further entries of the JSON, such as the folds that are missing.

    Raises:
        DataError: the folds do not fit together.
        DiskError: a file cannot be written.
    """
    summary = plain({**summarize_folds(results), **extra})
    protocol, title = summary["protocol"], f"UAR {100 * summary['uar']:.1f} %"
    confusion = np.array(summary["confusion"])
    chance = 1 / np.count_nonzero(confusion.sum(1))
    figures = {
        "confusion.png": plots.confusion_figure(
            confusion, summary["labels"], f"Confusion matrix, {title} [{protocol}]"
        ),
        "speakers.png": plots.speakers_figure(summary["per_speaker"], chance, f"Speakers, {title} [{protocol}]"),
    }
    files = {PREDICTIONS: to_csv([((r.seed, r.fold), r.predictions) for r in results], COLUMNS)}
    files |= {name: plots.figure_png(figure) for name, figure in figures.items()}
    files[RESULT] = to_json(summary)
    write_files(out, files)
    return summary


def read_cross_validation(out: Path) -> list[FoldResult]:
    """The folds that `write_cross_validation` wrote into a folder.

    Raises:
        DataError: there is no cross-validation in the folder.
    """
    try:
        summary = read_json(out / RESULT)
        protocols = {(fold["seed"], fold["fold"]): fold["protocol"] for fold in summary["folds"]}
        groups = from_csv(out / PREDICTIONS, COLUMNS)
        return [FoldResult(int(s), int(f), protocols[int(s), int(f)], rows) for (s, f), rows in groups]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{out}: no finished cross-validation ({error}); run cross-validate first") from error


def read_evaluation(folder: Path) -> FoldResult:
    """What `Evaluation.write` wrote into a folder, as fold 0 of seed 0.

    Raises:
        DataError: the evaluation cannot be read, or its predictions do not give its scores.
    """
    try:
        evaluation = read_json(folder / EVALUATION)
        [(_, predictions)] = from_csv(folder / PREDICTIONS)
        known = predictions.with_class()
        uar = metrics.score(known.targets, known.predicted, known.labels).uar
        whole = len(predictions.paths) == evaluation["n_clips"] and abs(uar - evaluation["uar"]) < ROUNDING
        unadapted = evaluation.get("without_adaptation")
        if not isinstance(evaluation["protocol"], str) or not all(math.isfinite(n) for n in (unadapted or {}).values()):
            raise TypeError("protocol or without_adaptation is of another type")
        result = FoldResult(0, 0, evaluation["protocol"], predictions, unadapted)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder}: no complete evaluation ({error}); evaluate the run again") from error
    if not whole:
        raise DataError(f"{folder}: {PREDICTIONS} does not give the scores of {EVALUATION}; evaluate the run again")
    return result


def format_cross_validation(summary: Mapping[str, Any]) -> str:
    """The text report: protocol and clips, the scores of each fold, then the scores of all clips pooled."""
    return as_text(cross_validation_blocks(summary))


def cross_validation_blocks(summary: Mapping[str, Any]) -> list[Block]:
    """The same report as lines and tables."""
    several = len(summary["seeds"]) > 1
    rows = [[_fold_name(f), f["seed"], *_row(f), len(f["speakers"])] for f in summary["folds"]]
    if len(summary["per_fold"]["fold"]) > 1:
        mean = [percent(summary["fold_mean"][name]) for name in ("uar", "accuracy", "macro_f1")]
        rows.append(["mean", "", *mean, "", ""])
    title = "By corpus left out, %" if _is_loco(summary) else "By fold, %"
    lines: list[Block] = [*report_head(summary)]
    lines.append(Table(title, ["", "seed", "UAR", "accuracy", "macro F1", "clips", "speakers"], rows))
    if several:
        lines += _seeds_by_folds(summary)
    lines += _deviations(summary)
    if several:
        rows = [[f"seed {s['seed']}", *_row(s)] for s in summary["seeds"]]
        lines.append(Table("By seed, folds pooled, %", ["", "UAR", "accuracy", "macro F1", "clips"], rows))
    if plain_scores := [fold["without_adaptation"] for fold in summary["folds"] if fold.get("without_adaptation")]:
        uar, accuracy = (f"{100 * np.mean([s[name] for s in plain_scores]):.1f} %" for name in ("uar", "accuracy"))
        lines += wrap(f"  without speaker adaptation: UAR {uar}, accuracy {accuracy}, mean of the folds")
    for key, title in NOT_POOLED.items():
        lines += [line for entry in summary.get(key) or [] for line in wrap(f"{title}: {entry}")]
    seeds = "; scores are means over seeds, tables count a clip once for each seed" if several else ""
    lines += ["", f"All folds pooled{seeds}"]
    return [*lines, *report_tables(summary)]


def _seeds_by_folds(summary: Mapping[str, Any]) -> list[Table]:
    """The UAR of every run: a row for each seed, a column for each fold, as many as fit a line, and both means."""
    numbers, seeds = summary["per_fold"]["fold"], [s["seed"] for s in summary["seeds"]]
    uar = {(f["seed"], f["fold"]): f["uar"] for f in summary["folds"]}
    names = {f["fold"]: _fold_name(f) if _is_loco(summary) else f"fold {f['fold']}" for f in summary["folds"]}
    tables: list[Table] = []
    for start in range(0, len(numbers), FOLDS_IN_A_LINE):
        shown = numbers[start : start + FOLDS_IN_A_LINE]
        rows = [[f"seed {seed}", *(percent(uar[seed, n]) for n in shown)] for seed in seeds]
        rows.append(["mean", *(percent(np.mean([uar[seed, n] for seed in seeds])) for n in shown)])
        if len(shown) == len(numbers):
            for row, own in zip(rows, [*([s] for s in seeds), seeds], strict=True):
                row.append(percent(np.mean([uar[seed, n] for seed in own for n in numbers])))
        header = ["", *(names[n] for n in shown), *(["mean"] if len(shown) == len(numbers) else [])]
        tables.append(Table("UAR of every run, %", header, rows))
    return tables


def _deviations(summary: Mapping[str, Any]) -> list[str]:
    """Mean and standard deviation of the folds; with several seeds also that of all runs, which is larger."""
    folds, seeds, runs = len(summary["per_fold"]["fold"]), len(summary["seeds"]), len(summary["folds"])

    def scores(deviation: str) -> str:
        mean, std = summary["fold_mean"], summary[deviation]
        names = {"uar": "UAR", "accuracy": "accuracy", "macro_f1": "macro F1"}
        return ", ".join(f"{title} {100 * mean[n]:.1f} +- {100 * std[n]:.1f}" for n, title in names.items())

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


def _row(scores: Mapping[str, Any]) -> list[str]:
    return [*(percent(scores[name]) for name in ("uar", "accuracy", "macro_f1")), str(scores["n_clips"])]


def _scores(p: Predictions) -> dict[str, Any]:
    known = p.with_class()
    counts = metrics.confusion_matrix(known.targets, known.predicted, len(p.labels))
    scores = {name: float(metric(counts)) for name, metric in CONFUSION_METRICS.items()}
    return {**scores, "n_clips": len(p.paths), "speakers": sorted(set(p.speaker_ids))}


def _sorted(numbers: Iterable[int]) -> list[int]:
    return sorted(set(numbers))
