"""`Corpus`: how one corpus names or lists its clips, and what its authors say that it holds.

A corpus whose file names say everything is ten lines of data in `by_name.py`; one with label files of its own has a
reader in `readers`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from serx.data.utterance import Sex

_SEPARATORS = re.compile(r"[^a-z0-9]+")
_MIN_PREFIX = 5  # letters; `ravdess16k` is a folder of RAVDESS, `jlabc` none of the JL corpus


@dataclass(frozen=True)
class Corpus:
    """One corpus.

    Attributes:
        name: serx's name for it: lower-case letters, digits and underscores.
        title: its name as its authors write it.
        example: a file as published, with the folders that its pattern needs.
        patterns: each matches a file's stem, or `folder/stem`, with as many folders as the pattern has slashes. Named
            groups: `speaker`, `emotion`, and any of `sex`, `language`, `modality`, `style`, `intensity`, `statement`,
            `take`. Empty if label files list the clips.
        emotions: code in the name or the label file -> emotion.
        speakers: every speaker, spelled as serx shows it -> sex. None: any speaker that a pattern matches or a label
            file names. One speaker and no group `speaker`: the speaker of all clips.
        speakers_known: False if nothing that serx reads says who speaks.
        intensities: code in the name -> word.
        spellings: a code as some releases write it -> the usual code.
        recordings: code of the group `modality` -> its rank among the recordings of one utterance, of which the lowest
            counts; None: it has no sound.
        others: names of files that belong to the corpus and are no clips, and why.
        sexes: code of the group `sex` -> sex, where no table names the speakers.
        language: ISO 639-1 code; empty if clips differ.
        languages: code of the group `language`, or a speaker if there is no such group -> ISO 639-1 code.
        needs_folder: True if its names are so common that they count only in a folder that names the corpus, or if
            `data.corpora` does.
        rank: between corpora that a name fits equally well, the lower rank is chosen, with a note.
        aliases: other names of the corpus, as folders and tables spell it.
        clips: number of clips of speech, or None if releases differ or none is stated.
        speaker_count: number of speakers, or None.
        women, men: how many of them, or None.
        hours: of speech, or None.
        counts: emotion -> clips; empty if unknown.
        license: license or terms.
        url: where it is described or can be had.
        cite: the paper.
        source: what documents the layout.
        layout: further lines about the layout.
        note: what a user should know.
        label_maps: name -> a map for `data.label_map`.
        protocol: overrides of a recommended evaluation without shared speakers.
        protocol_note: what the protocol is.
    """

    name: str
    title: str
    example: str
    patterns: tuple[re.Pattern[str], ...]
    emotions: Mapping[str, str]
    speakers: Mapping[str, Sex | None] | None = None
    speakers_known: bool = True
    intensities: Mapping[str, str] = field(default_factory=dict)
    spellings: Mapping[str, str] = field(default_factory=dict)
    recordings: Mapping[str, int | None] = field(default_factory=dict)
    others: tuple[tuple[re.Pattern[str], str], ...] = ()
    sexes: Mapping[str, Sex] = field(default_factory=dict)
    language: str = ""
    languages: Mapping[str, str] = field(default_factory=dict)
    needs_folder: bool = False
    rank: int = 2
    aliases: tuple[str, ...] = ()
    clips: int | None = None
    speaker_count: int | None = None
    women: int | None = None
    men: int | None = None
    hours: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    license: str = ""
    url: str = ""
    cite: str = ""
    source: str = ""
    layout: str = ""
    note: str = ""
    label_maps: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    protocol: tuple[str, ...] = ()
    protocol_note: str = ""

    @cached_property
    def spelled(self) -> dict[str, str]:
        """Upper case -> the spelling of each speaker in the table."""
        return {name.upper(): name for name in self.speakers or {}}

    @cached_property
    def places(self) -> tuple[tuple[int, re.Pattern[str]], ...]:
        """Each pattern with each number of folders that it may need."""
        return tuple(
            (folders, pattern) for pattern in self.patterns for folders in range(pattern.pattern.count("/") + 1)
        )

    @cached_property
    def exact(self) -> tuple[re.Pattern[str], ...]:
        """The patterns with the case of letters as published."""
        return tuple(re.compile(pattern.pattern, re.ASCII) for pattern in self.patterns)

    @cached_property
    def all_languages(self) -> tuple[str, ...]:
        """The languages of the corpus, as ISO 639-1 codes."""
        return (self.language,) if self.language else tuple(sorted(set(self.languages.values())))

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """The names of the corpus, in lower-case letters and digits only."""
        return tuple(dict.fromkeys(_SEPARATORS.sub("", name.lower()) for name in (self.name, *self.aliases)))

    def is_named_by(self, folder: str) -> bool:
        """Whether a folder's name says that it holds this corpus.

        >>> corpus = Corpus("ravdess", "RAVDESS", "", (), {})
        >>> [corpus.is_named_by(name) for name in ("RAVDESS", "ravdess16k", "my-ravdess (copy)", "Actor_01")]
        [True, True, True, False]
        """
        words = _SEPARATORS.split(folder.lower())
        key = "".join(words)
        return any(
            key == name or name in words or (len(name) >= _MIN_PREFIX and key.startswith(name)) for name in self.keys
        )


def pattern(text: str) -> re.Pattern[str]:
    """A pattern that ignores the case of ASCII letters, and takes ASCII digits only."""
    return re.compile(text, re.IGNORECASE | re.ASCII)


def table(pairs: str) -> dict[str, str]:
    """`code=word code=word` as a mapping.

    >>> table("01=neutral 02=calm")
    {'01': 'neutral', '02': 'calm'}
    """
    return dict(re.findall(r"(\w+)=(\w+)", pairs))


def sexes(men: str, women: str) -> dict[str, Sex | None]:
    """Names of men and of women, separated by spaces, as a mapping to their sexes; sorted by name.

    >>> sexes("m1", "f1 f2")
    {'f1': 'female', 'f2': 'female', 'm1': 'male'}
    """
    both: dict[str, Sex | None] = {**dict.fromkeys(men.split(), "male"), **dict.fromkeys(women.split(), "female")}
    return dict(sorted(both.items()))


def numbered(first: int, last: int, form: str = "{:02d}") -> str:
    """Numbered names, separated by spaces.

    >>> numbered(9, 11)
    '09 10 11'
    """
    return " ".join(form.format(number) for number in range(first, last + 1))


def each(words: str, clips: int, **others: int) -> dict[str, int]:
    """The same number of clips for each of the emotions, except for those named.

    >>> each("happy sad", 192, neutral=96)
    {'happy': 192, 'sad': 192, 'neutral': 96}
    """
    return {**dict.fromkeys(words.split(), clips), **others}


def relabel(drop: str = "", **renamed: str) -> dict[str, str | None]:
    """A label map that renames some emotions and drops others; those it does not name stay.

    >>> relabel(drop="fearful other", excited="happy")
    {'excited': 'happy', 'fearful': None, 'other': None}
    """
    return {**renamed, **dict.fromkeys(drop.split())}
