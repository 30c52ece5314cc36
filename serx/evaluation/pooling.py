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
from serx.evaluation.ratings import (
    Ratings,
    join_ratings,
    ratings_csv,
    ratings_from_csv,
    ratings_head,
    score_rating_runs,
    score_ratings,
)
from serx.evaluation.report import report_head, report_tables, write_files
from serx.evaluation.scores import score_predictions, score_votes
from serx.evaluation.stamps import fold_names, pooled_stamp
from serx.evaluation.tables import percent
from serx.files import plain, read_json, to_json
from serx.metrics.classification import CONFUSION_METRICS
from serx.metrics.intervals import RESAMPLES, bootstrap_interval, clips_by_name
from serx.terminal import Block, Table, as_text, wrap

RESULT, EVALUATION = "cross_validation.json", "evaluation.json"
PREDICTIONS, RATINGS = "predictions.csv", "ratings.csv"
ROUNDING = 1e-9  # of a UAR
CCC_ROUNDING = 1e-6  # of a CCC of values with nine digits
SHOWN = {"uar": "UAR", "accuracy": "accuracy", "macro_f1": "macro F1", "ccc": "CCC"}  # in the tables, in this order
COLUMNS = ("seed", "fold")
FOLDS_IN_A_LINE = 8  # of the table of all runs
# Entries of the JSON about folds that are not pooled, and their names in the report.
NOT_POOLED = {"skipped": "skipped", "failed": "failed", "missing": "missing", "incomplete_seeds": "not pooled"}


@dataclass(frozen=True)
class FoldResult:
    """The predictions for the test part of one fold by the model of one seed.

    Attributes:
        protocol: the protocol stamp of the fold's evaluation.
        predictions: of emotions; None for a model of dimensions alone.
        ratings: of dimensions; None for a model of emotions alone.
        without_adaptation: UAR and accuracy of the same clips without speaker adaptation, if the model was adapted.
        corpus_probe: how well a probe tells the corpus from the model's embedding, where there are several corpora.

    >>> p = Predictions(("a.wav",), ("ann",), (None,), (None,), np.array([0]), np.array([[0.9, 0.1]]), ("happy", "sad"))
    >>> FoldResult(seed=0, fold=2, protocol="loso fold 2", predictions=p).paths
    ('a.wav',)
    """

    seed: int
    fold: int
    protocol: str
    predictions: Predictions | None
    without_adaptation: Mapping[str, float] | None = None
    ratings: Ratings | None = None
    corpus_probe: Mapping[str, Any] | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """The audio files of the clips."""
        clips = self.ratings if self.predictions is None else self.predictions
        return () if clips is None else clips.paths

    @property
    def speaker_ids(self) -> tuple[str, ...]:
        """The speakers of the clips."""
        clips = self.ratings if self.predictions is None else self.predictions
        return () if clips is None else clips.speaker_ids

    @property
    def emotions(self) -> Predictions:
        """The predictions of emotions.

        Raises:
            DataError: the model predicts dimensions alone.
        """
        if self.predictions is None:
            raise DataError("a model of dimensions alone has no predictions of emotions; see data.tasks")
        return self.predictions


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
    speakers. So are the scores of `dimensions`, as of `score_ratings`. `seeds` holds the scores of each seed, `folds`
    those of each fold, `per_fold` their means over seeds in the order of the folds, `fold_mean` and `fold_std` (n - 1)
    the mean and standard deviation of those. `run_std` (n - 1) is the standard deviation of all runs, every fold under
    every seed. There, `ccc` is the mean over the dimensions.

    Raises:
        DataError: no fold, folds with different labels or dimensions, a clip that two folds of one seed tested, or
            seeds that tested different folds.
    """
    if not results:
        raise DataError("no fold has been tested yet")
    if complete_seeds(results)[1]:
        raise DataError("the seeds have tested different folds; pass the results of complete_seeds")
    by_seed = {seed: [r for r in results if r.seed == seed] for seed in _sorted(r.seed for r in results)}
    for seed, own in by_seed.items():
        paths = [path for r in own for path in r.paths]
        if len(set(paths)) < len(paths):
            raise DataError(f"seed {seed}: folds share clips of their test parts; keep one protocol in one folder")
    if len({(r.predictions is None, r.ratings is None) for r in results}) > 1:
        raise DataError("folds of different data.tasks cannot be scored together")
    pooled = [_pooled(own) for own in by_seed.values()]
    folds = [
        {
            "seed": r.seed,
            "fold": r.fold,
            "protocol": r.protocol,
            **_scores(r),
            "without_adaptation": r.without_adaptation,
            "corpus_probe": r.corpus_probe,
        }
        for r in results
    ]
    numbers = _sorted(r.fold for r in results)
    names = [name for name in (*CONFUSION_METRICS, "ccc") if name in folds[0]]
    per_fold = {
        name: [float(np.mean([f[name] for f in folds if f["fold"] == number])) for number in numbers] for name in names
    }
    stamp = pooled_protocol(results)
    scores = _pooled_emotions([r.emotions for r in pooled], stamp, resamples) if pooled[0].predictions else {}
    runs = [r.ratings for r in pooled if r.ratings is not None]
    if runs:
        scores = {**(scores or ratings_head(runs[0], stamp)), "dimensions": score_rating_runs(runs, resamples)}
    probes = [r.corpus_probe for r in results if r.corpus_probe is not None]
    return {
        **scores,
        **({"corpus_probe": _mean_probe(probes)} if probes else {}),
        "n_clips": len({path for r in results for path in r.paths}),
        "seeds": [{"seed": seed, **_scores(r)} for seed, r in zip(by_seed, pooled, strict=True)],
        "folds": folds,
        "per_fold": {"fold": numbers, **per_fold},
        "fold_mean": {name: float(np.mean(values)) for name, values in per_fold.items()},
        "fold_std": {
            name: float(np.std(values, ddof=1)) if len(values) > 1 else None for name, values in per_fold.items()
        },
        "run_std": {
            name: float(np.std([f[name] for f in folds], ddof=1)) if len(folds) > 1 else None for name in names
        },
    }


def _pooled(results: Sequence[FoldResult]) -> FoldResult:
    """The folds of one seed as one, with the clips of all."""
    predictions = [r.predictions for r in results if r.predictions is not None]
    ratings = [r.ratings for r in results if r.ratings is not None]
    return FoldResult(
        results[0].seed,
        0,
        results[0].protocol,
        join(predictions) if predictions else None,
        ratings=join_ratings(ratings) if ratings else None,
    )


def _mean_probe(probes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The means over the models of all folds and seeds."""
    means = {name: float(np.mean([probe[name] for probe in probes])) for name in ("balanced_accuracy", "chance")}
    return {**means, "with_training_clips": any(probe["with_training_clips"] for probe in probes)}


def _pooled_emotions(seeds: Sequence[Predictions], stamp: str, resamples: int) -> dict[str, Any]:
    """The scores of emotions over the clips of all seeds: means over seeds of pooled scores, and the tables."""
    confusions = speaker_confusions(seeds)  # (S, seeds, C, C)
    scores = score_predictions(join(seeds), stamp, resamples)
    if "votes" in scores:  # the same clips under every seed have the same raters
        of_one_seed = score_votes(seeds[0], resamples)
        scores["votes"] |= {name: of_one_seed[name] for name in ("tied", "rater")}
    for name, metric in CONFUSION_METRICS.items():
        scores[name] = float(metric(confusions.sum(0)).mean())
        bounds = bootstrap_interval(confusions, _mean_over_seeds(metric), resamples)
        scores["intervals"][name] = None if bounds is None else list(bounds)
    return scores


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


def read_cross_validation(out: Path) -> list[FoldResult]:
    """The folds that `write_cross_validation` wrote into a folder.

    Raises:
        DataError: there is no cross-validation in the folder.
    """
    try:
        summary = read_json(out / RESULT)
        emotions = dict(from_csv(out / PREDICTIONS, COLUMNS)) if "uar" in summary else {}
        ratings = dict(ratings_from_csv(out / RATINGS, COLUMNS)) if "dimensions" in summary else {}
        protocols = {(str(fold["seed"]), str(fold["fold"])): fold["protocol"] for fold in summary["folds"]}
        keys = list(dict.fromkeys([*emotions, *ratings]))
        return [
            FoldResult(int(key[0]), int(key[1]), protocols[key[0], key[1]], emotions.get(key), ratings=ratings.get(key))
            for key in keys
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{out}: no finished cross-validation ({error}); run cross-validate first") from error


def read_evaluation(folder: Path) -> FoldResult:
    """What `Evaluation.write` wrote into a folder, as fold 0 of seed 0.

    Raises:
        DataError: the evaluation cannot be read, or its predictions do not give its scores.
    """
    try:
        evaluation = read_json(folder / EVALUATION)
        if not isinstance(evaluation, dict):
            raise TypeError(f"{EVALUATION} has no names of scores")
        predictions = from_csv(folder / PREDICTIONS)[0][1] if "uar" in evaluation else None
        ratings = ratings_from_csv(folder / RATINGS)[0][1] if "dimensions" in evaluation else None
        faulty = _files_without_their_scores(evaluation, predictions, ratings)
        unadapted = evaluation.get("without_adaptation")
        if not isinstance(evaluation["protocol"], str) or not all(math.isfinite(n) for n in (unadapted or {}).values()):
            raise TypeError("protocol or without_adaptation is of another type")
        probe = _checked_probe(evaluation.get("corpus_probe"))
        result = FoldResult(0, 0, evaluation["protocol"], predictions, unadapted, ratings, probe)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(f"{folder}: no complete evaluation ({error}); evaluate the run again") from error
    if predictions is None and ratings is None:
        raise DataError(f"{folder}: no complete evaluation (it has no scores); evaluate the run again")
    if faulty:
        raise DataError(f"{folder}: {faulty[0]} does not give the scores of {EVALUATION}; evaluate the run again")
    return result


def _checked_probe(probe: Any) -> Any:
    """The entry of an evaluation; a KeyError, TypeError or ValueError if serx has not written it."""
    if probe is not None and not (
        math.isfinite(probe["balanced_accuracy"] + probe["chance"]) and isinstance(probe["with_training_clips"], bool)
    ):
        raise ValueError("corpus_probe is not what serx writes")
    return probe


def _files_without_their_scores(
    evaluation: Mapping[str, Any], predictions: Predictions | None, ratings: Ratings | None
) -> list[str]:
    """The files whose predictions are not those that were scored."""
    faulty = []
    if predictions is not None:
        known = predictions.with_class()
        uar = metrics.score(known.targets, known.predicted, known.labels).uar
        if len(predictions.paths) != evaluation["n_clips"] or abs(uar - evaluation["uar"]) >= ROUNDING:
            faulty.append(PREDICTIONS)
    if ratings is not None:
        ccc = score_ratings(ratings, resamples=1)["mean"]["ccc"]
        written = evaluation["dimensions"]["mean"]["ccc"]
        if len(ratings.paths) != evaluation["n_clips"] or abs(ccc - written) >= CCC_ROUNDING:
            faulty.append(RATINGS)
    return faulty


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


def _scores(result: FoldResult) -> dict[str, Any]:
    scores: dict[str, float] = {}
    if result.predictions is not None:
        known = result.predictions.with_class()
        counts = metrics.confusion_matrix(known.targets, known.predicted, len(known.labels))
        scores = {name: float(metric(counts)) for name, metric in CONFUSION_METRICS.items()}
    if result.ratings is not None:
        scores["ccc"] = score_ratings(result.ratings, resamples=1)["mean"]["ccc"]
    return {**scores, "n_clips": len(result.paths), "speakers": sorted(set(result.speaker_ids))}


def _sorted(numbers: Iterable[int]) -> list[int]:
    return sorted(set(numbers))
