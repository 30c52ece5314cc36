"""`Table`: the rows of a table of recordings as text, however it is stored; `TablesConfig` says how tables are read."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from serx.base_config import BaseConfig, FilePath, Name
from serx.data.tables.columns import is_known, plain
from serx.errors import DataError


def _encoding_of_text(name: str | None) -> str | None:
    try:
        if name is not None and "path,emotion\n".encode(name).decode(name) != "path,emotion\n":
            raise LookupError
    except (LookupError, UnicodeError):
        raise ValueError(f"no encoding of text is called {name!r}; write utf-8 or windows-1252") from None
    return name


class TablesConfig(BaseConfig):
    """How tables of recordings are read.

    >>> TablesConfig(columns={"emo": "emotion", "duration": None}).columns
    {'emo': 'emotion', 'duration': None}
    """

    columns: dict[Name, Name | None] = Field(
        default_factory=dict,
        max_length=1000,
        description="what columns of tables mean: {emo: emotion} reads emo as emotion, {age: null} does not use age",
    )
    encoding: Annotated[Name | None, AfterValidator(_encoding_of_text)] = Field(
        None, description="of CSV and TSV tables, such as windows-1252; null: detected where that is certain"
    )
    audio_root: FilePath | None = Field(
        None,
        description="the folder to which the paths in tables are relative, or below which files are searched by name; "
        "null: the folder of the table",
    )
    cache: FilePath | None = Field(
        None, description="folder for decoded audio, and for audio inside tables; null: $SERX_CACHE or ~/.cache/serx"
    )


@dataclass(frozen=True)
class Table:
    """The rows of one table.

    Attributes:
        name: for messages.
        folder: names of audio files are relative to it.
        header: the names of the columns.
        header_line: where they are.
        rows: (line, cells) of each row that is not blank. In Parquet and Arrow it is the number of the row, from 1.
        decimal_comma: whether `1,234` can only be a number with a decimal comma.
        part: of a row that does not name its split, such as `train`.
        part_by_folder: whether a folder in the path of a clip names its split.
        other_columns: names of columns that are not in the header because something else takes their place.
    """

    name: str
    folder: Path
    header: Sequence[str]
    header_line: int
    rows: Iterator[tuple[int, list[str]]]
    decimal_comma: bool = False
    part: str = ""
    part_by_folder: bool = False
    other_columns: tuple[str, ...] = ()


def flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """The values of an object, those of objects within it as `name.key`.

    >>> flat({"path": "a.wav", "emotion": {"happy": 2, "sad": 1}})
    {'path': 'a.wav', 'emotion.happy': 2, 'emotion.sad': 1}
    """
    found: dict[str, Any] = {}
    for name, value in record.items():
        inner = {f"{name}.{key}": item for key, item in flat(value).items()} if isinstance(value, Mapping) else None
        found |= {str(name): value} if inner is None else inner
    return found


def cell_of(table: str, line: int, name: str, value: Any) -> str:
    """A value as the text that a CSV would hold.

    Raises:
        DataError: a list or bytes in a column that serx knows.

    >>> cell_of("own.json", 1, "speaker", 7), cell_of("own.json", 1, "sex", None)
    ('7', '')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, list | tuple | bytes):
        if is_known(plain(name)):
            kind = "bytes" if isinstance(value, bytes) else "a list"
            raise DataError(
                f"{table}:{line}: {name} is {kind}; write one word or number, or set data.columns.{name}=null"
            )
        return "[...]"
    return " ".join(str(value).split())
