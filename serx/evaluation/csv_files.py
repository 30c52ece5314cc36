"""CSV files of clips; their first columns may name a group of rows, such as those of one seed and fold."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

OTHER_NAMES = "its columns have other names"


def csv_bytes(rows: Iterable[Sequence[object]]) -> bytes:
    """A CSV file in UTF-8. Bytes of a path that are not text are escaped.

    >>> csv_bytes([["path", "speaker"], ["a.wav", "ann"]])
    b'path,speaker\\na.wav,ann\\n'
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode(errors="backslashreplace")


def read_groups(path: Path, columns: Sequence[str]) -> tuple[list[str], dict[tuple[str, ...], list[list[str]]]]:
    """Reads a CSV file whose first columns are `columns`.

    Returns:
        The names of the other columns; and for each value of `columns`, in order, its rows without them.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is empty or not CSV, or other columns come first.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, *rows = list(csv.reader(file))
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if header[: len(columns)] != [*columns]:
        raise ValueError(OTHER_NAMES)
    groups: dict[tuple[str, ...], list[list[str]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[: len(columns)]), []).append(row[len(columns) :])
    return header[len(columns) :], groups
