"""`Label` and `Reader`, and how the rows, objects and words of label files are read."""

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from serx.data.labels import normalize_emotion
from serx.data.observed_files import read_bytes
from serx.data.utterance import Sex
from serx.errors import DataError

Part = Literal["train", "valid", "test"]
Votes = tuple[tuple[str, float], ...]
SEXES: dict[str, Sex] = {"male": "male", "m": "male", "female": "female", "f": "female"}
PARTS: dict[str, Part] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "development", "val", "valid", "validation"), "valid"),
    "test": "test",
}
_NO_ONE = ("", "unknown", "nan", "none")


@dataclass(frozen=True)
class Label:
    """What a label file says about one clip.

    Attributes:
        name: the audio file's name without its ending, or `folder/name`.
        emotion: a code of the corpus.
        speaker: None if unknown.
        within: words, one of which a folder of the file begins with; empty for any folder.
        line: where the label is, such as `labels.csv:7`.
    """

    name: str
    emotion: str
    line: str
    speaker: str | None = None
    sex: Sex | None = None
    part: Part | None = None
    statement: str | None = None
    votes: Votes = ()
    dimensions: tuple[tuple[str, float], ...] = ()
    within: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class Reader:
    """How the label files of one corpus are found and read.

    Attributes:
        files: matches the end of a label file's path; what precedes the match is the corpus's folder.
        read: the corpus's folder and its label files -> the labels, or None if they are those of something else.
        audio: matches the names of its clips, where those are unmistakable.
        fallback: whether they only add to the names of files, and may list others that are not there.
    """

    files: re.Pattern[str]
    read: Callable[[Path, Sequence[Path]], Iterable[Label] | None]
    audio: re.Pattern[str] | None = None
    fallback: bool = False


def read_rows(path: Path, *needed: str, delimiter: str = ",") -> Iterator[tuple[str, dict[str, str]]] | None:
    """(`file:line`, cells) of each row of a table; None if a needed column is missing."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), delimiter=delimiter)
    if not set(needed) <= set(reader.fieldnames or ()):
        return None

    def rows() -> Iterator[tuple[str, dict[str, str]]]:
        try:
            for row in reader:
                yield f"{path.name}:{reader.line_num}", {k: (v or "").strip() for k, v in row.items() if k is not None}
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: {error}; get a fresh copy of this file") from None

    return rows()


def read_text(path: Path, encoding: str = "utf-8-sig") -> str:
    """The text of a file in UTF-8 or UTF-16, or else in `encoding`; what is no text becomes question marks."""
    try:
        raw = read_bytes(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", errors="replace")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode(encoding, errors="replace")  # MELD's sentences mix encodings; its labels do not


def read_json(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}); get a fresh copy of this file") from None


def wrong(where: str, what: str) -> DataError:
    return DataError(f"{where}: {what}; get a fresh copy of this file, or list the clips in a table")


def read_number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise wrong(where, f"{text!r} is not a number") from None


def known_speaker(text: str) -> str | None:
    return None if text.casefold() in _NO_ONE else text


def counted(words: Iterable[str]) -> Votes:
    return tuple(sorted(Counter(map(normalize_emotion, words)).items()))


def ordered(shares: Mapping[str, float]) -> Votes:
    return tuple(sorted(shares.items()))


def read_json_lines(path: Path, *needed: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(`file:line`, cells) of each object, a line each."""
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise wrong(f"{path}:{number}", f"not JSON ({error})") from None
        if not isinstance(row, dict) or not set(needed) <= set(row):
            raise wrong(f"{path}:{number}", f"{' and '.join(needed)} are not all there")
        yield (
            f"{path.name}:{number}",
            {str(key): "" if value is None else str(value).strip() for key, value in row.items()},
        )
