"""Settings of a recipe beside each other, best first, each also against the recipe as it is.

One of many is best by luck as well. So each difference has an interval over speakers, and `conclusion` says whether the
best can be told from the recipe at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serx.errors import DataError
from serx.evaluation.comparison import compare
from serx.evaluation.pooling import FoldResult, summarize_folds
from serx.evaluation.scores import plain
from serx.evaluation.tables import markdown, percent, table, wrap
from serx.metrics.intervals import RESAMPLES

LONGEST = 46  # letters of a name


@dataclass(frozen=True)
class SettingResult:
    """What came of one setting: its name, its overrides, and every fold of it."""

    name: str
    overrides: tuple[str, ...]
    tested: Sequence[FoldResult]


def rank(tried: Sequence[SettingResult], stamp: str, resamples: int = RESAMPLES) -> dict[str, Any]:
    """The settings, best UAR first, ready for JSON.

    Args:
        tried: each with the same folds; those without overrides are the recipe as it is.
        stamp: who was heard, and who was not.

    Returns:
        `protocol`, and `settings`, each with `name`, `overrides`, `uar`, its `interval` over speakers, `accuracy`,
        `nll` in nats, `folds` (the UAR of each), and `difference` and `difference_interval`: the UAR less the
        recipe's. They are None for the recipe, where it is missing, or where other clips were heard.
    """
    whole = next((one for one in tried if not one.overrides), None)
    rows = []
    for one in tried:
        summary = summarize_folds(one.tested, resamples)
        difference, bounds = None, None
        if whole is not None and one is not whole:
            try:
                uar = compare(one.tested, whole.tested, resamples)["uar"]
                difference, bounds = uar["difference"], uar["interval"]
            except DataError:  # a way to decode under which other clips are too short, say
                pass
        scores = {"uar": summary["uar"], "interval": summary["intervals"]["uar"], "accuracy": summary["accuracy"]}
        beside = {"nll": summary["calibration"]["nll"], "folds": summary["per_fold"]["uar"]}
        less = {"difference": difference, "difference_interval": bounds}
        rows.append({"name": one.name, "overrides": list(one.overrides), **scores, **beside, **less})
    return plain({"protocol": stamp, "settings": sorted(rows, key=lambda row: -row["uar"])})


def format_ranking(ranking: Mapping[str, Any]) -> str:
    """A table for a terminal, and what it comes to in a sentence."""
    rows = [
        [
            short(row["name"]), percent(row["uar"]), _bounds(row["interval"], ".1f"),
            " ".join(percent(uar).strip() for uar in row["folds"]), f"{row['nll']:.3f}",
            "-" if row["difference"] is None else f"{100 * row['difference']:+.1f}",
            _bounds(row["difference_interval"], "+.1f"),
        ]
        for row in ranking["settings"]
    ]  # fmt: skip
    title = f"Settings, best first, validation UAR in % (95 % over speakers) [{ranking['protocol']}]"
    header = ["", "UAR", "95 %", "by group", "NLL", "gain", "95 %"]
    return "\n".join([*table(title, header, rows)[1:], "", *wrap(conclusion(ranking))]) + "\n"


def markdown_ranking(ranking: Mapping[str, Any]) -> str:
    """The same as Markdown, for a document: names in full, intervals behind what they are of."""
    header = ["setting", "UAR (95 % over speakers)", "by group", "loss", "gain (95 %)"]
    rows = [
        [
            f"`{row['name']}`" if row["overrides"] else row["name"],
            f"{percent(row['uar']).strip()} ({_bounds(row['interval'], '.1f')})",
            ", ".join(percent(uar).strip() for uar in row["folds"]),
            f"{row['nll']:.3f}",
            "-" if row["difference"] is None
            else f"{100 * row['difference']:+.1f} ({_bounds(row['difference_interval'], '+.1f')})",
        ]
        for row in ranking["settings"]
    ]  # fmt: skip
    return f"{ranking['protocol']}:\n\n{markdown(header, rows)}"


def conclusion(ranking: Mapping[str, Any]) -> str:
    """Which setting is best, and whether that can be told from luck."""
    best, *others = ranking["settings"]
    if not best["overrides"]:
        return f"Of {1 + len(others)} settings the recipe as it is was the best."
    if best["difference"] is None:
        return f"Best: {best['name']}. There is no difference from the recipe as it is to tell of."
    bounds, gain = best["difference_interval"], f"{100 * best['difference']:+.1f} points from the recipe as it is"
    if bounds and bounds[0] > 0:
        return f"Best: {best['name']}, {gain}: more than the choice of speakers makes, but the best of several."
    return f"Best: {best['name']}, {gain}: other speakers could well tell otherwise, and --seeds tell more."


def short(name: str) -> str:
    """A setting's name, cut to what a table or a picture has room for."""
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."


def _bounds(bounds: Sequence[float] | None, form: str) -> str:
    return f"{100 * bounds[0]:{form}} to {100 * bounds[1]:{form}}" if bounds else "-"
