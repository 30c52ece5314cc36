"""EMNS, Emozionalmente, RESD, MER 2023, MLEnd and THAI SER: a table or an object of all clips."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from serx.data.corpora.readers.label_file import (
    PARTS,
    SEXES,
    Label,
    counted,
    known_speaker,
    read_json,
    read_number,
    read_rows,
    wrong,
)
from serx.data.observed_files import is_file


def emns(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    rows = read_rows(paths[0], "audio_recording", "emotion", "level", "user_id", delimiter="|")
    if rows is None:
        return None
    return (
        Label(
            Path(row["audio_recording"]).stem,
            row["emotion"].lower(),
            where,
            speaker=known_speaker(row["user_id"]),
            sex=SEXES.get(row.get("gender", "").casefold()),
        )
        for where, row in rows
    )


def emozionalmente(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    path = paths[0]
    rows = read_rows(path, "file_name", "actor", "emotion_expressed")
    if rows is None:
        return None
    users = path.with_name("users.csv")
    people = read_rows(users, "username", "gender") if is_file(users) else None
    sexes = {row["username"]: SEXES.get(row["gender"].casefold()) for _, row in people or ()}
    chosen: dict[str, list[str]] = defaultdict(list)
    evaluations = path.with_name("evaluations.csv")
    for _, row in (read_rows(evaluations, "file_name", "emotion_recognized") or ()) if is_file(evaluations) else ():
        chosen[row["file_name"]].append(row["emotion_recognized"])
    return (
        Label(
            Path(row["file_name"]).stem,
            row["emotion_expressed"].lower(),
            where,
            speaker=known_speaker(row["actor"]),
            sex=sexes.get(row["actor"]),
            votes=counted(chosen.get(row["file_name"], ())),
        )
        for where, row in rows
    )


def resd(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    tables = [(path, read_rows(path, "path", "emotion")) for path in paths]
    if any(rows is None for _, rows in tables):
        return None
    return (
        Label(Path(row["path"]).stem, row["emotion"].lower(), where, part=PARTS[path.stem], within=(path.stem,))
        for path, rows in tables
        for where, row in rows or ()
    )


def mer2023(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    tables = [(path, read_rows(path, "name", "discrete")) for path in paths]
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
                    dimensions=(("valence", read_number(valence, where)),) if valence else (),
                )

    return labels()


def mlendsnd(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    rows = read_rows(paths[0], "Public filename", "Numeral", "Intonation", "Speaker")
    if rows is None:
        return None
    return (
        Label(
            Path(row["Public filename"]).stem,
            row["Intonation"].lower(),
            where,
            speaker=known_speaker(row["Speaker"]),
            statement=row["Numeral"],
        )
        for where, row in rows
    )


def thaiser(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    content = read_json(paths[0])
    if not isinstance(content, dict):
        return None
    people = paths[0].with_name("actor_demography.json")
    listed = read_json(people).get("data", ()) if is_file(people) else ()
    sexes = {str(actor.get("Actor's ID")): SEXES.get(str(actor.get("Sex")).casefold()) for actor in listed}

    def labels() -> Iterator[Label]:
        for file, ratings in content.items():
            words = file.split("_")
            try:
                emotion = ratings[0]["majority_emo"]
                speaker = words[2].removeprefix("actor")
            except (KeyError, IndexError, TypeError):
                raise wrong(str(paths[0]), f"{file} has no majority_emo or no actor") from None
            yield Label(
                Path(file).stem, str(emotion).lower(), paths[0].name, speaker=speaker, sex=sexes.get(speaker),
                statement="_".join(words[3:]).partition(".")[0] or None,
            )  # fmt: skip

    return labels()
