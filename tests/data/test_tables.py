"""Tables other than CSV: JSON lines, Parquet, Hugging Face datasets, audformat databases."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
import yaml

from serx.data import tables as tables_module
from serx.data.audio import read_audio
from serx.data.manifest import read_manifest
from serx.data.scanner import scan
from serx.data.table import TablesConfig
from serx.errors import DataError
from tests.conftest import speechlike
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


def test_without_pyarrow_one_line_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "own.parquet")
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"need pyarrow: pip install 'serx\[tables\]'"):
        read_manifest(tmp_path / "own.parquet")


def test_a_damaged_parquet_file_raises_one_line(tmp_path: Path) -> None:
    path = tmp_path / "own.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    whole = path.read_bytes()
    for content in (b"", whole[:-20], whole[:4] + bytes(60) + whole[64:]):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"own\.parquet") as caught:
            read_manifest(path)
        assert len(str(caught.value).splitlines()) <= 3


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


def sound_bytes(seed: int) -> tuple[bytes, np.ndarray]:
    wave, file = np.round(speechlike(0.3, 200, seed) * 32768).astype(np.int16), io.BytesIO()
    soundfile.write(file, wave, 16_000, format="WAV", subtype="PCM_16")
    return file.getvalue(), wave / 32768


FEATURES = {
    "audio": {"sampling_rate": 16_000, "_type": "Audio"},
    "label": {"names": ["sad", "happy"], "_type": "ClassLabel"},
    "file": {"dtype": "string", "_type": "Value"},
}


def dataset_table(numbers) -> pyarrow.Table:
    rows = [
        {"audio": {"bytes": sound_bytes(n)[0], "path": f"{n}.wav"}, "label": n % 2, "file": f"x/{n}.wav"}
        for n in numbers
    ]
    kinds = {"audio": pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})}
    schema = pyarrow.schema({**kinds, "label": pyarrow.int64(), "file": pyarrow.string()})
    stored = {"huggingface": json.dumps({"info": {"features": FEATURES}})}
    return pyarrow.Table.from_pylist(rows, schema=schema.with_metadata(stored))


def save_to_disk(folder: Path, numbers) -> None:
    """What `datasets.Dataset.save_to_disk` writes."""
    folder.mkdir(parents=True)
    table = dataset_table(numbers)
    with pyarrow.ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), table.schema) as stream:
        stream.write_table(table)
    (folder / "dataset_info.json").write_text(json.dumps({"features": FEATURES}))
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))


def test_a_dataset_that_was_saved_to_disk_is_read_with_its_audio_and_class_names(tmp_path: Path) -> None:
    save_to_disk(tmp_path / "set" / "train", [0, 1, 2])
    save_to_disk(tmp_path / "set" / "test", [3])
    (tmp_path / "set" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    config = TablesConfig(cache=tmp_path / "cache")
    for _ in range(2):  # the second time, the audio is there
        clips = scan(tmp_path / "set", tables=config).utterances
        assert sorted((clip.path.name, clip.emotion, clip.part) for clip in clips) == [
            ("0.wav", "sad", "train"), ("1.wav", "happy", "train"),
            ("2.wav", "sad", "train"), ("3.wav", "happy", "test"),
        ]  # fmt: skip
    for clip in clips:
        assert np.allclose(read_audio(clip.path), sound_bytes(int(clip.path.stem))[1])
    assert clips[0].source.startswith(("train/data-00000-of-00001.arrow:", "test/data-00000-of-00001.arrow:"))
    (clip,) = read_manifest(tmp_path / "set" / "test", config).utterances
    assert clip.part is None and clip.emotion == "happy"


def test_parquet_files_of_the_hub_are_read_with_the_splits_in_their_names(tmp_path: Path) -> None:
    (tmp_path / "set" / "data").mkdir(parents=True)
    for split, numbers in (("train", [0, 1]), ("validation", [2])):
        path = tmp_path / "set" / "data" / f"{split}-00000-of-00001.parquet"
        pyarrow.parquet.write_table(dataset_table(numbers), path)
    clips = scan(tmp_path / "set", tables=TablesConfig(cache=tmp_path / "cache")).utterances
    assert sorted((clip.path.name, clip.emotion, clip.part) for clip in clips) == [
        ("0.wav", "sad", "train"), ("1.wav", "happy", "train"), ("2.wav", "sad", "valid"),
    ]  # fmt: skip


def test_two_columns_of_audio_are_ambiguous(tmp_path: Path) -> None:
    table = dataset_table([0])
    table = table.append_column("noisy", table.column("audio"))
    pyarrow.parquet.write_table(table, tmp_path / "own.parquet")
    with pytest.raises(DataError, match=r"'audio' and 'noisy' both hold audio; .*data\.columns\.noisy=null"):
        read_manifest(tmp_path / "own.parquet", TablesConfig(cache=tmp_path / "cache"))
    config = TablesConfig(cache=tmp_path / "cache", columns={"noisy": None})
    assert len(read_manifest(tmp_path / "own.parquet", config).utterances) == 1


DATABASE = {
    "name": "mydb",
    "languages": ["deu"],
    "splits": {"train": {"type": "train"}, "dev": {"type": "dev"}},
    "schemes": {
        "emotion": {"dtype": "str", "labels": ["anger", "joy"]},
        "speaker": {"dtype": "int", "labels": {3: {"gender": "male"}, 8: {"gender": "female"}}},
        "activation": {"dtype": "float"},
    },
    "tables": {
        "emotion.train": {"type": "segmented", "split_id": "train", "columns": {"emotion": {"scheme_id": "emotion"}}},
        "emotion.dev": {"type": "filewise", "split_id": "dev", "columns": {"feeling": {"scheme_id": "emotion"}}},
        "files": {
            "type": "filewise",
            "columns": {"speaker": {"scheme_id": "speaker"}, "duration": {}, "transcription": {}},
        },
        "ratings": {"type": "segmented", "columns": {"activation": {"scheme_id": "activation"}}},
    },
}
TABLES = {
    "emotion.train": "file,start,end,emotion\nwav/a.wav,0 days 00:00:00.500000,0 days 00:00:01.250000,anger\n"
    "wav/a.wav,0 days 00:00:02,NaT,joy\n",
    "emotion.dev": "file,feeling\nwav/b.wav,anger\n",
    "files": "file,speaker,duration,transcription\nwav/a.wav,3,0 days 00:00:04,hello\n"
    "wav/b.wav,8,0 days 00:00:04,you\n",
    "ratings": "file,start,end,activation\nwav/a.wav,0 days 00:00:02,NaT,0.25\n",
}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_an_audformat_database_is_read_with_speakers_ratings_and_splits(tmp_path: Path, kind: str) -> None:
    root = touch(tmp_path / "db1", ["wav/a.wav", "wav/b.wav"])
    (root / "db.yaml").write_text(yaml.safe_dump(DATABASE))
    for name, text in TABLES.items():
        if kind == "csv":
            (root / f"db.{name}.csv").write_text(text)
            continue
        header, *rows = (line.split(",") for line in text.splitlines())
        columns = {title: [row[i] for row in rows] for i, title in enumerate(header)}
        for title in {"start", "end", "duration"} & set(header):
            seconds = [None if cell == "NaT" else float(cell.split(":")[-1]) for cell in columns[title]]
            values = [None if s is None else round(s * 1e9) for s in seconds]
            columns[title] = pyarrow.array(values, pyarrow.duration("ns"))
        pyarrow.parquet.write_table(pyarrow.table(columns), root / f"db.{name}.parquet")
    clips = scan(root).utterances
    assert [(c.segment.name, c.emotion, c.speaker_id, c.sex, c.part, c.language, c.dimensions) for c in clips] == [
        ("a.wav#t=0.5,1.25", "angry", "mydb/03", "male", "train", "de", ()),
        ("a.wav#t=2", "joy", "mydb/03", "male", "train", "de", (("arousal", 0.25),)),
        ("b.wav", "angry", "mydb/08", "female", "valid", "de", ()),
    ]
    assert clips[0].source == f"db.emotion.train.{kind}:{2 if kind == 'csv' else 1}"
    (clip,) = read_manifest(root / f"db.emotion.dev.{kind}").utterances
    assert (clip.path.name, clip.speaker_id) == ("b.wav", "mydb/08")


SPLITS = {"train": {"type": "train"}, "test": {"type": "test"}}


def overlapping_database(root: Path, tables: dict[str, tuple[str | None, str]]) -> Path:
    """A database of tables (split, rows) with a column emotion and its confidence, as EMO-DB has them."""
    columns = {"emotion": {"scheme_id": "emotion"}, "emotion.confidence": {"scheme_id": "confidence"}}
    about = {
        name: {"type": "filewise", "columns": columns, **({"split_id": split} if split else {})}
        for name, (split, _) in tables.items()
    }
    touch(root, ["a.wav", "b.wav", "c.wav"])
    schemes = {"emotion": {"dtype": "str"}, "confidence": {"dtype": "float"}}
    header = {"name": "mydb", "splits": SPLITS, "schemes": schemes, "tables": about}
    (root / "db.yaml").write_text(yaml.safe_dump(header, sort_keys=False))
    for name, (_, rows) in tables.items():
        (root / f"db.{name}.csv").write_text(f"file,emotion,emotion.confidence\n{rows}")
    return root


@pytest.mark.parametrize("order", [("all", "gold.test", "gold.train"), ("gold.test", "gold.train", "all")])
def test_a_clip_that_several_tables_of_a_database_list_counts_once_and_has_its_split(tmp_path: Path, order) -> None:
    rows = {
        "all": (None, "a.wav,anger,0.9\nb.wav,fear,1\nc.wav,fear,0.4\n"),
        "gold.test": ("test", "b.wav,fear,1\n"),
        "gold.train": ("train", "a.wav,anger,0.9\n"),
    }
    found = scan(overlapping_database(tmp_path / "db", {name: rows[name] for name in order}))
    assert [(clip.path.name, clip.emotion, clip.part) for clip in found.utterances] == [
        ("a.wav", "angry", "train"), ("b.wav", "fearful", "test"), ("c.wav", "fearful", None),
    ]  # fmt: skip
    assert all(clip.votes == () for clip in found.utterances)


def test_a_database_with_two_splits_of_the_same_clips_leaves_the_split_open(tmp_path: Path) -> None:
    rows = {"one": ("train", "a.wav,anger,1\n"), "two": ("test", "a.wav,anger,1\nb.wav,fear,1\n")}
    found = scan(overlapping_database(tmp_path / "db", rows))
    assert [(clip.path.name, clip.part) for clip in found.utterances] == [("a.wav", None), ("b.wav", None)]


def test_two_tables_of_a_database_that_contradict_each_other_raise_one_line(tmp_path: Path) -> None:
    rows = {"raw": (None, "a.wav,anger,1\n"), "gold": (None, "a.wav,fear,1\n")}
    root = overlapping_database(tmp_path / "db", rows)
    fault = r"db\.gold\.csv:2: a\.wav is fearful, but angry in db\.raw\.csv:2; name one table as data\.root, such as"
    with pytest.raises(DataError, match=fault) as caught:
        scan(root)
    assert "\n" not in str(caught.value)
    assert scan(root / "db.gold.csv").utterances[0].emotion == "fearful"


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("tables: [", "db.yaml: cannot be read"),
        ("- a\n", "db.yaml: not the header of an audformat database"),
        ("tables: {files: {columns: {speaker: {}}}}", "no table with a column emotion among files"),
        ("tables: {emotion: {columns: {emotion: {}}}}", "no db.emotion.csv or .parquet; save the tables"),
    ],
)
def test_a_database_that_cannot_be_used_raises_one_line(tmp_path: Path, header: str, fault: str) -> None:
    (tmp_path / "db.yaml").write_text(header)
    with pytest.raises(DataError, match=fault) as caught:
        scan(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_corpus_folder_with_a_table_of_its_own_is_still_known_by_its_names(tmp_path: Path) -> None:
    root = touch(tmp_path, ["03-01-05-01-01-01-07.wav", "metadata.csv", "state.json"])
    (root / "metadata.csv").write_text("speaker,age\n7,31\n")
    assert [clip.speaker_id for clip in scan(root).utterances] == ["ravdess/07"]


def test_the_known_endings_are_those_of_the_openers() -> None:
    assert {".csv", ".tsv", ".jsonl", ".json", ".parquet"} <= set(tables_module.OPENERS)


@pytest.mark.parametrize("labels", [{"A": "anger", "H": "joy"}, {"A": {"category": "anger"}, "H": {"category": "joy"}}])
def test_codes_of_emotions_have_the_names_that_their_scheme_gives_them(tmp_path: Path, labels: dict) -> None:
    root = touch(tmp_path / "coded", ["a.wav", "b.wav", "c.wav"])
    header = {
        "name": "coded",
        "schemes": {"emo": {"dtype": "str", "labels": {**labels, "sad": {"category": "something else"}}}},
        "tables": {"emotion": {"type": "filewise", "columns": {"emotion": {"scheme_id": "emo"}}}},
    }
    (root / "db.yaml").write_text(yaml.safe_dump(header, sort_keys=False))
    (root / "db.emotion.csv").write_text("file,emotion\na.wav,A\nb.wav,H\nc.wav,sad\n")
    assert [clip.emotion for clip in scan(root).utterances] == ["angry", "joy", "sad"]


def test_a_spreadsheet_is_to_be_saved_as_csv(tmp_path: Path) -> None:
    (tmp_path / "own.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match="a spreadsheet; save it as CSV"):
        scan([tmp_path / "own.xlsx"])
