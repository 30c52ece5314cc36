"""Tables of recordings as rows of text: CSV, JSON lines, Parquet, and the folders of Hugging Face datasets.

CSV is read whatever its encoding, separator and decimal mark. pyarrow alone reads Parquet and what `save_to_disk` of
`datasets` writes (Arrow streams and two JSON files), so `datasets` with its dependencies is not needed; only this file
imports it. Audio inside such tables is written into the cache folder first, since everything else takes files.
"""

import codecs
import csv
import hashlib
import io
import json
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from serx.base_config import BaseConfig, FilePath, Name
from serx.data.audio import is_audio
from serx.data.audio_cache import cache_folder
from serx.data.columns import is_known, plain
from serx.data.observed_files import files_in, is_file, is_folder, read_bytes, will_be_read
from serx.errors import DataError, DiskError
from serx.files import why_not_written, write_atomically

SEPARATORS = ",;\t|"


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
        None, description="of CSV and TSV tables, such as windows-1252; null: found out where that is certain"
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


def open_tables(path: Path, config: TablesConfig) -> list[Table]:
    """The tables of a file, or of a folder that `is_table_folder`.

    Raises:
        DataError: a table that cannot be read, with its line; or pyarrow is missing.
    """
    if not is_folder(path):
        return [OPENERS.get(path.suffix.lower(), read_csv)(path, config)]
    if is_file(path / "dataset_dict.json"):
        splits = _json(path / "dataset_dict.json").get("splits", [])
        return [table for split in splits for table in _saved(path / str(split), config, f"{split}/", str(split))]
    if _is_saved(path):
        return _saved(path, config)
    found = _tables_below(path)
    if any(file.name.startswith("metadata.") for file in found):
        return [replace(_named(file, path, config), part_by_folder=True) for file in found]
    return [replace(_named(file, path, config), part=_shard_split(file)) for file in found]


def is_table_folder(path: Path) -> bool:
    """Whether a folder is a Hugging Face dataset: saved to disk, with `metadata` files, or with Parquet files alone."""
    return is_file(path / "dataset_dict.json") or _is_saved(path) or bool(_tables_below(path))


def _is_saved(path: Path) -> bool:
    return is_file(path / "state.json") and is_file(path / "dataset_info.json")


def _named(file: Path, root: Path, config: TablesConfig) -> Table:
    return replace(OPENERS[file.suffix.lower()](file, config), name=file.relative_to(root).as_posix())


def _tables_below(root: Path) -> list[Path]:
    """The files `metadata.csv`, `.jsonl` and `.parquet` in and below a folder that have a column file_name.

    If there is none, and no audio file: its Parquet files.
    """
    metadata, shards, sounds = list[Path](), list[Path](), False
    for path in files_in(root):
        if path.name in ("metadata.csv", "metadata.jsonl", "metadata.parquet"):
            metadata.append(path)
        elif path.suffix == ".parquet":
            shards.append(path)
        sounds = sounds or is_audio(path)
    return [path for path in metadata if _has_file_name(path)] or ([] if sounds else shards)


def _has_file_name(path: Path) -> bool:
    if path.suffix == ".parquet":
        return "file_name" in _parquet(path).schema_arrow.names
    will_be_read(path)
    with path.open("rb") as file:
        return b"file_name" in file.readline(1 << 16).replace(b"\0", b"")


def _shard_split(path: Path) -> str:
    """The split in a name such as `train-00000-of-00002.parquet`, or in that of its folder."""
    match = re.fullmatch(r"(.+?)-[0-9]{5}-of-[0-9]{5}(?:-[0-9a-f]+)?", path.stem)
    return match[1] if match else path.parent.name


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
            records.append((number, _flat(record)))
    header = list(dict.fromkeys(name for _, record in records for name in record))
    rows = [(line, [_cell(path.name, line, name, record.get(name)) for name in header]) for line, record in records]
    return Table(path.name, path.parent, header, 1, iter(rows))


def _unique_keys(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} occurs twice")
    return found


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in record.items():
        inner = {f"{name}.{key}": item for key, item in _flat(value).items()} if isinstance(value, Mapping) else None
        flat |= {str(name): value} if inner is None else inner
    return flat


def _cell(table: str, line: int, name: str, value: Any) -> str:
    """A value as the text that a CSV would hold."""
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


def read_parquet(path: Path, config: TablesConfig) -> Table:
    """Opens a Parquet file; audio that it holds is written into the cache folder."""
    file = _parquet(path)
    batches = (batch for batch in file.iter_batches(batch_size=_ROWS))
    return _arrow_table(path, file.schema_arrow, batches, config)


_ROWS = 256  # of a Parquet file at a time: rows may hold audio


def _arrow() -> Any:
    try:
        import pyarrow  # noqa: PLC0415 (an optional package)
        import pyarrow.ipc  # noqa: PLC0415
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError:
        raise DataError("Parquet and Arrow tables need pyarrow: pip install 'serx[tables]'") from None
    return pyarrow


def _parquet(path: Path) -> Any:
    arrow = _arrow()
    try:
        will_be_read(path)
        return arrow.parquet.ParquetFile(path)
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"{path}: not a Parquet file: {_first_line(error)}; write it again") from None


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0].rstrip(".")


def _saved(folder: Path, config: TablesConfig, prefix: str = "", part: str = "") -> list[Table]:
    """The tables of a dataset that `save_to_disk` wrote."""
    arrow, state = _arrow(), _json(folder / "state.json")
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise DataError(f"{folder}: its rows are picked by a file of indices; call flatten_indices() and save it again")
    features = _json(folder / "dataset_info.json").get("features") or {}
    tables = []
    for entry in state.get("_data_files", []):
        path = folder / str(entry.get("filename"))
        try:
            will_be_read(path)
            stream = arrow.ipc.open_stream(arrow.memory_map(str(path)))
        except (OSError, arrow.ArrowException) as error:
            raise DataError(f"{path}: not an Arrow stream: {_first_line(error)}; save the dataset again") from None
        table = _arrow_table(path, stream.schema, iter(stream), config, features)
        tables.append(replace(table, name=f"{prefix}{path.name}", part=part))
    return tables


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_bytes(path))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read: {_first_line(error)}; save the dataset again") from None
    return found if isinstance(found, dict) else {}


def _arrow_table(
    path: Path, schema: Any, batches: Iterator[Any], config: TablesConfig, features: Mapping[str, Any] | None = None
) -> Table:
    """A table of Arrow record batches, with the features of Hugging Face's `datasets`: class names and audio."""
    if features is None:
        stored = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = stored.get("info", {}).get("features", {})
    unused = {plain(theirs) for theirs, ours in config.columns.items() if ours is None}
    sound = [f.name for f in schema if _holds_audio(f.type) and plain(f.name) not in unused]
    if len(sound) > 1:
        listed = " and ".join(map(repr, sound))
        raise DataError(f"{path.name}: {listed} both hold audio; leave one out, such as data.columns.{sound[1]}=null")
    titles: list[str] = []
    for field in schema:
        if field.name in sound:
            titles.append("path")
        elif sound and plain(field.name) == "path":
            titles.append("path as text")
        else:
            titles += _titles(field, field.name)
    names = {name: tuple(f["names"]) for name, f in features.items() if isinstance(f, dict) and f.get("names")}
    folder = folder_of_audio(config)

    def rows() -> Iterator[tuple[int, list[str]]]:
        line = 0
        try:
            for batch in batches:
                columns = [(field, _values(batch.column(i), field.type)) for i, field in enumerate(schema)]
                for row in range(batch.num_rows):
                    line += 1
                    cells: list[str] = []
                    for field, values in columns:
                        value = values[row]
                        if field.name in sound:
                            cells.append(_audio_file(folder, value or {}))
                        elif field.name in names and isinstance(value, int):
                            cells.append(_class_name(path.name, line, field.name, value, names[field.name]))
                        else:
                            own = _flat({field.name: _padded(value, field.type)})
                            cells += [
                                _cell(path.name, line, title, own.get(title)) for title in _titles(field, field.name)
                            ]
                    yield line, cells
        except (OSError, _arrow().ArrowException) as error:
            raise DataError(f"{path.name}:{line + 1}: cannot be read: {_first_line(error)}; write it again") from None

    return Table(path.name, path.parent, titles, 1, rows(), other_columns=tuple(schema.names))


def _holds_audio(kind: Any) -> bool:
    """Whether an Arrow type is that of audio in `datasets`: a struct of bytes and path."""
    types = _arrow().types
    return bool(types.is_struct(kind)) and {"bytes", "path"} <= {kind.field(i).name for i in range(kind.num_fields)}


def _titles(field: Any, name: str) -> list[str]:
    """The columns that a field becomes: a struct has one for each of its own."""
    if not _arrow().types.is_struct(field.type):
        return [name]
    inner = [field.type.field(i) for i in range(field.type.num_fields)]
    return [title for own in inner for title in _titles(own, f"{name}.{own.name}")]


def _padded(value: Any, kind: Any) -> Any:
    return {} if value is None and _arrow().types.is_struct(kind) else value


def _values(column: Any, kind: Any) -> list[Any]:
    """The values of a column; times as seconds."""
    arrow = _arrow()
    if arrow.types.is_duration(kind):
        unit = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}[kind.unit]
        return [None if v is None else v * unit for v in column.cast(arrow.int64()).to_pylist()]
    if arrow.types.is_timestamp(kind) or arrow.types.is_time(kind):
        return list(column.cast(arrow.string()).to_pylist())
    return list(column.to_pylist())


def _class_name(table: str, line: int, name: str, number: int, names: Sequence[str]) -> str:
    if number == -1:  # how `datasets` writes that there is no label
        return ""
    if not 0 <= number < len(names):
        raise DataError(f"{table}:{line}: {name} {number} has no name: the dataset names {len(names)} classes")
    return names[number]


def folder_of_audio(config: TablesConfig) -> Path:
    """Where audio that is inside tables is written."""
    return cache_folder(config.cache) / "from_tables"


def _audio_file(folder: Path, sound: Mapping[str, Any]) -> str:
    """The file of an audio cell; its bytes are written to one below `folder` that is named by their digest."""
    content, name = sound.get("bytes"), str(sound.get("path") or "")
    if content is None:
        return name
    original = os.path.basename(name.replace("\\", "/")) or "audio"
    path = folder / hashlib.sha256(content).hexdigest()[:32] / original[-100:]
    if not path.is_file() or path.stat().st_size != len(content):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)
        except OSError as error:
            what = f"{path}: cannot write audio of a table: {why_not_written(error, folder)}"
            raise DiskError(f"{what}, or choose another folder with data.cache=DIR or SERX_CACHE") from error
    return str(path)


OPENERS: Mapping[str, Callable[[Path, TablesConfig], Table]] = {
    **dict.fromkeys((".csv", ".tsv", ".tab"), read_csv),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), read_json),
    ".parquet": read_parquet,
}
