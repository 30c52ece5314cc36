"""Parquet files and datasets that `datasets` saved, with their audio and class names."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile

from serx.data.audio.decoding import read_audio
from serx.data.scanning.scanner import scan
from serx.data.tables.manifest import read_manifest
from serx.data.tables.table import TablesConfig
from serx.errors import DataError
from tests.conftest import speechlike
from tests.data.tables.test_reading import ROWS


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
