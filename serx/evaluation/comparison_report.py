"""A comparison of runs as text, as tables of a terminal, and as a Markdown table."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serx.evaluation.stamps import is_adapted
from serx.evaluation.tables import markdown, percent
from serx.metrics.intervals import few_speakers_warning
from serx.terminal import Block, Table, as_text, wrap

COMPARED = {"uar": "UAR", "accuracy": "accuracy", "ccc": "mean CCC"}  # those that a comparison has are shown
EPOCHS_SHOWN = 9  # in a line of the text report
COLUMNS = ("run", "UAR of each fold", "UAR", "accuracy", "male - female", "UAR - first row")
CCC_COLUMNS = ("run", "mean CCC of each fold", "mean CCC", "mean CCC - first row")


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


def letter(number: int) -> str:
    """The letter of a run in a report: A for the first; the 27th is AA.

    >>> letter(0), letter(25), letter(26)
    ('A', 'Z', 'AA')
    """
    return (letter(number // 26 - 1) if number >= 26 else "") + chr(ord("A") + number % 26)


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


def _bounds(bounds: Sequence[float] | None, form: str, factor: float = 100) -> str:
    return f"{factor * bounds[0]:{form}} to {factor * bounds[1]:{form}}" if bounds else "-"


def _interval(bounds: Sequence[float] | None, form: str, factor: float = 100) -> str:
    return f" ({_bounds(bounds, form, factor)})" if bounds else ""


def _p_value(p: float) -> str:
    """A p-value with three digits; a smaller one is a bound, never 0."""
    return f"{p:.3f}" if p >= 0.001 else "< 0.001"
