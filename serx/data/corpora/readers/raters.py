"""CMU-MOSEI, Dusha and CREMA-D: one row for each rater, or counts of them."""

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from serx.data.corpora.by_label_file import NO_AGREEMENT
from serx.data.corpora.readers.label_file import (
    Label,
    Votes,
    counted,
    known_speaker,
    ordered,
    read_json_lines,
    read_number,
    read_rows,
    wrong,
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


def mosei(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    columns = ("Input.VIDEO_ID", "Input.CLIP", *(f"Answer.{word}" for word in _MOSEI))
    tables = [rows for path in paths if (rows := read_rows(path, *columns)) is not None]
    if not tables:
        return None

    def labels() -> Iterator[Label]:
        first: dict[tuple[str, str], str] = {}
        chosen: dict[tuple[str, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
        for where, row in itertools.chain(*tables):
            clip = row["Input.VIDEO_ID"], row["Input.CLIP"]
            first.setdefault(clip, where)
            felt = {emotion: read_number(row[f"Answer.{word}"] or "0", where) for word, emotion in _MOSEI.items()}
            strongest = max(felt.values())
            words = [emotion for emotion, rating in felt.items() if rating == strongest > 0] or ["neutral"]
            for word in words:
                chosen[clip][word] += 1 / len(words)
        for (video, number), where in first.items():
            votes = chosen[video, number]
            label = _most_chosen(votes)
            yield Label(f"{video}_{number}", label, where, speaker=known_speaker(video), votes=ordered(votes))

    return labels()


def _most_chosen(votes: Mapping[str, float]) -> str:
    """The emotion with most votes, or that there is none."""
    top = [word for word, count in votes.items() if math.isclose(count, max(votes.values()))]
    return top[0] if len(top) == 1 else NO_AGREEMENT


_AGGREGATED = "aggregated_dataset"


def dusha(base: Path, paths: Sequence[Path]) -> Iterator[Label]:
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
        speaker=known_speaker(speaker),
        part="train" if "train" in part else "test",
        votes=counted(votes),
        within=(part,),
    )


def _dusha_rows(path: Path, emotion: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(`file:line`, cells) of each row; `audio_path` may be called `wav_path`."""
    is_table = path.suffix.lower() == ".tsv"
    found = (
        read_rows(path, emotion, "source_id", delimiter="\t")
        if is_table
        else read_json_lines(path, emotion, "source_id")
    )
    incomplete = wrong(str(path), f"columns audio_path, {emotion} and source_id are not all there")
    if found is None:
        raise incomplete
    for where, row in found:
        if not (audio := row.get("audio_path") or row.get("wav_path")):
            raise incomplete
        yield where, {**row, "audio_path": audio.replace("\\", "/")}


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
        rows = read_rows(path, "fileName", *_CREMAD)
        if rows is not None:
            return {
                row["fileName"]: tuple((w, n) for c, w in _CREMAD.items() if (n := read_number(row[c] or "0", where)))
                for where, row in rows
                if (row.get("") or next(iter(row.values())))[:1] == str(_SOUND_ALONE)
            }
    if path := tables.get("summarytable.csv"):
        rows = read_rows(path, "FileName", "VoiceVote") or read_rows(path, "fileName", "VoiceVote")
        found: dict[str, Votes] = {}
        for _, row in rows or ():
            words = [_CREMAD[letter] for letter in row["VoiceVote"].split(":") if letter in _CREMAD]
            if words:
                found[row.get("FileName") or row["fileName"]] = tuple((word, 1 / len(words)) for word in sorted(words))
        return found
    return {}
