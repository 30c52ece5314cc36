"""Read a table of your own recordings; every bad row is reported with its line and how to fix it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn, cast

from serx.data.corpora import canonical_corpus, canonical_speaker
from serx.data.corpora.speakers_by_name import speakers_by_name
from serx.data.labels import normalize_emotion
from serx.data.observed_files import files_in, is_file, is_folder
from serx.data.tables.audformat import is_database, open_database
from serx.data.tables.audio_finder import AudioFinder
from serx.data.tables.cells import (
    NO_VALUE,
    PARTS,
    BadCellError,
    Numbers,
    check_cells,
    chosen_words,
    language,
    most_voted,
    span,
)
from serx.data.tables.columns import DIMENSIONS, Columns, match_columns, plain
from serx.data.tables.contradictions import Contradictions
from serx.data.tables.reading import OPENERS, is_table_folder, open_tables
from serx.data.tables.table import Table, TablesConfig
from serx.data.utterance import UNKNOWN_SPEAKER, Sex, SkippedFile, Style, Utterance, visible
from serx.errors import DataError
from serx.files import StrPath

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
    sexes = {speaker_id: sex for speaker_id, (sex, _) in reader.contradictions.sexes.items()}
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
        self.audio = AudioFinder(config.audio_root)
        self.numbers, self.contradictions = Numbers(), Contradictions()
        self.utterances: list[Utterance] = []
        self.found: list[tuple[int, int]] = []  # the files of `utterances`
        self.missing: list[SkippedFile] = []
        self.faults: list[str] = []
        self.ties: list[str] = []
        self.outvoted: list[str] = []  # rows whose emotion is not that of most votes
        self.facts: dict[tuple[str, ...], _Facts] = {}  # of rows without faults, by their words
        self.columns: Columns | None = None  # of `facts`
        # Few different words fill these columns of a long table.
        self._corpora, self._speakers = cache(canonical_corpus), cache(canonical_speaker)
        self._emotions, self._languages = cache(normalize_emotion), cache(language)

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
        except BadCellError as error:
            return str(error)

    def _add(
        self, table: Table, line: int, row: Mapping[str, str], voted: Mapping[str, str], columns: Columns
    ) -> str | None:
        named = "speaker" in row
        numbers = {
            name: self.numbers.number(table, line, columns.titles[name], row[name]) for name in _NUMBERS if name in row
        }
        votes = {
            word: self.numbers.number(table, line, columns.titles[word], cell) or 0.0 for word, cell in voted.items()
        }
        if negative := [word for word, count in votes.items() if count < 0]:
            raise BadCellError(f"{columns.titles[negative[0]]} is {votes[negative[0]]:g}; votes are at least 0")
        rated = any(numbers.get(name) is not None for name in DIMENSIONS) if numbers else False
        emotion = self._emotion(table, line, row.get("emotion", ""), votes, rated)
        words = () if voted or rated else tuple([row[name] for name in row if name != "path" and name not in numbers])
        facts = self.facts.get(words) if words and row["path"] else None
        if facts is None:
            check_cells(row, emotion, named, rated)
        start, end = span(numbers, columns.titles) if numbers else (0.0, None)
        if (weight := numbers.get("weight")) is not None and weight <= 0:
            raise BadCellError(f"{columns.titles['weight']} is {weight:g}; write more than 0, or delete the row")
        chosen = chosen_words(row) if facts is None else {}
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
        fault = self.contradictions.find((table.name, line), clip, file, facts)
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
        voted, blank = any(votes.values()), cell.casefold() in NO_VALUE
        if not blank:
            if voted and (word := self._emotions(cell)) not in (winners := most_voted(votes)):
                self.outvoted.append(f"{table.name}:{line} ({word}, most votes: {winners[0]})")
            return cell
        if rated and not voted:
            return ""
        if not votes:
            return cell
        winners = most_voted(votes)
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
        return next((part for word in words if (part := PARTS.get(word.casefold()))), None)


def _refuse(path: Path, faults: list[str]) -> NoReturn:
    more = [f"... and {len(faults) - _MAX_SHOWN} more"] if len(faults) > _MAX_SHOWN else []
    raise DataError("\n  ".join([f"{path}: {len(faults)} to fix:", *faults[:_MAX_SHOWN], *more]))
