"""Readers of corpora with label files of their own, and of the votes that CREMA-D keeps beside its audio.

A reader finds the audio of each label by its file name below the corpus's folder. What it cannot read raises a
`DataError` that names the file, what is wrong and what to do.
"""

import ast
import csv
import io
import itertools
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from serx.data.corpora.by_label_file import NO_AGREEMENT
from serx.data.labels import normalize_emotion
from serx.data.utterance import Sex
from serx.errors import DataError

Part = Literal["train", "valid", "test"]
Votes = tuple[tuple[str, float], ...]
_SEXES: dict[str, Sex] = {"male": "male", "m": "male", "female": "female", "f": "female"}
_PARTS: dict[str, Part] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "development", "val", "valid", "validation"), "valid"),
    "test": "test",
}
_NO_ONE = ("", "unknown", "nan", "none")


@dataclass(frozen=True)
class Label:
    """What a label file says about one clip.

    Attributes:
        name: the audio file's name without its ending.
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
    """

    files: re.Pattern[str]
    read: Callable[[Path, Sequence[Path]], Iterable[Label] | None]
    audio: re.Pattern[str] | None = None


def _rows(path: Path, *needed: str, delimiter: str = ",") -> Iterator[tuple[str, dict[str, str]]] | None:
    """(`file:line`, cells) of each row of a table; None if a needed column is missing."""
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), delimiter=delimiter)
    if not set(needed) <= set(reader.fieldnames or ()):
        return None

    def rows() -> Iterator[tuple[str, dict[str, str]]]:
        try:
            for row in reader:
                yield f"{path.name}:{reader.line_num}", {k: (v or "").strip() for k, v in row.items() if k is not None}
        except csv.Error as error:
            raise DataError(f"{path}:{reader.line_num}: {error}; get a fresh copy of this file") from None

    return rows()


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return raw.decode("utf-16", errors="replace")
    return raw.decode("utf-8-sig", errors="replace")  # MELD's sentences mix encodings; its labels do not


def _json(path: Path) -> Any:
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON ({error}); get a fresh copy of this file") from None


def _wrong(where: str, what: str) -> DataError:
    return DataError(f"{where}: {what}; get a fresh copy of this file, or list the clips in a table")


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _wrong(where, f"{text!r} is not a number") from None


def _speaker(text: str) -> str | None:
    return None if text.casefold() in _NO_ONE else text


def _counted(words: Iterable[str]) -> Votes:
    return tuple(sorted(Counter(map(normalize_emotion, words)).items()))


def _ordered(shares: Mapping[str, float]) -> Votes:
    return tuple(sorted(shares.items()))


# IEMOCAP

_TURN = re.compile(r"\[[\d.]+ - [\d.]+\]\t(\w+)\t(\w+)\t\[([\d.]+), ([\d.]+), ([\d.]+)\]")
_IEMOCAP_WORDS = {"neutral state": "neutral", "frustration": "frustrated"}


def _iemocap(base: Path, paths: Sequence[Path]) -> Iterator[Label]:
    for path in paths:
        turn: Label | None = None
        votes: dict[str, float] = defaultdict(float)
        for number, line in enumerate(_text(path).splitlines(), 1):
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
    name = match[1]
    parts = re.fullmatch(r"Ses(\d{2})[FM]_(.+)_([FM])[\dX]+", name)
    if parts is None:
        raise _wrong(where, f"{name} is no turn of IEMOCAP")
    ratings = zip(("valence", "arousal", "dominance"), map(float, match.group(3, 4, 5)), strict=True)
    return Label(
        name,
        match[2].lower(),
        where,
        speaker=parts[1] + parts[3],
        statement=parts[2],
        dimensions=tuple(sorted(ratings)),
    )


def _voted(label: Label, votes: Mapping[str, float]) -> Label:
    return Label(**{**label.__dict__, "votes": _ordered(votes)})


# MSP-Podcast, BIIC-Podcast

_PODCAST_COLUMNS = ("EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set")
_PODCAST_WORDS = ("angry", "sad", "happy", "surprised", "fearful", "disgust", "contempt", "neutral")


_PODCAST_CLIP = re.compile(r"MSP-PODCAST_\d+_\d+(?:_\d+)?")
_BIIC_CLIP = re.compile(r"BIIC[-_]?\w[\w-]*", re.IGNORECASE)


def _msppodcast(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    return _podcast(paths, _PODCAST_CLIP)


def _biicpodcast(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    by_folder = any("biic" in folder.casefold() for folder in base.parts)
    return _podcast(paths, re.compile(r"(?!MSP-).+") if by_folder else _BIIC_CLIP)


def _podcast(paths: Sequence[Path], clip: re.Pattern[str]) -> Iterator[Label] | None:
    """The labels of a podcast corpus: several have label files of the same name and columns, so the clips decide."""
    path = min(paths, key=lambda p: (p.suffix.lower() != ".csv", len(p.parts), p.name))
    listed = _keyed_rows(path, "FileName", _PODCAST_COLUMNS)
    first = None if listed is None else next(listed, None)
    if listed is None or first is None or not clip.fullmatch(Path(first[1]).stem):
        return None

    def labels() -> Iterator[Label]:
        votes = _podcast_votes(path.parent)
        for where, file, row in itertools.chain([first], listed):
            if not row["EmoClass"]:
                continue  # a test set whose labels are kept back
            scales = (("arousal", "EmoAct"), ("dominance", "EmoDom"), ("valence", "EmoVal"))
            part = row["Split_Set"].casefold()
            yield Label(
                Path(file).stem,
                row["EmoClass"].lower(),
                where,
                speaker=_speaker(row["SpkrID"]),
                sex=_SEXES.get(row["Gender"].casefold()),
                part="test" if part.startswith("test") else _PARTS.get(part),
                votes=votes.get(file, ()),
                dimensions=tuple((name, _number(row[column], where)) for name, column in scales if row[column]),
            )

    return labels()


def _keyed_rows(path: Path, key: str, columns: Sequence[str]) -> Iterator[tuple[str, str, dict[str, str]]] | None:
    """(`file:line`, file, cells) of a table, or of a JSON mapping of files to cells; None if it is something else."""
    if path.suffix.lower() != ".json":
        rows = _rows(path, key, *columns)
        return None if rows is None else ((where, row[key], row) for where, row in rows)
    content = _json(path)
    if not isinstance(content, dict) or not all(
        isinstance(cells, dict) and set(columns) <= set(cells) for cells in content.values()
    ):
        return None
    return ((path.name, file, {name: str(cells[name]) for name in columns}) for file, cells in content.items())


def _podcast_votes(folder: Path) -> dict[str, Votes]:
    """file -> how many raters chose each emotion first, where the detailed labels are beside the consensus."""
    chosen: dict[str, list[str]] = defaultdict(list)
    table, tree = folder / "labels_detailed.csv", folder / "labels_detailed.json"
    if table.is_file():
        reader = csv.reader(io.StringIO(_text(table), newline=""))
        header = next(reader, [])
        column = header.index("EmoClass_Major") if "EmoClass_Major" in header else None
        for cells in reader:
            if len(cells) > (column or 1):
                # Either a column of its own, or `worker; first emotion; further emotions; A:1; V:1; D:1`.
                fields = cells[1].split(";")
                chosen[cells[0]].append(cells[column] if column is not None else fields[1] if len(fields) > 1 else "")
    elif tree.is_file():
        for file, raters in _json(tree).items():
            for rating in raters.values() if isinstance(raters, dict) else ():
                major = rating.get("EmoClass_Major") if isinstance(rating, dict) else None
                chosen[file].append(major[0] if isinstance(major, list) and major else str(major or ""))
    return {file: _counted(map(_podcast_word, words)) for file, words in chosen.items()}


def _podcast_word(text: str) -> str:
    word = normalize_emotion(text)
    return word if word in _PODCAST_WORDS else "other"


# MSP-IMPROV

_IMPROV = re.compile(
    r"UTD-IMPROV-([A-Z0-9-]+)\.avi;\s*([A-Z]);\s*A:([\d.]+|NaN)\s*;\s*V:([\d.]+|NaN)\s*;\s*D:([\d.]+|NaN)\s*;"
)
_IMPROV_NAME = re.compile(r"S(\d{2}[AHNS])-[FM](\d{2})-[A-Z]-[A-Z]{2}\d+")
_IMPROV_WORDS = ("angry", "happy", "sad", "neutral")


def _mspimprov(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    path = paths[0]
    text = _text(path)
    if "UTD-IMPROV-" not in text:
        return None

    def labels() -> Iterator[Label]:
        clip: Label | None = None
        words: list[str] = []
        for number, line in enumerate(text.splitlines(), 1):
            if line.startswith("UTD-IMPROV-"):
                if clip:
                    yield Label(**{**clip.__dict__, "votes": _counted(words)})
                clip, words = _improv_clip(f"{path.name}:{number}", line), []
            elif clip and line.strip():
                word = normalize_emotion(([*line.split(";"), ""])[1])
                words.append(word if word in _IMPROV_WORDS else "other")
        if clip:
            yield Label(**{**clip.__dict__, "votes": _counted(words)})

    return labels()


def _improv_clip(where: str, line: str) -> Label:
    match = _IMPROV.match(line)
    name = _IMPROV_NAME.fullmatch(match[1]) if match else None
    if match is None or name is None:
        raise _wrong(where, f"{line.split(';', maxsplit=1)[0]!r} is no line of MSP-IMPROV's evaluation")
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


# CMU-MOSEI

_MOSEI = {
    "anger": "angry",
    "disgust": "disgust",
    "fear": "fearful",
    "happiness": "happy",
    "sadness": "sad",
    "surprise": "surprised",
}


def _mosei(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    columns = ("Input.VIDEO_ID", "Input.CLIP", *(f"Answer.{word}" for word in _MOSEI))
    tables = [rows for path in paths if (rows := _rows(path, *columns)) is not None]
    if not tables:
        return None

    def labels() -> Iterator[Label]:
        first: dict[tuple[str, str], str] = {}
        chosen: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for where, row in itertools.chain(*tables):
            clip = row["Input.VIDEO_ID"], row["Input.CLIP"]
            first.setdefault(clip, where)
            felt = {emotion: _number(row[f"Answer.{word}"] or "0", where) for word, emotion in _MOSEI.items()}
            strongest = max(felt.values())
            words = [emotion for emotion, rating in felt.items() if rating == strongest > 0] or ["neutral"]
            for word in words:
                chosen[clip][word] += 1 / len(words)
        for (video, number), where in first.items():
            votes = chosen[video, number]
            label = _most_chosen(votes)
            yield Label(f"{video}_{number}", label, where, speaker=_speaker(video), votes=_ordered(votes))

    return labels()


def _most_chosen(votes: Mapping[str, float]) -> str:
    """The emotion with most votes, or that there is none."""
    top = [word for word, count in votes.items() if math.isclose(count, max(votes.values()))]
    return top[0] if len(top) == 1 else NO_AGREEMENT


# MELD, EmoryNLP

_MELD_FOLDERS = {"train": ("train",), "dev": ("dev",), "test": ("test", "output_repeated")}


def _meld(base: Path, paths: Sequence[Path]) -> Iterator[Label]:
    return _series(paths, _MELD_FOLDERS, "dia{Dialogue_ID}_utt{Utterance_ID}", ("Dialogue_ID", "Utterance_ID"))


def _emorynlp(base: Path, paths: Sequence[Path]) -> Iterator[Label]:
    folders = {part: (f"emorynlp_{part}", part) for part in ("train", "dev", "test")}
    columns = ("Season", "Episode", "Scene_ID", "Utterance_ID")
    return _series(paths, folders, "sea{Season}_ep{Episode}_sc{Scene_ID}_utt{Utterance_ID}", columns)


def _series(
    paths: Sequence[Path], folders: Mapping[str, tuple[str, ...]], name: str, columns: Sequence[str]
) -> Iterator[Label]:
    for path in paths:
        split = next(part for part in folders if part in path.name)
        rows = _rows(path, "Speaker", "Emotion", *columns)
        if rows is None:
            raise _wrong(str(path), f"columns Speaker, Emotion, {', '.join(columns)} are not all there")
        for where, row in rows:
            yield Label(
                name.format(**row),
                row["Emotion"].lower(),
                where,
                speaker=_speaker(_listed(row["Speaker"])),
                part=_PARTS[split],
                within=folders[split],
            )


def _listed(text: str) -> str:
    """`['Monica Geller']` as `Monica Geller`; other text as it is."""
    if not text.startswith("["):
        return text
    try:
        return " & ".join(map(str, ast.literal_eval(text)))
    except (ValueError, SyntaxError):
        return text


# EMNS, Emozionalmente, RESD, Dusha, M3ED, THAI SER


def _emns(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    rows = _rows(paths[0], "audio_recording", "emotion", "level", "user_id", delimiter="|")
    if rows is None:
        return None
    return (
        Label(
            Path(row["audio_recording"]).stem,
            row["emotion"].lower(),
            where,
            speaker=_speaker(row["user_id"]),
            sex=_SEXES.get(row.get("gender", "").casefold()),
        )
        for where, row in rows
    )


def _emozionalmente(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    path = paths[0]
    rows = _rows(path, "file_name", "actor", "emotion_expressed")
    if rows is None:
        return None
    users = path.with_name("users.csv")
    people = _rows(users, "username", "gender") if users.is_file() else None
    sexes = {row["username"]: _SEXES.get(row["gender"].casefold()) for _, row in people or ()}
    chosen: dict[str, list[str]] = defaultdict(list)
    evaluations = path.with_name("evaluations.csv")
    for _, row in (_rows(evaluations, "file_name", "emotion_recognized") or ()) if evaluations.is_file() else ():
        chosen[row["file_name"]].append(row["emotion_recognized"])
    return (
        Label(
            Path(row["file_name"]).stem,
            row["emotion_expressed"].lower(),
            where,
            speaker=_speaker(row["actor"]),
            sex=sexes.get(row["actor"]),
            votes=_counted(chosen.get(row["file_name"], ())),
        )
        for where, row in rows
    )


def _resd(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    tables = [(path, _rows(path, "path", "emotion")) for path in paths]
    if any(rows is None for _, rows in tables):
        return None
    return (
        Label(Path(row["path"]).stem, row["emotion"].lower(), where, part=_PARTS[path.stem], within=(path.stem,))
        for path, rows in tables
        for where, row in rows or ()
    )


_AGGREGATED = "aggregated_dataset"


def _dusha(base: Path, paths: Sequence[Path]) -> Iterator[Label]:
    raw = [path for path in paths if path.parent.name != _AGGREGATED]
    # The raw votes are published as TSV and as JSON lines with the same rows.
    tables = {path.with_suffix("") for path in raw if path.suffix.lower() == ".tsv"}
    votes: dict[str, list[str]] = defaultdict(list)
    first: dict[str, tuple[str, str, Path]] = {}
    for path in raw:
        if path.suffix.lower() == ".tsv" or path.with_suffix("") not in tables:
            for where, row in _dusha_rows(path, "annotator_emo"):
                first.setdefault(row["audio_path"], (where, row["source_id"], path))
                if row["annotator_emo"]:
                    votes[row["audio_path"]].append(row["annotator_emo"].lower())
    aggregated = {path.with_suffix(""): path for path in reversed(paths) if path not in raw}
    if not aggregated:
        for audio, (where, speaker, path) in first.items():
            folder = path.parent.name
            yield _dusha_label(audio, _most_chosen(Counter(votes[audio])), where, speaker, folder, votes[audio])
    by_name = {(path.parent.name, Path(audio).stem): votes[audio] for audio, (_, _, path) in first.items()}
    for path in aggregated.values():
        for where, row in _dusha_rows(path, "emotion"):
            chosen = by_name.get((path.stem, Path(row["audio_path"]).stem), [])
            yield _dusha_label(row["audio_path"], row["emotion"].lower(), where, row["source_id"], path.stem, chosen)


def _dusha_label(audio: str, emotion: str, where: str, speaker: str, part: str, votes: Sequence[str]) -> Label:
    return Label(
        Path(audio).stem,
        emotion,
        where,
        speaker=_speaker(speaker),
        part="train" if "train" in part else "test",
        votes=_counted(votes),
        within=(part,),
    )


def _dusha_rows(path: Path, emotion: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(`file:line`, cells) of each row; `audio_path` may be called `wav_path`."""
    is_table = path.suffix.lower() == ".tsv"
    found = _rows(path, emotion, "source_id", delimiter="\t") if is_table else _json_lines(path, emotion, "source_id")
    wrong = _wrong(str(path), f"columns audio_path, {emotion} and source_id are not all there")
    if found is None:
        raise wrong
    for where, row in found:
        if not (audio := row.get("audio_path") or row.get("wav_path")):
            raise wrong
        yield where, {**row, "audio_path": audio.replace("\\", "/")}


def _json_lines(path: Path, *needed: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(`file:line`, cells) of each object, a line each."""
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise _wrong(f"{path}:{number}", f"not JSON ({error})") from None
        if not isinstance(row, dict) or not set(needed) <= set(row):
            raise _wrong(f"{path}:{number}", f"{' and '.join(needed)} are not all there")
        yield (
            f"{path.name}:{number}",
            {str(key): "" if value is None else str(value).strip() for key, value in row.items()},
        )


def _mer2023(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    tables = [(path, _rows(path, "name", "discrete")) for path in paths]
    if any(rows is None for _, rows in tables):
        return None

    def labels() -> Iterator[Label]:
        for path, rows in tables:
            for where, row in rows or ():
                valence = row.get("valence", "")
                yield Label(
                    row["name"],
                    row["discrete"].lower(),
                    where,
                    part="train" if path.name.lower().startswith("train") else "test",
                    dimensions=(("valence", _number(valence, where)),) if valence else (),
                )

    return labels()


def _m3ed(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    content = _json(paths[0])
    if not isinstance(content, dict):
        return None
    dialogs = [(series, d) for series, all_ in content.items() if isinstance(all_, dict) for d in all_.values()]
    if not dialogs or not all(isinstance(d, dict) and {"SpeakerInfo", "Dialog"} <= set(d) for _, d in dialogs):
        return None
    parts: dict[str, Part] = {}
    for word, part in (("train", "train"), ("val", "valid"), ("test", "test")):
        listed = paths[0].parent / "splitInfo" / f"movie_list_{word}.txt"
        if listed.is_file():
            parts |= dict.fromkeys(_text(listed).split("\n"), part)  # type: ignore[arg-type]
    return _m3ed_labels(paths[0], dialogs, parts)


def _m3ed_labels(path: Path, dialogs: Sequence[tuple[str, Any]], parts: Mapping[str, Part]) -> Iterator[Label]:
    for series, dialog in dialogs:
        for utterance, said in dialog["Dialog"].items():
            try:
                letter, emotion = said["Speaker"], said["EmoAnnotation"]["final_main_emo"]
                person = dialog["SpeakerInfo"][letter]
                name = person["Name"]
            except (KeyError, TypeError):
                raise _wrong(str(path), f"utterance {utterance} lacks its speaker or emotion") from None
            yield Label(
                f"{letter}_{utterance}",
                str(emotion).lower(),
                path.name,
                speaker=f"{series} {name}",
                sex=_SEXES.get(str(person.get("Gender", "")).casefold()),
                part=parts.get(series),
            )


def _thaiser(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    content = _json(paths[0])
    if not isinstance(content, dict):
        return None
    people = paths[0].with_name("actor_demography.json")
    listed = _json(people).get("data", ()) if people.is_file() else ()
    sexes = {str(actor.get("Actor's ID")): _SEXES.get(str(actor.get("Sex")).casefold()) for actor in listed}

    def labels() -> Iterator[Label]:
        for file, ratings in content.items():
            words = file.split("_")
            try:
                emotion = ratings[0]["majority_emo"]
                speaker = words[2].removeprefix("actor")
            except (KeyError, IndexError, TypeError):
                raise _wrong(str(paths[0]), f"{file} has no majority_emo or no actor") from None
            yield Label(
                Path(file).stem, str(emotion).lower(), paths[0].name, speaker=speaker, sex=sexes.get(speaker),
                statement="_".join(words[3:]).partition(".")[0] or None,
            )  # fmt: skip

    return labels()


def _end(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?:^|/)(?:{text})$", re.IGNORECASE | re.ASCII)


READERS = {
    "iemocap": Reader(
        _end(r"Session[1-5]/dialog/EmoEvaluation/Ses0[1-5][FM]_[^/]+\.txt"),
        _iemocap,
        re.compile(r"Ses0[1-5][FM]_(?:impro|script)\w+_[FM][\dX]+"),
    ),
    "msppodcast": Reader(
        _end(r"(?:Labels?/)?labels_con[sc]ensus\.(?:csv|json)"),
        _msppodcast,
        _PODCAST_CLIP,
    ),
    "biicpodcast": Reader(_end(r"(?:Labels?/)?labels_con[sc]ensus\.(?:csv|json)"), _biicpodcast, _BIIC_CLIP),
    "mosei": Reader(_end(r"Labels/[^/]+\.csv"), _mosei),
    "mspimprov": Reader(_end(r"Evalu(?:a)?tion\.txt"), _mspimprov, re.compile(r"MSP-IMPROV-S[\w-]+")),
    "meld": Reader(
        _end(r"(?:train/|dev/|test/)?(?:train|dev|test)_sent_emo\.csv"), _meld, re.compile(r"dia\d+_utt\d+")
    ),
    "emorynlp": Reader(
        _end(r"emorynlp_(?:train|dev|test)_final\.csv"), _emorynlp, re.compile(r"sea\d+_ep\d+_sc\d+_utt\d+")
    ),
    "emns": Reader(_end(r"metadata\.csv"), _emns),
    "emozionalmente": Reader(_end(r"(?:metadata/)?samples\.csv"), _emozionalmente),
    "resd": Reader(_end(r"(?:train|test)\.csv"), _resd),
    "dusha": Reader(
        _end(
            r"(?:(?:crowd|podcast)_(?:train|test)/raw_|processed_dataset_\d+/aggregated_dataset/)"
            r"(?:crowd|podcast)_(?:train|test)\.(?:tsv|jsonl)"
        ),
        _dusha,
    ),
    "mer2023": Reader(_end(r"(?:mer2023train/train|test-labels/test[123])-label\.csv"), _mer2023),
    "m3ed": Reader(_end(r"annotation\.json"), _m3ed),
    "thaiser": Reader(_end(r"emotion_label\.json"), _thaiser, re.compile(r"[sz]\d{3}_[a-z]+_actor\d{3}_\w+")),
}

# CREMA-D

_CREMAD = {"A": "angry", "D": "disgust", "F": "fearful", "H": "happy", "N": "neutral", "S": "sad"}
_SOUND_ALONE = 1  # the first digit of a row's number in tabulatedVotes.csv: 1 voice, 2 face, 3 both


VOTE_TABLES = ("tabulatedVotes.csv", "summaryTable.csv")


def cremad_votes(files: Iterable[Path]) -> dict[str, Votes]:
    """File name without ending -> votes on the sound alone, from the first of CREMA-D's tables among `files`.

    `tabulatedVotes.csv` counts the raters. `summaryTable.csv` names what most of them chose, several emotions if they
    are equal; each then has the same share.
    """
    tables = {path.name.lower(): path for path in sorted(files, reverse=True)}
    if path := tables.get("tabulatedvotes.csv"):
        rows = _rows(path, "fileName", *_CREMAD)
        if rows is not None:
            return {
                row["fileName"]: tuple((w, n) for c, w in _CREMAD.items() if (n := _number(row[c] or "0", where)))
                for where, row in rows
                if (row.get("") or next(iter(row.values())))[:1] == str(_SOUND_ALONE)
            }
    if path := tables.get("summarytable.csv"):
        rows = _rows(path, "FileName", "VoiceVote") or _rows(path, "fileName", "VoiceVote")
        found: dict[str, Votes] = {}
        for _, row in rows or ():
            words = [_CREMAD[letter] for letter in row["VoiceVote"].split(":") if letter in _CREMAD]
            if words:
                found[row.get("FileName") or row["fileName"]] = tuple((word, 1 / len(words)) for word in sorted(words))
        return found
    return {}
