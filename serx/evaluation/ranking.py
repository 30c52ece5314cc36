"""The settings of a sweep, best first, each also compared with the recipe as it is.

The best of many is partly the best by chance. So each difference has an interval over speakers, and `conclusion` says
whether the best setting can be distinguished from the recipe.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serx.errors import DataError
from serx.evaluation.comparison import compare
from serx.evaluation.pooling import FoldResult, summarize_folds
from serx.evaluation.tables import markdown, percent
from serx.files import plain
from serx.metrics.intervals import RESAMPLES, few_speakers_warning
from serx.plots.style import shorten
from serx.terminal import Block, Table, as_text, wrap


@dataclass(frozen=True)
class SettingResult:
    """The results of one setting: its name, its overrides of the recipe, and its result for every speaker group."""

    name: str
    overrides: tuple[str, ...]
    results: Sequence[FoldResult]


def rank(tried: Sequence[SettingResult], protocol: str, resamples: int = RESAMPLES) -> dict[str, Any]:
    """The settings, highest UAR first, ready for JSON.

    Args:
        tried: the settings, all with the same speaker groups; one without overrides is the recipe as it is.
        protocol: the protocol stamp, which says which speakers validate.
        resamples: number of resamples of the speakers.

    Returns:
        `protocol`, `n_speakers`, `n_seeds`, and `settings`, each with `name`, `overrides`, `uar`, its 95 % `interval`
        over speakers, `accuracy`, `nll` in nats, `folds` (the UAR of each group), and `difference` and
        `difference_interval`: the UAR minus that of the recipe. They are None for the recipe itself, without the
        recipe, or with other clips than the recipe has.
    """
    recipe = next((setting for setting in tried if not setting.overrides), None)
    rows: list[dict[str, Any]] = []
    speakers: list[int] = []
    seeds: list[int] = []
    for setting in tried:
        summary = summarize_folds(setting.results, resamples)
        speakers.append(summary["n_speakers"])
        seeds.append(len(summary["seeds"]))
        difference, bounds = None, None
        if recipe is not None and setting is not recipe:
            try:
                uar = compare(setting.results, recipe.results, resamples)["uar"]
                difference, bounds = uar["difference"], uar["interval"]
            except DataError:  # a decoding under which other clips are too short, for example
                pass
        rows.append(
            {
                "name": setting.name,
                "overrides": list(setting.overrides),
                "uar": summary["uar"],
                "interval": summary["intervals"]["uar"],
                "accuracy": summary["accuracy"],
                "nll": summary["calibration"]["nll"],
                "folds": summary["per_fold"]["uar"],
                "difference": difference,
                "difference_interval": bounds,
            }
        )
    ranked = sorted(rows, key=lambda row: -row["uar"])
    return plain({"protocol": protocol, "n_speakers": min(speakers), "n_seeds": min(seeds), "settings": ranked})


def format_ranking(ranking: Mapping[str, Any]) -> str:
    """The text report: protocol, a table of the settings, and the conclusion."""
    return as_text(ranking_blocks(ranking))


def ranking_blocks(ranking: Mapping[str, Any]) -> list[Block]:
    """The same report as lines and a table."""
    rows = [
        [
            shorten(row["name"]), percent(row["uar"]), _bounds(row["interval"], ".1f"),
            " ".join(percent(uar).strip() for uar in row["folds"]), f"{row['nll']:.3f}",
            "-" if row["difference"] is None else f"{100 * row['difference']:+.1f}",
            _bounds(row["difference_interval"], "+.1f"),
        ]
        for row in ranking["settings"]
    ]  # fmt: skip
    title = "Settings, best first: validation UAR in %, with 95 % intervals over speakers"
    header = ["", "UAR", "95 %", "by group", "NLL", "gain", "95 %"]
    protocol = wrap(f"protocol: {ranking['protocol']}")
    ends = [line for sentence in _sentences(ranking) for line in wrap(sentence)]
    return [*protocol, Table(title, header, rows), "", *ends]


def markdown_ranking(ranking: Mapping[str, Any]) -> str:
    """The same table in Markdown, for a document, with full names."""
    header = ["setting", "UAR (95 % over speakers)", "by group", "NLL", "gain (95 %)"]
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
    return f"{ranking['protocol']}:\n\n{markdown(header, rows)}\n{' '.join(_sentences(ranking))}\n"


def _sentences(ranking: Mapping[str, Any]) -> list[str]:
    """The conclusion, what the columns are means over, and whether the intervals can be trusted."""
    sentences = [conclusion(ranking)]
    if ranking["n_seeds"] > 1:
        sentences.append(f"UARs, also those by group, are means over {ranking['n_seeds']} seeds.")
    if warning := few_speakers_warning(ranking["n_speakers"]):
        sentences.append(warning)
    return sentences


def conclusion(ranking: Mapping[str, Any]) -> str:
    """A sentence with the best setting, and whether it can be distinguished from the recipe."""
    best, *rest = ranking["settings"]
    if not best["overrides"]:
        return f"Of {1 + len(rest)} settings the recipe as it is was the best."
    if best["difference"] is None:
        return f"Best: {best['name']}. It cannot be compared with the recipe as it is."
    bounds, gain = best["difference_interval"], f"{100 * best['difference']:+.1f} points from the recipe as it is"
    if bounds and bounds[0] > 0:
        return f"Best: {best['name']}, {gain}: more than chance over speakers explains, but the best of several."
    return f"Best: {best['name']}, {gain}: chance over speakers can explain it; more --seeds help."


def _bounds(bounds: Sequence[float] | None, form: str) -> str:
    return f"{100 * bounds[0]:{form}} to {100 * bounds[1]:{form}}" if bounds else "-"
