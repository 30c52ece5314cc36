"""Pictures of an explanation: the spectrogram of a clip, and where the prediction rests on it."""

import io
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.figure import Figure
from matplotlib.image import imsave

from serx.plots.style import BLUE, GRAY, MUTED, RED, new_figure, remove_clutter, write_title

OCTAVES = (62.5, 125, 250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000)  # Hz, of the ticks
STRONGEST = 99.7  # percentile of the absolute saliency that gets the full color
DYNAMIC_RANGE_DB = 70.0
DARKEST = 0.4  # gray of the loudest point, on which colors still show
SMOOTHING = 3  # averages over three neighbors
MAX_ROWS, MAX_COLUMNS = 64, 400  # pixels of a small picture


def saliency_figure(
    spectrogram: np.ndarray,
    saliency: np.ndarray | None,
    frame_saliency: np.ndarray,
    seconds: np.ndarray,
    hertz: np.ndarray,
    title: str,
    note: str = "",
    unit: str = "nats",
) -> Figure:
    """The spectrogram in gray with the saliency over it, red where it is positive; below, the saliency of each frame.

    The color is of the saliency averaged over neighbors (some three bands and frames): single cells differ too much for
    the eye.

    Args:
        spectrogram: `(F, N)` in dB.
        saliency: `(F, N)` in `unit`; None: the frames only.
        frame_saliency: `(N,)` in `unit`.
        seconds: `(N,)`, the middle of each frame.
        hertz: `(F,)`, rising; the vertical axis has one row a band.
        title: heading; a long one is wrapped.
        note: a line below the axes, such as the completeness error.
        unit: of the saliency.

    >>> random = np.random.default_rng(0)
    >>> bands, seconds, hertz = random.normal(size=(40, 90)), np.arange(90) / 60, np.geomspace(60, 7000, 40)
    >>> figure = saliency_figure(bands, bands, bands.sum(0), seconds, hertz, "happy")
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['Hz', 'nats per frame']
    """
    figure = new_figure(8, 5)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, 1))
    hop = seconds[1] - seconds[0] if len(seconds) > 1 else 1.0
    extent = (seconds[0] - hop / 2, seconds[-1] + hop / 2, -0.5, len(hertz) - 0.5)
    image: dict[str, Any] = {"aspect": "auto", "origin": "lower", "extent": extent, "interpolation": "nearest"}
    upper.imshow(_blended(spectrogram, saliency), **image)
    ticks = octave_rows(hertz, 1 / 16)
    upper.set_yticks([*ticks.values()], [f"{octave:g}" for octave in ticks])
    upper.set_ylabel("Hz", fontsize=11, color=MUTED, labelpad=6)
    lower.axhline(0, color=GRAY, linewidth=0.8)
    for sign, color in ((1, RED), (-1, BLUE)):
        of_sign = sign * np.clip(sign * frame_saliency, 0, None)
        lower.fill_between(seconds, 0, of_sign, color=color, linewidth=0, step="mid")
    lower.set_ylabel(f"{unit} per frame" if saliency is not None else unit, fontsize=11, color=MUTED, labelpad=6)
    lower.set_xlabel("seconds", fontsize=11, color=MUTED, labelpad=4)
    lower.set_xlim(extent[:2])
    lower.locator_params(axis="y", nbins=4)
    for axes in (upper, lower):
        remove_clutter(axes)
    if note:
        figure.supxlabel(note, x=0.985, ha="right", fontsize=9, color=MUTED)
    write_title(figure, title)
    return figure


def saliency_png(spectrogram: np.ndarray, saliency: np.ndarray) -> bytes:
    """The upper part of `saliency_figure` as a small PNG file without axes, at most 64 by 400 pixels.

    Args:
        spectrogram: `(F, N)` in dB, low frequencies first.
        saliency: `(F, N)` in nats.

    >>> saliency_png(np.eye(90), np.eye(90))[:4]
    b'\x89PNG'
    """
    buffer = io.BytesIO()
    small = (_reduced(values, MAX_ROWS, MAX_COLUMNS) for values in (spectrogram, saliency))
    imsave(buffer, _blended(*small), format="png", origin="lower")
    return buffer.getvalue()


def octave_rows(hertz: np.ndarray, distance: float) -> dict[float, float]:
    """Octaves within `hertz (F,)`, which rises, with their rows; those nearer than `distance * F` are left out.

    >>> octave_rows(np.array([500.0, 1000.0, 1500.0, 2500.0]), 0.1)
    {2000: 2.5, 1000: 1.0, 500: 0.0}
    """
    rows: dict[float, float] = {}
    for octave in reversed(OCTAVES):
        row = float(np.interp(octave, hertz, np.arange(len(hertz))))
        if hertz[0] <= octave <= hertz[-1] and all(other - row > len(hertz) * distance for other in rows.values()):
            rows[octave] = row
    return rows


def _blended(spectrogram: np.ndarray, saliency: np.ndarray | None) -> np.ndarray:
    """Colors `(F, N, 3)` from 0 to 1: the spectrogram in gray, dark where it is loud, and the saliency over it."""
    loudest = float(spectrogram.max())
    quiet = ((loudest - spectrogram) / DYNAMIC_RANGE_DB).clip(0, 1)
    gray = (DARKEST + (1 - DARKEST) * quiet)[..., None].repeat(3, -1)
    if saliency is None:
        return gray
    smooth = saliency
    for _ in range(SMOOTHING):
        smooth = _averaged(_averaged(smooth).T).T
    strongest = float(np.percentile(np.abs(smooth), STRONGEST)) or 1.0
    color = _overlay(BLUE, RED)((smooth / strongest + 1) / 2)
    opacity = color[..., 3:]
    return (1 - opacity) * gray + opacity * color[..., :3]


def _reduced(values: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Means of equal blocks of `values (F, N)`, at most `rows` by `columns` of them."""
    for axis, most in ((0, rows), (1, columns)):
        size = values.shape[axis]
        if size > most:
            edges = np.arange(most) * size // most
            counts = np.diff(np.append(edges, size))
            values = np.add.reduceat(values, edges, axis) / np.expand_dims(counts, 1 - axis)
    return values


def _averaged(rows: np.ndarray) -> np.ndarray:
    """Each row of `(n, N)` averaged over three neighbors along N."""
    padded = np.pad(rows, ((0, 0), (1, 1)), mode="edge")
    return (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4


def _overlay(negative: str, positive: str) -> LinearSegmentedColormap:
    """From one color through transparent to the other."""
    strengths = np.linspace(-1, 1, 41)
    colors = [to_rgba(positive if s > 0 else negative, alpha=min(0.9, abs(s) ** 0.7)) for s in strengths]
    return LinearSegmentedColormap.from_list("saliency", colors)
