"""Figure of one training: learning curves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from serx.plots.style import (
    BLUE,
    DASHES,
    INK,
    MUTED,
    ORANGE,
    legend_below,
    new_figure,
    remove_clutter,
    write_title,
)

COLORS = {"train": BLUE, "valid": ORANGE}
NAMES = {"train": "training", "valid": "validation"}


def curves_figure(lines: Sequence[Mapping[str, Any]], title: str = "Learning curves") -> Figure:
    """Loss (above) and UAR in % (below), or the mean CCC without emotions, over the epochs, counted from 1.

    Args:
        lines: the objects of a run's `metrics.jsonl`, at least one; each has `epoch`, `train`, `valid` (None without
            validation) and `kept`. The last line with `kept` is the epoch of the checkpoint.
        title: heading; a long one is wrapped.

    >>> scores = {"loss": 2.0, "uar": 0.25}
    >>> figure = curves_figure([{"epoch": 0, "train": scores, "valid": scores, "kept": True}])
    >>> figure.legends[0].get_texts()[-1].get_text()
    'kept: epoch 1, UAR 25.0 %, loss 2.000'
    """
    epochs = [line["epoch"] + 1 for line in lines]
    kept = [line["epoch"] + 1 for line in lines if line["kept"]]
    figure = new_figure(8, 6.4)
    upper, lower = figure.subplots(2, 1, sharex=True)
    marker = "o" if len(lines) < 12 else ""  # a single epoch makes no line
    score, scale, name = ("uar", 100, "UAR, %") if "uar" in lines[-1]["train"] else ("ccc", 1, "CCC")
    colors = {part: color for part, color in COLORS.items() if lines[-1][part]}
    for part, color in colors.items():
        style: dict[str, Any] = {"color": color, "linewidth": 1.8, "marker": marker, "markersize": 4}
        scores = [line[part] or {} for line in lines]
        upper.plot(epochs, [of_epoch.get("loss", np.nan) for of_epoch in scores], **style)
        lower.plot(epochs, [scale * of_epoch.get(score, np.nan) for of_epoch in scores], **style)
    for axes in (upper, lower):
        remove_clutter(axes, "y")
        if kept:
            axes.axvline(kept[-1], color=INK, linewidth=1.2, linestyle=DASHES)
    upper.set_ylabel("loss, nats" if score == "uar" else "loss", fontsize=11, color=MUTED, labelpad=8)
    upper.update_datalim([(epochs[0], 0)])  # with 0 in view, the margin above has room for the marker
    upper.autoscale_view()
    upper.set_ylim(bottom=0)
    lower.set_ylabel(name, fontsize=11, color=MUTED, labelpad=8)
    lower.set_ylim(*((0, 102) if score == "uar" else (-0.1, 1.02)))
    lower.set_xlabel("epoch", fontsize=11, color=MUTED, labelpad=6)
    lower.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles = [Line2D([], [], color=color, linewidth=1.8, label=NAMES[part]) for part, color in colors.items()]
    if kept:
        valid = next(line for line in lines if line["epoch"] + 1 == kept[-1])["valid"]
        label = f"kept: epoch {kept[-1]}"
        if valid:
            number = valid.get(score, np.nan)
            value = f"UAR {100 * number:.1f} %" if score == "uar" else f"CCC {number:.3f}"
            label += f", {value}, loss {valid['loss']:.3f}"
        handles.append(Line2D([], [], color=INK, linewidth=1.2, linestyle=DASHES, label=label))
    legend_below(figure, handles)
    write_title(figure, title)
    return figure
