"""`Utterance`: one spoken clip, as its file name or manifest row describes it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Sex = Literal["male", "female"]


@dataclass(frozen=True)
class Utterance:
    """One clip of one speaker.

    Attributes:
        path: absolute path of the audio file.
        corpus: `ravdess`, `cremad`, `tess`, `savee`, `emodb`, or a manifest's own name.
        speaker: the person within the corpus, in canonical form (`"07"`, `"1001"`, `"OAF"`, `"DC"`).
        emotion: a name from `labels.EMOTIONS`, or a manifest's own word.
        sex: `"male"`, `"female"` or None when unknown.
        style: `"speech"` or `"song"` (RAVDESS has both, by the same actors).
        intensity: `"normal"`, `"strong"`, `"low"`, ... or None when the corpus does not say.
        statement: which sentence was spoken, or None.
        part: the manifest's own `train` / `valid` / `test`, or None.
        corpus_named: False where a manifest names no corpus and `corpus` is only the name of its file.
    """

    path: Path
    corpus: str
    speaker: str
    emotion: str
    sex: Sex | None = None
    style: Literal["speech", "song"] = "speech"
    intensity: str | None = None
    statement: str | None = None
    part: Literal["train", "valid", "test"] | None = None
    corpus_named: bool = True

    @property
    def speaker_id(self) -> str:
        """The speaker's name across corpora, such as `ravdess/07`."""
        return f"{self.corpus}/{self.speaker}"
