"""Figures of one evaluation: confusion matrix, classification report, speakers, calibration."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from serx.plots.style import (
    BLUE,
    DASHES,
    GRAY,
    INK,
    LITERAL,
    MUTED,
    ORANGE,
    RED,
    legend_below,
    new_figure,
    remove_clutter,
    write_title,
)

SEX_COLORS = {"male": BLUE, "female": ORANGE, None: GRAY}
SCORES = {"precision": "precision", "recall": "recall", "f1": "F1"}


def confusion_figure(confusion: np.ndarray, labels: Sequence[str], title: str = "Confusion matrix") -> Figure:
    """Confusion matrix: counts in the cells, colors and percentages of each row (the true class).

    Args:
        confusion: (C, C) counts, rows are the true classes. A row without clips stays blank.
        labels: the C labels.
        title: heading; a long one is wrapped.

    >>> confusion_figure(np.array([[3, 1], [0, 4]]), ["happy", "sad"]).get_suptitle()
    'Confusion matrix'
    """
    counts = np.asarray(confusion)
    support = counts.sum(1)
    share = counts / np.maximum(support, 1)[:, None]
    classes = len(labels)
    side = float(np.clip(3.4 + 0.52 * classes, 4.6, 16))
    figure = new_figure(side + 0.8, side - 0.3)
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    cell = (side - 1.6) / classes  # about, in inches: the rest holds labels, title and color bar
    size = float(np.clip(13.5 * cell, 4, 12))
    for row, column in np.ndindex(classes, classes):
        count, part = int(counts[row, column]), share[row, column]
        text = f"{count}\n{100 * part:.0f} %" if count else "0"
        color = "white" if part > 0.55 else INK if count else "#b5b5b5"
        weight = "bold" if row == column and count else "normal"
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=color, fontweight=weight)
    remove_clutter(axes)
    axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    font = float(np.clip(14 * cell, 6, 10.5))
    tilt: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(classes), labels, fontsize=font, **tilt, **LITERAL)
    rows = [f"{label}  ({total})" for label, total in zip(labels, support, strict=True)]
    axes.set_yticks(range(classes), rows, fontsize=font, **LITERAL)
    axes.set_xlabel("predicted", fontsize=11, color=MUTED, labelpad=8)
    axes.set_ylabel("true (clips)", fontsize=11, color=MUTED, labelpad=8)
    bar = figure.colorbar(image, ax=axes, shrink=0.75, aspect=28, pad=0.03, ticks=[0, 0.25, 0.5, 0.75, 1])
    bar.ax.set_yticklabels(["0", "25", "50", "75", "100 %"], fontsize=9, color=MUTED)
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)
    write_title(figure, title)
    return figure


def speakers_figure(per_speaker: Mapping[str, Mapping[str, Any]], chance: float, title: str = "Speakers") -> Figure:
    """UAR of each speaker as horizontal bars, worst first, colored by sex, with lines at chance and at the mean.

    Args:
        per_speaker: speaker -> {"uar": fraction, "sex": "male", "female" or None, ...}, as in an evaluation.
        chance: the UAR of guessing, 1 / number of classes that occur.
        title: heading; a long one is wrapped.

    >>> figure = speakers_figure({"ravdess/01": {"uar": 0.7, "sex": "male"}}, chance=1 / 8)
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['70.0']
    """
    ranked = sorted(per_speaker.items(), key=lambda item: (item[1]["uar"], item[0]))
    names = [name for name, _ in ranked]
    uars = np.array([100 * scores["uar"] for _, scores in ranked])
    sexes = [scores.get("sex") for _, scores in ranked]
    height = float(np.clip(1.9 + 0.26 * len(names), 2.7, 30))
    figure = new_figure(8, height)
    axes = figure.add_subplot()
    font = float(np.clip(0.55 * 72 * (height - 1.9) / len(names), 4, 10))
    positions = np.arange(len(names))
    axes.barh(positions, uars, height=0.68, color=[SEX_COLORS.get(sex, SEX_COLORS[None]) for sex in sexes])
    for position, value in enumerate(uars):
        # On white, so that the number stays readable where the line of the mean crosses it or looks like a digit 1.
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.25 * font}
        axes.text(value + 0.8, position, f"{value:.1f}", va="center", fontsize=font, color=INK, bbox=box)
    mean = float(uars.mean())
    axes.axvline(100 * chance, color=MUTED, linewidth=1.2, linestyle=DASHES)
    axes.axvline(mean, color=INK, linewidth=1.2)
    remove_clutter(axes, "x")
    axes.set(xlim=(0, 106), ylim=(len(names) - 0.4, -0.6))
    axes.set_yticks(positions, names, fontsize=font, **LITERAL)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("UAR, %", fontsize=11, color=MUTED, labelpad=6)
    present = [sex for sex in SEX_COLORS if sex in sexes]
    handles: list[Any] = [Patch(color=SEX_COLORS[sex], label=sex or "sex unknown") for sex in present]
    handles.append(Line2D([], [], color=INK, linewidth=1.2, label=f"mean of speakers {mean:.1f}"))
    handles.append(Line2D([], [], color=MUTED, linewidth=1.2, linestyle=DASHES, label=f"chance {100 * chance:.1f}"))
    legend_below(figure, handles)
    write_title(figure, title)
    return figure


def calibration_figure(counts: np.ndarray, title: str = "Calibration") -> Figure:
    """Reliability diagram over a histogram of the confidence (Guo et al. 2017).

    Args:
        counts: (bins, 3) from `metrics.calibration_counts`: clips, sum of their confidence, correct predictions.
        title: heading; a long one is wrapped.

    >>> calibration_figure(np.array([[0, 0, 0], [4, 3.2, 3]])).axes[0].get_ylabel()
    'accuracy, %'
    """
    clips, confidence, correct = np.asarray(counts, float).T
    filled = clips > 0
    edges = np.linspace(0, 100, len(clips) + 1)
    width, left = edges[1], edges[:-1]
    share = 100 * correct[filled] / clips[filled]
    mean = 100 * confidence[filled] / clips[filled]
    figure = new_figure(8, 7)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    bars = upper.bar(left[filled], share, width=width, align="edge", color=BLUE, edgecolor="white", label="accuracy")
    ends = np.minimum(share, mean), np.maximum(share, mean)
    gaps = upper.vlines(mean, *ends, color=RED, linewidth=2.2, zorder=3, label="gap to the mean confidence")
    upper.scatter(mean, mean, s=18, color=RED, zorder=4)
    (ideal,) = upper.plot([0, 100], [0, 100], color=MUTED, linewidth=1.2, linestyle=DASHES, label="perfect calibration")
    upper.set(xlim=(0, 100), ylim=(0, 102))
    upper.set_ylabel("accuracy, %", fontsize=11, color=MUTED, labelpad=8)
    legend_below(figure, [bars, gaps, ideal])
    lower.bar(left, clips, width=width, align="edge", color="#a9b8c6", edgecolor="white")
    for index in np.flatnonzero(filled):
        top = (left[index] + width / 2, clips[index])
        lower.annotate(
            f"{clips[index]:.0f}", top, (0, 3), textcoords="offset points", ha="center", fontsize=8.5, color=MUTED
        )
    lower.set_ylim(0, 1.22 * max(clips.max(), 1))
    lower.set_yticks([])
    lower.set_ylabel("clips", fontsize=11, color=MUTED, labelpad=8)
    lower.set_xlabel("confidence of the prediction, %", fontsize=11, color=MUTED, labelpad=6)
    remove_clutter(upper, "y")
    remove_clutter(lower)
    lower.axhline(0, color=MUTED, linewidth=0.8)
    write_title(figure, title)
    return figure


def report_figure(evaluation: Mapping[str, Any], title: str = "Classification report") -> Figure:
    """Classification report as a table in colors: precision, recall and F1 of each class, then their averages.

    Args:
        evaluation: the content of evaluation.json: `labels`, and `per_class` with the precision, recall, f1 and
            support of each label.
        title: heading; a long one is wrapped.

    >>> scores = {"precision": 1.0, "recall": 0.5, "f1": 0.667, "support": 2}
    >>> figure = report_figure({"labels": ["sad"], "per_class": {"sad": scores}})
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['sad', 'macro average', 'weighted average']
    """
    labels, classes = list(evaluation["labels"]), evaluation["per_class"]
    scores = np.array([[classes[label][name] for name in SCORES] for label in labels], float)
    clips = np.array([classes[label]["support"] for label in labels])
    means = [scores.mean(0), np.average(scores, axis=0, weights=clips)]
    rows = np.concatenate([scores, means])
    names = [*labels, "macro average", "weighted average"]
    support = [*clips, clips.sum(), clips.sum()]
    height = float(np.clip(1.5 + 0.42 * len(names), 2.8, 24))
    figure = new_figure(7.4, height)
    axes = figure.add_subplot()
    positions = np.array([*range(len(labels)), len(labels) + 0.35, len(labels) + 1.35])  # a gap before the averages
    for row, position in zip(rows, positions, strict=True):
        axes.imshow(
            row[None], cmap="Blues", vmin=0, vmax=1, aspect="auto", extent=(-0.5, 2.5, position + 0.5, position - 0.5)
        )
    font = float(np.clip(0.55 * 72 * (height - 1.4) / len(names), 4, 11))
    for row, position, count in zip(rows, positions, support, strict=True):
        for column, value in enumerate(row):
            color = "white" if value > 0.55 else INK
            axes.text(column, position, f"{100 * value:.1f}", ha="center", va="center", fontsize=font, color=color)
        axes.text(3, position, f"{count}", ha="center", va="center", fontsize=font, color=INK)
    remove_clutter(axes)
    axes.set(xlim=(-0.5, 3.5), ylim=(positions[-1] + 0.5, -0.5))
    axes.hlines(positions[:-1] + 0.5, -0.5, 2.5, color="white", linewidth=1.5)
    axes.vlines([0.5, 1.5], -0.5, positions[-1] + 0.5, color="white", linewidth=1.5)
    axes.set_yticks(positions, names, fontsize=font, **LITERAL)
    axes.xaxis.tick_top()
    axes.set_xticks(range(4), [*(f"{name}, %" for name in SCORES.values()), "clips"], fontsize=10.5)
    axes.tick_params(axis="x", labelcolor=MUTED)
    write_title(figure, title)
    return figure
