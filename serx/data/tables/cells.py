"""What single cells of a table say: numbers, times, names and words; `BadCellError` says what is wrong with one."""

import math
import re
from collections.abc import Mapping

from serx.data.languages import language_code
from serx.data.tables.columns import REQUIRED
from serx.data.tables.table import Table

Place = tuple[str, int]  # table and line

_SEXES = {
    **dict.fromkeys(("male", "m", "man"), "male"),
    **dict.fromkeys(("female", "f", "w", "woman"), "female"),
    **dict.fromkeys(("", "-", "unknown", "other", "na", "n/a", "nan"), None),
}
PARTS = {
    "": None,
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    "test": "test",
}
_STYLES = {"": "speech", "speech": "speech", "song": "song"}
_NOBODY = {"unknown", "unk", "unspecified", "not known", "n/a", "none", "null", "?", "-"}  # names of no speaker
_NO_CELL = {"nan", "NaN", "<NA>"}  # what pandas writes for one; Nan and NA are names
_SEVERAL = re.compile(r"[,;|]")  # between emotions in one cell
NO_VALUE = {"", "nan", "nat", "na", "n/a", "null", "-"}  # how tables write that there is none
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?")
_CLOCK = re.compile(r"(?:([0-9]+) days? )?([0-9]+):([0-5][0-9]):([0-5][0-9](?:[.,][0-9]*)?)")  # as pandas writes times
_MAX_NUMBER = 1e9
_ROUNDED = 0.011  # seconds by which a duration may differ from end - start
_MARKS = {",": "comma", ".": "point"}


class BadCellError(ValueError):
    """What is wrong with a cell, and how to fix it."""


def where_is(place: Place, table: str) -> str:
    """A line of the same table, or of another one."""
    return f"on line {place[1]}" if place[0] == table else f"in {place[0]}:{place[1]}"


class Numbers:
    """Reads the numbers in cells, all of which must have the same decimal mark."""

    def __init__(self) -> None:
        self._marks: dict[str, Place] = {}  # decimal point or comma -> where it was first seen

    def number(self, table: Table, line: int, title: str, cell: str) -> float | None:
        """The finite number in a cell, with a decimal point or comma; seconds also as `0 days 00:00:01.5`."""
        if cell.casefold() in NO_VALUE:
            return None
        clock = _CLOCK.fullmatch(cell)
        if not clock and not _NUMBER.fullmatch(cell):
            raise BadCellError(f"{title} {cell!r} is not a number; write it with digits, such as 0.5")
        self._check_mark(table, line, title, cell)
        if clock:
            days, hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in clock.groups())
            return 86_400 * days + 3600 * hours + 60 * minutes + seconds
        number = float(cell.replace(",", "."))
        if not abs(number) <= _MAX_NUMBER:
            raise BadCellError(f"{title} {cell!r} is beyond {_MAX_NUMBER:g}; correct it")
        return number

    def _check_mark(self, table: Table, line: int, title: str, cell: str) -> None:
        """Raises where a cell leaves open whether its comma or point is the decimal mark."""
        for mark, other in ((",", "."), (".", ",")):
            if mark not in cell:
                continue
            if other in self._marks:
                first = where_is(self._marks[other], table.name)
                raise BadCellError(
                    f"{title} {cell!r} has a decimal {_MARKS[mark]}, and {first} is a decimal {_MARKS[other]}; write "
                    "the same one everywhere"
                )
            if mark == "," and mark not in self._marks and not table.decimal_comma and _is_grouped(cell):
                choices = f"{cell.replace(',', '')} or {cell.replace(',', '.')}"
                raise BadCellError(f"{title} {cell!r} could be {choices}; write it with a decimal point")
            self._marks.setdefault(mark, (table.name, line))


def _is_grouped(cell: str) -> bool:
    """Whether a comma may separate thousands: `1,234`."""
    return re.fullmatch(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}", cell) is not None


def most_voted(votes: Mapping[str, float]) -> list[str]:
    """The emotions with the most votes."""
    most = max(votes.values())
    if most == 0:
        raise BadCellError("no emotion and no vote; fill one of the cells or delete the row")
    return [word for word, count in votes.items() if count == most]


def span(numbers: Mapping[str, float | None], titles: Mapping[str, str]) -> tuple[float, float | None]:
    """Start and end of a clip in seconds."""
    start, end, duration = numbers.get("start") or 0.0, numbers.get("end"), numbers.get("duration")
    if start < 0:
        raise BadCellError(f"{titles['start']} is {start:g}; a file begins at 0 seconds")
    if duration is not None:
        if duration <= 0:
            raise BadCellError(f"{titles['duration']} is {duration:g}; it must be more than 0 seconds")
        if end is not None and not math.isclose(end - start, duration, abs_tol=_ROUNDED):
            raise BadCellError(
                f"{titles['duration']} is {duration:g}, but from {start:g} to {end:g} are {end - start:g} seconds; "
                "correct one of them"
            )
        end = start + duration if end is None else end
    if end is not None and end <= start:
        raise BadCellError(
            f"{titles.get('end', 'end')} {end:g} is not behind start {start:g}; exchange or correct them"
        )
    return start, end


def language(cell: str) -> str | None:
    if cell.casefold() in NO_VALUE:
        return None
    try:
        return language_code(cell)
    except ValueError as error:
        raise BadCellError(str(error)) from None


def check_cells(row: Mapping[str, str], emotion: str, named: bool, rated: bool) -> None:
    """Raises if cells that must be filled are empty or hold no name; `named`: there is a column speaker.

    A row that is `rated` on a dimension needs no emotion.
    """
    filled = {**row, "emotion": "" if emotion.casefold() in NO_VALUE else emotion}
    if rated and not filled["emotion"]:
        emotion = filled["emotion"] = "none"
    empty = [name for name in (*REQUIRED, *(["speaker"] if named else [])) if not filled[name]]
    if empty:
        raise BadCellError(f"no {' and no '.join(empty)}; fill the cell or delete the row")
    if named and (row["speaker"].casefold() in _NOBODY or row["speaker"] in _NO_CELL):
        raise BadCellError(
            f"speaker {row['speaker']!r} is nobody's name; write who speaks, or remove the column if nobody knows"
        )
    if not any(letter.isalpha() for letter in emotion):
        raise BadCellError(f"emotion {emotion!r} is not a word; write its name, such as angry")
    if _SEVERAL.search(emotion):
        raise BadCellError(f"emotion {emotion!r} is several; write one, or votes in columns such as emotion.happy")


def chosen_words(row: Mapping[str, str]) -> dict[str, str | None]:
    """Sex, split and style."""
    chosen: dict[str, str | None] = {}
    for name, choices in (("sex", _SEXES), ("split", PARTS), ("style", _STYLES)):
        word = row.get(name, "").casefold()
        if word not in choices:
            raise BadCellError(f"unknown {name} {row[name]!r}; write {_choices(choices)}")
        chosen[name] = choices[word]
    return chosen


def _choices(choices: Mapping[str, str | None]) -> str:
    return ", ".join(dict.fromkeys(value for value in choices.values() if value)) + " or nothing"
