"""`clips_of_folders`: recordings of no known corpus that are sorted into folders of emotions.

Hugging Face's `datasets` reads such folders in the same way (its folder-based builders without a metadata file).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import cast

from serx.data.audio.paths import is_audio
from serx.data.corpora.file_names import ParsedName
from serx.data.corpora.registry import CORPORA
from serx.data.corpora.spelling import canonical_speaker
from serx.data.labels import EMOTIONS, normalize_emotion
from serx.data.utterance import UNKNOWN_SPEAKER, Sex, Utterance, visible

_NO_EMOTION = {"other", "no_agreement", "low", "high", "positive"}  # classes of some corpora
_WORDS = re.compile(r"[^\W\d_]+")
_PERSON = re.compile(
    r"(?:actor|actress|participant|person|speaker|spkr?|subject|subj|talker|user)[ _-]*(?!s$)\w+", re.IGNORECASE
)
_SEXES = {"female": "female", "women": "female", "woman": "female", "male": "male", "men": "male", "man": "male"}
_PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    "test": "test",
}
_SHOWN = 4  # emotions in the note


def clips_of_folders(root: Path, files: Sequence[Path]) -> tuple[dict[Path, ParsedName], str]:
    """The recordings whose folder, or one above it, is named after an emotion, and a line for the user.

    The next such folder counts. `Actor_01` or `speaker 3` in the path names the speaker, `female` the sex, and `train`,
    `valid` or `test` the split; nothing else says who speaks.

    Args:
        root: the folder, absolute; its own name counts neither.
        files: all files in and below it.

    Returns:
        nothing, and an empty line, unless there are two emotions or more.
    """
    known = {word for corpus in CORPORA.values() for word in corpus.emotions.values()} | set(EMOTIONS)
    known -= _NO_EMOTION
    corpus = visible(root.name).casefold() or "recordings"
    clips: dict[Path, ParsedName] = {}
    emotion_of = cache(_emotion)  # folders hold many recordings each
    for path in files:
        if not is_audio(path) or path.name.startswith("."):
            continue
        folders = path.relative_to(root).parts[:-1]
        emotion = next((word for folder in reversed(folders) if (word := emotion_of(folder)) in known), None)
        if emotion is None:
            continue
        person = next((folder for folder in folders if _PERSON.fullmatch(folder)), None)
        words = [folder.casefold() for folder in folders]
        clip = Utterance(
            path=path,
            corpus=corpus,
            speaker=UNKNOWN_SPEAKER if person is None else canonical_speaker(person),
            emotion=emotion,
            sex=cast("Sex | None", _first(words, _SEXES)),
            part=_first(words, _PARTS),  # type: ignore[arg-type]
            corpus_named=False,
            speaker_known=person is not None,
        )
        clips[path] = ParsedName(clip, (path.relative_to(root).as_posix(),))
    emotions = sorted({parsed.utterance.emotion for parsed in clips.values()})
    if len(emotions) < 2:
        return {}, ""
    listed = ", ".join(emotions[:_SHOWN]) + (", ..." if len(emotions) > _SHOWN else "")
    unknown = sum(not parsed.utterance.speaker_known for parsed in clips.values())
    who = f"; nothing says who speaks in {unknown}: list them in a table with a column speaker" if unknown else ""
    return clips, f"{root}: no known corpus; the folders of {len(clips)} recordings name their emotions ({listed}){who}"


def _emotion(folder: str) -> str:
    """The emotion that a folder is named after, with or without a number: `angry`, `01 Angry`, `Pleasant-Surprise`."""
    return normalize_emotion(" ".join(_WORDS.findall(folder)))


def _first(words: Iterable[str], table: dict[str, str]) -> str | None:
    found: Iterator[str] = (table[word] for word in words if word in table)
    return next(found, None)
