"""audformat databases: speakers, ratings and splits joined from several tables."""

from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import yaml

from serx.data.scanning.scanner import scan
from serx.data.tables.manifest import read_manifest
from serx.errors import DataError
from tests.data.layouts import touch

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
