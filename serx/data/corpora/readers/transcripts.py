"""ESD: the label behind the words of each sentence of a speaker."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from serx.data.corpora.by_name import ESD_WORDS
from serx.data.corpora.readers.label_file import Label, read_text


def esd(base: Path, paths: Sequence[Path]) -> Iterator[Label]:
    """A line for each sentence: its name, its words, its emotion, separated by tabs or spaces."""
    for path in paths:
        for number, line in enumerate(read_text(path, "gb18030").splitlines(), 1):
            words = line.split()
            emotion = ESD_WORDS.get(words[-1].lower()) if words else None
            if emotion and words[0].startswith(f"{path.stem}_"):
                yield Label(
                    words[0],
                    emotion,
                    f"{path.name}:{number}",
                    speaker=path.stem,
                    statement=words[0].partition("_")[2],
                )
