"""Learning curves: loss and UAR of the training and validation clips at each epoch, the chosen epoch marked."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from serx.scoring.pictures import DASHES, INK, MUTED, legend_below, new_figure, quieten, write_title

COLOURS = {"train": "#2f6f9f", "valid": "#d9822b"}
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
    colours = {part: colour for part, colour in COLOURS.items() if lines[-1][part]}
    for part, colour in colours.items():
        shown: dict[str, Any] = {"color": colour, "linewidth": 1.8, "marker": marker, "markersize": 4}
        upper.plot(epochs, [line[part]["loss"] for line in lines], **shown)
        lower.plot(epochs, [100 * line[part]["uar"] for line in lines], **shown)
    for axes in (upper, lower):
        quieten(axes, "y")
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
    handles = [Line2D([], [], color=colour, linewidth=1.8, label=NAMES[part]) for part, colour in colours.items()]
    if kept:
        best = next(line for line in lines if line["epoch"] + 1 == kept[-1])["valid"]
        told = f"kept: epoch {kept[-1]}"
        told += f", UAR {100 * best['uar']:.1f} %, loss {best['loss']:.3f}" if best else ""
        handles.append(Line2D([], [], color=INK, linewidth=1.2, linestyle=DASHES, label=told))
    legend_below(figure, handles)
    write_title(figure, title)
    return figure
