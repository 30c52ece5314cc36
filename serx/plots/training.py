"""Figures of one training: learning curves, and the spectrogram that a model is given of a clip."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from serx.plots.style import (
    DASHES,
    INK,
    MUTED,
    legend_below,
    new_figure,
    remove_clutter,
    write_title,
)

COLORS = {"train": "#2f6f9f", "valid": "#d9822b"}


NAMES = {"train": "training", "valid": "validation"}


def curves_figure(lines: Sequence[Mapping[str, Any]], title: str = "Learning curves") -> Figure:
    """Loss above, UAR in % below, over the epochs counted from 1.

    Args:
        lines: the objects of a run's `metrics.jsonl`, at least one; each has `epoch`, `train`, `valid` (None where
            nobody validates) and `best`. The last one that is the best so far is the one that was kept.
        title: heading; long ones are wrapped.
    """
    epochs = [line["epoch"] + 1 for line in lines]
    kept = [line["epoch"] + 1 for line in lines if line["best"]]
    figure = new_figure(8, 6.4)
    upper, lower = figure.subplots(2, 1, sharex=True)
    marker = "o" if len(lines) < 12 else ""  # a single epoch makes no line
    colors = {part: color for part, color in COLORS.items() if lines[-1][part]}
    for part, color in colors.items():
        shown: dict[str, Any] = {"color": color, "linewidth": 1.8, "marker": marker, "markersize": 4}
        upper.plot(epochs, [line[part]["loss"] for line in lines], **shown)
        lower.plot(epochs, [100 * line[part]["uar"] for line in lines], **shown)
    for axes in (upper, lower):
        remove_clutter(axes, "y")
        if kept:
            axes.axvline(kept[-1], color=INK, linewidth=1.2, linestyle=DASHES)
    upper.set_ylabel("loss, nats", fontsize=11, color=MUTED, labelpad=8)
    upper.update_datalim([(epochs[0], 0)])  # the margin is a share of the whole height, and markers stand within it
    upper.autoscale_view()
    upper.set_ylim(bottom=0)
    lower.set_ylabel("UAR, %", fontsize=11, color=MUTED, labelpad=8)
    lower.set_ylim(0, 102)
    lower.set_xlabel("epoch", fontsize=11, color=MUTED, labelpad=6)
    lower.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles = [Line2D([], [], color=color, linewidth=1.8, label=NAMES[part]) for part, color in colors.items()]
    if kept:
        best = next(line for line in lines if line["epoch"] + 1 == kept[-1])["valid"]
        told = f"kept: epoch {kept[-1]}"
        told += f", UAR {100 * best['uar']:.1f} %, loss {best['loss']:.3f}" if best else ""
        handles.append(Line2D([], [], color=INK, linewidth=1.2, linestyle=DASHES, label=told))
    legend_below(figure, handles)
    write_title(figure, title)
    return figure


def spectrogram_figure(features: np.ndarray, title: str, seconds: float) -> Figure:
    """A picture of features (F, N), the lowest bin at the bottom.

    Its parts have fixed places, and its colors are told in words: a run draws a dozen of these, and laying each out
    beside a bar of colors would take six times as long.

    Args:
        features: (F, N) real values; colors span the 1st to the 99.5th percentile, so one click hides nothing.
        title: heading.
        seconds: length of the N frames.
    """
    values = np.asarray(features, float)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [1, 99.5]) if finite.size else (0.0, 1.0)
    figure = new_figure(8, 4)
    figure.set_layout_engine("none")
    write_title(figure, title)
    lines = 1 + figure.get_suptitle().count("\n")
    axes = figure.add_axes((0.09, 0.16, 0.88, 0.78 - 0.05 * lines))
    bins, _ = values.shape
    extent = (0, seconds, -0.5, bins - 0.5)
    top = high if high > low else low + 1
    axes.imshow(
        values, "magma", aspect="auto", vmin=low, vmax=top, origin="lower", extent=extent, interpolation="nearest"
    )
    axes.locator_params(nbins=4)
    remove_clutter(axes)
    axes.set_xlabel("seconds", fontsize=11, color=MUTED, labelpad=6)
    axes.set_ylabel("feature bin", fontsize=11, color=MUTED, labelpad=6)
    figure.text(0.97, 0.03, f"black {low:.3g}, pale {top:.3g}", ha="right", fontsize=9, color=MUTED)
    return figure
