"""Pictures for TensorBoard, drawn by Pillow: numbers in, pixels out.

A run draws about ten of them, and matplotlib would take 50 to 200 ms of a CPU for each.
"""

import io
import textwrap
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 880, 440  # of a spectrogram
LEFT, RIGHT, BOTTOM, TOP = 70, 20, 62, 16  # margins; the title comes on top
LINE = 22  # height of a line of a title
INK, MUTED, WHITE = "#222222", "#767676", "#ffffff"
BLUES = np.array([[247, 251, 255], [107, 174, 214], [8, 48, 107]])  # of 0, 50 and 100 %
# The colormap magma as polynomials of red, green and blue, to 0.03 (Matt Zucker, https://www.shadertoy.com/view/WlfXRN).
MAGMA = np.array(
    [
        [-0.002136485053939582, -0.000749655052795221, -0.005386127855323933],
        [0.2516605407371642, 0.6775232436837668, 2.494026599312351],
        [8.353717279216625, -3.577719514958484, 0.3144679030132573],
        [-27.66873308576866, 14.26473078096533, -13.64921318813922],
        [52.17613981234068, -27.94360607168351, 12.94416944238394],
        [-50.76852536473588, 29.04658282127291, 4.23415299384598],
        [18.65570506591883, -11.48977351997711, -5.601961508734096],
    ]
)


def magma(values: np.ndarray) -> np.ndarray:
    """Colors `(..., 3)` uint8 of values in [0, 1], from black over red to pale yellow.

    >>> magma(np.array([0.0, 1.0])).tolist()[0]
    [0, 0, 0]
    """
    levels = np.linspace(0, 1, 256)
    colors = np.polynomial.polynomial.polyval(levels, MAGMA).T.clip(0, 1)
    table = (255 * colors).round().astype(np.uint8)
    return table[(255 * np.nan_to_num(values).clip(0, 1)).round().astype(int)]


def spectrogram_pixels(features: np.ndarray, title: str, seconds: float) -> np.ndarray:
    """Features (F, N) as pixels (440, 880, 3) uint8, the lowest bin at the bottom.

    Args:
        features: (F, N) real values; the colors span the 1st to the 99.5th percentile, so that one click hides nothing.
        title: heading; a long one is wrapped.
        seconds: duration of the N frames.

    >>> spectrogram_pixels(np.random.default_rng(0).random((40, 100)), "clip 1", seconds=1.0).shape
    (440, 880, 3)
    """
    values = np.asarray(features, float)
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [1, 99.5]) if finite.size else (0.0, 1.0)
    high = high if high > low else low + 1
    image = Image.new("RGB", (WIDTH, HEIGHT), WHITE)
    draw = ImageDraw.Draw(image)
    top = _write_title(draw, title, WIDTH)
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - BOTTOM - top
    colors = Image.fromarray(magma((values - low) / (high - low))[::-1].copy())
    image.paste(colors.resize((width, height), Image.Resampling.NEAREST), (LEFT, top))
    for tick in _ticks(seconds):
        x = LEFT + width * tick / max(seconds, 1e-3)
        draw.text((x, top + height + 6), f"{tick:g}", INK, _font(14), anchor="mt")
    bins = len(values)
    for tick in _ticks(bins - 1):
        y = top + height * (1 - (tick + 0.5) / bins)
        draw.text((LEFT - 8, y), f"{tick:g}", INK, _font(14), anchor="rm")
    draw.text((LEFT + width / 2, HEIGHT - 10), "seconds", MUTED, _font(15), anchor="mb")
    draw.text((WIDTH - RIGHT, HEIGHT - 10), f"black {low:.3g}, pale {high:.3g}", MUTED, _font(13), anchor="rb")
    _write_upward(image, "feature bin", (14, top + height // 2), 15, MUTED)
    return np.asarray(image)


def confusion_pixels(confusion: np.ndarray, labels: Sequence[str], title: str) -> np.ndarray:
    """A confusion matrix as pixels (H, W, 3) uint8: counts, and the share of each row (the true class) as color.

    Args:
        confusion: (C, C) counts, rows are the true classes. A row without clips stays pale.
        labels: the C labels.
        title: heading; a long one is wrapped.

    >>> confusion_pixels(np.array([[3, 1], [0, 4]]), ["happy", "sad"], "epoch 1").ndim
    3
    """
    counts = np.asarray(confusion)
    support = counts.sum(1)
    share = counts / np.maximum(support, 1)[:, None]
    classes = len(labels)
    cell = int(np.clip(900 / classes, 24, 64))
    large, small = _font(15), _font(12)
    rows = [f"{label} ({total})" for label, total in zip(labels, support, strict=True)]
    left = 40 + round(max(large.getlength(row) for row in rows))
    bottom = 40 + round(max(large.getlength(label) for label in labels))
    width = max(left + classes * cell + RIGHT, 560)
    top = TOP + LINE * len(_title_lines(title, width)) + 8
    image = Image.new("RGB", (width, top + classes * cell + bottom), WHITE)
    draw = ImageDraw.Draw(image)
    _write_title(draw, title, width)
    for (row, column), part in np.ndenumerate(share):
        x, y, count = left + column * cell, top + row * cell, counts[row, column]
        draw.rectangle((x, y, x + cell - 2, y + cell - 2), fill=_blue(part))
        color = WHITE if part > 0.55 else INK if count else "#b5b5b5"
        center = x + cell / 2 - 1, y + cell / 2 - 1
        with_share = count > 0 and cell >= 40
        draw.text((center[0], center[1] - 8 * with_share), str(count), color, large if cell >= 40 else small, "mm")
        if with_share:
            draw.text((center[0], center[1] + 11), f"{100 * part:.0f} %", color, small, "mm")
    for number, (row_name, label) in enumerate(zip(rows, labels, strict=True)):
        middle = round((number + 0.5) * cell)
        draw.text((left - 8, top + middle), row_name, INK, large, "rm")
        length = round(large.getlength(label))
        _write_upward(image, label, (left + middle, top + classes * cell + 8 + length // 2), 15, INK)
    draw.text((left + classes * cell / 2, image.height - 6), "predicted", MUTED, large, "mb")
    _write_upward(image, "true (clips)", (14, top + classes * cell // 2), 15, MUTED)
    return np.asarray(image)


def png(pixels: np.ndarray) -> bytes:
    """The pixels `(H, W, 3)` uint8 as a PNG file, compressed little and fast.

    >>> png(np.zeros((2, 3, 3), np.uint8))[1:4]
    b'PNG'
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _blue(share: float) -> tuple[int, ...]:
    return tuple(round(np.interp(share, (0, 0.5, 1), BLUES[:, channel])) for channel in range(3))


def _title_lines(title: str, width: int) -> list[str]:
    return textwrap.wrap(title, width // 9)  # characters that fit at this size


def _write_title(draw: ImageDraw.ImageDraw, title: str, width: int) -> int:
    """Writes a heading on the left; returns the height where it ends."""
    lines = _title_lines(title, width)
    for number, line in enumerate(lines):
        draw.text((14, 12 + LINE * number), line, INK, _font(16))
    return TOP + LINE * len(lines) + 8


def _write_upward(image: Image.Image, text: str, center: tuple[int, int], size: int, color: str) -> None:
    """Writes text that is read from below."""
    font = _font(size)
    mask = Image.new("L", (round(font.getlength(text)) + 2, size + 8), 0)
    ImageDraw.Draw(mask).text((1, mask.height / 2), text, 255, font, "lm")
    mask = mask.rotate(90, expand=True)
    image.paste(color, (center[0] - mask.width // 2, center[1] - mask.height // 2), mask)


def _ticks(end: float) -> np.ndarray:
    """Round numbers from 0 to `end`, at most six."""
    step = 10.0 ** np.floor(np.log10(max(end, 1e-3) / 5))
    step *= next(factor for factor in (1, 2, 5, 10) if end / (factor * step) <= 5)
    return np.arange(0, end + step / 1000, step).round(6)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """The font of matplotlib's figures, read without importing matplotlib."""
    origin = getattr(find_spec("matplotlib"), "origin", None)
    return ImageFont.truetype(Path(origin or "").parent / "mpl-data/fonts/ttf/DejaVuSans.ttf", size)
