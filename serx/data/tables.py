"""Tables of recordings as rows of text: CSV and TSV, whatever their encoding, separator and decimal mark."""

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from serx.base_config import BaseConfig, FilePath, Name
from serx.data.columns import is_known, plain
from serx.errors import ConfigError, DataError

SEPARATORS = ",;\t|"


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
    encoding: Name | None = Field(
        None, description="of CSV and TSV tables, such as windows-1252; null: found out where that is certain"
    )
    audio_root: FilePath | None = Field(
        None,
        description="the folder to which the paths in tables are relative, or below which files are searched by name; "
        "null: the folder of the table",
    )


@dataclass(frozen=True)
class Table:
    """The rows of one table.

    Attributes:
        name: for messages.
        folder: names of audio files are relative to it.
        header: the names of the columns.
        header_line: where they are.
        rows: (line, cells) of each row that is not blank.
        decimal_comma: whether `1,234` can only be a number with a decimal comma.
    """

    name: str
    folder: Path
    header: Sequence[str]
    header_line: int
    rows: Iterator[tuple[int, list[str]]]
    decimal_comma: bool = False


def read_csv(path: Path, config: TablesConfig) -> Table:
    """Opens a CSV or TSV: comma, semicolon, tab or bar separate its cells.

    Raises:
        DataError: its encoding is not certain, or a quote is left open.
        ConfigError: `config.encoding` is unknown.
    """
    text = _text(path, config.encoding)
    first = next(iter(text.strip().splitlines()), "")
    # The separator is the mark that splits the header into the most known columns.
    known = {plain(name) for name in config.columns}
    separator = max(SEPARATORS, key=lambda mark: _count_known(first.split(mark), known))
    rows = _rows(path.name, text, separator)
    line, header = next(rows, (1, []))
    return Table(path.name, path.parent, header, line, rows, decimal_comma=separator != ",")


def _count_known(cells: Sequence[str], known: set[str]) -> int:
    names = map(plain, cells)
    return sum(name in known or is_known(name) for name in names)


def _rows(name: str, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{name}:{line}: {error}; is a quote left open, or is the file not a CSV?") from None


def _text(path: Path, encoding: str | None) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if encoding is not None:
        try:
            codecs.lookup(encoding)
        except LookupError:
            raise ConfigError(
                f"data.encoding: no encoding is called {encoding!r}; write utf-8 or windows-1252"
            ) from None
    found = encoding or _encoding(raw)
    try:
        return raw.decode(found)
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode(found, errors="replace")
    if encoding is not None or found != "utf-8-sig":
        raise DataError(f"{path.name}:{before.count(chr(10)) + 1}: not {found} text; save the file as UTF-8")
    return _western(path.name, raw)


def _encoding(raw: bytes) -> str:
    """By the byte-order mark; without one, by the zeros of UTF-16; else UTF-8."""
    if raw[:4] in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE):
        return "utf-32"
    if raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    head = raw[: len(raw) // 2 * 2][:1000]
    if len(head) >= 4 and not (head[0::2].count(0) and head[1::2].count(0)):
        # The header is mostly ASCII, whose upper bytes are zero.
        for zeros, name in ((head[1::2], "utf-16-le"), (head[0::2], "utf-16-be")):
            if zeros.count(0) > len(zeros) // 2:
                return name
    return "utf-8-sig"


# Letters that Windows-1252, Latin-1 and the code pages of other Latin alphabets have at the same place, such as e with
# an acute accent. The other bytes are another letter in Poland, Turkey or in DOS, and nothing in the file tells which.
_CODE_PAGES = ("latin-1", "cp1250", "cp1254", "iso8859-2", "iso8859-15")


def _western(name: str, raw: bytes) -> str:
    """Decodes text that is not UTF-8 as Windows-1252 if every letter is certain; else raises and says which is not."""
    text = raw.decode("latin-1")
    for match in re.finditer(r"[^\W_]*[\x80-\x9f\xa1-\xff][\w\x80-\xff]*", text):
        word = match[0]
        uncertain = next((c for c in word if c > "\x7f" and len(readings(c)) > 1), None)
        if uncertain is None and not any(c.isascii() and c.isalpha() for c in word):
            uncertain = next(c for c in word if c > "\x7f")  # a word of such letters only is Greek or Cyrillic
        if uncertain is not None:
            line = text.count("\n", 0, match.start()) + 1
            choices = " or ".join(readings(uncertain))
            raise DataError(
                f"{name}:{line}: not UTF-8 text, and byte 0x{ord(uncertain):02X} could be {choices} or a letter of "
                "another alphabet; save the file as UTF-8, or name its encoding, such as data.encoding=windows-1252"
            )
    return raw.decode("cp1252")


def readings(character: str) -> list[str]:
    """The letters that a byte, given as its Latin-1 character, is in the code pages of Latin alphabets.

    >>> readings("\\xe9"), len(readings("\\xe8"))
    (['é'], 2)
    """
    byte = character.encode("latin-1")
    return list(dict.fromkeys(byte.decode(page, errors="replace") for page in ("cp1252", *_CODE_PAGES)))


OPENERS: Mapping[str, Callable[[Path, TablesConfig], Table]] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".tab": read_csv,
}
