"""`Utterance`: one clip, as its file name or manifest row describes it; `SkippedFile`: audio that is not used."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Sex = Literal["male", "female"]
Style = Literal["speech", "song"]


@dataclass(frozen=True)
class Utterance:
    """One clip of one speaker.

    Attributes:
        path: absolute path of the audio file.
        corpus: `ravdess`, `cremad`, `tess`, `savee`, `emodb`, a registered corpus, or a manifest's own name.
        speaker: the person within the corpus, in canonical form (`"07"`, `"1001"`, `"OAF"`, `"DC"`).
        emotion: a name from `labels.EMOTIONS`, or a manifest's own word.
        sex: `"male"`, `"female"` or None if unknown.
        style: `"speech"` or `"song"` (RAVDESS has both, by the same actors).
        intensity: `"normal"`, `"strong"`, `"low"`, ... or None if the corpus does not say.
        statement: which sentence was spoken, or None.
        part: the manifest's own `train` / `valid` / `test`, or None.
        corpus_named: False if a manifest names no corpus, so that `corpus` is only the name of its file.

    >>> Utterance(Path("/data/03-01-05-01-01-01-07.wav"), "ravdess", "07", "angry").speaker_id
    'ravdess/07'
    """

    path: Path
    corpus: str
    speaker: str
    emotion: str
    sex: Sex | None = None
    style: Style = "speech"
    intensity: str | None = None
    statement: str | None = None
    part: Literal["train", "valid", "test"] | None = None
    corpus_named: bool = True

    @property
    def speaker_id(self) -> str:
        """The speaker's name across corpora, such as `ravdess/07`."""
        return f"{self.corpus}/{self.speaker}"


@dataclass(frozen=True)
class SkippedFile:
    """An audio file that was found in a folder or listed in a manifest and is not used.

    Attributes:
        path: absolute path.
        reason: one word.
        detail: a few words for the reader.

    >>> SkippedFile(Path("/data/._a.wav"), "hidden", "a hidden file").reason
    'hidden'
    """

    path: Path
    reason: Literal["unknown_name", "duplicate", "style", "video_only", "format", "hidden", "missing"]
    detail: str
