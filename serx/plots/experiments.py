"""Figures of several trainings or conditions: the leakage lesson, the settings of a sweep, the stress test."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from serx.plots.style import (
    BLUE,
    DASHES,
    INK,
    LITERAL,
    MUTED,
    RED,
    legend_below,
    new_figure,
    remove_clutter,
    shorten,
    write_title,
)

LARGE_LOSS = 0.10  # of UAR: the bars of conditions that lose more are red


def protocols_figure(
    rows: Sequence[tuple[str, float, float | None, bool]], chance: float, title: str, score: str = "accuracy"
) -> Figure:
    """A score of one recipe under several protocols as bars, its UAR as a dot; leaky protocols are red.

    Args:
        rows: (name, score, UAR or None, speaker_independent), scores as fractions.
        chance: the UAR of guessing; for another score than accuracy, that score of guessing.
        title: heading; a long one is wrapped.
        score: what the bars show: accuracy, in percent, or another score, as it is.

    >>> rows = [("clips at random", 0.9, 0.88, False), ("speakers apart", 0.5, 0.48, True)]
    >>> figure = protocols_figure(rows, chance=1 / 8, title="One recipe")
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['90.0  leaky', '50.0  new speakers']
    """
    figure = new_figure(9, 1.9 + 0.75 * len(rows))
    axes = figure.add_subplot()
    positions = np.arange(len(rows))
    colors = [BLUE if independent else RED for *_, independent in rows]
    in_percent = score == "accuracy"
    axes.barh(positions, [100 * value for _, value, _, _ in rows], height=0.62, color=colors)
    dots = [(100 * uar, position) for position, (_, _, uar, _) in enumerate(rows) if uar is not None]
    if dots:
        axes.scatter([x for x, _ in dots], [y for _, y in dots], s=36, color="white", edgecolor=INK, zorder=3)
    for position, (_, value, _, independent) in enumerate(rows):
        word, weight = ("new speakers", "bold") if independent else ("leaky", "normal")
        text = f"{100 * value:.1f}  {word}" if in_percent else f"{value:.3f}  {word}"
        axes.text(100 * max(value, 0) + 2.2, position, text, va="center", color=INK, weight=weight)
    axes.axvline(100 * chance, color=MUTED, linewidth=1.2, linestyle=DASHES)
    remove_clutter(axes, "x")
    axes.set(xlim=(100 * min(0, *(value for _, value, _, _ in rows)), 122), ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(positions, [textwrap.fill(name, 30) for name, *_ in rows], fontsize=10, **LITERAL)
    axes.set_xticks(range(0, 101, 20), [str(tick) if in_percent else f"{tick / 100:.1f}" for tick in range(0, 101, 20)])
    axes.set_xlabel(f"{score} on the test part{', %' if in_percent else ''}", fontsize=11, color=MUTED, labelpad=6)
    dot = Line2D([], [], marker="o", color="none", markerfacecolor="white", markeredgecolor=INK, label="UAR")
    guess = f"chance {100 * chance:.1f}" if in_percent else f"chance {chance:.1f}"
    line = Line2D([], [], color=MUTED, linewidth=1.2, linestyle=DASHES, label=guess)
    legend = [Patch(color=BLUE, label="speaker-independent"), Patch(color=RED, label="leaky")]
    legend_below(figure, [*legend, *([dot] if dots else []), line])
    write_title(figure, title)
    return figure


def ranking_figure(ranking: Mapping[str, Any]) -> Figure:
    """Validation UAR of each setting of a sweep, best first; of dimensions alone their mean CCC.

    A large dot is the UAR over all speaker groups, a bar its 95 % interval over speakers, a small dot one group. The
    recipe without changes is red, with a vertical line at its UAR.

    Args:
        ranking: of `evaluation.ranking.rank`, or sweep.json.

    >>> row = {"name": "as it is", "overrides": [], "uar": 0.5, "interval": [0.4, 0.6], "folds": [0.45, 0.55]}
    >>> ranking_figure({"protocol": "kfold fold 0", "settings": [row]}).get_suptitle()
    'Settings on validation speakers [kfold fold 0]'
    """
    rows = ranking["settings"]
    score, factor = ("uar", 100) if "uar" in rows[0] else ("ccc", 1)
    figure = new_figure(9, 1.9 + 0.34 * len(rows))
    axes = figure.add_subplot()
    for position, row in enumerate(rows):
        color = BLUE if row["overrides"] else RED
        if row["interval"]:
            axes.plot([factor * bound for bound in row["interval"]], [position, position], color=color, linewidth=2)
        groups = [factor * value for value in row["folds"]]
        axes.scatter(groups, [position] * len(groups), s=14, color=MUTED, zorder=3)
        axes.scatter([factor * row[score]], [position], s=60, color=color, zorder=4)
        if not row["overrides"]:
            axes.axvline(factor * row[score], color=RED, linewidth=1.0, zorder=0)
    remove_clutter(axes, "x")
    axes.set(ylim=(len(rows) - 0.4, -0.6))
    axes.set_yticks(np.arange(len(rows)), [shorten(row["name"]) for row in rows], fontsize=9.5, **LITERAL)
    title = "UAR, %" if score == "uar" else "mean CCC"
    label = f"validation {title}, its 95 % interval over speakers, and each group; red: the recipe as it is"
    axes.set_xlabel(label, fontsize=10, color=MUTED, labelpad=6)
    axes.tick_params(labelcolor=INK)
    write_title(figure, f"Settings on validation speakers [{ranking['protocol']}]")
    return figure


def stress_figure(result: Mapping[str, Any], chance: float, title: str) -> Figure:
    """UAR under each condition of a stress test as bars, with the change from the clips as recorded.

    Of a model of dimensions alone, their mean CCC.

    Args:
        result: of `evaluation.stress.stress`, or stress.json.
        chance: the UAR of guessing; 0 for CCC.
        title: heading; a long one is wrapped.

    >>> clean = {"condition": "as recorded", "strength": "", "uar": 0.6, "change": 0.0}
    >>> noisy = {"condition": "white noise", "strength": "0 dB SNR", "uar": 0.3, "change": -0.3}
    >>> figure = stress_figure({"conditions": [clean, noisy]}, chance=1 / 8, title="Stress test")
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['as recorded', 'white noise, 0 dB SNR']
    """
    rows = result["conditions"]
    of_emotions = "uar" in rows[0]
    scores = [100 * row["uar"] if of_emotions else row["ccc"] for row in rows]
    unit, digits = (100, 1) if of_emotions else (1, 2)  # the largest score, and its digits
    figure = new_figure(9, 1.7 + 0.27 * len(rows))
    axes = figure.add_subplot()
    positions = np.arange(len(rows))
    colors = [INK, *(RED if row["change"] < -LARGE_LOSS else BLUE for row in rows[1:])]
    axes.barh(positions, scores, height=0.68, color=colors)
    for position, (row, score) in enumerate(zip(rows, scores, strict=True)):
        change = f"   {unit * row['change']:+.{digits}f}" if position else ""
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        text = f"{score:.{digits}f}{change}"
        axes.text(max(score, 0) + 0.01 * unit, position, text, va="center", fontsize=9, color=INK, bbox=box)
    axes.axvline(scores[0], color=INK, linewidth=1.0, zorder=0)
    axes.axvline(unit * chance, color=MUTED, linewidth=1.2, linestyle=DASHES)
    remove_clutter(axes, "x")
    axes.set(xlim=(min(0, *scores), 1.12 * unit), ylim=(len(rows) - 0.4, -0.6))
    names = [f"{row['condition']}, {row['strength']}" if row["strength"] else row["condition"] for row in rows]
    axes.set_yticks(positions, names, fontsize=9.5, **LITERAL)
    axes.set_xticks(np.linspace(0, unit, 6))
    label = f"mean CCC; red: a loss of more than {LARGE_LOSS:.2f}; dashed: chance"
    if of_emotions:
        label = f"UAR, %; red: a loss of more than {100 * LARGE_LOSS:.0f} points; dashed: chance {100 * chance:.1f}"
    axes.set_xlabel(label, fontsize=10, color=MUTED, labelpad=6)
    write_title(figure, title)
    return figure
