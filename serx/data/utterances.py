"""`Utterances`: many clips as columns, some 100 bytes a clip where objects would take more than a thousand.

A column of words holds the number of each clip's word (`codes`) and every word once. Files are named by their folder
and the rest of their name. A clip becomes an `Utterance` when it is asked for. `overlapping` finds clips that share a
moment of a file.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np

from serx.data.observed_files import FileIdentity, file_identity
from serx.data.utterance import Segment, Utterance

NUMBERS = ("start", "end", "weight")  # columns of float64; NaN is the end of a clip that goes on to the end of its file
WORDS = tuple(f.name for f in fields(Utterance) if f.name not in (*NUMBERS, "path", "source"))
_LINE = re.compile(r"(.*):([1-9][0-9]{0,17})", re.DOTALL)


class Texts(Sequence[str]):
    """Many texts as one, so that each costs its characters and 8 bytes.

    >>> texts = Texts.of(["one", "", "three"])
    >>> texts[2], list(texts)
    ('three', ['one', '', 'three'])
    """

    def __init__(self, joined: str, ends: np.ndarray) -> None:
        """`ends (n,)` int64: where each text ends in `joined`."""
        self.joined, self.ends = joined, ends

    @classmethod
    def of(cls, texts: Sequence[str]) -> "Texts":
        """The same texts."""
        return cls("".join(texts), np.cumsum([len(text) for text in texts], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        i = range(len(self))[place]
        return self.joined[int(self.ends[i - 1]) if i else 0 : int(self.ends[i])]

    def __iter__(self) -> Iterator[str]:
        ends = self.ends.tolist()
        return (self.joined[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)) if ends else iter(())


@dataclass(frozen=True)
class Words:
    """A column with few different words: `codes (n,)`, int8 to int32, are places in `values`, which may hold more."""

    codes: np.ndarray
    values: tuple[Any, ...]

    @classmethod
    def of(cls, words: Sequence[Any]) -> "Words":
        """The column of these words.

        >>> Words.of(["sad", "angry", "sad"]).values
        ('sad', 'angry')
        """
        numbers: dict[Any, int] = {}
        codes = [numbers.setdefault(word, len(numbers)) for word in words]
        small = np.int8 if len(numbers) < 128 else np.int16 if len(numbers) < 32_768 else np.int32
        return cls(np.array(codes, small), tuple(numbers))


@dataclass(frozen=True)
class Files:
    """The files of clips, each once. Its path is `folders[folder[i]]`, which ends with a separator, and `names[i]`."""

    folder: np.ndarray
    folders: tuple[str, ...]
    names: Texts

    @classmethod
    def of(cls, paths: Sequence[str]) -> "Files":
        """The files at these paths."""
        numbers: dict[str, int] = {}
        ends = [path.rfind(os.sep) + 1 for path in paths]
        folder = [numbers.setdefault(path[:end], len(numbers)) for path, end in zip(paths, ends, strict=True)]
        names = Texts.of([path[end:] for path, end in zip(paths, ends, strict=True)])
        return cls(np.asarray(folder, np.int32), tuple(numbers), names)

    def __len__(self) -> int:
        return len(self.folder)

    def path(self, i: int) -> str:
        """The path of a file."""
        return f"{self.folders[self.folder[i]]}{self.names[i]}"

    def paths(self) -> list[str]:
        """The paths of all files."""
        return [self.folders[folder] + name for folder, name in zip(self.folder.tolist(), self.names, strict=True)]


class Utterances(Sequence[Utterance]):
    """Clips, which behave as a tuple of `Utterance` and are kept as columns.

    Attributes:
        files: the files that hold the clips.
        file: `(n,)` int32, the file of each clip.
        numbers: `start`, `end` and `weight`, `(n,)` float64 each; NaN: the end of the file.
        words: the other fields of `Utterance`.
        tables: where clips are listed; None for clips that are known by the name of their file.
        lines: `(n,)` int64, the line within the table; -1 where there is none.
        audio_keys: `(n,)` 16 bytes each, by which the audio cache finds the clips (`file_state.audio_keys`), as their
            files were when they were looked for; None: not computed.

    >>> clips = Utterances.of([Utterance(Path(f"/{name}.wav"), "own", name, "sad") for name in ("ann", "bob", "ann")])
    >>> clips[1].speaker_id, clips.take([2, 0])[0].path.name, clips.speaker_ids_of([0, 1])
    ('own/bob', 'ann.wav', ['own/ann', 'own/bob'])
    """

    def __init__(
        self,
        files: Files,
        file: np.ndarray,
        numbers: Mapping[str, np.ndarray],
        words: Mapping[str, Words],
        tables: Words,
        lines: np.ndarray,
        audio_keys: np.ndarray | None = None,
    ) -> None:
        """See the attributes."""
        self.files, self.file, self.numbers, self.words = files, file, numbers, words
        self.tables, self.lines, self.audio_keys = tables, lines, audio_keys

    @classmethod
    def of(cls, utterances: Sequence[Utterance]) -> "Utterances":
        """The same clips; `utterances` itself if it is of this class."""
        if isinstance(utterances, cls):
            return utterances
        paths = [str(utterance.path) for utterance in utterances]
        number = {path: i for i, path in enumerate(dict.fromkeys(paths))}
        numbers = {
            "start": np.array([utterance.start for utterance in utterances], np.float64),
            "end": np.array([np.nan if utterance.end is None else utterance.end for utterance in utterances], float),
            "weight": np.array([utterance.weight for utterance in utterances], np.float64),
        }
        words = {name: Words.of([getattr(utterance, name) for utterance in utterances]) for name in WORDS}
        listed = [_place(utterance.source, path) for utterance, path in zip(utterances, paths, strict=True)]
        return cls(
            files=Files.of(list(number)),
            file=np.array([number[path] for path in paths], np.int32),
            numbers=numbers,
            words=words,
            tables=Words.of([table for table, _ in listed]),
            lines=np.array([line for _, line in listed], np.int64),
        )

    def __len__(self) -> int:
        return len(self.file)

    @overload
    def __getitem__(self, place: int) -> Utterance: ...
    @overload
    def __getitem__(self, place: slice) -> "Utterances": ...
    def __getitem__(self, place: int | slice) -> "Utterance | Utterances":
        if isinstance(place, slice):
            return self.take(range(*place.indices(len(self))))
        i = range(len(self))[place]
        path, start, end = self.segment(i)
        return Utterance(
            path=path,
            start=start,
            end=end,
            weight=float(self.numbers["weight"][i]),
            source=self.source(i),
            **{name: column.values[column.codes[i]] for name, column in self.words.items()},
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} utterances>"

    def take(self, clips: Sequence[int] | np.ndarray) -> "Utterances":
        """Some of the clips, by their indices `(n,)` or a mask `(n,)` bool."""
        chosen = np.asarray(clips)
        chosen = chosen if chosen.dtype == bool else chosen.astype(np.int64)
        return Utterances(
            files=self.files,
            file=self.file[chosen],
            numbers={name: column[chosen] for name, column in self.numbers.items()},
            words={name: Words(column.codes[chosen], column.values) for name, column in self.words.items()},
            tables=Words(self.tables.codes[chosen], self.tables.values),
            lines=self.lines[chosen],
            audio_keys=None if self.audio_keys is None else self.audio_keys[chosen],
        )

    def with_words(self, **columns: Words) -> "Utterances":
        """The clips with other columns of words."""
        words = {**self.words, **columns}
        return Utterances(self.files, self.file, self.numbers, words, self.tables, self.lines, self.audio_keys)

    def distinct(self, *names: str) -> tuple[np.ndarray, np.ndarray]:
        """The combinations of the words in these columns.

        Returns:
            The first clip of each combination, ascending; and `(n,)` the combination of each clip, a place in the
            first.
        """
        codes, size = np.zeros(len(self), np.int64), 1
        for name in names:
            column = self.words[name]
            if size * len(column.values) >= 1 << 62:
                codes = np.unique(codes, return_inverse=True)[1].reshape(-1)
                size = int(codes.max(initial=0)) + 1
            codes, size = codes * len(column.values) + column.codes, size * len(column.values)
        if size > 4 * len(self) + 1000:
            codes = np.unique(codes, return_inverse=True)[1].reshape(-1)
            size = int(codes.max(initial=-1)) + 1
        first = np.full(size, len(self))
        first[codes[::-1]] = np.arange(len(self))[::-1]  # the last that is written is the first clip
        order = first.argsort()[: np.count_nonzero(first < len(self))]
        rank = np.empty(size, np.int64)
        rank[order] = np.arange(len(order))
        return first[order], rank[codes]

    @cached_property
    def speakers(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """`(n,)` the number of each clip's speaker, and the `speaker_id` of each number, in the order of the clips."""
        first, number = self.distinct("corpus", "speaker")
        corpus, speaker = self.words["corpus"], self.words["speaker"]
        named = zip(corpus.codes[first].tolist(), speaker.codes[first].tolist(), strict=True)
        ids = [f"{corpus.values[c]}/{speaker.values[s]}" for c, s in named]
        numbers: dict[str, int] = {}  # `a/b` of `c` and `b/c` of `a` are spelled alike
        same = np.array([numbers.setdefault(speaker_id, len(numbers)) for speaker_id in ids], np.int64)
        return same[number] if ids else number, tuple(numbers)

    def speaker_ids_of(self, clips: Sequence[int] | np.ndarray) -> list[str]:
        """The `speaker_id` of each of these clips."""
        number, ids = self.speakers
        return [ids[i] for i in number[np.asarray(clips, np.int64)].tolist()]

    def present(self, name: str, clips: Sequence[int] | np.ndarray | slice = slice(None)) -> set[Any]:
        """The different words of a column that these clips have."""
        column = self.words[name]
        chosen = clips if isinstance(clips, slice | np.ndarray) else np.asarray(clips, np.int64)
        return {column.values[code] for code in np.unique(column.codes[chosen]).tolist()}

    def ranks(self, name: str, clips: Sequence[int] | np.ndarray) -> np.ndarray:
        """`(n,)` int64: the place of the word of each of these clips among their different words, sorted."""
        column = self.words[name]
        codes, number = np.unique(column.codes[np.asarray(clips, np.int64)], return_inverse=True)
        words = [column.values[code] for code in codes.tolist()]
        rank = np.empty(len(words), np.int64)
        rank[sorted(range(len(words)), key=words.__getitem__)] = np.arange(len(words))
        return rank[number.reshape(-1)]

    def where(self, name: str, value: Any) -> np.ndarray:
        """`(n,)` bool: the clips with this word in a column."""
        column = self.words[name]
        return np.array([word == value for word in column.values], bool)[column.codes]

    def has(self, name: str) -> np.ndarray:
        """`(n,)` bool: the clips whose word in a column is not empty, None or False."""
        column = self.words[name]
        return np.array([bool(word) for word in column.values], bool)[column.codes]

    @property
    def is_whole_file(self) -> np.ndarray:
        """`(n,)` bool: the clips that are whole files."""
        return (self.numbers["start"] == 0) & np.isnan(self.numbers["end"])

    @property
    def is_named_by_file(self) -> np.ndarray:
        """`(n,)` bool: the clips that are known by the name of their file, and not listed in a table."""
        return np.array([table is None for table in self.tables.values], bool)[self.tables.codes]

    def source(self, i: int) -> str:
        """`Utterance.source` of a clip."""
        table, line = self.tables.values[self.tables.codes[i]], int(self.lines[i])
        if table is None:
            return self.files.path(int(self.file[i]))
        return table if line < 0 else f"{table}:{line}"

    def segment(self, i: int) -> Segment:
        """`Utterance.segment` of a clip."""
        end = float(self.numbers["end"][i])
        path = Path(self.files.path(int(self.file[i])))
        return Segment(path, float(self.numbers["start"][i]), None if math.isnan(end) else end)

    @property
    def segments(self) -> "Segments":
        """Where the audio of each clip is."""
        return Segments(self)


class Segments(Sequence[Segment]):
    """`Utterance.segment` of clips, each made when it is asked for."""

    def __init__(self, clips: Utterances) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    @overload
    def __getitem__(self, place: int) -> Segment: ...
    @overload
    def __getitem__(self, place: slice) -> "Segments": ...
    def __getitem__(self, place: int | slice) -> "Segment | Segments":
        if isinstance(place, slice):
            return Segments(self.clips[place])
        return self.clips.segment(range(len(self.clips))[place])


def _place(source: str, path: str) -> tuple[str | None, int]:
    """The table and the line that a source names; no table if it is the file itself."""
    if source == path:
        return None, -1
    match = _LINE.fullmatch(source)
    return (match[1], int(match[2])) if match else (source, -1)


def overlapping(utterances: Sequence[Utterance]) -> list[tuple[int, int]]:
    """Pairs of clips that share a moment of one file, by any of its names.

    >>> talk = [Utterance(Path("/a.wav"), "own", "7", "sad", start=n, end=n + 1.5) for n in (0, 1, 2.5)]
    >>> overlapping(talk)
    [(0, 1)]
    """
    clips = Utterances.of(utterances)
    if clips.is_whole_file.all():
        return []
    starts = clips.numbers["start"].tolist()
    ends = np.where(np.isnan(clips.numbers["end"]), np.inf, clips.numbers["end"]).tolist()
    clips_of: dict[int, list[int]] = {}
    for i, file in enumerate(clips.file.tolist()):
        clips_of.setdefault(file, []).append(i)
    by_file: dict[FileIdentity | Path, list[int]] = {}
    for file, inside in clips_of.items():
        path = Path(clips.files.path(file))
        by_file.setdefault(file_identity(path) or path, []).extend(inside)
    pairs = []
    for inside in by_file.values():
        inside.sort(key=lambda i: (starts[i], i))
        speaking: list[int] = []
        for i in inside:
            speaking = [j for j in speaking if ends[j] > starts[i]]
            pairs += [(min(i, j), max(i, j)) for j in speaking]
            speaking.append(i)
    return sorted(pairs)
