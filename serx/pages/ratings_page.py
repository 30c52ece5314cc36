"""The page of a model of dimensions such as arousal: CCC, RMSE, and what was predicted against what was rated."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from serx.data.utterance import is_unknown
from serx.evaluation.ratings import Ratings, mean_ccc, speaker_sums
from serx.metrics.regression import REGRESSION_METRICS
from serx.pages.charts import Line, line_chart
from serx.pages.evaluation_page import MAX_ROWS
from serx.pages.sections import Absent, Reproduction, render_results

MAX_DOTS = 1500  # clips in a chart


def ratings_page(
    scores: Mapping[str, Any],
    ratings: Ratings,
    title: str,
    curves: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    reproduction: Reproduction | None = None,
    absent: Mapping[str, Absent] | None = None,
) -> str:
    """The page of a model of dimensions alone.

    Args:
        scores: the content of evaluation.json or of cross_validation.json.
        ratings: of all clips.
        title: the heading.
        curves: name of a run -> the lines of its metrics.jsonl.
        reproduction: of the page.
        absent: what is said where the section `curves` is empty; default: sentences that hold for any page.
    """
    rated = ratings_section(scores["dimensions"], ratings)
    return render_results("ratings.html.j2", scores, title, curves, reproduction, absent, rated=rated)


def ratings_section(scores: Mapping[str, Any], ratings: Ratings) -> dict[str, Any]:
    """What the macro `ratings` shows: a table and a chart of each dimension, and tables by speaker, sex and corpus.

    Args:
        scores: of `score_ratings`.
        ratings: of the same clips.
    """
    names = ratings.dimensions
    groups = []
    for key, heading in (("per_sex", "Sex"), ("per_corpus", "Corpus")):
        found = list(dict.fromkeys(group for name in names for group in scores[name][key]))
        rows = [[group, [scores[name][key].get(group) for name in names]] for group in found[:MAX_ROWS]]
        if len(found) > 1:
            groups.append({"title": heading, "rows": rows})
    return {
        "names": names,
        "scores": [scores[name] for name in names],
        "mean": scores["mean"],
        "charts": [_chart(ratings, column) for column in range(len(names))],
        "speakers": _speakers(ratings),
        "groups": groups,
        "dots": MAX_DOTS,
    }


def _speakers(ratings: Ratings) -> list[dict[str, Any]]:
    """CCC of each dimension, their mean and the clips of each speaker, worst first; empty if speakers are unknown."""
    if any(map(is_unknown, ratings.speaker_ids)):
        return []
    rows = [
        {
            "name": speaker,
            "mean": float(mean_ccc(sums[0])),
            "each": REGRESSION_METRICS["ccc"](sums[0]).tolist(),
            "n_clips": int(sums[0, :, 0].max()),
        }
        for speaker, sums in speaker_sums([ratings]).items()
    ]
    return sorted(rows, key=lambda row: (row["mean"], row["name"]))[:MAX_ROWS]


def _chart(ratings: Ratings, column: int) -> Markup:
    """Dots of the clips, rated and predicted, and the line on which both are equal."""
    truth, predicted = ratings.targets[:, column], ratings.predicted[:, column]
    clips = np.flatnonzero(~np.isnan(truth))
    clips = clips[np.unique(np.linspace(0, len(clips) - 1, MAX_DOTS).round().astype(int))]
    values = np.concatenate([truth[clips], predicted[clips]])
    low, high = float(values.min()), float(values.max())
    dots = [Line([(float(truth[i]), float(predicted[i]))], "c0") for i in clips]
    lines = [Line([(low, low), (high, high)], "chance"), *dots]
    name = ratings.dimensions[column]
    return line_chart(lines, f"{name}, rated", "predicted", (low, high), (low, high))
