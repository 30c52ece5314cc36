"""Rows that say something else about a file or a speaker than an earlier row."""

import os
from pathlib import Path

import pytest

from serx.data.tables.manifest import read_manifest
from serx.errors import DataError
from tests.data.tables.test_manifest import HEADER, error_message, write


def test_segments_of_one_file_are_clips_and_the_same_segment_twice_raises(tmp_path: Path) -> None:
    rows = "a.wav,sad,1,0,1\na.wav,sad,1,1,2\na.wav,happy,2,0.5,1.5\n"
    table = write(tmp_path, f"{HEADER},start,end\n{rows}")
    assert [str(clip.segment) for clip in read_manifest(table).utterances] == [
        f"{tmp_path}/a.wav#t=0,1",
        f"{tmp_path}/a.wav#t=1,2",
        f"{tmp_path}/a.wav#t=0.5,1.5",
    ]
    (tmp_path / "link.wav").symlink_to(tmp_path / "a.wav")
    table.write_text(f"{HEADER},start,end\n{rows}./a.wav,sad,1,1.0,2.0\nlink.wav,sad,1,0,1\n")
    assert error_message(table).splitlines()[1:] == [
        "  own.csv:5: 'a.wav#t=1,2' is already on line 3; delete one of the two rows",
        "  own.csv:6: 'link.wav#t=0,1' is the same part of the same file as 'a.wav#t=0,1' on line 2; delete one of the "
        "two rows",
    ]


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
@pytest.mark.parametrize("row", ["sad,1", "happy,1", "sad,2"])
def test_a_link_to_a_file_of_an_earlier_row_raises(tmp_path: Path, link: str, row: str) -> None:
    table = write(tmp_path, f"{HEADER}\na.wav,sad,1\nlink.wav,{row}\n")
    getattr(tmp_path / "link.wav", link)(tmp_path / "a.wav")
    assert "own.csv:3: 'link.wav' is the same file as 'a.wav' on line 2; delete one" in error_message(table)


@pytest.mark.parametrize("path", ["a.wav", "./a.wav", "x/../a.wav", "{folder}/a.wav", ".//a.wav"])
@pytest.mark.parametrize("row", ["sad,1,m", "happy,1,m", "sad,2,m", "sad,1,f"])
def test_another_row_of_the_same_file_raises(tmp_path: Path, path: str, row: str) -> None:
    table = write(tmp_path, f"{HEADER},sex\na.wav,sad,1,m\n{path.format(folder=tmp_path)},{row}\n")
    assert "own.csv:3: 'a.wav' is already on line 2; delete one of the two rows" in error_message(table)


def test_a_row_with_the_words_of_another_is_checked_like_it(tmp_path: Path) -> None:
    for name in ("a.wav", "b.wav", "c.wav", "d.wav"):
        (tmp_path / name).touch()
    os.link(tmp_path / "a.wav", tmp_path / "link.wav")
    rows = ["a.wav,sad,Ann,0", "link.wav,sad,Ann,0", "link.wav,sad,Ann,0", "a.wav,sad,Ann,0", ",sad,Ann,0"]
    rows += ["b.wav,sad,Ann,-1", "c.wav,sad,ann,0", "d.wav,sad,ann,0", "d.wav,sad,Ann,0", "./b.wav,sad,Ann,0"]
    (tmp_path / "own.csv").write_text("path,emotion,speaker,start\n" + "\n".join(rows) + "\n")
    with pytest.raises(DataError) as raised:
        read_manifest(tmp_path / "own.csv")
    faults = [line.strip() for line in str(raised.value).splitlines()[1:]]
    assert [fault.split(";")[0] for fault in faults] == [
        "own.csv:3: 'link.wav' is the same file as 'a.wav' on line 2",
        "own.csv:4: 'link.wav' is already on line 3",
        "own.csv:5: 'a.wav' is already on line 2",
        "own.csv:6: no path",
        "own.csv:7: start is -1",
        "own.csv:8: speaker 'ann' is 'Ann' on line 2",
        "own.csv:9: speaker 'ann' is 'Ann' on line 2",
        "own.csv:10: 'd.wav' is already on line 9",
    ]
