"""The style that all figures share. Figures are drawn without pyplot: no display, no global state, nothing to close."""

import io
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.layout_engine import ConstrainedLayoutEngine

DPI = 110
INK, MUTED, GRID = "#222222", "#767676", "#e4e4e4"
BLUE, ORANGE, RED, GRAY = "#2f6f9f", "#d9822b", "#c8442f", "#9a9a9a"
# Paul Tol's bright scheme, whose colors people with color blindness can tell apart
EMOTION_COLORS = {
    "neutral": "#8a8a8a", "calm": "#66ccee", "happy": "#e0b500", "sad": "#4477aa", "angry": "#d8434e",
    "fearful": "#aa3377", "disgust": "#228833", "surprised": "#ee8833",
}  # fmt: skip
OTHER_COLORS = ("#7a68c9", "#44aa99", "#b0785c", "#5f8f2f")
DASHES: Any = (0, (3, 2))
LONGEST_NAME = 46  # characters of a setting's name in a table or a figure
# Labels and titles come from the user: a "$" in them must not start a formula.
LITERAL = {"parse_math": False}


def emotion_color(emotion: str, labels: Sequence[str]) -> str:
    """The color of one of a model's `labels`; the same emotion has the same color in every model.

    >>> emotion_color("sad", ["sad", "bored"]), emotion_color("bored", ["sad", "bored"])
    ('#4477aa', '#7a68c9')
    """
    others = [label for label in labels if label not in EMOTION_COLORS]
    if emotion in EMOTION_COLORS:
        return EMOTION_COLORS[emotion]
    return OTHER_COLORS[others.index(emotion) % len(OTHER_COLORS)] if emotion in others else EMOTION_COLORS["neutral"]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` by `height` inches that arranges its axes by itself."""
    figure = Figure(
        figsize=(width, height), dpi=DPI, facecolor="white", layout=ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
    )
    FigureCanvasAgg(figure)
    return figure


def write_title(figure: Figure, title: str) -> None:
    """Writes a heading on the left, wrapped to the width of the figure."""
    lines = textwrap.wrap(title, int(9.6 * figure.get_figwidth()))  # characters that fit at this size
    figure.suptitle("\n".join(lines), x=0.015, ha="left", fontsize=12, color=INK, **LITERAL)


def legend_below(figure: Figure, handles: Sequence[Any]) -> None:
    """Adds a legend below the axes, where it hides no data."""
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9.5)


def remove_clutter(axes: Any, grid: str | None = None) -> None:
    """Removes the frame and the tick marks; draws light grid lines along the axis `grid` ("x" or "y")."""
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, colors=INK, labelsize=10, pad=6)
    if grid:
        axes.grid(axis=grid, color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)


def shorten(name: str) -> str:
    """The name of a setting, cut to the room that a table or a figure has.

    >>> shorten("optim.lr=0.001"), len(shorten("a" * 80))
    ('optim.lr=0.001', 46)
    """
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."


def figure_png(figure: Figure) -> bytes:
    """The bytes of the figure as a PNG file.

    >>> figure_png(new_figure(2, 1))[:4]
    b'\x89PNG'
    """
    buffer = io.BytesIO()
    with _any_script():
        _settle(figure)
        figure.savefig(buffer, format="png")
    return buffer.getvalue()


def image_png(values: np.ndarray) -> bytes:
    """The bytes of a PNG file with one pixel a value of `values (H, W)`, the first row at the bottom, no axes.

    >>> image_png(np.eye(3))[:4]
    b'\x89PNG'
    """
    buffer = io.BytesIO()
    imsave(buffer, values, format="png", cmap="magma", origin="lower")
    return buffer.getvalue()


def figure_array(figure: Figure) -> np.ndarray:
    """Pixels of the figure (H, W, 3) uint8, for TensorBoard's `add_image(..., dataformats="HWC")`.

    >>> figure_array(new_figure(2, 1)).shape
    (110, 220, 3)
    """
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    with _any_script():
        _settle(figure)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


@contextmanager
def _any_script() -> Iterator[None]:
    """Names of files and labels may be of any script: what the font lacks is drawn as boxes, without a warning each."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


def _settle(figure: Figure) -> None:
    """Fixes the layout: a constrained layout that runs again at each drawing would shift the axes a little."""
    if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
        figure.draw_without_rendering()
        figure.draw_without_rendering()  # measures again the labels that the first pass moved
        figure.set_layout_engine("none")
