"""`Utterance`: one clip, as its file name or a row of a table describes it; `SkippedFile`: audio that is not used.

`Segment`: the file or the part of a file that holds the clip.

Also when two words are the same to a reader (`visible`).
"""

import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

Sex = Literal["male", "female"]
Style = Literal["speech", "song"]
UNKNOWN_SPEAKER = "unknown"
# Apart from the categories of control and format characters: joiners, fillers and variation selectors.
_INVISIBLE = "\u034f\u115f\u1160\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE10)))


def is_unknown(speaker_id: str) -> bool:
    """Whether a `speaker_id` stands for clips whose speaker is not known.

    >>> is_unknown("own/unknown"), is_unknown("own/ann")
    (True, False)
    """
    return speaker_id.rpartition("/")[2] == UNKNOWN_SPEAKER


class Segment(NamedTuple):
    """A file, or a part of it: from `start` to `end` in seconds; None: the end of the file.

    As text it is the path, and behind it the times of a part, as W3C's Media Fragments write them.

    >>> str(Segment(Path("/a.wav"), 12.5, 15.25)), str(Segment(Path("/a.wav"), 12.5)), str(Segment(Path("/a.wav")))
    ('/a.wav#t=12.5,15.25', '/a.wav#t=12.5', '/a.wav')
    """

    path: Path
    start: float = 0.0
    end: float | None = None

    def __str__(self) -> str:
        return f"{self.path}{self.fragment}"

    @property
    def is_whole(self) -> bool:
        """Whether it is the whole file."""
        return self.start == 0 and self.end is None

    @property
    def fragment(self) -> str:
        """`#t=start,end`; empty for a whole file."""
        if self.is_whole:
            return ""
        return f"#t={_seconds(self.start)}" + ("" if self.end is None else f",{_seconds(self.end)}")

    @property
    def name(self) -> str:
        """The name of the file, without its folder, and the fragment."""
        return f"{self.path.name}{self.fragment}"


def _seconds(seconds: float) -> str:
    """Microseconds, or more digits where two times would look the same."""
    text = f"{seconds:.6f}".rstrip("0").rstrip(".")
    return text if float(text) == seconds else repr(seconds)


@dataclass(frozen=True)
class Utterance:
    """One clip of one speaker.

    Attributes:
        path: absolute path of the audio file.
        corpus: `ravdess`, `cremad`, `tess`, `savee`, `emodb`, a registered corpus, or a manifest's own name.
        speaker: the person within the corpus, in canonical form (`"07"`, `"1001"`, `"OAF"`, `"DC"`).
        emotion: a name from `labels.EMOTIONS`, or a manifest's own word; empty if the clip has ratings only.
        sex: `"male"`, `"female"` or None if unknown.
        style: `"speech"` or `"song"` (RAVDESS has both, by the same actors).
        intensity: `"normal"`, `"strong"`, `"low"`, ... or None if the corpus does not say.
        statement: which sentence was spoken, or None.
        part: the manifest's own `train` / `valid` / `test`, or None.
        corpus_named: False if a manifest names no corpus, so that `corpus` is only the name of its file.
        language: the language spoken, as its ISO 639-1 code (`"en"`), or None.
        start: where the clip begins within its file, in seconds.
        end: where it ends, in seconds; None for the end of the file.
        weight: how much the clip counts in training.
        votes: emotion words and how many raters chose each, or their shares; empty if there is one label only.
        dimensions: names such as `arousal`, `valence`, `dominance` and the clip's rating of each; empty if unrated.
        speaker_known: False if a manifest has no column speaker; then `speaker` is `UNKNOWN_SPEAKER`.
        source: what says so, for messages: `file.csv:LINE`, or the path of a file that is known by its name.

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
    language: str | None = None
    start: float = 0.0
    end: float | None = None
    weight: float = 1.0
    votes: tuple[tuple[str, float], ...] = ()
    dimensions: tuple[tuple[str, float], ...] = ()
    corpus_named: bool = True
    speaker_known: bool = True
    source: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if not self.source:
            object.__setattr__(self, "source", str(self.path))

    @property
    def speaker_id(self) -> str:
        """The speaker's name across corpora, such as `ravdess/07`."""
        return f"{self.corpus}/{self.speaker}"

    @property
    def is_whole_file(self) -> bool:
        """Whether the clip is a whole file."""
        return self.start == 0 and self.end is None

    @property
    def segment(self) -> Segment:
        """Where the clip's audio is."""
        return Segment(self.path, self.start, self.end)


@lru_cache(maxsize=1 << 16)
def visible(text: str) -> str:
    """Text as a reader sees it: one Unicode form, no invisible characters, single spaces.

    >>> visible("Ann\u200b\u00a0 Lee"), visible("\uff17")
    ('Ann Lee', '7')
    """
    seen = "".join(c for c in unicodedata.normalize("NFKC", text) if c.isspace() or not _is_invisible(c))
    return " ".join(unicodedata.normalize("NFKC", seen).split())


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in ("Cf", "Cc") or character in _INVISIBLE


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
    reason: Literal["unknown_name", "duplicate", "style", "video_only", "format", "hidden", "missing", "unlisted"]
    detail: str
