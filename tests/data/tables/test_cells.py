"""Cells of tables: numbers, times, votes and words that name nobody."""

from pathlib import Path

import pytest

from serx.data.tables.manifest import read_manifest
from tests.data.tables.test_manifest import HEADER, error_message, write


@pytest.mark.parametrize(
    ("header", "cells", "span"),
    [
        ("start,end", "1.5,2.25", (1.5, 2.25)),
        ("begin,stop", "1.5,2.25", (1.5, 2.25)),
        ("onset,offset", "1.5,2.25", (1.5, 2.25)),
        ("offset,duration", "1.5,0.75", (1.5, 2.25)),
        ("start,duration", "1.5,0.75", (1.5, 2.25)),
        ("start_time,end_time,duration", "1.5,2.25,0.75", (1.5, 2.25)),
        ("start", "1.5", (1.5, None)),
        ("end", "2.25", (0.0, 2.25)),
        ("start,end", ",", (0.0, None)),
        ("start,end", "0 days 00:01:01.5,NaT", (61.5, None)),
    ],
)
def test_start_and_end_are_seconds_by_whatever_name(tmp_path: Path, header: str, cells: str, span) -> None:
    (clip,) = read_manifest(write(tmp_path, f"{HEADER},{header}\na.wav,sad,1,{cells}\n")).utterances
    assert (clip.start, clip.end) == span


@pytest.mark.parametrize(
    ("header", "cells", "fault"),
    [
        ("start,end", "2,1.5", "end 1.5 is not behind start 2; exchange or correct them"),
        ("start,end", "2,2", "end 2 is not behind start 2"),
        ("start,end", "-1,2", "start is -1; a file begins at 0 seconds"),
        ("start,end", "one,2", "start 'one' is not a number; write it with digits"),
        ("start,end", "inf,2", "start 'inf' is not a number"),
        ("start,end", "1e300,2", "start '1e300' is beyond 1e+09"),
        ("start,duration", "1,0", "duration is 0; it must be more than 0 seconds"),
        ("start,end,duration", "1,2,3", "duration is 3, but from 1 to 2 are 1 seconds; correct one of them"),
        ("weight", "-1", "weight is -1; write more than 0, or delete the row"),
        ("weight", "0", "weight is 0; write more than 0"),
        ("weight", "1_0", "weight '1_0' is not a number"),
        ("arousal", "high", "arousal 'high' is not a number"),
        ("language", "Klingonese", "no language is called 'Klingonese'; write its code, such as en"),
        ("language", "Germn", "no language is called 'Germn'; did you mean german?"),
        ("weight", '"1,234"', "weight '1,234' could be 1234 or 1.234; write it with a decimal point"),
        ("weight,arousal", '0.5,"0,5"', "arousal '0,5' has a decimal comma, and on line 2 is a decimal point"),
        ("emotion.happy", "-1", "emotion.happy is -1; votes are at least 0"),
    ],
)
def test_a_bad_number_or_language_is_reported_with_a_fix(tmp_path: Path, header: str, cells: str, fault: str) -> None:
    table = write(tmp_path, f"{HEADER},{header}\na.wav,sad,1,{cells}\n")
    assert f"own.csv:2: {fault}" in error_message(table)


def test_decimal_commas_are_read(tmp_path: Path) -> None:
    table = write(tmp_path, 'path;emotion;start;end;valence\na.wav;sad;0,5;1,234;-0,25\nb.wav;sad;;12;"1,5e1"\n')
    first, second = read_manifest(table).utterances
    assert (first.start, first.end, first.dimensions) == (0.5, 1.234, (("valence", -0.25),))
    assert (second.start, second.end, second.dimensions) == (0.0, 12.0, (("valence", 15.0),))


@pytest.mark.parametrize("name", ["unknown", "Unknown", "n/a", "?", "-", "none", "\u200b", "nan", "<NA>"])
def test_a_word_that_names_nobody_is_no_speaker(tmp_path: Path, name: str) -> None:
    message = error_message(write(tmp_path, f"{HEADER}\na.wav,sad,{name}\n"))
    assert "own.csv:2: no speaker" in message or f"own.csv:2: speaker '{name}' is nobody's name" in message
