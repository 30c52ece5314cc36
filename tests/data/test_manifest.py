"""CSV manifests: every column and spelling, and every bad row reported with its line and a fix."""

import csv
import io
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serx.data.corpora import canonical_corpus, canonical_speaker
from serx.data.manifest import read_manifest
from serx.data.scanner import scan
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
        ("filename,emotion,speaker", "no column 'path'; rename 'filename' to 'path'"),
        ("path,label,actor", "no column 'emotion'; rename 'label' to 'emotion'"),
        ("path,speaker,color", "no column 'emotion' among path, speaker, color; add it"),
        ("path,emotion,speaker,splits", "no column 'split'; rename 'splits' to 'split'"),
        ("path,emotion,speaker,gender", "no column 'sex'; rename 'gender' to 'sex'"),
        ("path,emotion,speaker,emotion", "column 'emotion' occurs 2 times; keep one"),
        ("", "no column 'path' among nothing; add it"),
    ],
)
def test_a_missing_or_misspelled_column_raises_with_a_suggestion(tmp_path: Path, header: str, fault: str) -> None:
    assert fault in error_message(write(tmp_path, f"{header}\n" if header else ""))


def test_columns_of_other_tools_are_ignored(tmp_path: Path) -> None:
    (clip,) = read_manifest(write(tmp_path, f"duration,{HEADER},text\n1.5,a.wav,sad,1,hello\n")).utterances
    assert clip.emotion == "sad"


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


def test_text_that_is_not_utf8_raises_with_its_line(tmp_path: Path) -> None:
    table = write(tmp_path, f"{HEADER}\na.wav,sad,Zoë\n", encoding="latin-1")
    assert error_message(table) == "own.csv:2: not utf-8 text; save the file as UTF-8"


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


@pytest.mark.parametrize("name", ["unknown", "Unknown", "n/a", "?", "-", "none", "\u200b"])
def test_a_word_that_names_nobody_is_no_speaker(tmp_path: Path, name: str) -> None:
    message = error_message(write(tmp_path, f"{HEADER}\na.wav,sad,{name}\n"))
    assert "own.csv:2: no speaker" in message or f"own.csv:2: speaker '{name}' is nobody's name" in message
