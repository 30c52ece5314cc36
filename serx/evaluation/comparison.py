"""Runs and cross-validations of the same clips compared speaker by speaker.

The clips of one speaker are not independent, so speakers are the units. The interval of the difference resamples them
(the same resample for both runs). Two tests ask whether more speakers gain than lose: Wilcoxon's signed-rank test
(Wilcoxon 1945) weighs how much, the sign test how many.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serx.errors import DataError
from serx.evaluation.finished_runs import FinishedRun
from serx.evaluation.pooling import FoldResult, pooled_protocol, speaker_confusions, summarize_folds
from serx.evaluation.predictions import Predictions, join
from serx.evaluation.ratings import Ratings, join_ratings, mean_ccc, speaker_sums
from serx.evaluation.report import write_files
from serx.files import to_json
from serx.metrics.classification import CONFUSION_METRICS
from serx.metrics.intervals import RESAMPLES, bootstrap_interval
from serx.metrics.regression import REGRESSION_METRICS
from serx.training.resume import flat

# Settings that say where a run takes place, or that a cross-validation replaces in each of its runs.
NOT_COMPARED = {
    "data.cache", "data.placement", "data.fold", "train.device", "train.threads", "train.output", "train.seed",
}  # fmt: skip
COMPARISON = "comparison.json"


def compare(a: Sequence[FoldResult], b: Sequence[FoldResult], resamples: int = RESAMPLES) -> dict[str, Any]:
    """The difference A - B of two cross-validations, ready for JSON; all scores are means over seeds.

    Returns:
        `protocol` of A and of B, `n_speakers`, and for UAR and accuracy the scores `a` and `b`, their `difference`, its
        95 % `interval` over speakers (None for a single speaker), `wilcoxon_p` and `sign_p` over speakers (two-sided; 1
        if no speaker differs), and how many speakers are `better` and `worse` under A; `per_speaker` scores and
        differences. If both predict dimensions, the same of their mean CCC under `ccc`, and of each under `dimensions`.

    Raises:
        DataError: A and B tested different clips or have different labels.

    >>> def result(*probabilities_of_happy):
    ...     p = np.array([[happy, 1 - happy] for happy in probabilities_of_happy])
    ...     clips = ("a.wav", "b.wav"), ("ann", "ben"), (None, None), (None, None), np.array([0, 0])
    ...     return FoldResult(0, 0, "kfold fold 0", Predictions(*clips, p, ("happy", "sad")))
    >>> accuracy = compare([result(0.9, 0.8)], [result(0.9, 0.3)])["accuracy"]
    >>> accuracy["difference"], accuracy["better"], accuracy["worse"]
    (0.5, 1, 0)
    """
    every = [*a, *b]
    of_emotions = any(r.predictions is not None for r in every)
    of_dimensions = all(r.ratings is not None for r in every)
    result: dict[str, Any] = {"protocol": {"a": _protocol(a), "b": _protocol(b)}}
    per_speaker: dict[str, dict[str, float]] = {}
    if of_emotions:
        runs_a, runs_b = _by_seed(a), _by_seed(b)
        _check_same_labels(runs_a[0], runs_b[0])
        _check_same_clips([(p, p.targets) for p in (*runs_a, *runs_b)])
        counts = speaker_confusions([*runs_a, *runs_b])  # (S, seeds of A + seeds of B, C, C)
        names = sorted(set(runs_a[0].speaker_ids))
        for name in ("uar", "accuracy"):
            result[name] = _compared(name, CONFUSION_METRICS[name], counts, len(runs_a), names, per_speaker, resamples)
    if of_dimensions:
        rated_a, rated_b = _ratings_by_seed(a), _ratings_by_seed(b)
        if rated_a[0].dimensions != rated_b[0].dimensions:
            each = f"A has the dimensions {', '.join(rated_a[0].dimensions)}, B {', '.join(rated_b[0].dimensions)}"
            raise DataError(f"{each}: nothing to compare")
        # Values as they are read from ratings.csv.
        _check_same_clips([(r, [tuple(f"{v:.6g}" for v in row) for row in r.targets]) for r in (*rated_a, *rated_b)])
        of_speakers = speaker_sums([*rated_a, *rated_b])
        sums = np.array(list(of_speakers.values()))  # (S, seeds of A + seeds of B, D, 6)
        arguments = len(rated_a), list(of_speakers)
        result["ccc"] = _compared("ccc", mean_ccc, sums, *arguments, per_speaker, resamples)
        result["dimensions"] = {
            name: _compared(name, REGRESSION_METRICS["ccc"], sums[:, :, i], *arguments, {}, resamples)
            for i, name in enumerate(rated_a[0].dimensions)
        }
    if not of_emotions and not of_dimensions:
        raise DataError("only one of the two predicts dimensions: nothing to compare")
    return {**result, "n_speakers": len(per_speaker), "per_speaker": per_speaker}


def _compared(
    name: str,
    metric: Callable[[np.ndarray], np.ndarray],
    sums: np.ndarray,
    split: int,
    speaker_ids: Sequence[str],
    per_speaker: dict[str, dict[str, float]],
    resamples: int,
) -> dict[str, Any]:
    """The difference in one score, from sums `(S, runs, ...)`, the first `split` runs of A; adds to `per_speaker`."""
    difference = _difference(metric, split)
    bounds = bootstrap_interval(sums, difference, resamples)
    scores = metric(sums)  # (S, seeds of A + seeds of B)
    means = scores[:, :split].mean(1), scores[:, split:].mean(1)
    gains = np.round(means[0] - means[1], 12)  # so that equal counts give exactly 0
    for speaker_id, score_a, score_b, gain in zip(speaker_ids, *means, gains, strict=True):
        scored = {f"{name}_a": float(score_a), f"{name}_b": float(score_b), name: float(gain)}
        per_speaker[speaker_id] = per_speaker.get(speaker_id, {}) | scored
    return {
        "a": float(metric(sums[:, :split].sum(0)).mean()),
        "b": float(metric(sums[:, split:].sum(0)).mean()),
        "difference": float(difference(sums.sum(0))),
        "interval": None if bounds is None else list(bounds),
        **_tests(gains),
    }


def compare_runs(runs: Sequence[FinishedRun]) -> dict[str, Any]:
    """All runs in one table, and each compared with the first, ready for JSON.

    Returns:
        `runs`, each with its `run` (the folder), `protocol`, `n_clips`, `n_speakers`, `n_seeds`, `uar` and its
        `uar_interval` over speakers, `accuracy`, `folds` (the UAR of each) and `sex_gap_accuracy`, in points; of
        dimensions `ccc` (the mean), its `ccc_interval`, and the CCC of each under `dimensions`. Without emotions
        `folds` are the mean CCC of each;
        `comparisons` of the second and each further `run` (a) with the first, the `reference` (b), as `compare` gives
        them for the folds that both have, or `not_compared` and why;
        `settings` that differ: dotted key -> the values of the runs (None in a model without it), None if a run does
        not record its settings;
        `curves`, for each run the means over its trainings: lists `epoch`, `train_uar`, `train_loss`, `valid_uar`,
        `valid_loss`, and `train_ccc`, `valid_ccc` of dimensions.

    Raises:
        DataError: fewer than two runs.
    """
    if len(runs) < 2:
        raise DataError("give two or more finished runs to compare")
    return {
        "runs": [_run(run) for run in runs],
        "comparisons": [_comparison(run, runs[0]) for run in runs[1:]],
        "settings": differing_settings([run.config for run in runs]),
        "curves": [_mean_curves(run.curves) for run in runs],
    }


def write_comparison(out: Path, result: Mapping[str, Any]) -> None:
    """Writes comparison.json into a folder.

    Raises:
        DiskError: the file cannot be written.
    """
    write_files(out, {COMPARISON: to_json(result)})


def _run(run: FinishedRun) -> dict[str, Any]:
    summary = summarize_folds(run.results)
    row = {
        "run": run.name,
        "protocol": _protocol(run.results),
        "n_clips": summary["n_clips"],
        "n_speakers": summary["n_speakers"],
        "n_seeds": len(summary["seeds"]),
    }
    if "uar" in summary:
        row |= {
            "uar": summary["uar"],
            "uar_interval": summary["intervals"]["uar"],
            "accuracy": summary["accuracy"],
            "folds": summary["per_fold"]["uar"],
            "sex_gap_accuracy": summary["sex_gap_accuracy"],
        }
    if "dimensions" in summary:
        scores = summary["dimensions"]
        row |= {
            "ccc": scores["mean"]["ccc"],
            "ccc_interval": scores["mean"]["interval"],
            "dimensions": {name: of["ccc"] for name, of in scores.items() if name != "mean"},
            "folds": row.get("folds", summary["per_fold"]["ccc"]),
        }
    return row


def _comparison(run: FinishedRun, reference: FinishedRun) -> dict[str, Any]:
    names = {"run": run.name, "reference": reference.name}
    a, b = run.results, reference.results
    common = {r.fold for r in a} & {r.fold for r in b}
    if common:  # without a common fold, `compare` names what differs
        a, b = ([r for r in results if r.fold in common] for results in (a, b))
    try:
        return {**names, **compare(a, b)}
    except DataError as error:
        return {**names, "not_compared": str(error)}


def _mean_curves(curves: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, list[float | None]]:
    """The mean over trainings of loss, UAR and CCC of each epoch, over those that came so far."""
    epochs = sorted({line["epoch"] for lines in curves for line in lines})
    result: dict[str, list[float | None]] = {"epoch": [epoch + 1 for epoch in epochs]}
    rated = any(line[part] and "ccc" in line[part] for lines in curves for line in lines for part in ("train", "valid"))
    for part in ("train", "valid"):
        for key in ("uar", "loss", *(["ccc"] if rated else [])):
            values: dict[int, list[float]] = {epoch: [] for epoch in epochs}
            for line in (line for lines in curves for line in lines):
                if line[part] and key in line[part]:
                    values[line["epoch"]].append(line[part][key])
            result[f"{part}_{key}"] = [float(np.mean(values[e])) if values[e] else None for e in epochs]
    return result


def differing_settings(configs: Sequence[Mapping[str, Any] | None]) -> dict[str, list[Any]] | None:
    """The settings that differ between runs: dotted key -> the values of the runs, in their order.

    A key that only some of several models have gets None for the others. None if a configuration is unknown.
    """
    known = [flat(dict(config)) for config in configs if config is not None]
    if len(known) < len(configs):
        return None
    keys = sorted({key for config in known for key in config} - NOT_COMPARED)
    values = {key: [config.get(key) for config in known] for key in keys}
    return {key: row for key, row in values.items() if any(value != row[0] for value in row[1:])}


def _protocol(results: Sequence[FoldResult]) -> str:
    """The stamp of a run as it is, or those of several folds as one."""
    return results[0].protocol if len(results) == 1 else pooled_protocol(results)


def _by_seed(results: Sequence[FoldResult]) -> list[Predictions]:
    seeds = sorted({r.seed for r in results})
    return [join([r.emotions for r in results if r.seed == seed]) for seed in seeds]


def _ratings_by_seed(results: Sequence[FoldResult]) -> list[Ratings]:
    seeds = sorted({r.seed for r in results})
    return [join_ratings([r.ratings for r in results if r.seed == seed and r.ratings is not None]) for seed in seeds]


def _check_same_labels(a: Predictions, b: Predictions) -> None:
    if a.labels != b.labels:
        raise DataError(f"A has the labels {', '.join(a.labels)}, B {', '.join(b.labels)}: nothing to compare")


def _check_same_clips(tested: Sequence[tuple[Predictions | Ratings, Iterable[Any]]]) -> None:
    """Refuses different clips or targets. Clips are identified by speaker and file name, because the corpus may have
    moved; by the whole path if a name occurs twice.
    """

    def clips(names: Callable[[str], str]) -> list[Counter[tuple[str, str, Any]]]:
        return [
            Counter(zip(run.speaker_ids, map(names, run.paths), targets, strict=True))
            for run, targets in ((run, list(targets)) for run, targets in tested)
        ]

    runs = clips(lambda path: Path(path).name)
    if any(number > 1 for of_run in runs for number in of_run.values()):
        runs = clips(str)
    for of_run in runs[1:]:
        if differing := (runs[0] - of_run) + (of_run - runs[0]):
            speaker_id, name, _ = min(differing, key=lambda clip: clip[:2])
            raise DataError(
                f"the two tested different clips ({sum(differing.values())} in only one of them, such as {name} of "
                f"{speaker_id}): compare runs of the same data, protocol and folds, both finished"
            )


def _difference(metric: Callable[[np.ndarray], np.ndarray], split: int) -> Callable[[np.ndarray], np.ndarray]:
    """From counts `(..., runs, C, C)`, the runs of A first, to the mean of A minus the mean of B."""
    return lambda counts: metric(counts)[..., :split].mean(-1) - metric(counts)[..., split:].mean(-1)


def _tests(gains: np.ndarray) -> dict[str, Any]:
    from scipy import stats  # noqa: PLC0415 (takes 0.5 s, and only comparisons need it)

    better, worse = int((gains > 0).sum()), int((gains < 0).sum())
    if better + worse == 0:
        return {"better": 0, "worse": 0, "wilcoxon_p": 1.0, "sign_p": 1.0}
    return {
        "better": better,
        "worse": worse,
        "wilcoxon_p": float(stats.wilcoxon(gains).pvalue),
        "sign_p": float(stats.binomtest(better, better + worse).pvalue),
    }
