"""Runs and cross-validations of the same clips compared speaker by speaker, and tables of several.

The clips of one speaker are not independent, so speakers are the units. The interval of the difference resamples them
(the same resample for both runs). Two tests ask whether more speakers gain than lose: Wilcoxon's signed-rank test
(Wilcoxon 1945) weighs how much, the sign test how many.
"""

import json
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
from serx.evaluation.stamps import is_adapted
from serx.evaluation.tables import markdown, percent
from serx.files import to_json
from serx.metrics.classification import CONFUSION_METRICS
from serx.metrics.intervals import RESAMPLES, bootstrap_interval, few_speakers_warning
from serx.metrics.regression import REGRESSION_METRICS
from serx.terminal import Block, Table, as_text, wrap
from serx.training.resume import flat

COMPARED = {"uar": "UAR", "accuracy": "accuracy", "ccc": "mean CCC"}  # those that a comparison has are shown
# Settings that say where a run takes place, or that a cross-validation replaces in each of its runs.
NOT_COMPARED = {
    "data.cache", "data.placement", "data.fold", "train.device", "train.threads", "train.output", "train.seed",
}  # fmt: skip
COMPARISON = "comparison.json"
EPOCHS_SHOWN = 9  # in a line of the text report
COLUMNS = ("run", "UAR of each fold", "UAR", "accuracy", "male - female", "UAR - first row")
CCC_COLUMNS = ("run", "mean CCC of each fold", "mean CCC", "mean CCC - first row")


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


def settings_to_show(settings: Mapping[str, Sequence[Any]]) -> tuple[dict[str, list[str]], int]:
    """The settings as YAML writes their values; of several kinds of model only what all have.

    The rest follows from the kind. Returns how many settings were left out, too.
    """
    other_model = "model.kind" in settings
    left_out = {key for key, values in settings.items() if other_model and key.startswith("model.") and None in values}
    shown = {key: [_shown(value) for value in values] for key, values in settings.items() if key not in left_out}
    return shown, len(left_out)


def _settings_lines(settings: Mapping[str, Sequence[Any]] | None, number: int) -> list[str]:
    """What differs between the runs."""
    if settings is None:
        return ["settings that differ: unknown, because a run does not record its settings"]
    if not settings:
        return ["settings that differ: none"]
    shown, left_out = settings_to_show(settings)
    lines = [f"settings that differ ({' -> '.join(map(letter, range(number)))}):"]
    for key, values in shown.items():
        lines += wrap(f"  {key}: {' -> '.join(values)}")
    if left_out:
        lines += wrap(f"  and {left_out} settings that only some of the models have")
    return lines


def _shown(value: Any) -> str:
    """A value as YAML writes it."""
    return value if isinstance(value, str) else json.dumps(value)


def letter(number: int) -> str:
    """The letter of a run in a report: A for the first; the 27th is AA.

    >>> letter(0), letter(25), letter(26)
    ('A', 'Z', 'AA')
    """
    return (letter(number // 26 - 1) if number >= 26 else "") + chr(ord("A") + number % 26)


def format_comparison(result: Mapping[str, Any]) -> str:
    """The text report of `compare_runs`."""
    return as_text(comparison_blocks(result))


def comparison_blocks(result: Mapping[str, Any]) -> list[Block]:
    """The same report as lines and tables."""
    runs, comparisons = result["runs"], result["comparisons"]
    lines: list[Block] = []
    for i, run in enumerate(runs):
        lines += wrap(f"{letter(i)}: {run['run']} [{run['protocol']}]")
    rows = [[letter(i), *_score_cells(r, runs), r["n_clips"], r["n_speakers"] or "-", r["n_seeds"]]
            for i, r in enumerate(runs)]  # fmt: skip
    header = ["", *(["UAR", "95 %", "accuracy"] if _have(runs, "uar") else [])]
    header += [*(["mean CCC", "95 %"] if _have(runs, "ccc") else []), *_dimensions(runs), "clips", "speakers", "seeds"]
    unit = ", %," if _have(runs, "uar") else ""
    lines += [Table(f"Scores{unit} with 95 % intervals over speakers", header, rows), ""]
    lines += _settings_lines(result["settings"], len(runs))
    lines += _curve_table(result["curves"])
    for i, comparison in enumerate(comparisons, 1):
        lines += ["", *_comparison_lines(comparison, letter(i), letter(0))]
    if warning := few_speakers_warning(min(run["n_speakers"] for run in runs)):
        lines += ["", *wrap(warning)]
    return [*lines, *_speaker_table(comparisons)]


def _have(runs: Sequence[Mapping[str, Any]], score: str) -> bool:
    return any(score in run for run in runs)


def _dimensions(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run.get("dimensions", ())))


def _score_cells(run: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """The scores of a run, in the columns that some of the runs have."""
    cells = []
    if _have(runs, "uar"):
        known = "uar" in run
        cells += [percent(run["uar"]), _bounds(run["uar_interval"], ".1f"), percent(run["accuracy"])] if known else []
        cells += [] if known else ["-"] * 3
    if _have(runs, "ccc"):
        known = "ccc" in run
        cells += [f"{run['ccc']:.3f}", _bounds(run["ccc_interval"], ".3f", 1)] if known else ["-"] * 2
        of = run.get("dimensions", {})
        cells += [f"{of[name]:.3f}" if name in of else "-" for name in _dimensions(runs)]
    return cells


def shown_scores(comparison: Mapping[str, Any]) -> dict[str, str]:
    """The scores that a comparison has, and their titles."""
    of_dimensions = {name: f"CCC of {name}" for name in comparison.get("dimensions", ())}
    titles = {name: title for name, title in COMPARED.items() if name in comparison}
    return {**titles, **(of_dimensions if len(of_dimensions) > 1 else {})}


def score_of(comparison: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The difference in one of `shown_scores`."""
    return comparison[name] if name in COMPARED else comparison["dimensions"][name]


def _comparison_lines(comparison: Mapping[str, Any], a: str, b: str) -> list[str]:
    """The differences of one run from the first, and the tests."""
    if "not_compared" in comparison:
        return wrap(f"{a} - {b}: not compared: {comparison['not_compared']}")
    protocols = comparison["protocol"]
    lines = wrap(f"{a} - {b}, over {comparison['n_speakers']} speakers, {protocols['a']}")
    if warning := different_protocols(protocols, a, b):
        lines += wrap(warning)
    for name, title in shown_scores(comparison).items():
        r = score_of(comparison, name)
        factor, digits, unit, points = (100, 1, " %", " points") if name in ("uar", "accuracy") else (1, 3, "", "")
        interval = _bounds(r["interval"], f"+.{digits}f", factor) if r["interval"] else "no interval"
        lines += wrap(
            f"  {title}: {a} {factor * r['a']:.{digits}f}{unit}, {b} {factor * r['b']:.{digits}f}{unit}, {a} - {b} "
            f"{factor * r['difference']:+.{digits}f}{points} (95 %: {interval})"
        )
        lines += wrap(f"    {format_tests(r)}")
    return lines


def different_protocols(protocols: Mapping[str, str], a: str, b: str) -> str | None:
    """A warning if only one of two runs is adapted to each speaker."""
    if is_adapted(protocols["a"]) == is_adapted(protocols["b"]):
        return None
    adapted = a if is_adapted(protocols["a"]) else b
    return f"DIFFERENT PROTOCOLS: only {adapted} is adapted to each speaker, which is part of the difference"


def format_tests(scores: Mapping[str, Any]) -> str:
    """How many speakers are better and worse, and the p-values."""
    return (
        f"better for {scores['better']}, worse for {scores['worse']} speakers; "
        f"Wilcoxon p {_p_value(scores['wilcoxon_p'])}, sign test p {_p_value(scores['sign_p'])}"
    )


def _curve_table(curves: Sequence[Mapping[str, Sequence[Any]]]) -> list[Table]:
    """Validation UAR, or else CCC, of each run at some epochs, side by side; nothing if no run was validated."""
    of_emotions = any(uar is not None for c in curves for uar in c["valid_uar"])
    key = "valid_uar" if of_emotions else "valid_ccc"
    by_epoch = [dict(zip(c["epoch"], c.get(key) or [None] * len(c["epoch"]), strict=True)) for c in curves]
    epochs = sorted({epoch for run in by_epoch for epoch, score in run.items() if score is not None})
    if not epochs:
        return []
    chosen = [epochs[i] for i in np.unique(np.linspace(0, len(epochs) - 1, EPOCHS_SHOWN).round().astype(int))]
    show = percent if of_emotions else "{:.3f}".format
    rows = [
        [letter(i), *("-" if run.get(epoch) is None else show(run[epoch]) for epoch in chosen)]
        for i, run in enumerate(by_epoch)
    ]
    title = "Validation UAR by epoch, %" if of_emotions else "Validation mean CCC by epoch"
    return [Table(title, ["", *map(str, chosen)], rows)]


def _speaker_table(comparisons: Sequence[Mapping[str, Any]]) -> list[Table]:
    """UAR, or else CCC, of each speaker under every run; for two runs the difference, too, and in its order."""
    header, rows = speaker_rows(comparisons)
    of_emotions = speaker_score(comparisons) == "uar"
    show, change = (percent, "{:+.1f}") if of_emotions else ("{:.3f}".format, "{:+.3f}")
    shown = [
        [
            name,
            *("-" if score is None else show(score) for score in scores),
            *(change.format((100 if of_emotions else 1) * d) for d in difference),
        ]
        for name, scores, difference in rows
    ]
    title = "By speaker, UAR in %" if of_emotions else "By speaker, mean CCC"
    return [Table(title, ["", *header], shown)] if rows else []


def speaker_score(comparisons: Sequence[Mapping[str, Any]]) -> str:
    """`uar` if speakers are compared by it, else `ccc`."""
    return "ccc" if all("uar" not in c for c in comparisons if "per_speaker" in c) else "uar"


def speaker_rows(
    comparisons: Sequence[Mapping[str, Any]],
) -> tuple[list[str], list[tuple[str, list[float | None], list[float]]]]:
    """Letters of the columns, and for each speaker the scores of all runs (None where not compared): UAR, else CCC.

    For two runs a last column is their difference, and the rows are in its order.
    """
    compared = [c["per_speaker"] for c in comparisons if "per_speaker" in c]
    names = sorted({name for per_speaker in compared for name in per_speaker})
    if not names:
        return [], []
    score = speaker_score(comparisons)
    first = {name: scores.get(f"{score}_b") for per_speaker in compared for name, scores in per_speaker.items()}
    rows = []
    for name in names:
        others = [c.get("per_speaker", {}).get(name, {}) for c in comparisons]
        difference = [others[0][score]] if len(others) == 1 else []
        rows.append((name, [first[name], *(scores.get(f"{score}_a") for scores in others)], difference))
    letters = [letter(i) for i in range(len(comparisons) + 1)]
    if len(comparisons) == 1:
        return [*letters, "B - A"], sorted(rows, key=lambda row: (row[2], row[0]))
    return letters, rows


def markdown_comparison(result: Mapping[str, Any]) -> str:
    """`compare_runs` as a Markdown table, in %; the first row is the reference.

    A row under another protocol, or of other clips, says so.
    """
    runs = result["runs"]
    protocol = runs[0]["protocol"]
    of_emotions = _have(runs, "uar")
    rows = []
    for run, comparison in zip(runs, [None, *result["comparisons"]], strict=True):
        name = f"`{run['run']}`" if run["protocol"] == protocol else f"`{run['run']}` [{run['protocol']}]"
        difference = "-" if comparison is None else _difference_cell(comparison, run, runs[0])
        if not of_emotions:
            folds = ", ".join(f"{score:.3f}" for score in run["folds"])
            rows.append([name, folds, f"{run['ccc']:.3f}{_interval(run['ccc_interval'], '.3f', 1)}", difference])
            continue
        gap = run.get("sex_gap_accuracy")
        scores = ["-"] * 3
        if "uar" in run:
            folds = ", ".join(percent(uar).strip() for uar in run["folds"])
            uar = f"{percent(run['uar']).strip()}{_interval(run['uar_interval'], '.1f')}"
            scores = [folds, uar, percent(run["accuracy"]).strip()]
        rows.append([name, *scores, "" if gap is None else f"{gap:+.1f}", difference])
    notes = []
    if any(run["n_seeds"] > 1 for run in runs):
        score = "UAR" if of_emotions else "mean CCC"
        notes.append(f"The {score} of a fold is the mean over the seeds of its row.")
    if warning := few_speakers_warning(min(run["n_speakers"] for run in runs)):
        notes.append(warning)
    table = markdown(COLUMNS if of_emotions else CCC_COLUMNS, rows)
    return f"{protocol}:\n\n{table}" + (f"\n{' '.join(notes)}\n" if notes else "")


def _difference_cell(comparison: Mapping[str, Any], run: Mapping[str, Any], reference: Mapping[str, Any]) -> str:
    if is_adapted(run["protocol"]) != is_adapted(reference["protocol"]):
        return "another protocol"
    if "not_compared" in comparison or comparison["n_speakers"] < max(run["n_speakers"], reference["n_speakers"]):
        return "other clips"
    score, factor, form = ("uar", 100, "+.1f") if "uar" in comparison else ("ccc", 1, "+.3f")
    found = comparison[score]
    return f"{factor * found['difference']:{form}}{_interval(found['interval'], form, factor)}"


def _protocol(results: Sequence[FoldResult]) -> str:
    """The stamp of a run as it is, or those of several folds as one."""
    return results[0].protocol if len(results) == 1 else pooled_protocol(results)


def _bounds(bounds: Sequence[float] | None, form: str, factor: float = 100) -> str:
    return f"{factor * bounds[0]:{form}} to {factor * bounds[1]:{form}}" if bounds else "-"


def _interval(bounds: Sequence[float] | None, form: str, factor: float = 100) -> str:
    return f" ({_bounds(bounds, form, factor)})" if bounds else ""


def _p_value(p: float) -> str:
    """A p-value with three digits; a smaller one is a bound, never 0."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


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
