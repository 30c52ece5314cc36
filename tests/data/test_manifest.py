"""CSV manifests: every column and spelling, and every bad row reported with its line and a fix."""

import csv
import io
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from serx.data.corpora import canonical_corpus, canonical_speaker
from serx.data.manifest import read_manifest
from serx.data.scanner import scan
from serx.data.table import TablesConfig
from serx.errors import DataError
from tests.data.layouts import ravdess, touch

HEADER = "path,emotion,speaker"


def write(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    """A manifest own.csv, next to the (empty) audio files a.wav, b.wav, c.wav."""
    touch(folder, ["a.wav", "b.wav", "c.wav"])
    table = folder / "own.csv"
    table.write_bytes(text.encode(encoding))
    return table


def error_message(table: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_manifest(table)
    return str(caught.value)


def test_every_column_is_an_attribute_of_the_utterance(tmp_path: Path) -> None:
    text = "path,emotion,speaker,sex,corpus,split,style,intensity\na.wav,Happiness,Ann,F,Lab 1,dev,song,Strong\n"
    (clip,) = read_manifest(write(tmp_path, text)).utterances
    assert clip.path == tmp_path / "a.wav"
    assert (clip.emotion, clip.speaker_id, clip.sex) == ("happy", "lab 1/Ann", "female")
    assert (clip.part, clip.style, clip.intensity) == ("valid", "song", "strong")


def test_optional_columns_may_be_absent_or_empty(tmp_path: Path) -> None:
    bare = read_manifest(write(tmp_path, f"{HEADER}\na.wav,sad,Ann\n")).utterances
    short = read_manifest(write(tmp_path, f"{HEADER},sex,split,style,intensity,corpus\na.wav,sad,Ann\n")).utterances
    assert bare == short
    clip = bare[0]
    assert (clip.corpus, clip.sex, clip.part, clip.style, clip.intensity) == ("own", None, None, "speech", None)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_separators_encodings_and_line_ends_of_spreadsheets_are_read(
    tmp_path: Path, separator: str, encoding: str, end: str
) -> None:
    rows = [["Path ", " Emotion", '"SPEAKER"'], [" a.wav", '"sad"', " Zoë "], ["", "", ""], ["b.wav", "angry", '"Zoë"']]
    text = end.join(separator.join(row) for row in rows)
    clips = read_manifest(write(tmp_path, text, encoding)).utterances
    assert [(clip.path.name, clip.emotion, clip.speaker) for clip in clips] == [
        ("a.wav", "sad", "Zoë"),
        ("b.wav", "angry", "Zoë"),
    ]


def test_a_quoted_cell_may_contain_the_separator(tmp_path: Path) -> None:
    touch(tmp_path, ["one, two.wav"])
    (clip,) = read_manifest(write(tmp_path, f'{HEADER}\n"one, two.wav", sad, "Lee, Ann"\n')).utterances
    assert (clip.path.name, clip.speaker) == ("one, two.wav", "Lee, Ann")


def test_the_separator_is_recognized_by_the_header(tmp_path: Path) -> None:
    touch(tmp_path, ["1,2,3,4,5.wav"])
    (clip,) = read_manifest(write(tmp_path, "path;emotion;speaker;a,b,c,d\n1,2,3,4,5.wav;sad;Ann;x,y,z\n")).utterances
    assert clip.path.name == "1,2,3,4,5.wav"


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;"])
def test_the_separator_may_be_named_in_a_line_for_excel(tmp_path: Path, line: str) -> None:
    table = write(tmp_path, f"{line}\npath;emotion;speaker\na.wav;sad;Ann\nb.wav;5;Ann\n")
    assert "own.csv:4: emotion '5'" in error_message(table)
    (clip,) = read_manifest(write(tmp_path, f"{line}\npath;emotion;speaker\na.wav;sad;Ann\n")).utterances
    assert (clip.path.name, clip.emotion, clip.speaker) == ("a.wav", "sad", "Ann")


def test_paths_are_relative_to_the_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, ["audio/a.wav", "lists/x", "elsewhere/x"])
    table = tmp_path / "lists" / "own.csv"
    table.write_text(f"{HEADER}\n../audio/a.wav,sad,Ann\n")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert read_manifest("../lists/own.csv").utterances[0].path == tmp_path / "audio" / "a.wav"
    table.write_text(f"{HEADER}\n..\\audio\\a.wav,sad,Ann\n")
    assert read_manifest(table).utterances[0].path == tmp_path / "audio" / "a.wav"
    table.write_text(f"{HEADER}\n{tmp_path / 'audio/a.wav'},sad,Ann\n")
    assert read_manifest(table).utterances[0].path == tmp_path / "audio" / "a.wav"


@pytest.mark.parametrize("text", ["7", "07", " 007 ", "Actor_07", "actor 7", "ACTOR-7", "Speaker_07", "\uff17"])
def test_a_numbered_speaker_has_one_spelling(text: str) -> None:
    assert canonical_speaker(text) == "07"


@pytest.mark.parametrize(
    ("text", "speaker"),
    [("1001", "1001"), ("0", "00"), ("OAF", "OAF"), (" Ann  Lee ", "Ann Lee"), ("S7", "S7"), ("Actor_A", "Actor_A")],
)
def test_a_named_speaker_keeps_the_name(text: str, speaker: str) -> None:
    assert canonical_speaker(text) == speaker


@given(st.text(max_size=20))
def test_a_canonical_speaker_is_its_own_canonical_form(text: str) -> None:
    once = canonical_speaker(text)
    assert canonical_speaker(once) == once


def test_three_spellings_are_one_speaker_within_a_corpus_and_not_across_corpora(tmp_path: Path) -> None:
    rows = "a.wav,sad,7,RAVDESS\nb.wav,sad,Actor_07,ravdess\nc.wav,sad,07,EMO-DB\n"
    clips = read_manifest(write(tmp_path, f"{HEADER},corpus\n{rows}")).utterances
    assert [clip.speaker_id for clip in clips] == ["ravdess/07", "ravdess/07", "emodb/07"]


def test_a_known_corpus_has_one_spelling() -> None:
    assert [canonical_corpus(text) for text in ("CREMA-D", "Crema D", "EmoDB", "My Lab")] == [
        "cremad",
        "cremad",
        "emodb",
        "my lab",
    ]


def test_sex_given_on_one_row_holds_for_all_rows_of_that_speaker(tmp_path: Path) -> None:
    clips = read_manifest(write(tmp_path, f"{HEADER},sex\na.wav,sad,7,\nb.wav,sad,Actor_7,female\nc.wav,sad,8,\n"))
    assert [clip.sex for clip in clips.utterances] == ["female", "female", None]


def test_missing_audio_is_skipped_with_its_line(tmp_path: Path) -> None:
    manifest = read_manifest(write(tmp_path, f"{HEADER}\na.wav,sad,1\n\ngone.wav,sad,1\n"))
    assert len(manifest.utterances) == 1
    (file,) = manifest.skipped
    assert (file.path, file.reason, file.detail) == (tmp_path / "gone.wav", "missing", "no such file (own.csv:4)")


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (",sad,1,,,", "no path; fill the cell or delete the row"),
        ("b.wav,,,,,", "no emotion and no speaker; fill"),
        ("b.wav", "no emotion and no speaker; fill"),
        ("b.wav,5,1,,,", "emotion '5' is not a word; write its name"),
        ("b.wav,sad|happy,1,,,", "emotion 'sad|happy' is several; write one, or votes in columns"),
        ("b.wav,sad,1,x,,", "unknown sex 'x'; write male, female or nothing"),
        ("b.wav,sad,1,,tset,", "unknown split 'tset'; write train, valid, test or nothing"),
        ("b.wav,sad,1,,,rap", "unknown style 'rap'; write speech, song or nothing"),
        ("b.wav,sad,1,,,,more", "7 cells under 6 columns; quote a cell that contains the separator"),
        ("./a.wav,sad,1,,,", "'a.wav' is already on line 2; delete one"),
        ("b.wav,sad,Actor_01,f,,", "speaker '01' is female, but male on line 2; make both the same"),
        ("b.wav,sad,ANN,,,", "speaker 'ANN' is 'Ann' on line 3; spell the name the same way"),
        ('"b.wav,sad,1,,,', "a cell spans several lines; close its quote"),
    ],
)
def test_a_bad_row_is_reported_with_file_line_fault_and_fix(tmp_path: Path, row: str, fault: str) -> None:
    good = f"{HEADER},sex,split,style\na.wav,sad,1,m,,\nc.wav,sad,Ann,,,\n"
    lines = error_message(write(tmp_path, f"{good}{row}\n")).splitlines()
    assert lines[0] == f"{tmp_path / 'own.csv'}: 1 to fix:"
    assert lines[1].strip().startswith(f"own.csv:4: {fault}")
    assert len(lines) == 2


def test_line_numbers_count_blank_and_broken_rows(tmp_path: Path) -> None:
    text = f'{HEADER}\n\n"b\nb.wav",sad,1\n\n,sad,1\n'
    lines = error_message(write(tmp_path, text)).splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["own.csv:3:", "own.csv:6:"]


def test_a_quoted_cell_that_is_not_used_may_span_lines(tmp_path: Path) -> None:
    text = f'{HEADER},text\na.wav,sad,1,"one\r\ntwo, ""three"""\nb.wav,angry,1,four\n,sad,1,five\n'
    assert error_message(write(tmp_path, text)).splitlines()[1].strip().startswith("own.csv:5: no path")
    clips = read_manifest(write(tmp_path, text.replace(",sad,1,five\n", ""))).utterances
    assert [(clip.path.name, clip.emotion) for clip in clips] == [("a.wav", "sad"), ("b.wav", "angry")]


@pytest.mark.parametrize("second", ["b.wav,sad,1,x", 'b.wav,sad,1,"x"', 'b.wav,sad,1,""', '"b.wav",sad,1,x'])
def test_a_quote_that_was_left_open_swallows_no_row(tmp_path: Path, second: str) -> None:
    message = error_message(write(tmp_path, f'{HEADER},text\na.wav,sad,1,"one\n{second}\nc.wav,sad,1,y\n'))
    assert "own.csv:2: a cell spans several lines; close its quote" in message


def test_paths_may_be_written_as_in_addresses(tmp_path: Path) -> None:
    names = ["my clip.wav", "50%.wav", "c.wav"]
    touch(tmp_path, names)
    cells = ["my%20clip.wav", "50%.wav", (tmp_path / "c.wav").as_uri()]
    clips = read_manifest(write(tmp_path, "\n".join([HEADER, *(f"{c},sad,1" for c in cells)]))).utterances
    assert [clip.path for clip in clips] == [tmp_path / name for name in names]
    touch(tmp_path / "deep" / "er", ["her clip.wav", "d.wav"])
    table = write(tmp_path, f"{HEADER}\nhttps://host/her%20clip.wav,sad,1\nC:\\corpus\\d.wav,sad,1\n")
    found = read_manifest(table, TablesConfig(audio_root=str(tmp_path / "deep"))).utterances
    assert [clip.path.name for clip in found] == ["her clip.wav", "d.wav"]


def test_a_column_of_times_that_is_not_read_is_named_once(tmp_path: Path) -> None:
    lines = error_message(write(tmp_path, f"{HEADER},start_ms\na.wav,sad,1,5\n")).splitlines()
    assert len(lines) == 2 and "'start_ms' looks like a time and is not read" in lines[1]


def test_an_emotion_other_than_most_votes_counts_and_a_note_says_so(tmp_path: Path) -> None:
    text = f"{HEADER},emotion.sad,emotion.angry\na.wav,anger,1,3,1\nb.wav,sad,1,2,2\nc.wav,sad,1,0,0\n"
    found = read_manifest(write(tmp_path, text))
    assert [clip.emotion for clip in found.utterances] == ["angry", "sad", "sad"]
    assert [note for note in found.notes if "votes" in note] == [
        "1 row with another emotion than most votes, such as own.csv:2 (angry, most votes: sad): the emotion counts"
    ]


def test_up_to_ten_bad_rows_are_reported_at_once(tmp_path: Path) -> None:
    rows = [f"{n}.wav,sad,\n" for n in range(37)]
    lines = error_message(write(tmp_path, f"{HEADER}\n{''.join(rows)}")).splitlines()
    assert lines[0].endswith("own.csv: 37 to fix:")
    assert [line.split()[0] for line in lines[1:11]] == [f"own.csv:{n}:" for n in range(2, 12)]
    assert lines[11].strip() == "... and 27 more"
    assert len(lines) == 12


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("path,emotion,spekaer", "no column 'speaker'; rename 'spekaer' to 'speaker'"),
        ("name,emotion,speaker", "no column 'path'; if 'name' is it, rename it to 'path'"),
        ("file,filename,emotion", "'file' and 'filename' could each be 'path'; rename one of them to 'path'"),
        ("path,label,class", "'label' and 'class' could each be 'emotion'; rename one of them to 'emotion'"),
        ("path,speaker,color", "no column 'emotion' among path, speaker, color; add it"),
        ("path,emotion,speaker,splits", "no column 'split'; rename 'splits' to 'split'"),
        ("path,emotion,speaker,emotion", "column 'emotion' occurs 2 times; keep one"),
        ("", "no column 'path' among nothing; add it"),
    ],
)
def test_a_missing_or_misspelled_column_raises_with_a_suggestion(tmp_path: Path, header: str, fault: str) -> None:
    assert fault in error_message(write(tmp_path, f"{header}\n" if header else ""))


def test_columns_that_are_not_used_are_named_once_with_what_they_could_have_meant(tmp_path: Path) -> None:
    manifest = read_manifest(write(tmp_path, f"text,{HEADER},Happy,domin\nhello,a.wav,sad,1,2,en\n"))
    assert manifest.utterances[0].emotion == "sad"
    assert manifest.notes == (
        "own.csv: not used: 'text', 'Happy' (votes are called 'emotion.happy'), 'domin' (did you mean 'dominance'?)",
    )


def test_names_of_other_tools_are_understood_and_named(tmp_path: Path) -> None:
    header = "File Name;Label;Actor;GENDER;Dataset;Partition;lang;Activation;sample_weight"
    manifest = read_manifest(write(tmp_path, f"{header}\na.wav;Anger;Ann;F;Lab;dev;English;0,5;2\n"))
    (clip,) = manifest.utterances
    assert (clip.path.name, clip.emotion, clip.speaker_id, clip.sex) == ("a.wav", "angry", "lab/Ann", "female")
    assert (clip.part, clip.language, clip.dimensions, clip.weight) == ("valid", "en", (("arousal", 0.5),), 2.0)
    assert manifest.notes == (
        "own.csv: read 'File Name' as path, 'Label' as emotion, 'Actor' as speaker, 'GENDER' as sex, 'Dataset' as "
        "corpus, 'Partition' as split, 'lang' as language, 'sample_weight' as weight, 'Activation' as arousal",
    )


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
    ("header", "fault"),
    [
        ("offset", "'offset' looks like a time and is not read: rename it to start or end, in seconds"),
        ("duration", "'duration' without a start: add a column start"),
        ("start_ms,end_ms", "'start_ms' looks like a time and is not read: rename it to start or end, in seconds"),
        ("start,end,offset", "'offset' looks like a time and is not read: delete it"),
        ("begin,onset", "'begin' and 'onset' could each be 'start'; rename one of them"),
        ("StartSample", "'StartSample' looks like a time"),
        ("from,to", "'from' looks like a time and is not read: rename it to start or end"),
        ("t0,t1", "'t1' looks like a time"),
        ("FromSeconds,to_s", "'to_s' looks like a time"),
    ],
)
def test_a_column_of_times_is_never_passed_over(tmp_path: Path, header: str, fault: str) -> None:
    table = write(tmp_path, f"{HEADER},{header}\na.wav,sad,1,1\n")
    assert fault in error_message(table)
    answers = dict.fromkeys(header.split(","))
    (clip,) = read_manifest(table, TablesConfig(columns=answers)).utterances
    assert clip.segment.is_whole


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


def test_the_majority_of_the_votes_is_the_emotion(tmp_path: Path) -> None:
    rows = "a.wav,1,3,\nb.wav,0,0.25,0.75\n"
    clips = read_manifest(write(tmp_path, f"path,emotion.Anger,label.happy,votes.surprise\n{rows}")).utterances
    assert [clip.emotion for clip in clips] == ["happy", "surprised"]
    assert [clip.votes for clip in clips] == [
        (("angry", 1.0), ("happy", 3.0)),
        (("happy", 0.25), ("surprised", 0.75)),
    ]


def test_an_emotion_that_is_written_comes_before_the_votes(tmp_path: Path) -> None:
    table = write(tmp_path, "path,emotion,emotion_happy,emotion_sad\na.wav,sad,3,1\nb.wav,,3,1\nc.wav,calm,,\n")
    clips = read_manifest(table).utterances
    assert [clip.emotion for clip in clips] == ["sad", "happy", "calm"]
    assert clips[2].votes == ()


def test_ties_of_votes_are_listed_and_rows_without_a_vote_raise(tmp_path: Path) -> None:
    table = write(tmp_path, "path,emotion.happy,emotion.sad\na.wav,2,2\nb.wav,1,2\n")
    manifest = read_manifest(table)
    assert manifest.ties == scan(table).ties == ("own.csv:2: a tie: happy and sad have 2 each",)
    assert [clip.emotion for clip in manifest.utterances] == ["happy", "sad"]
    table.write_text(f"{table.read_text()}c.wav,0,\n")
    assert error_message(table).splitlines()[1:] == [
        "  own.csv:4: no emotion and no vote; fill one of the cells or delete the row",
    ]


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        ("emotion.happy,emotion.happiness", "'emotion.happy' and 'emotion.happiness' are both votes for happy"),
        ("emotion.happy,emotion.2", "'emotion.2' looks like votes for an emotion '2'"),
    ],
)
def test_columns_of_votes_that_are_not_clear_raise(tmp_path: Path, header: str, fault: str) -> None:
    assert fault in error_message(write(tmp_path, f"path,{header}\na.wav,1,2\n"))


@pytest.mark.parametrize("name", ["emotion.confidence", "emotion.agreement", "label.score"])
def test_a_column_about_the_emotion_is_no_vote_and_is_not_used(tmp_path: Path, name: str) -> None:
    manifest = read_manifest(write(tmp_path, f"path,emotion,{name}\na.wav,sad,0.9\n"))
    assert [(clip.emotion, clip.votes) for clip in manifest.utterances] == [("sad", ())]
    assert manifest.notes == (f"own.csv: not used: '{name}'",)


def test_columns_may_be_named_and_left_out_in_the_configuration(tmp_path: Path) -> None:
    table = write(tmp_path, "clip,feeling,joyful,who,emotion\na.wav,sad,2,Ann,5\n")
    answers = {"clip": "path", "Feeling": "emotion", "emotion": None, "joyful": "emotion.joy", "who": "speaker"}
    (clip,) = read_manifest(table, TablesConfig(columns=answers)).utterances
    assert (clip.path.name, clip.emotion, clip.votes, clip.speaker) == ("a.wav", "sad", (("joy", 2.0),), "Ann")


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


def test_audio_is_found_below_the_audio_root(tmp_path: Path) -> None:
    touch(tmp_path / "audio", ["s1/a.wav", "s2/b.flac", "s1/c.wav", "s2/c.wav"])
    table = tmp_path / "own.csv"
    table.write_text(f"{HEADER}\ns1/a.wav,sad,1\n/home/ann/b.flac,sad,1\ns2/c.wav,sad,1\n")
    config = TablesConfig(audio_root=tmp_path / "audio")
    found = [clip.path.relative_to(tmp_path / "audio").as_posix() for clip in read_manifest(table, config).utterances]
    assert found == ["s1/a.wav", "s2/b.flac", "s2/c.wav"]
    table.write_text(f"{HEADER}\nb,sad,1\ngone.wav,sad,1\n")  # without its ending
    manifest = read_manifest(table, config)
    assert [clip.path.name for clip in manifest.utterances] == ["b.flac"]
    assert [file.path for file in manifest.skipped] == [tmp_path / "audio" / "gone.wav"]
    table.write_text(f"{HEADER}\nc.wav,sad,1\n")
    with pytest.raises(
        DataError, match=r"own\.csv:2: 'c\.wav' is found 2 times below .*, such as s1/c.wav and s2/c.wav"
    ):
        read_manifest(table, config)
    with pytest.raises(DataError, match=r"data\.audio_root: .*nowhere: no such folder"):
        read_manifest(table, TablesConfig(audio_root=tmp_path / "nowhere"))


def test_a_cell_of_100000_letters_in_windows_1252_is_read_in_one_pass(tmp_path):
    (tmp_path / "a.wav").touch()
    path = tmp_path / "own.csv"
    path.write_bytes(f"path,emotion,speaker,intensity\na.wav,sad,Ren\u00e9,{'x' * 100_000}\n".encode("cp1252"))
    [clip] = read_manifest(path).utterances
    assert clip.speaker == "Ren\u00e9"


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16-le", "utf-16-be", "utf-32"])
def test_other_encodings_are_read_where_they_are_certain(tmp_path: Path, encoding: str) -> None:
    table = write(tmp_path, f"{HEADER}\na.wav,fr\u00f6hlich,Zo\u00eb\n", encoding)
    (clip,) = read_manifest(table).utterances
    assert (clip.emotion, clip.speaker) == ("fr\u00f6hlich", "Zo\u00eb")


@pytest.mark.parametrize(
    ("name", "encoding", "byte"),
    [
        ("H\u00e9l\u00e8ne", "cp1252", "0xE8 could be \u00e8 or \u010d"),
        ("Dvo\u0159\u00e1k", "cp1250", "0xF8 could be \u00f8 or \u0159"),
        ("\u0410\u043d\u043d\u0430", "cp1251", "0xC0 could be"),
        ("\u0416\u044f", "cp1251", "0xC6 could be"),
        ("Zo\u00eb", "cp437", "0x89 could be"),
        ("Zo\u00eb", "mac_roman", "0x91 could be"),
    ],
)
def test_an_encoding_that_is_not_certain_raises_and_may_be_named(
    tmp_path: Path, name: str, encoding: str, byte: str
) -> None:
    table = write(tmp_path, f"{HEADER}\na.wav,sad,{name}\n", encoding)
    assert f"own.csv:2: not UTF-8 text, and byte {byte}" in error_message(table)
    (clip,) = read_manifest(table, TablesConfig(encoding=encoding)).utterances
    assert clip.speaker == name


@pytest.mark.parametrize("encoding", ["latin1252", "rot13", "zip", "undefined", "utf 99", "\u0443\u0442\u0444"])
def test_what_is_no_encoding_of_text_is_refused(encoding: str) -> None:
    with pytest.raises(ValidationError, match="no encoding of text is called"):
        TablesConfig(encoding=encoding)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"{HEADER}\n", "no rows below the header; write one line per clip: path,emotion,speaker"),
        (f"{HEADER}\nx.wav,sad,1\ny.wav,sad,1\n", "none of its 2 audio files exists, such as .*x.wav.*own.csv:2"),
    ],
)
def test_a_manifest_without_a_usable_row_raises(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(DataError, match=fault):
        read_manifest(write(tmp_path, text))


def test_a_missing_manifest_raises(tmp_path: Path) -> None:
    assert "gone.csv: cannot be read: No such file" in error_message(tmp_path / "gone.csv")


@settings(max_examples=200, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=200), st.text(max_size=200).map(lambda text: f"{HEADER}\n{text}".encode("utf-8", "replace"))
    )
)
def test_any_bytes_are_read_or_raise_with_the_file_name(raw: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "own.csv"
        table.write_bytes(raw)
        with pytest.raises(DataError, match=r"own\.csv"):
            read_manifest(table)


CELLS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=8).map(str.strip)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(CELLS.filter(bool), st.sampled_from(["sad", "Fear", "joy"])), min_size=1, max_size=3))
def test_a_table_written_by_a_csv_writer_is_read_back(rows: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        touch(Path(folder), [f"{n}.wav" for n in range(len(rows))])
        text = io.StringIO()
        cells = [(f"{n}.wav", emotion, f"{n} {name}") for n, (name, emotion) in enumerate(rows)]
        csv.writer(text).writerows([HEADER.split(","), *cells])
        table = Path(folder) / "own.csv"
        table.write_text(text.getvalue(), encoding="utf-8", newline="")
        clips = read_manifest(table).utterances
        assert [clip.speaker for clip in clips] == [canonical_speaker(name) for _, _, name in cells]
        assert [clip.emotion for clip in clips] == [{"Fear": "fearful"}.get(e, e) for _, e in rows]


def test_a_manifest_adds_to_the_names_of_its_files(tmp_path: Path) -> None:
    root = touch(tmp_path / "r", [*ravdess(actors=(1,)), "interview.wav"])
    listed = root / ravdess(actors=(1,))[0]
    table = tmp_path / "own.csv"
    table.write_text(
        "path,emotion,speaker,corpus,split,intensity\n"
        f"r/interview.wav,Anger,Anna,own,test,\n{listed},neutral,Actor 1,RAVDESS,train,faint\n"
    )
    for roots in ([table, root], [root, table]):
        found = scan(roots)
        assert len(found.utterances) == 61
        assert not found.skipped
        assert {(c.speaker_id, c.part) for c in found.utterances} == {
            ("own/Anna", "test"), ("ravdess/01", "train"), ("ravdess/01", None),
        }  # fmt: skip
        (clip,) = [c for c in found.utterances if c.path == listed]
        assert (clip.part, clip.intensity, clip.source) == ("train", "faint", "own.csv:3")


@pytest.mark.parametrize(
    ("row", "difference"),
    [
        ("sad,1,ravdess,,", "emotion sad, not neutral"),
        ("neutral,2,ravdess,,", "speaker 02, not 01"),
        ("neutral,1,,,", "corpus own, not ravdess"),
        ("neutral,1,ravdess,f,", "sex female, not male"),
        ("neutral,1,ravdess,,song", "style song, not speech"),
        ("sad,2,ravdess,,", "speaker 02, not 01; emotion sad, not neutral"),
    ],
)
@pytest.mark.parametrize("way", ["the path", "a symbolic link", "a hard link", "a link to the folder", "..", "a copy"])
def test_a_row_that_contradicts_the_name_of_its_file_raises_with_file_and_line(
    tmp_path: Path, row: str, difference: str, way: str
) -> None:
    root = touch(tmp_path / "r", ravdess(actors=(1,)))
    named = root / ravdess(actors=(1,))[0]
    listed = tmp_path / "own.wav"
    if way == "the path":
        listed = named
    elif way == "a symbolic link":
        listed.symlink_to(named)
    elif way == "a hard link":
        listed.hardlink_to(named)
    elif way == "a link to the folder":
        (tmp_path / "link").symlink_to(root)
        listed = tmp_path / "link" / named.relative_to(root)
    elif way == "..":
        listed = root / ".." / "r" / named.relative_to(root)
    else:
        shutil.copy(named, listed)
    table = tmp_path / "own.csv"
    table.write_text(f"path,emotion,speaker,corpus,sex,style\n{listed},{row}\n")
    for roots in ([root, table], [table, root]):
        if way == "a copy":
            assert len(scan(roots, ("speech", "song")).utterances) == 61
            continue
        with pytest.raises(DataError) as caught:
            scan(roots)
        message = f"own.csv:2: {listed.name!r} is described differently by {named} ({difference}); make both the same"
        assert str(caught.value).startswith(message)
        assert "\n" not in str(caught.value)


def test_at_most_ten_contradictions_are_listed(tmp_path: Path) -> None:
    root = touch(tmp_path / "r", ravdess(actors=(1,)))
    rows = "".join(f"{path},disgust,9\n" for path in sorted(root.rglob("*.wav")))
    (tmp_path / "own.csv").write_text(f"{HEADER}\n{rows}")
    with pytest.raises(DataError) as caught:
        scan([root, tmp_path / "own.csv"])
    lines = str(caught.value).splitlines()
    assert [line.split()[0] for line in lines[:10]] == [f"own.csv:{n}:" for n in range(2, 12)]
    assert lines[10:] == ["... and 50 more"]


def test_a_copy_of_a_listed_file_by_name_is_a_duplicate(tmp_path: Path) -> None:
    name = "03-01-05-01-01-01-01.wav"
    root = touch(tmp_path, [f"b/{name}", f"a/{name}", f"a/c/{name}"])
    (tmp_path / "own.csv").write_text(f"{HEADER},corpus\nb/{name},angry,1,ravdess\n")
    found = scan([root, root / "own.csv"])
    assert [clip.path for clip in found.utterances] == [root / "b" / name]
    assert [(file.path, file.reason) for file in found.skipped] == [
        (root / "a" / name, "duplicate"), (root / "a" / "c" / name, "duplicate"),
    ]  # fmt: skip


@pytest.mark.parametrize("link", ["symlink_to", "hardlink_to"])
def test_two_names_of_one_file_are_one_clip_or_contradict_each_other(tmp_path: Path, link: str) -> None:
    root = touch(tmp_path, ["03-01-05-01-01-01-01.wav", "03-01-05-01-01-01-02.wav"])
    getattr(root / "03-01-05-01-01-02-01.wav", link)(root / "03-01-05-01-01-01-01.wav")  # another take, it says
    found = scan(root)
    assert len(found.utterances) == 2 and [file.reason for file in found.skipped] == ["duplicate"]
    getattr(root / "03-01-04-01-01-01-01.wav", link)(root / "03-01-05-01-01-01-01.wav")
    with pytest.raises(DataError, match="described differently by .*emotion (sad, not angry|angry, not sad)"):
        scan(root)


def test_a_manifest_can_be_a_root_and_its_missing_files_and_songs_are_skipped(tmp_path: Path) -> None:
    touch(tmp_path, ["b.wav", "a.wav", "c.wav"])
    table = tmp_path / "own.CSV"
    table.write_text("path,emotion,speaker,style\nb.wav,sad,1,\na.wav,sad,1,speech\nc.wav,sad,1,song\nd.wav,sad,1,\n")
    found = scan(table)
    assert [clip.path.name for clip in found.utterances] == ["a.wav", "b.wav"]
    assert {file.path.name: file.reason for file in found.skipped} == {"c.wav": "style", "d.wav": "missing"}
    assert "own.CSV:5" in found.skipped[1].detail


def test_two_manifests_may_repeat_a_file_but_not_contradict_each_other(tmp_path: Path) -> None:
    touch(tmp_path, ["a.wav"])
    header = "path,emotion,speaker,corpus\n"
    tables = [tmp_path / f"{n}.csv" for n in "xyz"]
    for table, emotion in zip(tables, ("sad", "sadness", "happy"), strict=True):
        table.write_text(f"{header}a.wav,{emotion},1,own\n")
    assert len(scan(tables[:2]).utterances) == 1
    with pytest.raises(
        DataError, match=r"z\.csv:2: 'a\.wav' is described differently by x\.csv:2 \(emotion happy, not sad\)"
    ):
        scan(tables)


@pytest.mark.parametrize(
    ("row", "difference"),
    [
        ("angry,1,own,m,,", "emotion angry, not sad"),
        ("sad,2,own,m,,", "speaker 02, not 01"),
        ("sad,1,lab,m,,", "corpus lab, not own"),
        ("sad,1,own,f,,", "sex female, not male"),
        ("sad,1,own,m,test,", "split test, not unknown"),
        ("sad,1,own,m,,song", "style song, not speech"),
    ],
)
@pytest.mark.parametrize("link", ["", "symlink_to", "hardlink_to"])
def test_two_manifests_that_contradict_each_other_raise_also_through_links(
    tmp_path: Path, row: str, difference: str, link: str
) -> None:
    touch(tmp_path, ["a.wav"])
    name = "link.wav" if link else "a.wav"
    if link:
        getattr(tmp_path / name, link)(tmp_path / "a.wav")
    header = f"{HEADER},corpus,sex,split,style"
    (tmp_path / "x.csv").write_text(f"{header}\na.wav,sad,1,own,m,,\n")
    (tmp_path / "y.csv").write_text(f"{header}\n{name},{row}\n")
    with pytest.raises(DataError) as caught:
        scan([tmp_path / "x.csv", tmp_path / "y.csv"], ("speech", "song"))
    assert str(caught.value).startswith(f"y.csv:2: {name!r} is described differently by x.csv:2 ({difference});")
    (tmp_path / "y.csv").write_text(f"{header}\n{name},sad,1,own,m,,\n")
    assert len(scan([tmp_path / "x.csv", tmp_path / "y.csv"]).utterances) == 1


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


def test_without_a_column_speaker_the_speakers_are_unknown(tmp_path: Path) -> None:
    clips = read_manifest(write(tmp_path, "path,emotion,sex\na.wav,sad,m\nb.wav,angry,f\n")).utterances
    assert [(clip.speaker_known, clip.speaker_id, clip.sex) for clip in clips] == [
        (False, "own/unknown", "male"), (False, "own/unknown", "female"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["unknown", "Unknown", "n/a", "?", "-", "none", "\u200b", "nan", "<NA>"])
def test_a_word_that_names_nobody_is_no_speaker(tmp_path: Path, name: str) -> None:
    message = error_message(write(tmp_path, f"{HEADER}\na.wav,sad,{name}\n"))
    assert "own.csv:2: no speaker" in message or f"own.csv:2: speaker '{name}' is nobody's name" in message


def test_an_answer_about_columns_that_fits_no_table_raises_with_a_suggestion(tmp_path: Path) -> None:
    table = write(tmp_path, f"{HEADER},feeling\na.wav,sad,1,angry\n")
    for columns, fault in [
        ({"feelings": None}, "data.columns.feelings: no table has a column 'feelings'; did you mean 'feeling'?"),
        (
            {"feeling": "intensty"},
            "own.csv:1: data.columns.feeling: no column is called 'intensty'; did you mean 'intensity'",
        ),
        ({"feeling": "color"}, "data.columns.feeling: no column is called 'color'; choose from path, emotion"),
        ({"feeling": "emotion"}, "own.csv:1: column 'emotion' occurs 2 times; keep one"),
    ]:
        with pytest.raises(DataError) as caught:
            scan(table, tables=TablesConfig(columns=columns))
        assert fault in str(caught.value)


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


@pytest.mark.parametrize("cell", ["./sub/a.wav", "sub/../sub/a.wav", "sub//a.wav", "sub/./a.wav", "sub\\a.wav"])
def test_a_path_is_the_same_however_it_is_written(tmp_path: Path, cell: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.wav").touch()
    (tmp_path / "own.csv").write_text(f"path,emotion\n{cell},sad\n")
    [clip] = read_manifest(tmp_path / "own.csv").utterances
    assert str(clip.path) == str(tmp_path / "sub" / "a.wav")
