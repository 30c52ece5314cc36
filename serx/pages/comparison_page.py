"""The page of a comparison of runs: what `serx.evaluation.comparison.compare_runs` returns, as one HTML file."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from serx.evaluation.comparison_report import (
    different_protocols,
    format_tests,
    letter,
    score_of,
    settings_to_show,
    shown_scores,
    speaker_rows,
    speaker_score,
)
from serx.metrics.intervals import few_speakers_warning
from serx.pages.charts import Line, line_chart
from serx.pages.render import render
from serx.pages.sections import Reproduction

COLORS = 8  # CSS classes c0 to c7
CHARTS = {"valid_uar": (100, "validation UAR, %"), "valid_ccc": (1, "validation mean CCC"),
          "valid_loss": (1, "validation loss, nats"),
          "train_loss": (1, "training loss, nats")}  # fmt: skip


def comparison_page(result: Mapping[str, Any], reproduction: Reproduction) -> str:
    """The page of `compare_runs`."""
    runs = [{**run, "letter": letter(i), "css": _color(i)} for i, run in enumerate(result["runs"])]
    shown, left_out = ({}, 0) if result["settings"] is None else settings_to_show(result["settings"])
    header, rows = speaker_rows(result["comparisons"])
    return render(
        "comparison.html.j2",
        title=f"Comparison of {len(runs)} runs",
        runs=runs,
        comparisons=[
            {
                **c,
                "letter": letter(i),
                "warning": _warning(c, letter(i)),
                "summary": _summary(c, letter(i)),
                "scores": _scores(c),
            }
            for i, c in enumerate(result["comparisons"], 1)
        ],
        of_emotions=any("uar" in run for run in runs),
        dimensions=list(dict.fromkeys(name for run in runs for name in run.get("dimensions", ()))),
        speakers_by_uar=speaker_score(result["comparisons"]) == "uar",
        few_speakers=few_speakers_warning(min(run["n_speakers"] for run in runs)),
        settings=shown,
        settings_known=result["settings"] is not None,
        left_out=left_out,
        charts=_charts(result["curves"]),
        speaker_header=header,
        speaker_rows=rows,
        reproduction=reproduction,
    )


def _scores(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of the table of differences; UAR and accuracy are in %."""
    if "not_compared" in comparison:
        return []
    rows = []
    for name, title in shown_scores(comparison).items():
        found = score_of(comparison, name)
        rows.append({**found, "title": title, "in_percent": name in ("uar", "accuracy"), "tests": format_tests(found)})
    return rows


def _warning(comparison: Mapping[str, Any], name: str) -> str | None:
    return different_protocols(comparison["protocol"], name, letter(0)) if "protocol" in comparison else None


def _summary(comparison: Mapping[str, Any], name: str) -> str | None:
    """What the interval of the difference in UAR, or else in CCC, says; None without one."""
    score, title = ("uar", "UAR") if "uar" in comparison else ("ccc", "mean CCC")
    interval = comparison.get(score, {}).get("interval")
    if interval is None:
        return None
    low, high = interval
    if low <= 0 <= high:
        which = f"these speakers do not show whether {name} or {letter(0)} is better"
        return f"The interval of the {title} includes 0: {which}."
    better, worse = (name, letter(0)) if low > 0 else (letter(0), name)
    return f"The interval of the {title} does not include 0: on these speakers {better} is better than {worse}."


def _color(run: int) -> str:
    """The CSS class of a run."""
    return f"c{run % COLORS}"


def _charts(curves: Sequence[Mapping[str, Sequence[Any]]]) -> list[Markup]:
    """A chart for each score, with a line for each run."""
    charts = []
    for key, (factor, title) in CHARTS.items():
        lines = [
            Line([(e, None if y is None else factor * y) for e, y in zip(c["epoch"], c[key], strict=True)], _color(i))
            for i, c in enumerate(curves)
            if key in c
        ]
        values = [(x, y) for line in lines for x, y in line.points if y is not None]
        if values:
            epochs = [x for x, _ in values]
            top = factor if key.endswith(("uar", "ccc")) else max(y for _, y in values)
            low = min(0.0, *(y for _, y in values)) if key.endswith("ccc") else 0.0
            charts.append(line_chart(lines, "epoch", title, (min(epochs), max(epochs)), (low, top)))
    return charts
