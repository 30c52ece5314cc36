"""Two cross-validations of the same clips compared speaker by speaker, and a table of many.

The clips of one speaker are not independent, so speakers are the units. The interval of the difference resamples them
(the same resample for both runs). Two tests ask whether more speakers gain than lose: Wilcoxon's signed-rank test
(Wilcoxon 1945) weighs how much, the sign test how many.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from serx.errors import DataError
from serx.evaluation.pooling import (
    RESULT,
    FoldResult,
    pooled_protocol,
    read_cross_validation,
    speaker_confusions,
    summarize_folds,
)
from serx.evaluation.predictions import Predictions, join
from serx.evaluation.report import write_files
from serx.evaluation.scores import to_json
from serx.evaluation.stamps import is_adapted
from serx.evaluation.tables import markdown, percent, table, wrap
from serx.metrics.classification import CONFUSION_METRICS
from serx.metrics.intervals import RESAMPLES, bootstrap_interval, few_speakers_warning
from serx.training.resume import flat

COMPARED = {"uar": "UAR", "accuracy": "accuracy"}
# Settings that say where a run takes place, or that a cross-validation replaces in each of its runs.
NOT_COMPARED = {
    "data.cache", "data.placement", "data.fold", "train.device", "train.threads", "train.output", "train.seed",
}  # fmt: skip
COMPARISON = "comparison.json"
COLUMNS = ("run", "UAR of each fold", "UAR", "accuracy", "male - female", "UAR - first row")


def compare(a: Sequence[FoldResult], b: Sequence[FoldResult], resamples: int = RESAMPLES) -> dict[str, Any]:
    """The difference A - B of two cross-validations, ready for JSON; all scores are means over seeds.

    Returns:
        `protocol` of A and of B, `n_speakers`, and for UAR and accuracy the scores `a` and `b`, their `difference`, its
        95 % `interval` over speakers (None for a single speaker), `wilcoxon_p` and `sign_p` over speakers (two-sided; 1
        if no speaker differs), and how many speakers are `better` and `worse` under A; `per_speaker` scores and
        differences.

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
    runs_a, runs_b = _by_seed(a), _by_seed(b)
    _check_same_clips(runs_a, runs_b)
    counts = speaker_confusions([*runs_a, *runs_b])  # (S, seeds of A + seeds of B, C, C)
    speaker_ids, split = sorted(set(runs_a[0].speaker_ids)), len(runs_a)
    result: dict[str, Any] = {
        "protocol": {"a": pooled_protocol(a), "b": pooled_protocol(b)},
        "n_speakers": len(speaker_ids),
    }
    per_speaker: dict[str, dict[str, float]] = {speaker_id: {} for speaker_id in speaker_ids}
    for name in COMPARED:
        metric = CONFUSION_METRICS[name]
        difference = _difference(metric, split)
        bounds = bootstrap_interval(counts, difference, resamples)
        scores = metric(counts)  # (S, seeds of A + seeds of B)
        means = scores[:, :split].mean(1), scores[:, split:].mean(1)
        gains = np.round(means[0] - means[1], 12)  # so that equal counts give exactly 0
        result[name] = {
            "a": float(metric(counts[:, :split].sum(0)).mean()),
            "b": float(metric(counts[:, split:].sum(0)).mean()),
            "difference": float(difference(counts.sum(0))),
            "interval": None if bounds is None else list(bounds),
            **_tests(gains),
        }
        for speaker_id, score_a, score_b, gain in zip(speaker_ids, *means, gains, strict=True):
            per_speaker[speaker_id] |= {f"{name}_a": float(score_a), f"{name}_b": float(score_b), name: float(gain)}
    return {**result, "per_speaker": per_speaker}


def compare_cross_validations(a: Path, b: Path, out: Path | None = None) -> str:
    """Compares the folds that two folders have in common.

    Args:
        a, b: folders of finished cross-validations.
        out: a folder for comparison.json; None writes nothing.

    Returns:
        The text report.

    Raises:
        DataError: a folder holds no cross-validation, or the two tested different clips.
        DiskError: the file cannot be written.
    """
    results_a, results_b = read_cross_validation(a), read_cross_validation(b)
    common = {r.fold for r in results_a} & {r.fold for r in results_b}
    if common:  # without a common fold, `compare` names what differs
        results_a, results_b = ([r for r in results if r.fold in common] for results in (results_a, results_b))
    result = {**compare(results_a, results_b), "settings": differing_settings(a, b)}
    if out:
        write_files(out, {COMPARISON: to_json(result)})
    return format_comparison(result, (str(a), str(b)))


def differing_settings(a: Path, b: Path) -> dict[str, list[Any]] | None:
    """The settings that differ between two cross-validations: dotted key -> the values of A and of B.

    A key that only one of two models has gets None for the other. None if a folder does not record its settings.
    """
    configs = [json.loads((folder / RESULT).read_text()).get("config") for folder in (a, b)]
    if None in configs:
        return None
    flat_a, flat_b = map(flat, configs)
    keys = sorted((flat_a.keys() | flat_b.keys()) - NOT_COMPARED)
    return {key: [flat_a.get(key), flat_b.get(key)] for key in keys if flat_a.get(key) != flat_b.get(key)}


def _settings_lines(settings: Mapping[str, Sequence[Any]] | None) -> list[str]:
    """What differs between A and B; of two kinds of model only what both have, since the rest follows from the kind."""
    if settings is None:
        return ["settings that differ: unknown, because one of the two does not record its settings"]
    if not settings:
        return ["settings that differ: none"]
    other_model = "model.kind" in settings
    left_out = [key for key, values in settings.items() if other_model and key.startswith("model.") and None in values]
    lines = ["settings that differ (A -> B):"]
    for key, (value_a, value_b) in settings.items():
        if key not in left_out:
            lines += wrap(f"  {key}: {_shown(value_a)} -> {_shown(value_b)}")
    if left_out:
        lines += wrap(f"  and {len(left_out)} settings that only one of the two models has")
    return lines


def _shown(value: Any) -> str:
    """A value as YAML writes it."""
    return value if isinstance(value, str) else json.dumps(value)


def format_comparison(result: Mapping[str, Any], names: tuple[str, str]) -> str:
    """The text report of `compare`; `names` are those of A and B."""
    protocol_a, protocol_b = result["protocol"]["a"], result["protocol"]["b"]
    lines = wrap(f"A: {names[0]} [{protocol_a}]") + wrap(f"B: {names[1]} [{protocol_b}]")
    if is_adapted(protocol_a) != is_adapted(protocol_b):
        adapted = "A" if is_adapted(protocol_a) else "B"
        lines += wrap(
            f"DIFFERENT PROTOCOLS: only {adapted} is adapted to each speaker, which is part of the difference"
        )
    if "settings" in result:
        lines += _settings_lines(result["settings"])
    for name, title in COMPARED.items():
        r = result[name]
        interval = f"{100 * r['interval'][0]:+.1f} to {100 * r['interval'][1]:+.1f}" if r["interval"] else "no interval"
        lines += wrap(
            f"  {title}: A {100 * r['a']:.1f} %, B {100 * r['b']:.1f} %, A - B {100 * r['difference']:+.1f} points "
            f"(95 %: {interval}, over {result['n_speakers']} speakers)"
        )
        lines += wrap(
            f"    better for {r['better']}, worse for {r['worse']} speakers; "
            f"Wilcoxon p {_p_value(r['wilcoxon_p'])}, sign test p {_p_value(r['sign_p'])}"
        )
    if warning := few_speakers_warning(result["n_speakers"]):
        lines += wrap(f"  {warning}")
    ranked = sorted(result["per_speaker"].items(), key=lambda item: (item[1]["uar"], item[0]))
    rows = [[name, *(percent(s[key]) for key in ("uar_a", "uar_b")), f"{100 * s['uar']:+.1f}"] for name, s in ranked]
    return "\n".join(lines + table("By speaker, UAR in %", ["", "A", "B", "A - B"], rows)) + "\n"


def comparison_table(folders: Sequence[Path]) -> str:
    """A Markdown table with a row for each finished cross-validation, in %; the first row is the reference.

    Intervals (95 %) are over speakers. A row that tested other clips than the first has no difference; a row under
    another protocol says so.

    Raises:
        DataError: a folder holds no cross-validation.
    """
    runs = [read_cross_validation(folder) for folder in folders]
    protocol = pooled_protocol(runs[0])
    summaries = [summarize_folds(results) for results in runs]
    rows = [
        _row(folder, results, summary, runs[0], protocol)
        for folder, results, summary in zip(folders, runs, summaries, strict=True)
    ]
    notes = []
    if any(len(summary["seeds"]) > 1 for summary in summaries):
        notes.append("The UAR of a fold is the mean over the seeds of its row.")
    if warning := few_speakers_warning(min(summary["n_speakers"] for summary in summaries)):
        notes.append(warning)
    return f"{protocol}:\n\n{markdown(COLUMNS, rows)}" + (f"\n{' '.join(notes)}\n" if notes else "")


def _row(
    folder: Path,
    results: Sequence[FoldResult],
    summary: Mapping[str, Any],
    first: Sequence[FoldResult],
    protocol: str,
) -> list[str]:
    own = summary["protocol"]
    if results is first:
        difference = "-"
    elif is_adapted(own) != is_adapted(protocol):
        difference = "another protocol"
    else:
        try:
            uar = compare(results, first)["uar"]
            difference = f"{100 * uar['difference']:+.1f}{_interval(uar['interval'], '+.1f')}"
        except DataError:
            difference = "other clips"
    return [
        f"`{folder}`" if own == protocol else f"`{folder}` [{own}]",
        ", ".join(percent(uar).strip() for uar in summary["per_fold"]["uar"]),
        f"{percent(summary['uar']).strip()}{_interval(summary['intervals']['uar'], '.1f')}",
        percent(summary["accuracy"]).strip(),
        "" if summary["sex_gap_accuracy"] is None else f"{summary['sex_gap_accuracy']:+.1f}",
        difference,
    ]


def _interval(bounds: Sequence[float] | None, form: str) -> str:
    return f" ({100 * bounds[0]:{form}} to {100 * bounds[1]:{form}})" if bounds else ""


def _p_value(p: float) -> str:
    """A p-value with three digits; a smaller one is a bound, never 0."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"


def _by_seed(results: Sequence[FoldResult]) -> list[Predictions]:
    seeds = sorted({r.seed for r in results})
    return [join([r.predictions for r in results if r.seed == seed]) for seed in seeds]


def _check_same_clips(a: Sequence[Predictions], b: Sequence[Predictions]) -> None:
    """Refuses different clips. Clips are identified by speaker and file name, because the corpus may have moved; by the
    whole path if a name occurs twice.
    """
    if a[0].labels != b[0].labels:
        raise DataError(f"A has the labels {', '.join(a[0].labels)}, B {', '.join(b[0].labels)}: nothing to compare")
    runs = [Counter(_clips(p, [Path(path).name for path in p.paths])) for p in (*a, *b)]
    if any(number > 1 for clips in runs for number in clips.values()):
        runs = [Counter(_clips(p, p.paths)) for p in (*a, *b)]
    for clips in runs[1:]:
        if differing := (runs[0] - clips) + (clips - runs[0]):
            speaker_id, name, _ = min(differing)
            raise DataError(
                f"the two tested different clips ({sum(differing.values())} in only one of them, such as {name} of "
                f"{speaker_id}): compare runs of the same data, protocol and folds, both finished"
            )


def _clips(p: Predictions, names: Sequence[str]) -> list[tuple[str, str, int]]:
    return list(zip(p.speaker_ids, names, p.targets.tolist(), strict=True))


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
