"""Tables of text: separators, quotes, line ends and encodings."""

import csv
import io
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from serx.data.corpora import canonical_speaker
from serx.data.tables.manifest import read_manifest
from serx.data.tables.table import TablesConfig
from serx.errors import DataError
from tests.data.layouts import touch
from tests.data.tables.test_manifest import HEADER, error_message, write


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
