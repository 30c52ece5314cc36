"""The stress test as a picture: a bar for each disturbance, beside a line at the figure of clips as recorded."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from serx.scoring.pictures import GAP, INK, MUTED, PLAIN, SEX_COLOURS, new_figure, quieten, write_title

FALL = 0.10  # of UAR: bars of disturbances that cost more are red


def stress_figure(result: Mapping[str, Any], chance: float, title: str) -> Figure:
    """UAR under each condition of `evaluation.stress.stress`, whose `chance` is the UAR of guessing."""
    rows = result["conditions"]
    figure = new_figure(9, 1.7 + 0.27 * len(rows))
    axes = figure.add_subplot()
    places, alone = np.arange(len(rows)), rows[0]["uar"]
    colours = [INK, *(GAP if row["change"] < -FALL else SEX_COLOURS["male"] for row in rows[1:])]
    axes.barh(places, [100 * row["uar"] for row in rows], height=0.68, color=colours)
    for place, row in enumerate(rows):
        change = f"   {100 * row['change']:+.1f}" if place else ""
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        text = f"{100 * row['uar']:.1f}{change}"
        axes.text(100 * row["uar"] + 1, place, text, va="center", fontsize=9, color=INK, bbox=box)
    axes.axvline(100 * alone, color=INK, linewidth=1.0, zorder=0)
    axes.axvline(100 * chance, color=MUTED, linewidth=1.2, linestyle=(0, (3, 2)))
    quieten(axes, "x")
    axes.set(xlim=(0, 112), ylim=(len(rows) - 0.4, -0.6))
    names = [f"{row['disturbance']}, {row['amount']}" if row["amount"] else row["disturbance"] for row in rows]
    axes.set_yticks(places, names, fontsize=9.5, **PLAIN)
    axes.set_xticks(range(0, 101, 20))
    label = f"UAR, %; red: a loss of more than {100 * FALL:.0f} points; dashed: chance {100 * chance:.1f}"
    axes.set_xlabel(label, fontsize=10, color=MUTED, labelpad=6)
    write_title(figure, title)
    return figure
