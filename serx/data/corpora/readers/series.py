"""MELD, EmoryNLP and M3ED: scenes of television series."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from serx.data.corpora.readers.label_file import (
    PARTS,
    SEXES,
    Label,
    Part,
    known_speaker,
    read_json,
    read_rows,
    read_text,
    wrong,
)
from serx.data.observed_files import is_file

_MELD_FOLDERS = {"train": ("train",), "dev": ("dev",), "test": ("test", "output_repeated")}


def meld(base: Path, paths: Sequence[Path]) -> Iterator[Label]:
    return _series(paths, _MELD_FOLDERS, "dia{Dialogue_ID}_utt{Utterance_ID}", ("Dialogue_ID", "Utterance_ID"))


def emorynlp(base: Path, paths: Sequence[Path]) -> Iterator[Label]:
    folders = {part: (f"emorynlp_{part}", part) for part in ("train", "dev", "test")}
    columns = ("Season", "Episode", "Scene_ID", "Utterance_ID")
    return _series(paths, folders, "sea{Season}_ep{Episode}_sc{Scene_ID}_utt{Utterance_ID}", columns)


def _series(
    paths: Sequence[Path], folders: Mapping[str, tuple[str, ...]], name: str, columns: Sequence[str]
) -> Iterator[Label]:
    for path in paths:
        split = next(part for part in folders if part in path.name)
        rows = read_rows(path, "Speaker", "Emotion", *columns)
        if rows is None:
            raise wrong(str(path), f"columns Speaker, Emotion, {', '.join(columns)} are not all there")
        for where, row in rows:
            yield Label(
                name.format(**row),
                row["Emotion"].lower(),
                where,
                speaker=known_speaker(_listed(row["Speaker"])),
                part=PARTS[split],
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


def m3ed(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    content = read_json(paths[0])
    if not isinstance(content, dict):
        return None
    dialogs = [(series, d) for series, all_ in content.items() if isinstance(all_, dict) for d in all_.values()]
    if not dialogs or not all(isinstance(d, dict) and {"SpeakerInfo", "Dialog"} <= set(d) for _, d in dialogs):
        return None
    parts: dict[str, Part] = {}
    for word, part in (("train", "train"), ("val", "valid"), ("test", "test")):
        listed = paths[0].parent / "splitInfo" / f"movie_list_{word}.txt"
        if is_file(listed):
            parts |= dict.fromkeys(read_text(listed).split("\n"), part)  # type: ignore[arg-type]
    return _m3ed_labels(paths[0], dialogs, parts)


def _m3ed_labels(path: Path, dialogs: Sequence[tuple[str, Any]], parts: Mapping[str, Part]) -> Iterator[Label]:
    for series, dialog in dialogs:
        for utterance, said in dialog["Dialog"].items():
            try:
                letter, emotion = said["Speaker"], said["EmoAnnotation"]["final_main_emo"]
                person = dialog["SpeakerInfo"][letter]
                name = person["Name"]
            except (KeyError, TypeError):
                raise wrong(str(path), f"utterance {utterance} lacks its speaker or emotion") from None
            yield Label(
                f"{letter}_{utterance}",
                str(emotion).lower(),
                path.name,
                speaker=f"{series} {name}",
                sex=SEXES.get(str(person.get("Gender", "")).casefold()),
                part=parts.get(series),
            )
