"""The corpora that serx knows: those that ship with it, and those that users register."""

import difflib
import re
from collections.abc import Mapping

from serx.data.corpora.by_label_file import BY_LABEL_FILE
from serx.data.corpora.by_name import BY_NAME
from serx.data.corpora.declaration import Corpus
from serx.data.labels import normalize_emotion
from serx.data.languages import language_code
from serx.data.utterance import Sex, visible
from serx.errors import ConfigError

_PUBLISHED = (*BY_NAME, *BY_LABEL_FILE)
PUBLISHED_CORPORA = tuple(corpus.name for corpus in _PUBLISHED)
CORPORA: dict[str, Corpus] = {corpus.name: corpus for corpus in _PUBLISHED}
LABEL_MAPS: dict[str, Mapping[str, str | None]] = {
    name: label_map for corpus in _PUBLISHED for name, label_map in corpus.label_maps.items()
}

# Of a corpus that a user registers.
_GROUPS = {"speaker", "emotion", "sex", "style", "intensity", "statement", "take"}
_SEXES: dict[str, Sex] = {"m": "male", "male": "male", "f": "female", "w": "female", "female": "female"}
_FIRST_RANK, _REGISTERED = 0, 1  # the five corpora that serx knew first; before all others
_FIRST = {key: corpus.name for corpus in _PUBLISHED if corpus.rank == 0 for key in corpus.keys}
_NAMES = {key: corpus.name for corpus in _PUBLISHED for key in corpus.keys}


def register_corpus(
    name: str,
    pattern: str,
    emotions: Mapping[str, str],
    speakers: Mapping[str, Sex | None] | None = None,
    *,
    example: str = "",
    intensities: Mapping[str, str] | None = None,
    spellings: Mapping[str, str] | None = None,
    language: str = "",
) -> None:
    """Adds a corpus, so that a scan recognizes its file names.

    Call it in a module of your own and name that module with `--import`. Case is ignored in file names. A name that
    fits RAVDESS, CREMA-D, TESS, SAVEE or EMO-DB stays theirs. One that fits another corpus as well belongs to the
    corpus that fits all names of the folder; if both do, to yours, and a note says so; `data.corpora` overrules.

    Args:
        name: lower-case letters, digits and underscores, starting with a letter. The name of a corpus that serx knows,
            other than those five, replaces what serx knows about it.
        pattern: a regular expression for the file name without its ending, or for `folder/name`. It has the named
            groups `speaker` and `emotion`, and may have `sex` (`m`, `male`, `f`, `w`, `female`), `style` (`02` means
            song), `intensity`, `statement` and `take`. All groups together identify a clip: a second file with the
            same codes is a duplicate.
        emotions: code in the name -> emotion. A file with another code is not part of the corpus.
        speakers: speaker in the name -> `"male"`, `"female"` or None. Default: any speaker, sex unknown.
        example: a file name for error messages.
        intensities: code in the name -> word.
        spellings: another way to write a code -> the usual code.
        language: of all clips: `en`, `eng` or `English`. Default: unknown.

    Raises:
        ConfigError: a malformed name, pattern or table, or a name that already means another corpus.

    >>> register_corpus(
    ...     "office",
    ...     pattern=r"(?P<speaker>[a-z]{2})_(?P<emotion>ang|neu)_(?P<take>[0-9]+)",
    ...     emotions={"ang": "angry", "neu": "neutral"},
    ...     speakers={"AB": "female", "CD": "male"},
    ...     example="AB_ang_1.wav",
    ... )
    >>> CORPORA["office"].speakers["CD"]
    'male'
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
    try:
        code = language_code(language) if language else ""
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    corpus = Corpus(
        name=name,
        title=name,
        example=example or pattern,
        patterns=(compiled,),
        emotions={code.lower(): normalize_emotion(word) for code, word in emotions.items()},
        speakers=None if speakers is None else {speaker.upper(): sex for speaker, sex in speakers.items()},
        intensities={code.lower(): word for code, word in (intensities or {}).items()},
        spellings={code.lower(): usual.lower() for code, usual in (spellings or {}).items()},
        sexes=_SEXES,
        language=code,
        rank=_REGISTERED,
    )
    known = CORPORA.get(name)
    if known is not None and known != corpus and known.rank in (_FIRST_RANK, _REGISTERED):
        raise ConfigError(f"{where}: this name already means another corpus; choose another name")
    CORPORA[name] = corpus


def canonical_corpus(text: str) -> str:
    """Lower case, and serx's own spelling of a corpus that it knows.

    >>> canonical_corpus("CREMA-D"), canonical_corpus("MSP-IMPROV"), canonical_corpus("My  Lab")
    ('cremad', 'mspimprov', 'my lab')
    """
    name = visible(visible(text).casefold())
    letters = re.sub(r"[^a-z]", "", name)
    return _FIRST.get(letters) or _NAMES.get(re.sub(r"[^a-z0-9]", "", name)) or name


def known_corpus(where: str, text: str) -> str:
    """serx's name of a corpus that it knows.

    Args:
        where: the key that the corpus is written in, for the message.

    Raises:
        ConfigError: no such corpus.

    >>> known_corpus("data.corpora", "IEMOCAP")
    'iemocap'
    """
    name = canonical_corpus(text)
    if name in CORPORA:
        return name
    near = difflib.get_close_matches(name, CORPORA, n=1)
    hint = f"did you mean {near[0]}?" if near else "`serx corpora` lists them"
    raise ConfigError(f"{where}: serx knows no corpus {text!r}; {hint}")


def known_label_map(where: str, text: str) -> dict[str, str | None]:
    """A copy of the label map of this name.

    Raises:
        ConfigError: no such map.

    >>> known_label_map("data.label_map", "ravdess7")
    {'calm': 'neutral'}
    """
    if text in LABEL_MAPS:
        return dict(LABEL_MAPS[text])
    near = difflib.get_close_matches(text, LABEL_MAPS, n=1)
    hint = f"did you mean {near[0]}" if near else "`serx corpora NAME` shows those of a corpus"
    raise ConfigError(f"{where}: there is no label map {text!r}: {hint}? Or write one out, such as {{calm: neutral}}")
