"""Read a table of your own recordings; every bad row is reported with its line and how to fix it."""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn, cast
from urllib.parse import unquote, urlsplit

from serx.data.audformat import is_database, open_database
from serx.data.audio import StrPath, is_audio
from serx.data.columns import DIMENSIONS, REQUIRED, Columns, match_columns, plain
from serx.data.corpora import canonical_corpus, canonical_speaker
from serx.data.corpora.speakers_by_name import speakers_by_name
from serx.data.labels import normalize_emotion
from serx.data.languages import language_code
from serx.data.observed_files import file_identity, files_in, is_file, is_folder
from serx.data.tables import OPENERS, Table, TablesConfig, is_table_folder, open_tables
from serx.data.utterance import UNKNOWN_SPEAKER, Segment, Sex, SkippedFile, Style, Utterance, visible
from serx.errors import DataError
from serx.system import WINDOWS

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
_NO_CELL = {"nan", "NaN", "<NA>"}  # what pandas writes for one; Nan and NA are names
_SEVERAL = re.compile(r"[,;|]")  # between emotions in one cell
_NO_VALUE = {"", "nan", "nat", "na", "n/a", "null", "-"}  # how tables write that there is none
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eE][+-]?[0-9]+)?")
_CLOCK = re.compile(r"(?:([0-9]+) days? )?([0-9]+):([0-5][0-9]):([0-5][0-9](?:[.,][0-9]*)?)")  # as pandas writes times
_MAX_NUMBER = 1e9
_ROUNDED = 0.011  # seconds by which a duration may differ from end - start
_MAX_SHOWN = 10  # faults in one error message


@dataclass(frozen=True)
class Manifest:
    """What a table lists: the rows whose audio exists, in their order, and the rows whose audio is missing.

    `notes` say how the columns were understood, and which are not used. `ties` name the rows without a majority of
    votes, whose emotion is the first of those with most votes. `columns` are the names in the header, in plain form.
    `files` has the `file_identity` of each utterance.

    >>> Manifest(utterances=(), skipped=()).utterances
    ()
    """

    utterances: tuple[Utterance, ...]
    skipped: tuple[SkippedFile, ...]
    files: tuple[tuple[int, int], ...] = ()
    notes: tuple[str, ...] = ()
    ties: tuple[str, ...] = ()
    columns: frozenset[str] = frozenset()


def read_manifest(path: StrPath, config: TablesConfig | None = None) -> Manifest:
    """Reads a table with the columns path, emotion and, optionally, the others of `columns.COLUMNS`.

    Their other names (`columns` lists them) do as well. Votes (`emotion.happy`, `emotion.sad`, ...) may take the place
    of the column emotion: the emotion with the most votes is then the clip's. `start` and `end`, in seconds, make a
    clip of a part of a file.

    Audio paths are relative to the table's folder, or to `config.audio_root`. If `corpus` is empty, the table's own
    name takes its place (`load_dataset` raises if a speaker is then in two manifests). A speaker's sex on one row holds
    for all rows of that speaker. Without a column speaker the speakers are those of the files' names, if all are names
    of one known corpus and say the same emotions; else nobody knows who speaks, and no split of these clips is called
    speaker-independent.

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
    config = config or TablesConfig()
    reader, notes, titles = _Reader(path, config), list[str](), set[str]()
    for table in open_manifest(path, config):
        columns, faults = match_columns(table.header, config.columns)
        if faults:
            _refuse(path, [f"{table.name}:{table.header_line}: {fault}" for fault in faults])
        notes += [f"{table.name}: {note}" for note in columns.notes]
        titles |= {plain(title) for title in (*table.header, *table.other_columns)}
        for line, cells in table.rows:
            if fault := reader.add(table, line, cells, columns):
                reader.faults.append(f"{table.name}:{line}: {fault}")
    if reader.faults:
        _refuse(path, reader.faults)
    if not reader.utterances:
        raise DataError(f"{path}: {_no_rows(reader.missing, config, path)}")
    if reader.outvoted:
        rows = "1 row" if len(reader.outvoted) == 1 else f"{len(reader.outvoted)} rows"
        notes.append(f"{rows} with another emotion than most votes, such as {reader.outvoted[0]}: the emotion counts")
    sexes = {speaker_id: sex for speaker_id, (sex, _) in reader.sexes.items()}
    utterances = tuple(
        replace(clip, sex=sex) if clip.speaker_known and clip.sex != (sex := sexes.get(clip.speaker_id)) else clip
        for clip in reader.utterances
    )
    utterances, corpus = speakers_by_name(utterances)
    if corpus:
        notes.append(f"{path.name}: no column speaker: who speaks is what the names of {corpus} say")
    found = tuple(reader.found)
    return Manifest(utterances, tuple(reader.missing), found, tuple(notes), tuple(reader.ties), frozenset(titles))


def open_manifest(path: Path, config: TablesConfig) -> list[Table]:
    """The tables of a file or folder."""
    return open_database(path, config) if is_database(path) else open_tables(path, config)


def is_manifest(path: Path) -> bool:
    """Whether a path is a table or a folder of tables."""
    if is_folder(path):
        return is_database(path) or is_table_folder(path)
    return is_file(path) and path.suffix.lower() in OPENERS


def _no_rows(missing: list[SkippedFile], config: TablesConfig, table: Path) -> str:
    if not missing:
        return "no rows below the header; write one line per clip: path,emotion,speaker"
    where = "the table's folder" if config.audio_root is None else f"data.audio_root, {config.audio_root}"
    name = missing[0].path.name.partition("#t=")[0]
    below = table if is_folder(table) else table.parent
    near = next((found for found in files_in(below) if found.name == name), None) if config.audio_root is None else None
    hint = f": {near} is there, so set data.audio_root={near.parent}" if near else ""
    return (
        f"none of its {len(missing)} audio files exists, such as {missing[0].path}: {missing[0].detail}; paths are "
        f"relative to {where}{hint}"
    )


Place = tuple[str, int]  # table and line
_NUMBERS = ("start", "end", "duration", "weight", *DIMENSIONS)
_KEPT_FACTS = 10_000  # combinations of words; a table with more has few rows of each


class _Facts(NamedTuple):
    """What the words of a row say: the same for all rows with the same words."""

    corpus: str
    speaker: str
    emotion: str
    sex: Sex | None
    style: Style
    intensity: str | None
    part: str | None
    language: str | None


class _Reader:
    """The rows read so far, and the facts that a later row must not contradict."""

    def __init__(self, root: Path, config: TablesConfig) -> None:
        self.root, self.corpus = root, root.stem
        self.audio = _AudioFinder(config.audio_root)
        self.utterances: list[Utterance] = []
        self.found: list[tuple[int, int]] = []  # the files of `utterances`
        self.missing: list[SkippedFile] = []
        self.faults: list[str] = []
        self.ties: list[str] = []
        self.outvoted: list[str] = []  # rows whose emotion is not that of most votes
        self.sexes: dict[str, tuple[Sex, Place]] = {}
        self.missing_segments: dict[Segment, Utterance] = {}
        self.files: dict[tuple[tuple[int, int], float, float | None], Utterance] = {}
        # The names of files that several rows name.
        self.names: dict[tuple[tuple[int, int], float, float | None], dict[Path, Utterance]] = {}
        self.facts: dict[tuple[str, ...], _Facts] = {}  # of rows without faults, by their words
        self.agreeing: set[_Facts] = set()  # those that contradict no other row
        self.columns: Columns | None = None  # of `facts`
        self.spellings: dict[str, tuple[str, Place]] = {}
        self.marks: dict[str, Place] = {}  # decimal point or comma -> where it was first seen
        # Few different words fill these columns of a long table.
        self._corpora, self._speakers = cache(canonical_corpus), cache(canonical_speaker)
        self._emotions, self._languages = cache(normalize_emotion), cache(_language)

    def add(self, table: Table, line: int, cells: list[str], columns: Columns) -> str | None:
        """Adds one row, or returns what is wrong with it."""
        width = len(table.header)
        text = "\t".join(cells)
        if "\n" in text or "\r" in text:
            spans = {i for i, cell in enumerate(cells) if "\n" in cell or "\r" in cell}
            if len(cells) < width or spans & {*columns.index.values(), *columns.votes.values()}:
                return 'a cell spans several lines; close its quote (")'
        if len(cells) != width:
            if any(cell.strip() for cell in cells[width:]):
                return f"{len(cells)} cells under {width} columns; quote a cell that contains the separator"
            cells = [*cells[:width], *[""] * (width - len(cells))]
        cells = [cell.strip() for cell in cells]
        if columns is not self.columns:
            self.columns, self.facts = columns, {}
        row = {name: cells[i] if name == "path" else visible(cells[i]) for name, i in columns.index.items()}
        try:
            return self._add(table, line, row, {word: visible(cells[i]) for word, i in columns.votes.items()}, columns)
        except _BadCellError as error:
            return str(error)

    def _add(
        self, table: Table, line: int, row: Mapping[str, str], voted: Mapping[str, str], columns: Columns
    ) -> str | None:
        named = "speaker" in row
        numbers = {name: self._number(table, line, columns.titles[name], row[name]) for name in _NUMBERS if name in row}
        votes = {word: self._number(table, line, columns.titles[word], cell) or 0.0 for word, cell in voted.items()}
        if negative := [word for word, count in votes.items() if count < 0]:
            raise _BadCellError(f"{columns.titles[negative[0]]} is {votes[negative[0]]:g}; votes are at least 0")
        rated = any(numbers.get(name) is not None for name in DIMENSIONS) if numbers else False
        emotion = self._emotion(table, line, row.get("emotion", ""), votes, rated)
        words = () if voted or rated else tuple([row[name] for name in row if name != "path" and name not in numbers])
        facts = self.facts.get(words) if words and row["path"] else None
        if facts is None:
            _check_cells(row, emotion, named, rated)
        start, end = _span(numbers, columns.titles) if numbers else (0.0, None)
        if (weight := numbers.get("weight")) is not None and weight <= 0:
            raise _BadCellError(f"{columns.titles['weight']} is {weight:g}; write more than 0, or delete the row")
        chosen = _chosen(row) if facts is None else {}
        path, file = self.audio.find(table.folder, row["path"])
        if facts is None:
            facts = _Facts(
                corpus=self._corpora(row.get("corpus") or self.corpus),
                speaker=self._speakers(row["speaker"]) if named else UNKNOWN_SPEAKER,
                emotion=self._emotions(emotion),
                sex=cast("Sex | None", chosen["sex"]),
                style=cast("Style", chosen["style"]),
                intensity=row.get("intensity", "").casefold() or None,
                part=chosen["split"],
                language=self._languages(row.get("language", "")),
            )
            if words and len(self.facts) < _KEPT_FACTS:
                self.facts[words] = facts
        part = facts.part or self._part_of(table, path)
        clip = Utterance(
            path=path,
            corpus=facts.corpus,
            speaker=facts.speaker,
            emotion=facts.emotion,
            sex=facts.sex,
            style=facts.style,
            intensity=facts.intensity,
            part=cast("Literal['train', 'valid', 'test'] | None", part),
            language=facts.language,
            start=start,
            end=end,
            weight=1.0 if weight is None else weight,
            votes=tuple((word, count) for word, count in votes.items() if count > 0) if votes else (),
            dimensions=tuple((name, value) for name in DIMENSIONS if (value := numbers.get(name)) is not None)
            if rated
            else (),
            corpus_named=bool(row.get("corpus")),
            speaker_known=named,
            source=f"{table.name}:{line}",
        )
        fault = self._named_twice((table.name, line), clip, file)
        if fault is None and facts not in self.agreeing:
            fault = self._contradiction((table.name, line), clip)
            if fault is None:
                self.agreeing.add(facts)
        if fault is None:
            if file is not None:
                self.utterances.append(clip)
                self.found.append(file)
            else:
                self.missing.append(SkippedFile(Path(str(clip.segment)), "missing", f"no such file ({clip.source})"))
        return fault

    def _emotion(self, table: Table, line: int, cell: str, votes: Mapping[str, float], rated: bool) -> str:
        """The emotion of a row: that of its cell, or the one with the most votes."""
        if not (votes or rated):
            return cell
        voted, blank = any(votes.values()), cell.casefold() in _NO_VALUE
        if not blank:
            if voted and (word := self._emotions(cell)) not in (winners := _most_voted(votes)):
                self.outvoted.append(f"{table.name}:{line} ({word}, most votes: {winners[0]})")
            return cell
        if rated and not voted:
            return ""
        if not votes:
            return cell
        winners = _most_voted(votes)
        if len(winners) > 1:
            tie = f"a tie: {' and '.join(winners)} have {votes[winners[0]]:g} each"
            self.ties.append(f"{table.name}:{line}: {tie}")
        return winners[0]

    def _part_of(self, table: Table, path: Path) -> str | None:
        """The split that the table as a whole or a folder in the path of a clip names, as Hugging Face's `datasets`."""
        if not table.part and not table.part_by_folder:
            return None
        words = [table.part]
        if table.part_by_folder:
            words = list(Path(os.path.relpath(path, self.root)).parts[:-1])
        return next((part for word in words if (part := _PARTS.get(word.casefold()))), None)

    def _number(self, table: Table, line: int, title: str, cell: str) -> float | None:
        """The finite number in a cell, with a decimal point or comma; seconds also as `0 days 00:00:01.5`."""
        if cell.casefold() in _NO_VALUE:
            return None
        clock = _CLOCK.fullmatch(cell)
        if not clock and not _NUMBER.fullmatch(cell):
            raise _BadCellError(f"{title} {cell!r} is not a number; write it with digits, such as 0.5")
        self._check_mark(table, line, title, cell)
        if clock:
            days, hours, minutes, seconds = (float((part or "0").replace(",", ".")) for part in clock.groups())
            return 86_400 * days + 3600 * hours + 60 * minutes + seconds
        number = float(cell.replace(",", "."))
        if not abs(number) <= _MAX_NUMBER:
            raise _BadCellError(f"{title} {cell!r} is beyond {_MAX_NUMBER:g}; correct it")
        return number

    def _check_mark(self, table: Table, line: int, title: str, cell: str) -> None:
        """Raises where a cell leaves open whether its comma or point is the decimal mark."""
        for mark, other in ((",", "."), (".", ",")):
            if mark not in cell:
                continue
            if other in self.marks:
                raise _BadCellError(
                    f"{title} {cell!r} has a decimal {_MARKS[mark]}, and {_where(self.marks[other], table.name)} is a "
                    f"decimal {_MARKS[other]}; write the same one everywhere"
                )
            if mark == "," and mark not in self.marks and not table.decimal_comma and _is_grouped(cell):
                choices = f"{cell.replace(',', '')} or {cell.replace(',', '.')}"
                raise _BadCellError(f"{title} {cell!r} could be {choices}; write it with a decimal point")
            self.marks.setdefault(mark, (table.name, line))

    def _named_twice(self, place: Place, clip: Utterance, file: tuple[int, int] | None) -> str | None:
        """Whether an earlier row has the same part of the same file, under this name or another."""
        if file is None:
            other = self.missing_segments.setdefault(clip.segment, clip)
            first = clip
        else:
            audio = (file, clip.start, clip.end)
            first = self.files.setdefault(audio, clip)
            if first is clip:
                return None
            other = self.names.setdefault(audio, {first.path: first}).setdefault(clip.path, clip)
        what, table = clip.segment, place[0]
        if other is not clip:
            return f"{what.name!r} is already {_where(_place(other), table)}; delete one of the two rows"
        if first is clip:
            return None
        same = "the same part of the same file" if what.fragment else "the same file"
        where = _where(_place(first), table)
        return f"{what.name!r} is {same} as {first.segment.name!r} {where}; delete one of the two rows"

    def _contradiction(self, place: Place, clip: Utterance) -> str | None:
        """Whether an earlier row says something else about the speaker."""
        table = place[0]
        if not clip.speaker_known:
            return None
        # `Anna` and `anna` counted as two people could be in both parts of a split.
        spelling, first = self.spellings.setdefault(clip.speaker_id.casefold(), (clip.speaker, place))
        if spelling != clip.speaker:
            where = _where(first, table)
            return f"speaker {clip.speaker!r} is {spelling!r} {where}; spell the name the same way everywhere"
        if clip.sex is not None:
            sex, first = self.sexes.setdefault(clip.speaker_id, (clip.sex, place))
            if sex != clip.sex:
                return f"speaker {clip.speaker!r} is {clip.sex}, but {sex} {_where(first, table)}; make both the same"
        return None


_MARKS = {",": "comma", ".": "point"}


class _BadCellError(ValueError):
    """What is wrong with a cell, and how to fix it."""


def _place(clip: Utterance) -> Place:
    table, _, line = clip.source.rpartition(":")
    return table, int(line)


def _where(place: Place, table: str) -> str:
    """A line of the same table, or of another one."""
    return f"on line {place[1]}" if place[0] == table else f"in {place[0]}:{place[1]}"


def _is_grouped(cell: str) -> bool:
    """Whether a comma may separate thousands: `1,234`."""
    return re.fullmatch(r"[+-]?[1-9][0-9]{0,2},[0-9]{3}", cell) is not None


def _most_voted(votes: Mapping[str, float]) -> list[str]:
    """The emotions with the most votes."""
    most = max(votes.values())
    if most == 0:
        raise _BadCellError("no emotion and no vote; fill one of the cells or delete the row")
    return [word for word, count in votes.items() if count == most]


def _span(numbers: Mapping[str, float | None], titles: Mapping[str, str]) -> tuple[float, float | None]:
    """Start and end of a clip in seconds."""
    start, end, duration = numbers.get("start") or 0.0, numbers.get("end"), numbers.get("duration")
    if start < 0:
        raise _BadCellError(f"{titles['start']} is {start:g}; a file begins at 0 seconds")
    if duration is not None:
        if duration <= 0:
            raise _BadCellError(f"{titles['duration']} is {duration:g}; it must be more than 0 seconds")
        if end is not None and not math.isclose(end - start, duration, abs_tol=_ROUNDED):
            raise _BadCellError(
                f"{titles['duration']} is {duration:g}, but from {start:g} to {end:g} are {end - start:g} seconds; "
                "correct one of them"
            )
        end = start + duration if end is None else end
    if end is not None and end <= start:
        raise _BadCellError(
            f"{titles.get('end', 'end')} {end:g} is not behind start {start:g}; exchange or correct them"
        )
    return start, end


def _language(cell: str) -> str | None:
    if cell.casefold() in _NO_VALUE:
        return None
    try:
        return language_code(cell)
    except ValueError as error:
        raise _BadCellError(str(error)) from None


def audio_root(text: str) -> Path:
    """The folder that `data.audio_root` names.

    Raises:
        DataError: there is no such folder.
    """
    path = Path(os.path.abspath(os.path.expanduser(text)))
    if not is_folder(path):
        raise DataError(f"data.audio_root: {path}: no such folder; name the one with the audio files")
    return path


class _AudioFinder:
    """Finds the audio file that a table names."""

    def __init__(self, root: str | None) -> None:
        self._absolute: dict[tuple[Path, str], str] = {}
        self._root = None if root is None else audio_root(root)

    def find(self, folder: Path, cell: str) -> tuple[Path, tuple[int, int] | None]:
        """The file and its `file_identity`, or where it would be and None.

        Raises:
            _BadCellError: there are several below `data.audio_root`.
        """
        if cell[:5].casefold() != "file:":
            path = Path(self._join(self._root or folder, cell))
            if (file := file_identity(path)) is not None:
                return path, file
        return self._search(folder, cell)

    def _join(self, base: Path, cell: str) -> str:
        """The absolute path of a cell; most have few folders, which are joined once."""
        head, slash, name = cell.rpartition("/")
        if WINDOWS or name in ("", ".", "..") or "\0" in cell:
            return os.path.abspath(os.path.join(base, cell))
        folder = self._absolute.get((base, head + slash))
        if folder is None:
            folder = os.path.join(os.path.abspath(os.path.join(base, head + slash)), "")
            self._absolute[base, head + slash] = folder
        return folder + name

    def _search(self, folder: Path, cell: str) -> tuple[Path, tuple[int, int] | None]:
        """The file of a cell that is not simply its path."""
        base = self._root or folder
        if cell.casefold().startswith("file://"):
            cell = unquote(urlsplit(cell).path)
        path, file = _file_at(base, cell)
        if file is None and "%" in cell:  # as in addresses: %20 is a space
            decoded, file = _file_at(base, unquote(cell))
            path = path if file is None else decoded
        if file is None and "\\" in cell:  # a table written on Windows
            cell = cell.replace("\\", "/")
            path, file = _file_at(base, cell)
        if file is not None or self._root is None or path.exists():
            return path, file
        found: list[Path] = []
        for name in dict.fromkeys((cell.rpartition("/")[2], unquote(cell).rpartition("/")[2])):
            found = found or self._by_name.get(name) or ([] if is_audio(name) else self._by_stem.get(name, []))
        if len(found) > 1:
            shown = " and ".join(os.path.relpath(other, self._root) for other in found[:3])
            raise _BadCellError(
                f"{name!r} is found {len(found)} times below {self._root}, such as {shown}; write the folder as well"
            )
        return (found[0], file_identity(found[0])) if found else (path, None)

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for path in filter(is_audio, files_in(self._root or Path())):
            found.setdefault(path.name, []).append(path)
        return found

    @cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for name, paths in self._by_name.items():
            found.setdefault(os.path.splitext(name)[0], []).extend(paths)
        return found


def _file_at(base: Path, cell: str) -> tuple[Path, tuple[int, int] | None]:
    path = Path(os.path.abspath(os.path.join(base, cell)))
    return path, file_identity(path)


def _check_cells(row: Mapping[str, str], emotion: str, named: bool, rated: bool) -> None:
    """Raises if cells that must be filled are empty or hold no name; `named`: there is a column speaker.

    A row that is `rated` on a dimension needs no emotion.
    """
    filled = {**row, "emotion": "" if emotion.casefold() in _NO_VALUE else emotion}
    if rated and not filled["emotion"]:
        emotion = filled["emotion"] = "none"
    empty = [name for name in (*REQUIRED, *(["speaker"] if named else [])) if not filled[name]]
    if empty:
        raise _BadCellError(f"no {' and no '.join(empty)}; fill the cell or delete the row")
    if named and (row["speaker"].casefold() in _NOBODY or row["speaker"] in _NO_CELL):
        raise _BadCellError(
            f"speaker {row['speaker']!r} is nobody's name; write who speaks, or remove the column if nobody knows"
        )
    if not any(letter.isalpha() for letter in emotion):
        raise _BadCellError(f"emotion {emotion!r} is not a word; write its name, such as angry")
    if _SEVERAL.search(emotion):
        raise _BadCellError(f"emotion {emotion!r} is several; write one, or votes in columns such as emotion.happy")


def _chosen(row: Mapping[str, str]) -> dict[str, str | None]:
    """Sex, split and style."""
    chosen: dict[str, str | None] = {}
    for name, choices in (("sex", _SEXES), ("split", _PARTS), ("style", _STYLES)):
        word = row.get(name, "").casefold()
        if word not in choices:
            raise _BadCellError(f"unknown {name} {row[name]!r}; write {_choices(choices)}")
        chosen[name] = choices[word]
    return chosen


def _choices(choices: Mapping[str, str | None]) -> str:
    return ", ".join(dict.fromkeys(value for value in choices.values() if value)) + " or nothing"


def _refuse(path: Path, faults: list[str]) -> NoReturn:
    more = [f"... and {len(faults) - _MAX_SHOWN} more"] if len(faults) > _MAX_SHOWN else []
    raise DataError("\n  ".join([f"{path}: {len(faults)} to fix:", *faults[:_MAX_SHOWN], *more]))
