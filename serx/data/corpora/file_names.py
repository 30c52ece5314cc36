"""What the name of a file, and those of its folders, say about its clip."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from serx.data.corpora.declaration import Corpus
from serx.data.corpora.registry import CORPORA
from serx.data.utterance import UNKNOWN_SPEAKER, Utterance


@dataclass(frozen=True)
class ParsedName:
    """A clip, the `codes` that identify its utterance within its corpus, and the rank of this recording of it.

    Of several recordings, such as sound and films from several angles, the one of lowest rank counts; None: no sound.
    """

    utterance: Utterance
    codes: tuple[str, ...]
    recording: int | None = 0

    @property
    def corpus(self) -> str:
        return self.utterance.corpus


def parse_names(path: Path, corpora: Iterable[Corpus] | None = None) -> tuple[ParsedName, ...]:
    """What a file's name, and those of its folders, say: once for each corpus whose names it fits.

    >>> [parsed.utterance.emotion for parsed in parse_names(Path("/ravdess/03-01-07-02-01-02-12.wav"))]
    ['disgust']
    """
    texts: dict[int, str] = {}
    found = []
    for corpus in CORPORA.values() if corpora is None else corpora:
        for folders, pattern in corpus.places:
            if folders not in texts:
                texts[folders] = "/".join([*path.parts[-1 - folders : -1], path.stem])
            match = pattern.fullmatch(texts[folders])
            if match and (parsed := _parsed(path, corpus, match)):
                found.append(parsed)
                break
    return tuple(found)


def _parsed(path: Path, corpus: Corpus, match: re.Match[str]) -> ParsedName | None:
    written = {name: text.lower() for name, text in match.groupdict().items() if text is not None}
    code = {name: corpus.spellings.get(text, text) for name, text in written.items()}
    emotion = corpus.emotions.get(code.get("emotion", ""))
    speaker = code.get("speaker", "").upper()
    if corpus.speakers is not None:
        only = next(iter(corpus.speakers)) if len(corpus.speakers) == 1 else ""
        speaker = corpus.spelled.get(speaker or only.upper(), "")
    if emotion is None or not (speaker or not corpus.speakers_known):
        return None
    recording = corpus.recordings.get(code.pop("modality", ""), 0)
    utterance = Utterance(
        path=path,
        corpus=corpus.name,
        speaker=speaker if corpus.speakers_known else UNKNOWN_SPEAKER,
        emotion=emotion,
        sex=(corpus.speakers or {}).get(speaker) or corpus.sexes.get(code.get("sex", "")),
        style="song" if code.get("style") == "02" else "speech",
        intensity=corpus.intensities.get(code.get("intensity", "")),
        statement=code.get("statement"),
        language=corpus.language or corpus.languages.get(code.get("language") or speaker),
        speaker_known=corpus.speakers_known,
    )
    return ParsedName(utterance, tuple(code.values()), recording)
