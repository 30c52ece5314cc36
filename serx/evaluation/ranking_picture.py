"""Settings as a picture: where each lies, how wide its interval is, and the recipe as it is for a line."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from serx.evaluation.ranking import short
from serx.scoring.pictures import GAP, INK, MUTED, PLAIN, SEX_COLOURS, new_figure, quieten, write_title


def ranking_figure(ranking: Mapping[str, Any]) -> Figure:
    """UAR of each setting as a dot with its interval, best on top, its groups as small dots; the recipe's as a line."""
    rows = ranking["settings"]
    figure = new_figure(9, 1.9 + 0.34 * len(rows))
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        colour = SEX_COLOURS["male"] if row["overrides"] else GAP
        if row["interval"]:
            axes.plot([100 * bound for bound in row["interval"]], [place, place], color=colour, linewidth=2)
        axes.scatter([100 * uar for uar in row["folds"]], [place] * len(row["folds"]), s=14, color=MUTED, zorder=3)
        axes.scatter([100 * row["uar"]], [place], s=60, color=colour, zorder=4)
        if not row["overrides"]:
            axes.axvline(100 * row["uar"], color=GAP, linewidth=1.0, zorder=0)
    quieten(axes, "x")
    axes.set(ylim=(len(rows) - 0.4, -0.6))
    axes.set_yticks(np.arange(len(rows)), [short(row["name"]) for row in rows], fontsize=9.5, **PLAIN)
    label = "validation UAR, %: all, its 95 % interval over speakers, and each group; red: the recipe as it is"
    axes.set_xlabel(label, fontsize=10, color=MUTED, labelpad=6)
    axes.tick_params(labelcolor=INK)
    write_title(figure, f"Settings on validation speakers [{ranking['protocol']}]")
    return figure
