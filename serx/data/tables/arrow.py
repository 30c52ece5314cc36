"""Parquet files, and what `save_to_disk` of Hugging Face's `datasets` writes (Arrow streams and two JSON files).

pyarrow alone reads them, so `datasets` with its dependencies is not needed; only this file imports it. Audio inside
such tables is written into the cache folder first, since everything else takes files.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from serx.data.cache.audio_cache import cache_folder
from serx.data.observed_files import read_bytes, will_be_read
from serx.data.tables.columns import plain
from serx.data.tables.table import Table, TablesConfig, cell_of, flat
from serx.errors import DataError, DiskError
from serx.files import why_not_written, write_atomically

_ROWS = 256  # of a Parquet file at a time: rows may hold audio


def read_parquet(path: Path, config: TablesConfig) -> Table:
    """Opens a Parquet file; audio that it holds is written into the cache folder."""
    file = parquet_file(path)
    batches = (batch for batch in file.iter_batches(batch_size=_ROWS))
    return _arrow_table(path, file.schema_arrow, batches, config)


def _arrow() -> Any:
    try:
        import pyarrow  # noqa: PLC0415 (an optional package)
        import pyarrow.ipc  # noqa: PLC0415
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError:
        raise DataError("Parquet and Arrow tables need pyarrow: pip install 'serx[tables]'") from None
    return pyarrow


def parquet_file(path: Path) -> Any:
    arrow = _arrow()
    try:
        will_be_read(path)
        return arrow.parquet.ParquetFile(path)
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"{path}: not a Parquet file: {_first_line(error)}; write it again") from None


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0].rstrip(".")


def saved_to_disk(folder: Path, config: TablesConfig, prefix: str = "", part: str = "") -> list[Table]:
    """The tables of a dataset that `save_to_disk` wrote."""
    arrow, state = _arrow(), read_object(folder / "state.json")
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise DataError(f"{folder}: its rows are picked by a file of indices; call flatten_indices() and save it again")
    features = read_object(folder / "dataset_info.json").get("features") or {}
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


def read_object(path: Path) -> dict[str, Any]:
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
                            own = flat({field.name: _padded(value, field.type)})
                            cells += [
                                cell_of(path.name, line, title, own.get(title)) for title in _titles(field, field.name)
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
