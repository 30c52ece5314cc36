"""Text tables, for a terminal of 100 columns and for Markdown."""

import textwrap
from collections.abc import Sequence
from typing import Any

WIDTH = 100  # columns of the terminal


def wrap(text: str) -> list[str]:
    """The text in lines of the terminal."""
    return textwrap.wrap(text, WIDTH, subsequent_indent="    ", break_on_hyphens=False)


def percent(fraction: float) -> str:
    """A fraction in %, with one decimal, right-aligned."""
    return f"{100 * fraction:5.1f}"


def count(number: int, noun: str) -> str:
    """A number with its noun, such as `1 clip` or `2 clips`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of a titled table after an empty line; the first column is left-aligned, the others right-aligned."""
    cells = [[str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    body = [
        "  " + "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in cells
    ]
    return ["", *wrap(title), *body]


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [[cell.replace("|", "\\|") for cell in cells] for cells in (header, *rows)]
    lines.insert(1, ["---"] * len(header))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
