"""When two spellings of a person's or a corpus's name are one."""

import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

from serx.data.utterance import visible

_NUMBERED = re.compile(r"(?:(?:actor|speaker)[ _-]*)?0*([0-9]+)(?:\.0+)?", re.IGNORECASE | re.ASCII)
_PARTS = re.compile(r"[0-9]+|[^\W\d_]+|[^\w\s]")
_PUNCTUATION = ("P", "Sc", "Sk", "Sm")  # Unicode categories; marks and emoji tell names apart
_ENDING = re.compile(r"\.(?:wav|flac|mp3|ogg|opus|m4a|aac)$|(?<=[0-9])[.,]0+$")  # of a file, of a decimal number
# Cyrillic and Greek letters that look like Latin ones, in lower or upper case.
_LOOKS_LATIN = str.maketrans("авеіјкмнорстухѕԁһԛԝαβεηικμνορτυχ", "abeijkmhopctyxsdhqwabehikmnoptyx")
_PERSON_WORDS = {
    "actor", "actress", "hablante", "locuteur", "participant", "person", "speaker", "spk", "spkr", "sprecher", "subj",
    "subject", "sbj", "sujet", "sujeto", "talker", "user", "voice",
}  # fmt: skip
_PERSON_LETTERS = {"s", "sp", "sub", "p", "part", "pid", "sid", "uid", "id", "no", "nr"}  # before a number only


@lru_cache(maxsize=1 << 16)
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

    Case, accents of Latin letters, spaces, punctuation, zeros before a number, `.0` behind it, and letters of
    another alphabet that look Latin make no difference. For a person, neither do words such as speaker or subject, or
    their abbreviations before a number.

    >>> {name_key(name, person=True) for name in ("7", "7.0", "S07", "spk7", "subject 7", "Actor-007")}
    {'7'}
    >>> name_key("Ann_Lee"), name_key("Zo\u00eb"), name_key("M1"), name_key("1_10"), name_key("110")
    ('annlee', 'zoe', 'm1', '1-10', '110')
    """
    text = "".join(c for c in unicodedata.normalize("NFKD", visible(name).casefold()) if not "\u0300" <= c <= "\u036f")
    text = unicodedata.normalize("NFKC", text).translate(_LOOKS_LATIN)
    text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)
    text = _ENDING.sub("", text)
    text = "".join(" " if unicodedata.category(c).startswith(_PUNCTUATION) else c for c in text)
    parts = _PARTS.findall(text)
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
