"""audEERING audformat databases: `db.yaml` and its tables in CSV or Parquet, joined to rows of clips.

The package `audformat` reads them too, with pandas and six more packages. What serx needs of them is small: the tables
that have emotions, the speakers and ratings that other tables give to the same files, and what a scheme says about its
labels, such as a speaker's gender (https://audeering.github.io/audformat/data-format.html).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from serx.data.labels import EMOTIONS, normalize_emotion
from serx.data.observed_files import is_file, is_folder, read_bytes
from serx.data.tables.columns import COLUMNS, is_known, known_as, plain
from serx.data.tables.reading import OPENERS
from serx.data.tables.table import Table, TablesConfig
from serx.errors import DataError

_INDEX = ("file", "start", "end")
_JOINED = tuple(name for name in COLUMNS if name not in ("path", "emotion", "split", "start", "end", "duration"))
_PARTS = {"train": "train", "dev": "valid", "test": "test"}
_Cells = dict[str, str]  # name of a column -> its cell
_Key = tuple[str, str, str]  # file, start, end


def is_database(path: Path) -> bool:
    """Whether a path is a folder with `db.yaml`, or one of the tables beside it."""
    return is_file(path / "db.yaml") or (path.name.startswith("db.") and is_file(path.parent / "db.yaml"))


def open_database(path: Path, config: TablesConfig) -> list[Table]:
    """The tables of a database that have a column emotion, each with what the others say about its files.

    Args:
        path: the folder, or one table in it, such as `db.emotion.csv`: then the others are only joined.
        config: how tables are read.

    Raises:
        DataError: the header or a table cannot be read, or no table has emotions.
    """
    folder = path if is_folder(path) else path.parent
    header = _header(folder / "db.yaml")
    tables = _mapping(header, "tables")
    labeled = [
        name for name in tables if any(_meaning(header, name, c, config) == "emotion" for c in _columns(tables, name))
    ]
    if not is_folder(path):
        labeled = [name for name in labeled if path.stem == f"db.{name}"]
    if not labeled:
        where = f"among {', '.join(tables) or 'none'}" if is_folder(path) else f"in {path.name}"
        raise DataError(f"{path}: no table with a column emotion {where}; name a column with data.columns")
    facts: dict[_Key, _Cells] = {}
    for name in tables:
        if name not in labeled:
            _add_facts(facts, folder, header, name, config)
    joined = [_joined(folder, header, name, facts, config) for name in labeled]
    return _merged(joined) if len(joined) > 1 else joined


def _merged(tables: Sequence[Table]) -> list[Table]:
    """Tables of which several may list the same clips, such as all, those of training, and those of the test.

    A clip stays in the first table that lists it, and has the split of any other.

    Raises:
        DataError: two tables give a clip different emotions.
    """
    rows = [list(table.rows) for table in tables]
    places = [[table.header.index(title) for title in ("path", "start", "end", "emotion")] for table in tables]
    parts: dict[_Key, set[str]] = {}
    for table, of_table, (path, start, end, _) in zip(tables, rows, places, strict=True):
        for _, cells in of_table if table.part else ():
            parts.setdefault((cells[path], cells[start], cells[end]), set()).add(table.part)
    # Other splits than one: which of them counts is not for serx to say.
    one_split = all(len(found) == 1 for found in parts.values())
    first: dict[_Key, tuple[str, str]] = {}
    merged = []
    for table, of_table, (path, start, end, emotion) in zip(tables, rows, places, strict=True):
        kept = []
        for line, cells in of_table:
            key, where = (cells[path], cells[start], cells[end]), f"{table.name}:{line}"
            word, known = first.setdefault(key, (normalize_emotion(cells[emotion]), where))
            if known == where:
                part = next(iter(parts.get(key, ("",)))) if one_split else ""
                kept.append((line, [part, *cells]))
            elif word != normalize_emotion(cells[emotion]):
                raise DataError(
                    f"{where}: {cells[path]} is {normalize_emotion(cells[emotion])}, but {word} in {known}; name one "
                    f"table as data.root, such as {table.folder / table.name}"
                )
        if kept:
            merged.append(replace(table, header=["split", *table.header], rows=iter(kept), part=""))
    return merged


def _header(path: Path) -> Mapping[str, Any]:
    try:
        header = yaml.safe_load(read_bytes(path).decode("utf-8"))
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(header, dict):
        raise DataError(f"{path}: not the header of an audformat database: it has no tables")
    return header


def _mapping(parent: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = parent.get(key)
    return found if isinstance(found, dict) else {}


def _columns(tables: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return _mapping(_mapping(tables, name), "columns")


def _meaning(header: Mapping[str, Any], table: str, column: str, config: TablesConfig) -> str | None:
    """The name of `COLUMNS` that a column of a table stands for, by its own name or by its scheme's."""
    about = _mapping(_columns(_mapping(header, "tables"), table), column)
    if plain(column) in {plain(theirs) for theirs, ours in config.columns.items() if ours is None}:
        return None
    return known_as(column, config.columns) or known_as(str(about.get("scheme_id") or ""), config.columns)


def _open(folder: Path, name: str, config: TablesConfig) -> Table:
    for ending in (".parquet", ".csv"):
        if is_file(path := folder / f"db.{name}{ending}"):
            return OPENERS[ending](path, config)
    raise DataError(f"{folder}: no db.{name}.csv or .parquet; save the tables with storage_format='csv'")


def _rows(table: Table) -> Iterator[tuple[int, _Cells]]:
    for line, cells in table.rows:
        yield line, dict(zip(table.header, cells, strict=False))


def _key(row: _Cells) -> _Key:
    """File, start and end; both empty for a whole file."""
    start, end = row.get("start", ""), row.get("end", "")
    return row.get("file", ""), start, "" if end == "NaT" else end


def _add_facts(
    facts: dict[_Key, _Cells], folder: Path, header: Mapping[str, Any], name: str, config: TablesConfig
) -> None:
    """Adds what a table without emotions says about files and segments."""
    columns = {c: _meaning(header, name, c, config) for c in _columns(_mapping(header, "tables"), name)}
    wanted = {c: meaning for c, meaning in columns.items() if meaning in _JOINED}
    if not wanted:
        return
    for _, row in _rows(_open(folder, name, config)):
        known = facts.setdefault(_key(row), {})
        for column, meaning in wanted.items():
            if row.get(column):
                known.setdefault(str(meaning), row[column])


def _joined(
    folder: Path,
    header: Mapping[str, Any],
    name: str,
    facts: Mapping[_Key, _Cells],
    config: TablesConfig,
) -> Table:
    table = _open(folder, name, config)
    columns = {c: _meaning(header, name, c, config) for c in _columns(_mapping(header, "tables"), name)}
    own: dict[str, str] = {}
    for column, meaning in columns.items():
        if meaning not in (*_JOINED, "emotion"):
            continue
        first = own.setdefault(meaning, column)
        by_name = {c for c in (first, column) if known_as(c, config.columns) == meaning}
        if first != column and len(by_name) != 1:
            raise DataError(
                f"{folder / 'db.yaml'}: {first!r} and {column!r} of table {name} could each be {meaning!r}; choose "
                f"one, such as data.columns.{column}=null"
            )
        own[meaning] = by_name.pop() if first != column else column
    own |= {c: c for c in table.header if c.startswith("emotion.") and is_known(plain(c))}
    about = _speakers(folder, header, config)
    words = _emotion_names(header, name, own.get("emotion", ""), config)
    languages = header.get("languages") or []
    constant = {"corpus": str(header.get("name") or folder.name)}
    if isinstance(languages, list) and len(languages) == 1:
        constant["language"] = str(languages[0])
    joined = {meaning for known in facts.values() for meaning in known} | {k for known in about.values() for k in known}
    titles = list(dict.fromkeys(["path", "start", "end", *own, *sorted(joined), *constant]))
    split = _mapping(header, "splits").get(str(_mapping(_mapping(header, "tables"), name).get("split_id")))
    part = _PARTS.get(str(split.get("type")), "") if isinstance(split, dict) else ""

    def rows() -> Iterator[tuple[int, list[str]]]:
        for line, row in _rows(table):
            file, start, end = key = _key(row)
            known = {**constant, **facts.get((file, "", ""), {}), **facts.get(key, {})}
            known |= {meaning: row[c] for meaning, c in own.items() if row.get(c)}
            known = {**about.get(known.get("speaker", ""), {}), **known}
            known["emotion"] = words.get(known.get("emotion", ""), known.get("emotion", ""))
            cells = {**known, "path": file, "start": start, "end": end}
            yield line, [cells.get(title, "") for title in titles]

    everything = {c for name in _mapping(header, "tables") for c in _columns(_mapping(header, "tables"), name)}
    unused = [c for c, meaning in columns.items() if c not in own.values() and meaning != "duration"]
    return replace(
        table, folder=folder, header=[*titles, *unused], rows=rows(), part=part, other_columns=tuple(everything)
    )


def _emotion_names(header: Mapping[str, Any], table: str, column: str, config: TablesConfig) -> dict[str, str]:
    """What the scheme of a column of emotions says about its codes: `{A: anger}`, or `{A: {category: anger}}`."""
    about = _mapping(_columns(_mapping(header, "tables"), table), column)
    labels = _mapping(_mapping(_mapping(header, "schemes"), str(about.get("scheme_id"))), "labels")
    names: dict[str, str] = {}
    for code, value in labels.items():
        known = value.items() if isinstance(value, dict) else [("emotion", value)]
        word = next((word for key, word in known if known_as(str(key), config.columns) == "emotion"), None)
        if isinstance(word, str) and word and normalize_emotion(str(code)) not in EMOTIONS:
            names[str(code)] = word
    return names


def _speakers(folder: Path, header: Mapping[str, Any], config: TablesConfig) -> dict[str, _Cells]:
    """What the schemes and the tables of speakers say about each: sex, language."""
    about: dict[str, _Cells] = {}
    for name, scheme in _mapping(header, "schemes").items():
        if known_as(str(name), config.columns) != "speaker" or not isinstance(scheme, dict):
            continue
        labels = scheme.get("labels")
        described = labels if isinstance(labels, dict) else {}
        if isinstance(labels, str) and labels in _mapping(header, "misc_tables"):
            table = _open(folder, labels, config)
            described = {row.get(table.header[0], ""): row for _, row in _rows(table)}
        for speaker, values in described.items():
            cells = about.setdefault(str(speaker), {})
            for column, value in values.items() if isinstance(values, dict) else ():
                meaning = known_as(str(column), config.columns)
                if meaning in ("sex", "language") and value not in (None, ""):
                    cells[meaning] = str(value)
    return about
