"""Figures of several trainings and conditions: protocols of the leakage lesson, settings of a sweep, a stress test."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from serx.evaluation.ranking import short
from serx.plots.style import (
    DASHES,
    GAP,
    INK,
    MUTED,
    PLAIN,
    SEX_COLORS,
    legend_below,
    new_figure,
    remove_clutter,
    write_title,
)


def protocols_figure(rows: Sequence[tuple[str, float, float, bool]], chance: float, title: str) -> Figure:
    """Accuracy of one recipe under several protocols as bars, its UAR as a dot; leaky ones are red and say so.

    Args:
        rows: (name, accuracy, uar, honest), fractions.
        chance: the UAR of guessing.
        title: heading.
    """
    figure = new_figure(9, 1.9 + 0.75 * len(rows))
    axes = figure.add_subplot()
    places = np.arange(len(rows))
    colors = [SEX_COLORS["male"] if honest else GAP for *_, honest in rows]
    axes.barh(places, [100 * accuracy for _, accuracy, _, _ in rows], height=0.62, color=colors)
    axes.scatter([100 * uar for _, _, uar, _ in rows], places, s=36, color="white", edgecolor=INK, zorder=3)
    for place, (_, accuracy, _, honest) in enumerate(rows):
        word, weight = ("new voices", "bold") if honest else ("leaky", "normal")
        axes.text(100 * accuracy + 2.2, place, f"{100 * accuracy:.1f}  {word}", va="center", color=INK, weight=weight)
    axes.axvline(100 * chance, color=MUTED, linewidth=1.2, linestyle=DASHES)
    remove_clutter(axes, "x")
    axes.set(xlim=(0, 122), ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(places, [textwrap.fill(name, 30) for name, *_ in rows], fontsize=10, **PLAIN)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("accuracy on the test part, %", fontsize=11, color=MUTED, labelpad=6)
    dot = Line2D([], [], marker="o", color="none", markerfacecolor="white", markeredgecolor=INK, label="UAR")
    line = Line2D([], [], color=MUTED, linewidth=1.2, linestyle=DASHES, label=f"chance {100 * chance:.1f}")
    legend_below(
        figure,
        [Patch(color=SEX_COLORS["male"], label="speaker-independent"), Patch(color=GAP, label="leaky"), dot, line],
    )
    write_title(figure, title)
    return figure


def ranking_figure(ranking: Mapping[str, Any]) -> Figure:
    """UAR of each setting as a dot with its interval, best on top, its groups as small dots; the recipe's as a line."""
    rows = ranking["settings"]
    figure = new_figure(9, 1.9 + 0.34 * len(rows))
    axes = figure.add_subplot()
    for place, row in enumerate(rows):
        color = SEX_COLORS["male"] if row["overrides"] else GAP
        if row["interval"]:
            axes.plot([100 * bound for bound in row["interval"]], [place, place], color=color, linewidth=2)
        axes.scatter([100 * uar for uar in row["folds"]], [place] * len(row["folds"]), s=14, color=MUTED, zorder=3)
        axes.scatter([100 * row["uar"]], [place], s=60, color=color, zorder=4)
        if not row["overrides"]:
            axes.axvline(100 * row["uar"], color=GAP, linewidth=1.0, zorder=0)
    remove_clutter(axes, "x")
    axes.set(ylim=(len(rows) - 0.4, -0.6))
    axes.set_yticks(np.arange(len(rows)), [short(row["name"]) for row in rows], fontsize=9.5, **PLAIN)
    label = "validation UAR, %: all, its 95 % interval over speakers, and each group; red: the recipe as it is"
    axes.set_xlabel(label, fontsize=10, color=MUTED, labelpad=6)
    axes.tick_params(labelcolor=INK)
    write_title(figure, f"Settings on validation speakers [{ranking['protocol']}]")
    return figure


FALL = 0.10  # of UAR: bars of disturbances that cost more are red


def stress_figure(result: Mapping[str, Any], chance: float, title: str) -> Figure:
    """UAR under each condition of `evaluation.stress.stress`, whose `chance` is the UAR of guessing."""
    rows = result["conditions"]
    figure = new_figure(9, 1.7 + 0.27 * len(rows))
    axes = figure.add_subplot()
    places, alone = np.arange(len(rows)), rows[0]["uar"]
    colors = [INK, *(GAP if row["change"] < -FALL else SEX_COLORS["male"] for row in rows[1:])]
    axes.barh(places, [100 * row["uar"] for row in rows], height=0.68, color=colors)
    for place, row in enumerate(rows):
        change = f"   {100 * row['change']:+.1f}" if place else ""
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        text = f"{100 * row['uar']:.1f}{change}"
        axes.text(100 * row["uar"] + 1, place, text, va="center", fontsize=9, color=INK, bbox=box)
    axes.axvline(100 * alone, color=INK, linewidth=1.0, zorder=0)
    axes.axvline(100 * chance, color=MUTED, linewidth=1.2, linestyle=(0, (3, 2)))
    remove_clutter(axes, "x")
    axes.set(xlim=(0, 112), ylim=(len(rows) - 0.4, -0.6))
    names = [f"{row['disturbance']}, {row['amount']}" if row["amount"] else row["disturbance"] for row in rows]
    axes.set_yticks(places, names, fontsize=9.5, **PLAIN)
    axes.set_xticks(range(0, 101, 20))
    label = f"UAR, %; red: a loss of more than {100 * FALL:.0f} points; dashed: chance {100 * chance:.1f}"
    axes.set_xlabel(label, fontsize=10, color=MUTED, labelpad=6)
    write_title(figure, title)
    return figure
