"""The classification report as a picture: precision, recall and F1 of each emotion and over all, and their clips."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from serx.scoring.pictures import INK, MUTED, PLAIN, new_figure, quieten, write_title

SCORES = {"precision": "precision", "recall": "recall", "f1": "F1"}


def report_figure(evaluation: Mapping[str, Any], title: str = "Classification report") -> Figure:
    """A table in colours, the darker the better; below the emotions their plain mean and their mean by clips.

    Args:
        evaluation: of `report.evaluate`, or evaluation.json: `labels` and, in `per_class`, the precision, recall, f1
            and support of each.
        title: heading; long ones are wrapped.
    """
    labels, classes = list(evaluation["labels"]), evaluation["per_class"]
    scores = np.array([[classes[label][name] for name in SCORES] for label in labels], float)
    clips = np.array([classes[label]["support"] for label in labels])
    means = [scores.mean(0), np.average(scores, axis=0, weights=clips)]
    rows = np.concatenate([scores, means])
    names = [*labels, "mean of emotions", "mean by clips"]
    support = [*clips, clips.sum(), clips.sum()]
    height = float(np.clip(1.5 + 0.42 * len(names), 2.8, 24))
    figure = new_figure(7.4, height)
    axes = figure.add_subplot()
    positions = np.array([*range(len(labels)), len(labels) + 0.35, len(labels) + 1.35])  # the means stand apart
    for row, position in zip(rows, positions, strict=True):
        axes.imshow(
            row[None], cmap="Blues", vmin=0, vmax=1, aspect="auto", extent=(-0.5, 2.5, position + 0.5, position - 0.5)
        )
    font = float(np.clip(0.55 * 72 * (height - 1.4) / len(names), 4, 11))
    for row, position, count in zip(rows, positions, support, strict=True):
        for column, value in enumerate(row):
            colour = "white" if value > 0.55 else INK
            axes.text(column, position, f"{100 * value:.1f}", ha="center", va="center", fontsize=font, color=colour)
        axes.text(3, position, f"{count}", ha="center", va="center", fontsize=font, color=INK)
    quieten(axes)
    axes.set(xlim=(-0.5, 3.5), ylim=(positions[-1] + 0.5, -0.5))
    axes.hlines(positions[:-1] + 0.5, -0.5, 2.5, color="white", linewidth=1.5)
    axes.vlines([0.5, 1.5], -0.5, positions[-1] + 0.5, color="white", linewidth=1.5)
    axes.set_yticks(positions, names, fontsize=font, **PLAIN)
    axes.xaxis.tick_top()
    axes.set_xticks(range(4), [*(f"{name}, %" for name in SCORES.values()), "clips"], fontsize=10.5)
    axes.tick_params(axis="x", labelcolor=MUTED)
    write_title(figure, title)
    return figure
