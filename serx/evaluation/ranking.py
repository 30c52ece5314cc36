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
    """The settings, highest UAR first, ready for JSON; those of dimensions alone by their mean CCC.

    Args:
        tried: the settings, all with the same speaker groups; one without overrides is the recipe as it is.
        protocol: the protocol stamp, which says which speakers validate.
        resamples: number of resamples of the speakers.

    Returns:
        `protocol`, `n_speakers`, `n_seeds`, and `settings`, each with `name`, `overrides`, `uar`, its 95 % `interval`
        over speakers, `accuracy`, `nll` in nats, `folds` (the UAR of each group), and `difference` and
        `difference_interval`: the UAR minus that of the recipe. They are None for the recipe itself, without the
        recipe, or with other clips than the recipe has. Of dimensions there are `ccc`, the mean, and the CCC of each
        under `dimensions`. Without emotions there are no `uar`, `accuracy` and `nll`, and the rest is of `ccc`.
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
        score = "uar" if "uar" in summary else "ccc"
        if recipe is not None and setting is not recipe:
            try:
                compared = compare(setting.results, recipe.results, resamples)[score]
                difference, bounds = compared["difference"], compared["interval"]
            except DataError:  # a decoding under which other clips are too short, for example
                pass
        row: dict[str, Any] = {"name": setting.name, "overrides": list(setting.overrides)}
        if score == "uar":
            row |= {
                "uar": summary["uar"],
                "interval": summary["intervals"]["uar"],
                "accuracy": summary["accuracy"],
                "nll": summary["calibration"]["nll"],
            }
        if "dimensions" in summary:
            mean = summary["dimensions"]["mean"]
            of_each = {name: of["ccc"] for name, of in summary["dimensions"].items() if name != "mean"}
            row |= {"ccc": mean["ccc"], "dimensions": of_each}
            row.setdefault("interval", mean["interval"])
        gain = {"difference": difference, "difference_interval": bounds}
        rows.append({**row, "folds": summary["per_fold"][score], **gain})
    ranked = sorted(rows, key=lambda row: -row[ranked_by(row)])
    return plain({"protocol": protocol, "n_speakers": min(speakers), "n_seeds": min(seeds), "settings": ranked})


def format_ranking(ranking: Mapping[str, Any]) -> str:
    """The text report: protocol, a table of the settings, and the conclusion."""
    return as_text(ranking_blocks(ranking))


def ranking_blocks(ranking: Mapping[str, Any]) -> list[Block]:
    """The same report as lines and a table."""
    names = list(ranking["settings"][0].get("dimensions", ()))
    if ranked_by(ranking["settings"][0]) == "uar":
        title = "Settings, best first: validation UAR in %, with 95 % intervals over speakers"
        header = ["", "UAR", "95 %", "by group", "NLL", *(["mean CCC"] if names else []), "gain", "95 %"]
    else:
        title = "Settings, best first: validation mean CCC, with 95 % intervals over speakers"
        header = ["", "CCC", "95 %", "by group", *(names if len(names) > 1 else []), "gain", "95 %"]
    rows = [
        [shorten(row["name"]), *_cells(row, " "), _gain(row), _bounds(row["difference_interval"], row, "+")]
        for row in ranking["settings"]
    ]
    protocol = wrap(f"protocol: {ranking['protocol']}")
    ends = [line for sentence in _sentences(ranking) for line in wrap(sentence)]
    return [*protocol, Table(title, header, rows), "", *ends]


def markdown_ranking(ranking: Mapping[str, Any]) -> str:
    """The same table in Markdown, for a document, with full names."""
    names = list(ranking["settings"][0].get("dimensions", ()))
    of_emotions = ranked_by(ranking["settings"][0]) == "uar"
    middle = ["NLL", *(["mean CCC"] if names else [])] if of_emotions else (names if len(names) > 1 else [])
    score = "UAR" if of_emotions else "mean CCC"
    header = ["setting", f"{score} (95 % over speakers)", "by group", *middle, "gain (95 %)"]
    rows = []
    for row in ranking["settings"]:
        value, interval, *others = _cells(row, ", ")
        gain = "-" if row["difference"] is None else f"{_gain(row)} ({_bounds(row['difference_interval'], row, '+')})"
        name = f"`{row['name']}`" if row["overrides"] else row["name"]
        rows.append([name, f"{value.strip()} ({interval})", *others, gain])
    return f"{ranking['protocol']}:\n\n{markdown(header, rows)}\n{' '.join(_sentences(ranking))}\n"


def ranked_by(row: Mapping[str, Any]) -> str:
    """`uar` for a setting of a ranking that predicts emotions, else `ccc`."""
    return "uar" if "uar" in row else "ccc"


def _cells(row: Mapping[str, Any], between: str) -> list[str]:
    """The score of a setting, its interval, that of each group, and other scores."""
    if ranked_by(row) == "uar":
        groups = between.join(percent(uar).strip() for uar in row["folds"])
        rated = [f"{row['ccc']:.3f}"] if "ccc" in row else []
        return [percent(row["uar"]), _bounds(row["interval"], row), groups, f"{row['nll']:.3f}", *rated]
    groups = between.join(f"{ccc:.3f}" for ccc in row["folds"])
    each = [f"{ccc:.3f}" for ccc in row["dimensions"].values()] if len(row["dimensions"]) > 1 else []
    return [f"{row['ccc']:.3f}", _bounds(row["interval"], row), groups, *each]


def _gain(row: Mapping[str, Any]) -> str:
    if row["difference"] is None:
        return "-"
    return f"{100 * row['difference']:+.1f}" if ranked_by(row) == "uar" else f"{row['difference']:+.3f}"


def _sentences(ranking: Mapping[str, Any]) -> list[str]:
    """The conclusion, what the columns are means over, and whether the intervals can be trusted."""
    sentences = [conclusion(ranking)]
    if ranking["n_seeds"] > 1:
        score = "UARs" if ranked_by(ranking["settings"][0]) == "uar" else "CCCs"
        sentences.append(f"{score}, also those by group, are means over {ranking['n_seeds']} seeds.")
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
    points = " points" if ranked_by(best) == "uar" else ""
    bounds, gain = best["difference_interval"], f"{_gain(best)}{points} from the recipe as it is"
    if bounds and bounds[0] > 0:
        return f"Best: {best['name']}, {gain}: more than chance over speakers explains, but the best of several."
    return f"Best: {best['name']}, {gain}: chance over speakers can explain it; more --seeds help."


def _bounds(bounds: Sequence[float] | None, row: Mapping[str, Any], sign: str = "") -> str:
    factor, digits = (100, 1) if ranked_by(row) == "uar" else (1, 3)
    form = f"{sign}.{digits}f"
    return f"{factor * bounds[0]:{form}} to {factor * bounds[1]:{form}}" if bounds else "-"
