"""MSP-Podcast, BIIC-Podcast and MSP-IMPROV: consensus labels, and what each rater chose."""

import csv
import io
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from serx.data.corpora.readers.label_file import (
    PARTS,
    SEXES,
    Label,
    Votes,
    counted,
    known_speaker,
    read_json,
    read_number,
    read_rows,
    read_text,
    wrong,
)
from serx.data.labels import normalize_emotion
from serx.data.observed_files import is_file

# MSP-Podcast, BIIC-Podcast

_PODCAST_ENDINGS = (".csv", ".json", ".txt")
_PODCAST_COLUMNS = ("EmoClass", "EmoAct", "EmoVal", "EmoDom")
_RATED = re.compile(
    r"((?:MSP-PODCAST|BIIC)[\w-]+\.wav);\s*([A-Z]);\s*A:([\d.]+|NaN)\s*;\s*V:([\d.]+|NaN)\s*;\s*D:([\d.]+|NaN)"
)
_PODCAST_WORDS = ("angry", "sad", "happy", "surprised", "fearful", "disgust", "contempt", "neutral")


PODCAST_CLIP = re.compile(r"MSP-PODCAST_\d+_\d+(?:_\d+)?")
BIIC_CLIP = re.compile(r"BIIC[-_]?\w[\w-]*", re.IGNORECASE)


def msppodcast(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    return _podcast(paths, PODCAST_CLIP)


def biicpodcast(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    by_folder = any("biic" in folder.casefold() for folder in base.parts)
    return _podcast(paths, re.compile(r"(?!MSP-).+") if by_folder else BIIC_CLIP)


def _podcast(paths: Sequence[Path], clip: re.Pattern[str]) -> Iterator[Label] | None:
    """The labels of a podcast corpus: several have label files of the same name and columns, so the clips decide."""
    path = min(paths, key=lambda p: (_PODCAST_ENDINGS.index(p.suffix.lower()), len(p.parts), p.name))
    in_text, ratings = _rated(path) if path.suffix.lower() == ".txt" else (None, {})
    listed = _keyed_rows(path, "FileName", _PODCAST_COLUMNS) if in_text is None else iter(in_text)
    first = None if listed is None else next(listed, None)
    if listed is None or first is None or not clip.fullmatch(Path(first[1]).stem):
        return None

    def labels() -> Iterator[Label]:
        votes = _podcast_votes(path.parent) or ratings
        about = _podcast_lists(path.parent)
        for where, file, cells in itertools.chain([first], listed):
            if not cells["EmoClass"]:
                continue  # a test set whose labels are kept back
            scales = (("arousal", "EmoAct"), ("dominance", "EmoDom"), ("valence", "EmoVal"))
            row = {**about.get(file, {}), **{column: cell for column, cell in cells.items() if cell}}
            part = row.get("Split_Set", "").casefold()
            yield Label(
                Path(file).stem,
                row["EmoClass"].lower(),
                where,
                speaker=known_speaker(row.get("SpkrID", "")),
                sex=SEXES.get(row.get("Gender", "").casefold()),
                part="test" if part.startswith("test") else PARTS.get(part),
                votes=votes.get(file, ()),
                dimensions=tuple((name, read_number(row[column], where)) for name, column in scales if column in row),
            )

    return labels()


def _rated(path: Path) -> tuple[list[tuple[str, str, dict[str, str]]], dict[str, Votes]]:
    """(`file:line`, file, cells) of each clip of `labels.txt`, and the votes of its raters, who follow it."""
    rows: list[tuple[str, str, dict[str, str]]] = []
    words: dict[str, list[str]] = defaultdict(list)
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if match := _RATED.match(line):
            values = ("" if value == "NaN" else value for value in match.group(2, 3, 4, 5))
            rows.append((f"{path.name}:{number}", match[1], dict(zip(_PODCAST_COLUMNS, values, strict=True))))
        elif line.strip() and rows:
            words[rows[-1][1]].append(_podcast_word([*line.split(";"), ""][1]))
    return rows, {file: counted(chosen) for file, chosen in words.items()}


def _keyed_rows(path: Path, key: str, columns: Sequence[str]) -> Iterator[tuple[str, str, dict[str, str]]] | None:
    """(`file:line`, file, cells) of a table, or of a JSON mapping of files to cells; None if it is something else."""
    if path.suffix.lower() != ".json":
        rows = read_rows(path, key, *columns)
        return None if rows is None else ((where, row[key], row) for where, row in rows)
    content = read_json(path)
    if not isinstance(content, dict) or not all(
        isinstance(cells, dict) and set(columns) <= set(cells) for cells in content.values()
    ):
        return None
    return (
        (path.name, file, {str(name): "" if cell is None else str(cell) for name, cell in cells.items()})
        for file, cells in content.items()
    )


def _podcast_lists(folder: Path) -> dict[str, dict[str, str]]:
    """file -> part, speaker and sex, of releases that list them beside the labels."""
    about: dict[str, dict[str, str]] = defaultdict(dict)
    for name in ("Partitions.txt", "Speaker_ids.txt"):
        path = next((p for p in (folder / name, folder.parent / name) if is_file(p)), None)
        for line in read_text(path).splitlines() if path else ():
            words = [word.strip() for word in line.split(";") if word.strip()]
            file = next((word for word in words if word.lower().endswith(".wav")), None)
            for word in words if file else ():
                if word != file:
                    what = "Split_Set" if name.startswith("P") else "Gender" if word.casefold() in SEXES else "SpkrID"
                    about[str(file)].setdefault(what, word)
    return about


def _podcast_votes(folder: Path) -> dict[str, Votes]:
    """file -> how many raters chose each emotion first, where the detailed labels are beside the consensus."""
    chosen: dict[str, list[str]] = defaultdict(list)
    table, tree = folder / "labels_detailed.csv", folder / "labels_detailed.json"
    if is_file(table):
        reader = csv.reader(io.StringIO(read_text(table), newline=""))
        header = next(reader, [])
        column = header.index("EmoClass_Major") if "EmoClass_Major" in header else None
        for cells in reader:
            if len(cells) > (column or 1):
                # Either a column of its own, or `worker; first emotion; further emotions; A:1; V:1; D:1`.
                fields = cells[1].split(";")
                chosen[cells[0]].append(cells[column] if column is not None else fields[1] if len(fields) > 1 else "")
    elif is_file(tree):
        for file, raters in read_json(tree).items():
            for rating in raters.values() if isinstance(raters, dict) else ():
                major = rating.get("EmoClass_Major") if isinstance(rating, dict) else None
                chosen[file].append(major[0] if isinstance(major, list) and major else str(major or ""))
    return {file: counted(map(_podcast_word, words)) for file, words in chosen.items()}


def _podcast_word(text: str) -> str:
    word = normalize_emotion(text)
    return word if word in _PODCAST_WORDS else "other"


# MSP-IMPROV

_IMPROV = re.compile(
    r"UTD-IMPROV-([A-Z0-9-]+)\.avi;\s*([A-Z]);\s*A:([\d.]+|NaN)\s*;\s*V:([\d.]+|NaN)\s*;\s*D:([\d.]+|NaN)\s*;"
)
_IMPROV_NAME = re.compile(r"S(\d{2}[AHNS])-[FM](\d{2})-[A-Z]-[A-Z]{2}\d+")
_IMPROV_WORDS = ("angry", "happy", "sad", "neutral")


def mspimprov(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    path = paths[0]
    text = read_text(path)
    if "UTD-IMPROV-" not in text:
        return None

    def labels() -> Iterator[Label]:
        clip: Label | None = None
        words: list[str] = []
        for number, line in enumerate(text.splitlines(), 1):
            if line.startswith("UTD-IMPROV-"):
                if clip:
                    yield Label(**{**clip.__dict__, "votes": counted(words)})
                clip, words = _improv_clip(f"{path.name}:{number}", line), []
            elif clip and line.strip():
                word = normalize_emotion(([*line.split(";"), ""])[1])
                words.append(word if word in _IMPROV_WORDS else "other")
        if clip:
            yield Label(**{**clip.__dict__, "votes": counted(words)})

    return labels()


def _improv_clip(where: str, line: str) -> Label:
    match = _IMPROV.match(line)
    name = _IMPROV_NAME.fullmatch(match[1]) if match else None
    if match is None or name is None:
        raise wrong(where, f"{line.split(';', maxsplit=1)[0]!r} is no line of MSP-IMPROV's evaluation")
    ratings = [
        (name, float(value)) for name, value in (("dominance", match[5]), ("valence", match[4])) if value != "NaN"
    ]
    return Label(
        f"MSP-IMPROV-{match[1]}",
        match[2].lower(),
        where,
        speaker=f"session{int(name[2])}",
        statement=name[1],
        dimensions=tuple(ratings),
    )
