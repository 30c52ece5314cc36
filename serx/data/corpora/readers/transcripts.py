"""ESD, EmotionTalk and EEKK: labels beside the words, a file for each speaker or utterance."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from serx.data.corpora.by_name import ESD_WORDS
from serx.data.corpora.readers.label_file import Label, known_speaker, read_json, read_text, wrong


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


_MODALITIES = ("audio", "multimodal", "video", "text")


def emotiontalk(base: Path, paths: Sequence[Path]) -> Iterator[Label]:
    """An object for each utterance and modality; of those of an utterance, the one of the sound counts."""

    def modality(path: Path) -> int:
        return _MODALITIES.index(path.relative_to(base).parts[0].lower())

    chosen: dict[str, Path] = {}
    for path in sorted(paths, key=lambda path: (modality(path), path)):
        chosen.setdefault(path.stem, path)
    for name, path in chosen.items():
        content = read_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("emotion_result"), str):
            raise wrong(str(path), "no emotion_result")
        yield Label(
            name,
            content["emotion_result"].strip().lower(),
            path.name,
            speaker=known_speaker(str(content.get("speaker_id", ""))),
        )


# In Praat's long form, the first label behind the name of the tier.
_TIER = re.compile(r'name\s*=\s*"emotion"(?:(?!name\s*=).)*?text\s*=\s*"([^"]+)"', re.DOTALL | re.IGNORECASE)


def ekorpus(base: Path, paths: Sequence[Path]) -> Iterator[Label] | None:
    labels = {path: _TIER.search(read_text(path)) for path in paths}
    if not any(labels.values()):
        return None
    return (
        Label(path.stem, match[1].strip().lower(), path.name, speaker="EEKK")
        for path, match in labels.items()
        if match is not None
    )
