"""CSV manifests: every column and spelling, and every bad row reported with its line and a fix."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serx.data.corpora import canonical_corpus, canonical_speaker
from serx.data.scanning.scanner import scan
from serx.data.tables.manifest import read_manifest
from serx.data.tables.table import TablesConfig
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


def test_without_a_column_speaker_the_speakers_are_unknown(tmp_path: Path) -> None:
    clips = read_manifest(write(tmp_path, "path,emotion,sex\na.wav,sad,m\nb.wav,angry,f\n")).utterances
    assert [(clip.speaker_known, clip.speaker_id, clip.sex) for clip in clips] == [
        (False, "own/unknown", "male"), (False, "own/unknown", "female"),
    ]  # fmt: skip


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
