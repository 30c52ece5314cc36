"""CMU-MOSI, CMU-MOSEI and CH-SIMS as MMSA (thuiar/MMSA) publishes them: one table, whose ratings are of sentiment."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from serx.data.corpora.readers.label_file import PARTS, Label, known_speaker, read_number, read_rows
from serx.data.corpora.readers.raters import mosei

_STEP = 0.2  # of the ratings of CMU-MOSI and CH-SIMS, means over five raters; those of CMU-MOSEI are of three
_Rows = Sequence[tuple[str, Mapping[str, str]]]


def mosei_or_sentiment(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    """The emotions that raters of CMU-MOSEI chose; where there are none, their sentiment."""
    return mosei(base, paths) or _labels("mosei", base, paths)


def mosi(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    return _labels("mosi", base, paths)


def sims(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    return _labels("sims", base, paths)


def _labels(corpus: str, base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    """A label for each row; None if the table is another corpus's."""
    tables = [read_rows(path, "video_id", "clip_id", "text", "label", "annotation", "mode") for path in paths]
    rows = [row for table in tables for row in table or ()]
    if not rows or _corpus(base, rows) != corpus:
        return None

    def labels() -> Iterator[Label]:
        for where, row in rows:
            sentiment = read_number(row["label"], where)
            yield Label(
                f"{row['video_id']}/{row['clip_id']}",
                "neutral" if sentiment == 0 else "positive" if sentiment > 0 else "negative",
                where,
                speaker=known_speaker(row["video_id"]),
                part=PARTS.get(row["mode"].casefold()),
                dimensions=(("sentiment", sentiment),),
            )

    return labels()


def _corpus(base: Path, rows: _Rows) -> str:
    """By the folder's name, or else by what is rated, and in which steps."""
    for name in ("mosei", "mosi", "sims"):
        if name in base.name.casefold():
            return name
    if any(row.get("label_T") for _, row in rows):  # the text, the sound and the picture were rated apart as well
        return "sims"
    steps = [read_number(row["label"], where) / _STEP for where, row in rows]
    return "mosi" if all(math.isclose(step, round(step), abs_tol=0.01) for step in steps) else "mosei"
