"""Folders of recordings: what is read, and what is passed over."""

import os
from pathlib import Path

import numpy as np
import pytest

from serx.data.audio.paths import audio_files
from serx.errors import DataError
from tests.conftest import RATE
from tests.data.audio.test_decoding import write


def test_a_folder_that_cannot_be_read_is_named_and_not_skipped(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    write(tmp_path / "a.wav", np.zeros(RATE))
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "inner":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    assert audio_files([tmp_path]) == [tmp_path / "a.wav"]
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="inner: this folder cannot be read: Permission denied"):
        audio_files([tmp_path])


def test_files_of_a_folder_that_are_passed_over_are_named_with_the_reason(tmp_path):
    for name in ("a.m4a", "b.wav", "notes.txt", ".b.wav", "film.MKV", "no_ending"):
        (tmp_path / name).touch()
    passed_over: dict[Path, str] = {}
    assert [path.name for path in audio_files([tmp_path], passed_over)] == ["a.m4a", "b.wav", "film.MKV"]
    assert {path.name: why for path, why in passed_over.items()} == {
        "notes.txt": ".txt is not audio or video",
        "no_ending": "no ending is not audio or video",
        ".b.wav": "hidden",
    }
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").touch()
    with pytest.raises(DataError, match=r"no audio files in this folder among 1 files \(1 x \.txt is not audio"):
        audio_files([tmp_path / "texts"])
