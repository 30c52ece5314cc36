"""Tables of text: CSV, whatever its encoding, separator and decimal mark, and JSON lines."""

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from serx.data.observed_files import read_bytes
from serx.data.tables.columns import is_known, plain
from serx.data.tables.table import Table, TablesConfig, cell_of, flat
from serx.errors import DataError

SEPARATORS = ",;\t|"


def read_csv(path: Path, config: TablesConfig) -> Table:
    """Opens a CSV or TSV: comma, semicolon, tab or bar separate its cells.

    Raises:
        DataError: its encoding is not certain, or a quote is left open.
    """
    text = _text(path, config.encoding)
    first = next(iter(text.strip().splitlines()), "")
    named = re.fullmatch(r'"?sep=([,;|\t])"?', first.strip(" "), re.IGNORECASE)  # a line for Excel, above the header
    # The separator is the mark that splits the header into the most known columns.
    known = {plain(name) for name in config.columns}
    separator = named[1] if named else max(SEPARATORS, key=lambda mark: _count_known(first.split(mark), known))
    rows = _rows(path.name, text, separator)
    if named:
        next(rows)
    line, header = next(rows, (1, []))
    return Table(path.name, path.parent, header, line, rows, decimal_comma=separator != ",")


def _count_known(cells: Sequence[str], known: set[str]) -> int:
    names = map(plain, cells)
    return sum(name in known or is_known(name) for name in names)


def _rows(name: str, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """(line, cells) of each row; of one whose quotes are not closed, a single cell with line breaks."""
    lines = list(io.StringIO(text, newline=""))
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    line = 1
    try:
        for cells in reader:
            row = lines[line - 1 : reader.line_num]
            is_open = len(row) > 1 and not _is_closed(row, separator)
            if any(cell.strip() for cell in cells):
                yield line, ["".join(row)] if is_open else cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{name}:{line}: {error}; is a quote left open, or is the file not a CSV?") from None


def _is_closed(lines: Sequence[str], separator: str) -> bool:
    """Whether these lines are one row whose quotes are closed and followed by a separator."""
    try:
        return len(list(csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True))) == 1
    except csv.Error:
        return False


def _text(path: Path, encoding: str | None) -> str:
    try:
        raw = read_bytes(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
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
    for match in re.finditer(r"[\w\x80-\x9f\xa1-\xff]+", text):
        word = match[0]
        if word.isascii():
            continue
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


def read_json(path: Path, config: TablesConfig) -> Table:
    """Opens JSON lines, one object a line, or one JSON list of objects. Objects within them become `name.key` columns.

    Raises:
        DataError: a line that is not an object; names it.
    """
    text = _text(path, config.encoding)
    records: list[tuple[int, dict[str, Any]]] = []
    listed = text.lstrip().startswith("[")
    for line, part in [(1, text)] if listed else enumerate(text.split("\n"), 1):
        if not part.strip():
            continue
        try:
            found = json.loads(part, object_pairs_hook=_unique_keys)
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", str(error))
            raise DataError(f"{path.name}:{line}: not JSON: {reason}; write one object a line") from None
        for number, record in enumerate(found, 1) if listed else [(line, found)]:
            if not isinstance(record, dict):
                raise DataError(f'{path.name}:{number}: {str(part)[:40]!r} is not an object; write {{"path": ...}}')
            records.append((number, flat(record)))
    header = list(dict.fromkeys(name for _, record in records for name in record))
    rows = [(line, [cell_of(path.name, line, name, record.get(name)) for name in header]) for line, record in records]
    return Table(path.name, path.parent, header, 1, iter(rows))


def _unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return found
