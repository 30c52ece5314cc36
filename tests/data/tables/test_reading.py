"""Tables other than CSV: JSON lines, Parquet and Hugging Face audio folders."""

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from serx.data.scanning.scanner import scan
from serx.data.tables import reading as tables_module
from serx.data.tables.manifest import read_manifest
from serx.data.tables.table import TablesConfig
from serx.errors import DataError
from tests.data.layouts import touch

ROWS = [
    {"file_name": "a.wav", "label": "Happiness", "speaker": "Ann", "start": 0.5, "end": 1.25, "emotion.happy": None},
    {"file_name": "b.wav", "label": "sad", "speaker": "07", "start": None, "end": None, "emotion.happy": 0.25},
]


def told(path: Path, config: TablesConfig | None = None) -> list[tuple]:
    return [
        (clip.path.name, clip.emotion, clip.speaker, clip.start, clip.end, clip.votes, clip.source)
        for clip in read_manifest(path, config).utterances
    ]


def expected(name: str, first: int) -> list[tuple]:
    return [
        ("a.wav", "happy", "Ann", 0.5, 1.25, (), f"{name}:{first}"),
        ("b.wav", "sad", "07", 0.0, None, (("happy", 0.25),), f"{name}:{first + 1}"),
    ]


def json_lines(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_json_and_parquet_say_the_same_as_csv(tmp_path: Path) -> None:
    touch(tmp_path, ["a.wav", "b.wav"])
    (tmp_path / "own.jsonl").write_text(json_lines(ROWS))
    nested = [
        {**{k: v for k, v in row.items() if "." not in k}, "emotion": {"happy": row["emotion.happy"]}} for row in ROWS
    ]
    (tmp_path / "nested.jsonl").write_text(json_lines(nested))
    (tmp_path / "own.json").write_text(json.dumps(ROWS, indent=1))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "own.parquet")
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(nested), tmp_path / "nested.parquet")
    for name in ("own.jsonl", "nested.jsonl", "own.json", "own.parquet", "nested.parquet"):
        assert told(tmp_path / name) == expected(name, 1), name


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            "{'path': 1}",
            "own.jsonl:2: not JSON: Expecting property name enclosed in double quotes; write one object a line",
        ),
        ("[1, 2]", "own.jsonl:2: '[1, 2]' is not an object"),
        ('{"path": "b.wav", "path": "c.wav"}', "own.jsonl:2: not JSON: the key 'path' occurs twice"),
        ('{"path": ["b.wav"], "emotion": "sad"}', "own.jsonl:2: path is a list; write one word or number"),
        ('{"path": "b.wav", "emotion": 3}', "own.jsonl:2: emotion '3' is not a word"),
        ('{"path": "b.wav", "emotion": "sad", "start": "x"}', "own.jsonl:2: start 'x' is not a number"),
        ('{"path": "b.wav", "emotion": "sad", "start": 2, "end": 1}', "own.jsonl:2: end 1 is not behind start 2"),
    ],
)
def test_a_bad_line_of_json_is_reported_with_its_number(tmp_path: Path, line: str, fault: str) -> None:
    touch(tmp_path, ["a.wav", "b.wav"])
    (tmp_path / "own.jsonl").write_text(f'{{"path": "a.wav", "emotion": "sad"}}\n{line}\n')
    with pytest.raises(DataError) as caught:
        read_manifest(tmp_path / "own.jsonl")
    assert fault in str(caught.value)


def test_lists_and_line_ends_in_columns_that_are_not_used_do_no_harm(tmp_path: Path) -> None:
    touch(tmp_path, ["a.wav"])
    row = {"path": "a.wav", "emotion": "sad", "text": "two\nlines", "tokens": [1, 2]}
    (tmp_path / "own.jsonl").write_text(json_lines([row]))
    manifest = read_manifest(tmp_path / "own.jsonl")
    assert len(manifest.utterances) == 1 and manifest.notes == ("own.jsonl: not used: 'text', 'tokens'",)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_an_audio_folder_is_read_with_its_metadata_and_the_splits_of_its_folders(tmp_path: Path, kind: str) -> None:
    root = touch(tmp_path / "set", ["train/a.wav", "train/extra.wav", "test/b.wav"])
    for cells, split in zip(ROWS, ("train", "test"), strict=True):
        row = {name: cell for name, cell in cells.items() if cell is not None}
        path = root / split / f"metadata.{kind}"
        if kind == "csv":
            path.write_text(",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n")
        elif kind == "jsonl":
            path.write_text(json_lines([row]))
        else:
            pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    found = scan(root)
    assert [(clip.path.name, clip.part, clip.corpus) for clip in found.utterances] == [
        ("b.wav", "test", "set"), ("a.wav", "train", "set"),
    ]  # fmt: skip
    assert {clip.source for clip in found.utterances} == {
        f"{split}/metadata.{kind}:{2 if kind == 'csv' else 1}" for split in ("train", "test")
    }
    assert [(file.path.name, file.reason) for file in found.skipped] == [("extra.wav", "unlisted")]


def test_a_corpus_folder_with_a_table_of_its_own_is_still_known_by_its_names(tmp_path: Path) -> None:
    root = touch(tmp_path, ["03-01-05-01-01-01-07.wav", "metadata.csv", "state.json"])
    (root / "metadata.csv").write_text("speaker,age\n7,31\n")
    assert [clip.speaker_id for clip in scan(root).utterances] == ["ravdess/07"]


def test_the_known_endings_are_those_of_the_openers() -> None:
    assert {".csv", ".tsv", ".jsonl", ".json", ".parquet"} <= set(tables_module.OPENERS)


def test_a_spreadsheet_is_to_be_saved_as_csv(tmp_path: Path) -> None:
    (tmp_path / "own.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match="a spreadsheet; save it as CSV"):
        scan([tmp_path / "own.xlsx"])
