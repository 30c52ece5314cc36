"""The look that all figures share, drawn without pyplot: no display, no global state, nothing to close."""

import io
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

DPI = 110


INK, MUTED, GRID = "#222222", "#767676", "#e4e4e4"


SEX_COLORS = {"male": "#2f6f9f", "female": "#d9822b", None: "#9a9a9a"}


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


def remove_clutter(axes: Any, grid: str | None = None) -> None:
    """Takes away what carries no information: the frame, tick marks, dark grid lines."""
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, colors=INK, labelsize=10, pad=6)
    if grid:
        axes.grid(axis=grid, color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)


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
