"""Learning curves of runs for a page."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serx.pages.charts import Line, line_chart


def learning_curves(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any] | None:
    """Loss, UAR and CCC over the epochs, of those that there are.

    Several runs (folds) are thin lines of the same two colors.
    """
    runs = {name: lines for name, lines in runs.items() if lines}
    if not runs:
        return None
    epochs = [line["epoch"] + 1 for lines in runs.values() for line in lines]
    thin = " thin" if len(runs) > 1 else ""
    parts = [part for part in ("train", "valid") if any(line[part] for lines in runs.values() for line in lines)]
    kept = _kept(runs) if len(runs) == 1 else []
    charts = []
    known = {key for lines in runs.values() for line in lines for part in parts for key in line[part] or ()}
    nats = "loss, nats" if "uar" in known else "loss"
    shown = [("loss", 1, nats), ("uar", 100, "UAR, %"), ("ccc", 1, "mean CCC")]
    for key, factor, axis in [entry for entry in shown if entry[0] in known]:
        drawn = [
            Line([(line["epoch"] + 1, _value(line[part], key, factor)) for line in lines], f"{part}{thin}")
            for lines in runs.values()
            for part in parts
        ]
        values = [y for line in drawn for _, y in line.points if y is not None and np.isfinite(y)]
        top = max(values, default=1.0) if key == "loss" else factor
        low = min(0.0, *values) if key == "ccc" and values else 0.0
        vertical = [(float(epoch), "kept") for epoch in kept]
        charts.append(line_chart(drawn, "epoch", axis, (min(epochs), max(epochs)), (low, top), vertical))
    words = {"train": "training", "valid": "validation"}
    legend = [(part, words[part]) for part in parts]
    if kept:
        legend.append(("kept", f"kept: epoch {kept[0]}"))
    note = f"{len(runs)} runs." if len(runs) > 1 else ""
    return {"charts": charts, "legend": legend, "note": note}


def _kept(runs: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[int]:
    """The epoch of each run's checkpoint: the last line that says `kept`."""
    kept = ([line["epoch"] + 1 for line in lines if line["kept"]] for lines in runs.values())
    return [epochs[-1] for epochs in kept if epochs]


def _value(scores: Mapping[str, float] | None, key: str, factor: float) -> float | None:
    return None if scores is None or key not in scores else factor * scores[key]
