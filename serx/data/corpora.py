"""Which corpora exist and how they name their files: five published ones, and those that users register.

A corpus is declared as data: a regular expression for its file names, and tables of its codes. `parse_name` turns one
path into an utterance; `scanner.py` walks folders.
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

from serx.data.labels import normalize_emotion
from serx.data.utterance import Sex, Utterance, visible
from serx.errors import ConfigError


@dataclass(frozen=True)
class Corpus:
    """How one corpus names its files.

    Attributes:
        name: serx's name for it.
        example: a file name as published.
        pattern: matches a file's stem, or `folder/stem` if the folder names the speaker. Named groups: `speaker`,
            `emotion`, and any of `modality`, `style`, `intensity`, `statement`, `take`.
        emotions: code in the name -> emotion.
        speakers: every speaker of the corpus -> sex. None: any speaker that the pattern matches, of unknown sex.
        intensities: code in the name -> word.
        spellings: a code as some releases write it -> the usual code.
    """

    name: str
    example: str
    pattern: re.Pattern[str]
    emotions: Mapping[str, str]
    speakers: Mapping[str, Sex | None] | None
    intensities: Mapping[str, str] = field(default_factory=dict)
    spellings: Mapping[str, str] = field(default_factory=dict)


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE | re.ASCII)


def _table(pairs: str) -> dict[str, str]:
    return dict(re.findall(r"(\w+)=(\w+)", pairs))


def _sexes(speakers: str, women: str) -> dict[str, Sex | None]:
    return {**dict.fromkeys(speakers.split(), "male"), **dict.fromkeys(women.split(), "female")}


_PUBLISHED = (
    # Livingstone & Russo 2018, doi:10.1371/journal.pone.0196391: modality 01 film with sound, 02 film alone, 03 sound.
    Corpus(
        "ravdess",
        "03-01-05-02-01-02-12.wav",
        _pattern(
            r"(?P<modality>0[1-3])-(?P<style>0[12])-(?P<emotion>0[1-8])-(?P<intensity>0[12])"
            r"-(?P<statement>0[12])-(?P<take>[0-9]{2})-(?P<speaker>[0-9]{2})"
        ),
        _table("01=neutral 02=calm 03=happy 04=sad 05=angry 06=fearful 07=disgust 08=surprised"),
        _sexes("01 03 05 07 09 11 13 15 17 19 21 23", "02 04 06 08 10 12 14 16 18 20 22 24"),
        intensities=_table("01=normal 02=strong"),
    ),
    # Cao et al. 2014, doi:10.1109/TAFFC.2014.2336244; sexes: its VideoDemographics.csv; 1040_ITH_SAD_X has one X.
    Corpus(
        "cremad",
        "1001_DFA_ANG_XX.wav",
        _pattern(
            r"(?P<speaker>10[0-9]{2})_(?P<statement>DFA|IEO|IOM|ITH|ITS|IWL|IWW|MTI|TAI|TIE|TSI|WSI)"
            r"_(?P<emotion>ANG|DIS|FEA|HAP|NEU|SAD)_(?P<intensity>LO|MD|HI|XX?)"
        ),
        _table("ang=angry dis=disgust fea=fearful hap=happy neu=neutral sad=sad"),
        _sexes(
            " ".join(map(str, range(1001, 1092))),
            "1002 1003 1004 1006 1007 1008 1009 1010 1012 1013 1018 1020 1021 1024 1025 1028 1029 1030 1037 1043 1046 "
            "1047 1049 1052 1053 1054 1055 1056 1058 1060 1061 1063 1072 1073 1074 1075 1076 1078 1079 1082 1084 1089 "
            "1091",
        ),
        intensities=_table("lo=low md=medium hi=high"),
        spellings={"x": "xx"},
    ),
    # Pichora-Fuller & Dupuis 2020, doi:10.5683/SP2/E8H2MF; OA_bite_neutral is published without its F.
    Corpus(
        "tess",
        "OAF_back_angry.wav",
        _pattern(
            r"(?P<speaker>OAF?|YAF)_(?P<statement>[a-z]+)"
            r"_(?P<emotion>angry|disgust|fear|happy|neutral|ps|(?:pleasant_)?surprised?|sad)"
        ),
        _table("angry=angry disgust=disgust fear=fearful happy=happy neutral=neutral ps=surprised sad=sad"),
        _sexes("", "OAF YAF"),
        spellings=_table("oa=oaf surprise=ps surprised=ps pleasant_surprise=ps pleasant_surprised=ps"),
    ),
    # Haq & Jackson 2009, kahlan.eps.surrey.ac.uk/savee: DC/a01.wav as published, ALL/DC_a01.wav in Kaggle's copy.
    Corpus(
        "savee",
        "DC_a01.wav or DC/a01.wav",
        _pattern(r"(?P<speaker>DC|JE|JK|KL)[_/](?P<statement>(?P<emotion>sa|su|[adfhn])[0-9]{2})"),
        _table("a=angry d=disgust f=fearful h=happy n=neutral sa=sad su=surprised"),
        _sexes("DC JE JK KL", ""),
    ),
    # Burkhardt et al. 2005, doi:10.21437/Interspeech.2005-446: the letters are the emotions' German initials.
    Corpus(
        "emodb",
        "03a01Fa.wav",
        _pattern(r"(?P<speaker>[01][0-9])(?P<statement>[ab][0-9]{2})(?P<emotion>[WLEAFTN])(?P<take>[a-z])"),
        _table("w=angry l=boredom e=disgust a=fearful f=happy t=sad n=neutral"),
        _sexes("03 10 11 12 15", "08 09 13 14 16"),
    ),
)

PUBLISHED_CORPORA = tuple(corpus.name for corpus in _PUBLISHED)
CORPORA: dict[str, Corpus] = {corpus.name: corpus for corpus in _PUBLISHED}

_GROUPS = {"speaker", "emotion", "style", "intensity", "statement", "take"}  # modality is RAVDESS's alone
_NUMBERED = re.compile(r"(?:(?:actor|speaker)[ _-]*)?0*([0-9]+)(?:\.0+)?", re.IGNORECASE | re.ASCII)
_PARTS = re.compile(r"[0-9]+|[^\W\d_]+|[^\w\s\-\u2010-\u2015.,'\u2019#:/\\]")
_PERSON_WORDS = {
    "actor", "actress", "hablante", "locuteur", "participant", "person", "speaker", "spk", "spkr", "sprecher", "subj",
    "subject", "sbj", "sujet", "sujeto", "talker", "user", "voice",
}  # fmt: skip
_PERSON_LETTERS = {"s", "sp", "sub", "p", "part", "pid", "sid", "uid", "id", "no", "nr"}  # before a number only


@dataclass(frozen=True)
class ParsedName:
    """A clip, the `codes` that identify it within its corpus, and RAVDESS's `modality` (empty elsewhere)."""

    utterance: Utterance
    codes: tuple[str, ...]
    modality: str


def register_corpus(
    name: str,
    pattern: str,
    emotions: Mapping[str, str],
    speakers: Mapping[str, Sex | None] | None = None,
    *,
    example: str = "",
    intensities: Mapping[str, str] | None = None,
    spellings: Mapping[str, str] | None = None,
) -> None:
    """Adds a corpus, so that a scan recognizes its file names.

    Call it in a module of your own and name that module with `--import`. Case is ignored in file names. A file belongs
    to the first corpus whose pattern matches: the published ones first, then in the order of registration.

    Args:
        name: lower-case letters, digits and underscores, starting with a letter.
        pattern: a regular expression for the file name without its ending, or for `folder/name`. It has the named
            groups `speaker` and `emotion`, and may have `style` (`02` means song), `intensity`, `statement` and
            `take`. All groups together identify a clip: a second file with the same codes is a duplicate.
        emotions: code in the name -> emotion. A file with another code is not part of the corpus.
        speakers: speaker in the name -> `"male"`, `"female"` or None. Default: any speaker, sex unknown.
        example: a file name for error messages.
        intensities: code in the name -> word.
        spellings: another way to write a code -> the usual code.

    Raises:
        ConfigError: a malformed name, pattern or table, or a name that already means another corpus.

    >>> register_corpus(
    ...     "office",
    ...     pattern=r"(?P<speaker>[a-z]{2})_(?P<emotion>ang|neu)_(?P<take>[0-9]+)",
    ...     emotions={"ang": "angry", "neu": "neutral"},
    ...     speakers={"AB": "female", "CD": "male"},
    ...     example="AB_ang_1.wav",
    ... )
    >>> clip = parse_name(Path("/recordings/CD_neu_12.wav")).utterance
    >>> clip.speaker_id, clip.emotion, clip.sex
    ('office/CD', 'neutral', 'male')
    """
    where = f"register_corpus({name!r})"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ConfigError(f"{where}: write the name in lower-case letters, digits and underscores")
    try:
        compiled = re.compile(pattern, re.IGNORECASE | re.ASCII)
    except re.error as error:
        raise ConfigError(f"{where}: pattern {pattern!r} is not a regular expression: {error}") from None
    groups = set(compiled.groupindex)
    if missing := sorted({"speaker", "emotion"} - groups):
        raise ConfigError(f"{where}: pattern lacks the named group (?P<{missing[0]}>...)")
    if unknown := sorted(groups - _GROUPS):
        raise ConfigError(f"{where}: pattern has an unknown group {unknown[0]!r}; use {', '.join(sorted(_GROUPS))}")
    if not emotions:
        raise ConfigError(f"{where}: emotions is empty; map each code to an emotion")
    for speaker, sex in (speakers or {}).items():
        if sex not in ("male", "female", None):
            raise ConfigError(f"{where}: speaker {speaker!r} has sex {sex!r}; write male, female or None")
    corpus = Corpus(
        name=name,
        example=example or pattern,
        pattern=compiled,
        emotions={code.lower(): normalize_emotion(word) for code, word in emotions.items()},
        speakers=None if speakers is None else {speaker.upper(): sex for speaker, sex in speakers.items()},
        intensities={code.lower(): word for code, word in (intensities or {}).items()},
        spellings={code.lower(): usual.lower() for code, usual in (spellings or {}).items()},
    )
    if CORPORA.setdefault(name, corpus) != corpus:
        raise ConfigError(f"{where}: this name already means another corpus; choose another name")


def parse_name(path: Path) -> ParsedName | None:
    """What a file's name (and its folder's) says about corpus, speaker and emotion; None if no corpus matches.

    >>> parse_name(Path("/ravdess/03-01-05-02-01-02-12.wav")).utterance.emotion
    'angry'
    """
    for corpus in CORPORA.values():
        match = corpus.pattern.fullmatch(path.stem) or corpus.pattern.fullmatch(f"{path.parent.name}/{path.stem}")
        if match is None:
            continue
        written = {name: text.lower() for name, text in match.groupdict().items() if text is not None}
        code = {name: corpus.spellings.get(text, text) for name, text in written.items()}
        speaker = code.get("speaker", "").upper()
        emotion = corpus.emotions.get(code.get("emotion", ""))
        if emotion is None or not speaker or (corpus.speakers is not None and speaker not in corpus.speakers):
            continue
        modality = code.pop("modality", "")
        utterance = Utterance(
            path=path,
            corpus=corpus.name,
            speaker=speaker,
            emotion=emotion,
            sex=corpus.speakers[speaker] if corpus.speakers is not None else None,
            style="song" if code.get("style") == "02" else "speech",
            intensity=corpus.intensities.get(code.get("intensity", "")),
            statement=code.get("statement"),
        )
        return ParsedName(utterance, tuple(code.values()), modality)
    return None


def canonical_corpus(text: str) -> str:
    """Lower case, and serx's own spelling of a corpus that it knows.

    >>> canonical_corpus("CREMA-D"), canonical_corpus("My  Lab")
    ('cremad', 'my lab')
    """
    name = visible(visible(text).casefold())
    letters = re.sub(r"[^a-z]", "", name)
    return letters if letters in PUBLISHED_CORPORA else name


def canonical_speaker(text: str) -> str:
    """One spelling for one person: `7`, `007`, `7.0`, `Actor_07` and `speaker 7` are all `07`; other names keep their
    text.

    >>> canonical_speaker("Actor_7"), canonical_speaker("Ann  Lee")
    ('07', 'Ann Lee')
    """
    name = visible(text)
    number = _NUMBERED.fullmatch(name)
    return number[1].zfill(2) if number else name


@lru_cache(maxsize=1 << 16)
def name_key(name: str, person: bool = False) -> str:
    """A key that is equal for names that look alike.

    Case, accents of Latin letters, spaces and punctuation between words, zeros before a number, and `.0` behind it make
    no difference. For a person, neither do words such as speaker or subject, or their abbreviations before a number.

    >>> {name_key(name, person=True) for name in ("7", "7.0", "S07", "spk7", "subject 7", "Actor-007")}
    {'7'}
    >>> name_key("Ann_Lee"), name_key("Zo\u00eb"), name_key("M1"), name_key("1_10"), name_key("110")
    ('annlee', 'zoe', 'm1', '1-10', '110')
    """
    text = "".join(c for c in unicodedata.normalize("NFKD", visible(name).casefold()) if not "\u0300" <= c <= "\u036f")
    text = unicodedata.normalize("NFKC", text)
    text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)
    parts = _PARTS.findall(re.sub(r"(?<=[0-9])\.0+$", "", text))
    parts = [part.lstrip("0") or "0" if part.isdecimal() else part for part in parts]
    if person and len(parts) > 1:
        if parts[-1].isdecimal() and set(parts[:-1]) <= _PERSON_WORDS | _PERSON_LETTERS:
            parts = parts[-1:]
        elif parts[0] in _PERSON_WORDS:
            parts = parts[1:]
    key = "".join(
        f"{part}-" if part.isdecimal() and after.isdecimal() else part for part, after in pairwise([*parts, ""])
    )
    return key or text
