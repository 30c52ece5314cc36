"""Figures of an evaluation and of features, drawn without pyplot: no display, no global state, nothing to close."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

DPI = 110
INK, MUTED, GRID = "#222222", "#767676", "#e4e4e4"
SEX_COLOURS = {"male": "#2f6f9f", "female": "#d9822b", None: "#9a9a9a"}
GAP = "#c8442f"
DASHES: Any = (0, (3, 2))
# Labels and titles are the user's words: a "$" in them must not start a formula.
PLAIN = {"parse_math": False}


def new_figure(width: float, height: float) -> Figure:
    """A blank one, of so many inches, that lays its parts out by itself."""
    figure = Figure(
        figsize=(width, height), dpi=DPI, facecolor="white", layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
    )
    FigureCanvasAgg(figure)
    return figure


def write_title(figure: Figure, title: str) -> None:
    """A heading on the left, in as many lines as it takes."""
    lines = textwrap.wrap(title, int(9.6 * figure.get_figwidth()))  # characters that fit at this size
    figure.suptitle("\n".join(lines), x=0.015, ha="left", fontsize=12, color=INK, **PLAIN)


def legend_below(figure: Figure, handles: Sequence[Any]) -> None:
    """A legend below the axes, where it hides no data."""
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9.5)


def quieten(axes: Any, grid: str | None = None) -> None:
    """Takes away what carries no information: the frame, tick marks, dark grid lines."""
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, colors=INK, labelsize=10, pad=6)
    if grid:
        axes.grid(axis=grid, color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)


def confusion_figure(confusion: np.ndarray, labels: Sequence[str], title: str = "Confusion matrix") -> Figure:
    """Confusion matrix: colour and percentages by row (the truth), counts in the cells.

    Args:
        confusion: (C, C) counts, rows = truth. A row without clips stays blank.
        labels: the C class names.
        title: heading; long ones are wrapped.
    """
    counts = np.asarray(confusion)
    support = counts.sum(1)
    share = counts / np.maximum(support, 1)[:, None]
    classes = len(labels)
    side = float(np.clip(3.4 + 0.52 * classes, 4.6, 16))
    figure = new_figure(side + 0.8, side - 0.3)
    axes = figure.add_subplot()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="equal")
    cell = (side - 1.6) / classes  # inches, about: the rest goes to labels, title and colour bar
    size = float(np.clip(13.5 * cell, 4, 12))
    for row, column in np.ndindex(classes, classes):
        count, part = int(counts[row, column]), share[row, column]
        text = f"{count}\n{100 * part:.0f} %" if count else "0"
        colour = "white" if part > 0.55 else INK if count else "#b5b5b5"
        weight = "bold" if row == column and count else "normal"
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=colour, fontweight=weight)
    quieten(axes)
    axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    font = float(np.clip(14 * cell, 6, 10.5))
    tilt: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(range(classes), labels, fontsize=font, **tilt, **PLAIN)
    rows = [f"{label}  ({total})" for label, total in zip(labels, support, strict=True)]
    axes.set_yticks(range(classes), rows, fontsize=font, **PLAIN)
    axes.set_xlabel("predicted", fontsize=11, color=MUTED, labelpad=8)
    axes.set_ylabel("true (clips)", fontsize=11, color=MUTED, labelpad=8)
    bar = figure.colorbar(image, ax=axes, shrink=0.75, aspect=28, pad=0.03, ticks=[0, 0.25, 0.5, 0.75, 1])
    bar.ax.set_yticklabels(["0", "25", "50", "75", "100 %"], fontsize=9, color=MUTED)
    bar.ax.tick_params(length=0)
    bar.outline.set_visible(False)
    write_title(figure, title)
    return figure


def speakers_figure(per_speaker: Mapping[str, Mapping[str, Any]], chance: float, title: str = "Speakers") -> Figure:
    """UAR of each speaker as horizontal bars, worst on top, coloured by sex, with lines at chance and at the mean.

    Args:
        per_speaker: speaker -> {"uar": fraction, "sex": "male", "female" or None, ...}, as in an evaluation.
        chance: the UAR of guessing, 1 / classes that occur.
        title: heading.
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
    axes.barh(positions, uars, height=0.68, color=[SEX_COLOURS.get(sex, SEX_COLOURS[None]) for sex in sexes])
    for position, value in enumerate(uars):
        # On white, so that the number stays readable where the mean line crosses it or runs close by, like a digit 1.
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.25 * font}
        axes.text(value + 0.8, position, f"{value:.1f}", va="center", fontsize=font, color=INK, bbox=box)
    mean = float(uars.mean())
    axes.axvline(100 * chance, color=MUTED, linewidth=1.2, linestyle=DASHES)
    axes.axvline(mean, color=INK, linewidth=1.2)
    quieten(axes, "x")
    axes.set(xlim=(0, 106), ylim=(len(names) - 0.4, -0.6))
    axes.set_yticks(positions, names, fontsize=font, **PLAIN)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("UAR, %", fontsize=11, color=MUTED, labelpad=6)
    seen = [sex for sex in SEX_COLOURS if sex in sexes]
    handles: list[Any] = [Patch(color=SEX_COLOURS[sex], label=sex or "sex unknown") for sex in seen]
    handles.append(Line2D([], [], color=INK, linewidth=1.2, label=f"mean of speakers {mean:.1f}"))
    handles.append(Line2D([], [], color=MUTED, linewidth=1.2, linestyle=DASHES, label=f"chance {100 * chance:.1f}"))
    legend_below(figure, handles)
    write_title(figure, title)
    return figure


def calibration_figure(counts: np.ndarray, title: str = "Calibration") -> Figure:
    """Reliability diagram over a histogram of the confidence (Guo et al. 2017).

    Args:
        counts: (bins, 3) from `metrics.calibration_counts`: clips, sum of confidence, clips recognised.
        title: heading.
    """
    clips, confidence, correct = np.asarray(counts, float).T
    filled = clips > 0
    edges = np.linspace(0, 100, len(clips) + 1)
    width, left = edges[1], edges[:-1]
    share = 100 * correct[filled] / clips[filled]
    mean = 100 * confidence[filled] / clips[filled]
    figure = new_figure(8, 7)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    bars = upper.bar(
        left[filled], share, width=width, align="edge", color="#2f6f9f", edgecolor="white", label="accuracy"
    )
    ends = np.minimum(share, mean), np.maximum(share, mean)
    gaps = upper.vlines(mean, *ends, color=GAP, linewidth=2.2, zorder=3, label="gap to the mean confidence")
    upper.scatter(mean, mean, s=18, color=GAP, zorder=4)
    (ideal,) = upper.plot([0, 100], [0, 100], color=MUTED, linewidth=1.2, linestyle=DASHES, label="perfect calibration")
    upper.set(xlim=(0, 100), ylim=(0, 102))
    upper.set_ylabel("clips recognised, %", fontsize=11, color=MUTED, labelpad=8)
    legend_below(figure, [bars, gaps, ideal])
    lower.bar(left, clips, width=width, align="edge", color="#a9b8c6", edgecolor="white")
    for index in np.flatnonzero(filled):
        place = (left[index] + width / 2, clips[index])
        lower.annotate(
            f"{clips[index]:.0f}", place, (0, 3), textcoords="offset points", ha="center", fontsize=8.5, color=MUTED
        )
    lower.set_ylim(0, 1.22 * max(clips.max(), 1))
    lower.set_yticks([])
    lower.set_ylabel("clips", fontsize=11, color=MUTED, labelpad=8)
    lower.set_xlabel("confidence of the prediction, %", fontsize=11, color=MUTED, labelpad=6)
    quieten(upper, "y")
    quieten(lower)
    lower.axhline(0, color=MUTED, linewidth=0.8)
    write_title(figure, title)
    return figure


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
    colours = [SEX_COLOURS["male"] if honest else GAP for *_, honest in rows]
    axes.barh(places, [100 * accuracy for _, accuracy, _, _ in rows], height=0.62, color=colours)
    axes.scatter([100 * uar for _, _, uar, _ in rows], places, s=36, color="white", edgecolor=INK, zorder=3)
    for place, (_, accuracy, _, honest) in enumerate(rows):
        word, weight = ("new voices", "bold") if honest else ("leaky", "normal")
        axes.text(100 * accuracy + 2.2, place, f"{100 * accuracy:.1f}  {word}", va="center", color=INK, weight=weight)
    axes.axvline(100 * chance, color=MUTED, linewidth=1.2, linestyle=DASHES)
    quieten(axes, "x")
    axes.set(xlim=(0, 122), ylim=(len(rows) - 0.5, -0.5))
    axes.set_yticks(places, [textwrap.fill(name, 30) for name, *_ in rows], fontsize=10, **PLAIN)
    axes.set_xticks(range(0, 101, 20))
    axes.set_xlabel("accuracy on the test part, %", fontsize=11, color=MUTED, labelpad=6)
    dot = Line2D([], [], marker="o", color="none", markerfacecolor="white", markeredgecolor=INK, label="UAR")
    line = Line2D([], [], color=MUTED, linewidth=1.2, linestyle=DASHES, label=f"chance {100 * chance:.1f}")
    legend_below(
        figure,
        [Patch(color=SEX_COLOURS["male"], label="speaker-independent"), Patch(color=GAP, label="leaky"), dot, line],
    )
    write_title(figure, title)
    return figure


def spectrogram_figure(features: np.ndarray, title: str, seconds: float) -> Figure:
    """A picture of features (F, N), the lowest bin at the bottom.

    Its parts have fixed places, and its colours are told in words: a run draws a dozen of these, and laying each out
    beside a bar of colours would take six times as long.

    Args:
        features: (F, N) real values; colours span the 1st to the 99.5th percentile, so one click hides nothing.
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
    quieten(axes)
    axes.set_xlabel("seconds", fontsize=11, color=MUTED, labelpad=6)
    axes.set_ylabel("feature bin", fontsize=11, color=MUTED, labelpad=6)
    figure.text(0.97, 0.03, f"black {low:.3g}, pale {top:.3g}", ha="right", fontsize=9, color=MUTED)
    return figure


def figure_png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    _settle(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def figure_array(figure: Figure) -> np.ndarray:
    """The figure as pixels (H, W, 3) uint8, as TensorBoard's `add_image(..., dataformats="HWC")` takes them."""
    _settle(figure)
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _settle(figure: Figure) -> None:
    """Lays the figure out for good: another constrained layout at each drawing would move things a little."""
    if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
        figure.draw_without_rendering()
        figure.draw_without_rendering()  # labels that the first pass moved are measured again
        figure.set_layout_engine("none")
