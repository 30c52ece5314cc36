"""IEMOCAP: the evaluations of each dialog, or the table of Kaggle's copies."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from serx.data.corpora.readers.label_file import Label, ordered, read_rows, read_text, wrong
from serx.data.labels import normalize_emotion

_TURN = re.compile(r"\[[\d.]+ - [\d.]+\]\t(\w+)\t(\w+)\t\[([\d.]+), ([\d.]+), ([\d.]+)\]")
_TURN_NAME = re.compile(r"Ses(\d{2})[FM]_(.+)_([FM])[\dX]+")
_IEMOCAP_WORDS = {"neutral state": "neutral", "frustration": "frustrated"}


def iemocap(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    """The evaluations, which have votes and ratings; without them, the table."""
    evaluations = [path for path in paths if path.suffix.lower() == ".txt"]
    return _evaluations(evaluations) if evaluations else _table(paths[0])


def _table(path: Path) -> Iterator[Label] | None:
    rows = read_rows(path, "session", "gender", "emotion", "path")
    if rows is None:
        return None
    return (_turn(where, Path(row["path"].replace("\\", "/")).stem, row["emotion"]) for where, row in rows)


def _evaluations(paths: Sequence[Path]) -> Iterator[Label]:
    for path in paths:
        turn: Label | None = None
        votes: dict[str, float] = defaultdict(float)
        for number, line in enumerate(read_text(path).splitlines(), 1):
            match = _TURN.match(line)
            if match:
                if turn:
                    yield _voted(turn, votes)
                turn, votes = _iemocap_turn(f"{path.name}:{number}", match), defaultdict(float)
            elif line.startswith("C-E") and turn:  # C-F and C-M: what the actors say of themselves
                words = [word.strip().casefold() for word in line.partition(":")[2].split(";")[:-1] if word.strip()]
                for word in words:
                    votes[normalize_emotion(_IEMOCAP_WORDS.get(word, word))] += 1 / len(words)
        if turn:
            yield _voted(turn, votes)


def _iemocap_turn(where: str, match: re.Match[str]) -> Label:
    ratings = zip(("valence", "arousal", "dominance"), map(float, match.group(3, 4, 5)), strict=True)
    return _turn(where, match[1], match[2], tuple(sorted(ratings)))


def speaker_of_turn(name: str) -> str | None:
    """The speaker of a turn, by its session and its letter; None of another name.

    >>> speaker_of_turn("Ses05F_impro01_M001"), speaker_of_turn("Ses05F_impro01")
    ('05M', None)
    """
    parts = _TURN_NAME.fullmatch(name)
    return parts[1] + parts[3] if parts else None


def _turn(where: str, name: str, emotion: str, ratings: tuple[tuple[str, float], ...] = ()) -> Label:
    parts = _TURN_NAME.fullmatch(name)
    if parts is None:
        raise wrong(where, f"{name} is no turn of IEMOCAP")
    return Label(
        name,
        emotion.lower(),
        where,
        speaker=parts[1] + parts[3],
        statement=parts[2],
        dimensions=ratings,
    )


def _voted(label: Label, votes: Mapping[str, float]) -> Label:
    return Label(**{**label.__dict__, "votes": ordered(votes)})
