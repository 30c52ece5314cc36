"""`open_tables`: the tables of a file, or of a folder that holds a Hugging Face dataset."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from serx.data.audio.paths import is_audio
from serx.data.observed_files import files_in, is_file, is_folder, will_be_read
from serx.data.tables.arrow import parquet_file, read_object, read_parquet, saved_to_disk
from serx.data.tables.table import Table, TablesConfig
from serx.data.tables.text import read_csv, read_json


def open_tables(path: Path, config: TablesConfig) -> list[Table]:
    """The tables of a file, or of a folder that `is_table_folder`.

    Raises:
        DataError: a table that cannot be read, with its line; or pyarrow is missing.
    """
    if not is_folder(path):
        return [OPENERS.get(path.suffix.lower(), read_csv)(path, config)]
    if is_file(path / "dataset_dict.json"):
        splits = read_object(path / "dataset_dict.json").get("splits", [])
        return [
            table for split in splits for table in saved_to_disk(path / str(split), config, f"{split}/", str(split))
        ]
    if _is_saved(path):
        return saved_to_disk(path, config)
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
        return "file_name" in parquet_file(path).schema_arrow.names
    will_be_read(path)
    with path.open("rb") as file:
        return b"file_name" in file.readline(1 << 16).replace(b"\0", b"")


def _shard_split(path: Path) -> str:
    """The split in a name such as `train-00000-of-00002.parquet`, or in that of its folder."""
    match = re.fullmatch(r"(.+?)-[0-9]{5}-of-[0-9]{5}(?:-[0-9a-f]+)?", path.stem)
    return match[1] if match else path.parent.name


OPENERS: Mapping[str, Callable[[Path, TablesConfig], Table]] = {
    **dict.fromkeys((".csv", ".tsv", ".tab"), read_csv),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), read_json),
    ".parquet": read_parquet,
}
