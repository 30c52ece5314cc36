"""Cells of tables, and tables in Markdown."""

from collections.abc import Sequence


def percent(fraction: float) -> str:
    """A fraction in %, with one decimal, right-aligned."""
    return f"{100 * fraction:5.1f}"


def count(number: int, noun: str) -> str:
    """A number with its noun, such as `1 clip` or `2 clips`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [[cell.replace("|", "\\|") for cell in cells] for cells in (header, *rows)]
    lines.insert(1, ["---"] * len(header))
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
