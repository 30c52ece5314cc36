"""Charts as inline SVG: numbers in, markup out. Colors are CSS classes, so that a page can be dark.

Markup is filled in with `Markup.format`, which escapes every text. A chart is drawn for 360 pixels, the width of a
phone, and scales with its container.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from serx.terminal import printable

WIDTH, HEIGHT = 360, 230
LEFT, RIGHT, TOP, BOTTOM = 40, 10, 10, 36  # margins, in pixels
TICKS = 5
MAX_POINTS = 500  # of a line: a chart of 360 pixels shows no more
STRIP_COLUMNS, STRIP_MIDDLE = 160, 20  # most values of a saliency strip, and the height of its zero line


@dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        points: `(x, y)`; a y that is None or not finite leaves a gap.
        css: classes, such as `c0` (the first color) or `chance`.
        marks: draws a dot at each point.
    """

    points: Sequence[tuple[float, float | None]]
    css: str = "c0"
    marks: bool = False


def line_chart(
    lines: Sequence[Line],
    x_title: str,
    y_title: str,
    x_range: tuple[float, float],
    y_range: tuple[float, float],
    vertical: Sequence[tuple[float, str]] = (),
    bars: Sequence[tuple[float, float, float]] = (),
    description: str = "",
) -> Markup:
    """Lines over a grid. Where all x are whole numbers, as epochs are, so are those at the axis.

    Args:
        lines: drawn in order.
        x_title, y_title: of the axes.
        x_range, y_range: least and largest value that is shown; what lies outside is cut off.
        vertical: x and CSS classes of vertical lines.
        bars: `(from x, to x, height)`, drawn below the lines.
        description: what a screen reader says.

    >>> chart = line_chart([Line([(1, 20), (2, 40)])], "epoch", "UAR, %", (1, 2), (0, 100))
    >>> chart.count("<polyline"), "UAR, %" in chart, "1.5" in chart
    (1, True, False)
    """
    (x0, x1), (y0, y1) = _widened(x_range), _widened(y_range)

    def x(value: float) -> float:
        return LEFT + (min(max(value, x0), x1) - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (min(max(value, y0), y1) - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)

    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = []
    for value in ticks(y0, y1):
        parts.append(Markup('<path class="grid" d="M{} {:.1f}H{}"/>').format(LEFT, y(value), right))
        parts.append(_text("tick end", LEFT - 6, y(value) + 4, f"{value:g}"))
    is_whole = all(float(a).is_integer() for line in lines for a, _ in line.points)
    columns = [value for value in ticks(x0, x1) if not is_whole or value.is_integer()]
    parts += [_text("tick middle", x(value), bottom + 15, f"{value:g}") for value in columns]
    for start, end, height in bars:
        box = x(start), y(height), max(x(end) - x(start) - 1, 0.5), bottom - y(height)
        parts.append(Markup('<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(*box))
    for value, css in vertical:
        parts.append(Markup('<path class="line {}" d="M{:.1f} {}V{}"/>').format(css, x(value), TOP, bottom))
    for line in lines:
        for run in _runs(line.points):
            places = [(x(a), y(b)) for a, b in _thinned(run)]
            if len(places) > 1:
                points = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
                parts.append(Markup('<polyline class="line {}" points="{}"/>').format(line.css, points))
            if line.marks or len(places) == 1:
                parts += [_dot(f"dot {line.css}", *place, 3) for place in places]
    parts.append(_text("axis middle", (LEFT + right) / 2, HEIGHT - 4, x_title))
    turned = Markup('<text class="axis middle" transform="translate(10 {})rotate(-90)">{}</text>')
    parts.append(turned.format((TOP + bottom) / 2, printable(y_title)))
    return _svg(parts, WIDTH, HEIGHT, description or f"{y_title} against {x_title}")


def interval_chart(value: float, interval: Sequence[float] | None, chance: float) -> Markup:
    """A fraction on a scale from 0 to 100 %, with its interval and the chance level.

    >>> 'class="interval"' in interval_chart(0.5, [0.4, 0.6], 0.125)
    True
    """

    def x(fraction: float) -> float:
        return 10 + 340 * fraction

    parts = [Markup('<path class="scale" d="M{} 14H{}"/>').format(x(0), x(1))]
    if interval:
        parts.append(Markup('<path class="interval" d="M{:.1f} 14H{:.1f}"/>').format(*map(x, interval)))
    parts.append(Markup('<path class="line chance" d="M{:.1f} 5V23"/>').format(x(chance)))
    parts.append(_dot("value", x(value), 14, 6))
    parts += [_text("tick middle", x(percent / 100), 40, str(percent)) for percent in (0, 25, 50, 75, 100)]
    bounds = f", 95 % interval {100 * interval[0]:.1f} to {100 * interval[1]:.1f}" if interval else ""
    return _svg(parts, WIDTH, 44, f"UAR {100 * value:.1f} %{bounds}, chance {100 * chance:.1f}")


def scatter(points: Sequence[tuple[float, float]], css: Sequence[str], titles: Sequence[str]) -> Markup:
    """Points of a map, without axes, since its directions mean nothing.

    Args:
        points: `(x, y)`, each from 0 to 1.
        css: the classes of each point.
        titles: what is shown when the mouse rests on a point.

    >>> "&lt;script&gt;" in scatter([(0.5, 0.5)], ["e0"], ["<script>"])
    True
    """
    side, margin = 360, 8
    circle = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="3.2"><title>{}</title></circle>')
    parts = [
        circle.format(names, *(margin + value * (side - 2 * margin) for value in point), printable(title))
        for point, names, title in zip(points, css, titles, strict=True)
    ]
    return _svg(parts, side, side, f"Map of {len(points)} clips")


def saliency_strip(values: Sequence[float]) -> Markup:
    """Values over time as areas, above zero `raises` and below it `lowers`, as wide as the spectrogram above it.

    >>> saliency_strip([0.0, 1.0, -0.5]).count("<path")
    2
    """
    size = max(1, math.ceil(len(values) / STRIP_COLUMNS))
    means = [sum(part) / len(part) for part in (values[i : i + size] for i in range(0, len(values), size))]
    largest = max((abs(value) for value in means), default=0.0) or 1.0
    parts = []
    for css, sign in (("raises", 1), ("lowers", -1)):
        heights = [STRIP_MIDDLE * (1 - sign * max(sign * value, 0.0) / largest) for value in means]
        outline = "".join(f"H{i:.2f}V{y:.1f}H{i + 1:.2f}" for i, y in enumerate(heights))
        path = Markup('<path class="{}" d="M0 {}{}V{}Z"/>')
        parts.append(path.format(css, STRIP_MIDDLE, outline, STRIP_MIDDLE))
    svg = Markup(
        '<svg class="strip" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    )
    return svg.format(len(means), 2 * STRIP_MIDDLE, "saliency over time", Markup("").join(parts))


def ticks(low: float, high: float) -> list[float]:
    """About five round values from `low` to `high`.

    >>> ticks(0, 100), ticks(1, 9)
    ([0.0, 20.0, 40.0, 60.0, 80.0, 100.0], [2.0, 4.0, 6.0, 8.0])
    """
    rough = (high - low) / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _widened(bounds: tuple[float, float]) -> tuple[float, float]:
    low, high = bounds
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _runs(points: Sequence[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
    """The stretches of points without a gap."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        if y is None or not math.isfinite(y):
            runs.append([])
        else:
            runs[-1].append((x, y))
    return [run for run in runs if run]


def _thinned(run: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """At most `MAX_POINTS` of the points, at equal distances, with the first and the last."""
    if len(run) <= MAX_POINTS:
        return run
    return [run[round(i * (len(run) - 1) / (MAX_POINTS - 1))] for i in range(MAX_POINTS)]


def _text(css: str, x: float, y: float, text: str) -> Markup:
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(css, x, y, printable(text))


def _dot(css: str, x: float, y: float, radius: float) -> Markup:
    return Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"/>').format(css, x, y, radius)


def _svg(parts: Sequence[Markup], width: int, height: int, description: str) -> Markup:
    svg = Markup('<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>')
    return svg.format(width, height, printable(description), Markup("").join(parts))
