"""Read a CSV manifest of your own recordings; every bad row is reported with its line and how to fix it."""

import csv
import difflib
import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NoReturn, cast

from serx.data.audio import StrPath
from serx.data.corpora import canonical_corpus, canonical_speaker
from serx.data.labels import normalize_emotion
from serx.data.utterance import UNKNOWN_SPEAKER, Sex, SkippedFile, Style, Utterance, file_identity, visible
from serx.errors import DataError

REQUIRED = ("path", "emotion")
OPTIONAL = ("speaker", "sex", "corpus", "split", "style", "intensity")

# Names of the same columns in other tools, to suggest a rename.
_OTHER_NAMES = {
    "path": ("file", "filename", "file_name", "filepath", "file_path", "audio", "wav"),
    "emotion": ("label", "class", "target", "category"),
    "speaker": ("actor", "spk", "speaker_id", "subject", "person", "actor_id"),
    "sex": ("gender",),
}
_SEXES = {
    **dict.fromkeys(("male", "m", "man"), "male"),
    **dict.fromkeys(("female", "f", "w", "woman"), "female"),
    **dict.fromkeys(("", "-", "unknown", "other", "na", "n/a", "nan"), None),
}
_PARTS = {
    "": None,
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    "test": "test",
}
_STYLES = {"": "speech", "speech": "speech", "song": "song"}
_NOBODY = {"unknown", "unk", "unspecified", "not known", "n/a", "none", "null", "?", "-"}  # names of no speaker
_MAX_SHOWN = 10  # faults in one error message


@dataclass(frozen=True)
class Manifest:
    """What a CSV lists: the rows whose audio exists, in file order, and the rows whose audio is missing.

    >>> Manifest(utterances=(), skipped=()).utterances
    ()
    """

    utterances: tuple[Utterance, ...]
    skipped: tuple[SkippedFile, ...]


def read_manifest(path: StrPath) -> Manifest:
    """Reads a CSV with the columns path, emotion and, optionally, speaker, sex, corpus, split, style, intensity.

    Comma, semicolon, tab or bar separate the cells. The encoding is UTF-8 with or without a byte-order mark, or UTF-16
    with one. Audio paths are relative to the CSV's folder. If `corpus` is empty, the CSV's own name takes its place
    (`load_dataset` raises if a speaker is then in two manifests). Other columns are ignored. A speaker's sex on one row
    holds for all rows of that speaker. Without a column speaker nobody knows who speaks: no split of these clips is
    called speaker-independent.

    Raises:
        DataError: every row that cannot be used, as `file.csv:LINE: what; how to fix it`; or no row has audio.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "a.wav").touch()
    ...     _ = Path(folder, "own.csv").write_text("path,emotion,speaker\\na.wav,Anger,Ann\\n")
    ...     [clip] = read_manifest(f"{folder}/own.csv").utterances
    >>> clip.speaker_id, clip.emotion
    ('own/Ann', 'angry')
    """
    path = Path(os.path.abspath(path))
    rows = _rows(path)
    line, header = next(rows, (1, []))
    columns = _columns(path, line, header)
    reader = _Reader(path)
    for line, cells in rows:
        fault = reader.add(line, len(header), cells, columns)
        if fault:
            reader.faults.append(f"{path.name}:{line}: {fault}")
    if reader.faults:
        _refuse(path, reader.faults)
    if not reader.utterances:
        raise DataError(f"{path}: {_no_rows(reader.missing)}")
    sexes = {speaker_id: sex for speaker_id, (sex, _) in reader.sexes.items()}
    utterances = tuple(
        replace(clip, sex=sexes.get(clip.speaker_id)) if clip.speaker_known else clip for clip in reader.utterances
    )
    return Manifest(utterances, tuple(reader.missing))


def _no_rows(missing: list[SkippedFile]) -> str:
    if not missing:
        return "no rows below the header; write one line per clip: path,emotion,speaker"
    return (
        f"none of its {len(missing)} audio files exists, such as {missing[0].path}: {missing[0].detail}; paths are "
        "relative to the CSV's folder"
    )


class _Reader:
    """The rows read so far, and the facts that a later row must not contradict."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.utterances: list[Utterance] = []
        self.missing: list[SkippedFile] = []
        self.faults: list[str] = []
        self.sexes: dict[str, tuple[Sex, int]] = {}
        self.lines: dict[Path, int] = {}
        self.files: dict[tuple[int, int], tuple[str, int]] = {}
        self.spellings: dict[str, tuple[str, int]] = {}

    def add(self, line: int, width: int, cells: list[str], columns: Mapping[str, int]) -> str | None:
        """Adds one row, or returns what is wrong with it."""
        if any("\n" in cell or "\r" in cell for cell in cells):
            return 'a cell spans several lines; close its quote (")'
        if any(cell.strip() for cell in cells[width:]):
            return f"{len(cells)} cells under {width} columns; quote a cell that contains the separator"
        row = {name: cells[i].strip() if i < len(cells) else "" for name, i in columns.items()}
        row |= {name: visible(cell) for name, cell in row.items() if name != "path"}
        named = "speaker" in columns
        if fault := _cell_fault(row, named):
            return fault
        chosen: dict[str, str | None] = {}
        for name, choices in (("sex", _SEXES), ("split", _PARTS), ("style", _STYLES)):
            word = row.get(name, "").casefold()
            if word not in choices:
                return f"unknown {name} {row[name]!r}; write {_choices(choices)}"
            chosen[name] = choices[word]
        clip = Utterance(
            path=_audio_path(self.path.parent, row["path"]),
            corpus=canonical_corpus(row.get("corpus") or self.path.stem),
            speaker=canonical_speaker(row["speaker"]) if named else UNKNOWN_SPEAKER,
            emotion=normalize_emotion(row["emotion"]),
            sex=cast("Sex | None", chosen["sex"]),
            style=cast(Style, chosen["style"]),
            intensity=row.get("intensity", "").casefold() or None,
            part=cast(Literal["train", "valid", "test"] | None, chosen["split"]),
            corpus_named=bool(row.get("corpus")),
            speaker_known=named,
            source=f"{self.path.name}:{line}",
        )
        file = file_identity(clip.path)
        fault = self._contradiction(line, clip, file)
        if fault is None:
            if file is not None:
                self.utterances.append(clip)
            else:
                self.missing.append(SkippedFile(clip.path, "missing", f"no such file ({self.path.name}:{line})"))
        return fault

    def _contradiction(self, line: int, clip: Utterance, file: tuple[int, int] | None) -> str | None:
        first = self.lines.setdefault(clip.path, line)
        if first != line:
            return f"{clip.path.name!r} is already on line {first}; delete one of the two rows"
        if file is not None:
            other, first = self.files.setdefault(file, (clip.path.name, line))
            if first != line:
                return f"{clip.path.name!r} is the same file as {other!r} on line {first}; delete one of the two rows"
        if not clip.speaker_known:
            return None
        # `Anna` and `anna` counted as two people could be in both parts of a split.
        spelling, first = self.spellings.setdefault(clip.speaker_id.casefold(), (clip.speaker, line))
        if spelling != clip.speaker:
            return f"speaker {clip.speaker!r} is {spelling!r} on line {first}; spell the name the same way everywhere"
        if clip.sex is not None:
            sex, first = self.sexes.setdefault(clip.speaker_id, (clip.sex, line))
            if sex != clip.sex:
                return f"speaker {clip.speaker!r} is {clip.sex}, but {sex} on line {first}; make both the same"
        return None


def _cell_fault(row: Mapping[str, str], named: bool) -> str | None:
    """What is wrong with a cell, apart from those that take one of a few words; `named`: there is a column speaker."""
    empty = [name for name in (*REQUIRED, *(["speaker"] if named else [])) if not row[name]]
    if empty:
        return f"no {' and no '.join(empty)}; fill the cell or delete the row"
    if named and row["speaker"].casefold() in _NOBODY:
        return f"speaker {row['speaker']!r} is nobody's name; write who speaks, or remove the column if nobody knows"
    if not any(letter.isalpha() for letter in row["emotion"]):
        return f"emotion {row['emotion']!r} is not a word; write its name, such as angry"
    return None


def _audio_path(folder: Path, cell: str) -> Path:
    path = Path(os.path.abspath(folder / cell))
    if "\\" in cell and not path.exists():  # a manifest written on Windows
        return Path(os.path.abspath(folder / cell.replace("\\", "/")))
    return path


def _choices(choices: Mapping[str, str | None]) -> str:
    return ", ".join(dict.fromkeys(value for value in choices.values() if value)) + " or nothing"


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of each row that is not blank."""
    text = _text(path)
    first = next(iter(text.strip().splitlines()), "")
    # The separator is the mark that splits the header into the most known columns.
    separator = max(",;\t|", key=lambda mark: sum(_plain(cell) in REQUIRED + OPTIONAL for cell in first.split(mark)))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True)
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path.name}:{line}: {error}; is a quote left open, or is the file not a CSV?") from None


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path.name}:{line}: not {encoding[:6].rstrip('-')} text; save the file as UTF-8") from None


def _plain(cell: str) -> str:
    return "_".join(cell.strip().strip('"').casefold().split())


def _columns(path: Path, line: int, header: list[str]) -> dict[str, int]:
    """The index of each known column; raises if one is missing or misspelled."""
    names = [_plain(cell) for cell in header]
    faults = []
    for name in REQUIRED + OPTIONAL:
        if names.count(name) > 1:
            faults.append(f"column {name!r} occurs {names.count(name)} times; keep one")
        if name in names:
            continue
        unknown = [column for column in names if column not in REQUIRED + OPTIONAL]
        near = [column for column in unknown if column in _OTHER_NAMES.get(name, ())]
        near = near or difflib.get_close_matches(name, unknown, n=1, cutoff=0.75)
        if near:
            faults.append(f"no column {name!r}; rename {near[0]!r} to {name!r}")
        elif name in REQUIRED:
            faults.append(f"no column {name!r} among {', '.join(filter(None, names)) or 'nothing'}; add it")
    if faults:
        _refuse(path, [f"{path.name}:{line}: {fault}" for fault in faults])
    return {name: names.index(name) for name in REQUIRED + OPTIONAL if name in names}


def _refuse(path: Path, faults: list[str]) -> NoReturn:
    more = [f"... and {len(faults) - _MAX_SHOWN} more"] if len(faults) > _MAX_SHOWN else []
    raise DataError("\n  ".join([f"{path}: {len(faults)} to fix:", *faults[:_MAX_SHOWN], *more]))
