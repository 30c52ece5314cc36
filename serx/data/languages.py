"""`language_code`: the ISO 639-1 code of a language, from its name or another code."""

import difflib

# https://www.loc.gov/standards/iso639-2/php/code_list.php
_TWO_LETTERS = """
    aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el
    en eo es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu
    ja jv ka kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na
    nb nd ne ng nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so
    sq sr ss st su sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
"""
_CODES = frozenset(_TWO_LETTERS.split())
# Names and three-letter codes (ISO 639-2 and 639-3) of languages with emotional speech corpora or many speakers.
_NAMES = {
    name: code
    for code, names in {
        "am": "amharic amh",
        "ar": "arabic ara arb",
        "bg": "bulgarian bul",
        "bn": "bengali bangla ben",
        "ca": "catalan cat",
        "cs": "czech ces cze",
        "cy": "welsh cym wel",
        "da": "danish dan",
        "de": "german deutsch deu ger",
        "el": "greek ell gre",
        "en": "english eng",
        "es": "spanish castilian spa",
        "et": "estonian est",
        "eu": "basque eus baq",
        "fa": "persian farsi fas per pes",
        "fi": "finnish fin",
        "fr": "french fra fre",
        "ga": "irish gle",
        "he": "hebrew heb",
        "hi": "hindi hin",
        "hr": "croatian hrv",
        "hu": "hungarian hun",
        "id": "indonesian ind",
        "is": "icelandic isl ice",
        "it": "italian ita",
        "ja": "japanese jpn",
        "kk": "kazakh kaz",
        "ko": "korean kor",
        "lt": "lithuanian lit",
        "lv": "latvian lav",
        "ml": "malayalam mal",
        "mr": "marathi mar",
        "ms": "malay msa may",
        "nl": "dutch nld dut flemish",
        "no": "norwegian nor",
        "pa": "punjabi panjabi pan",
        "pl": "polish pol",
        "pt": "portuguese por",
        "ro": "romanian ron rum",
        "ru": "russian rus",
        "sk": "slovak slk slo",
        "sl": "slovenian slv",
        "sq": "albanian sqi alb",
        "sr": "serbian srp",
        "sv": "swedish swe",
        "sw": "swahili swa",
        "ta": "tamil tam",
        "te": "telugu tel",
        "th": "thai tha",
        "tr": "turkish tur",
        "uk": "ukrainian ukr",
        "ur": "urdu urd",
        "vi": "vietnamese vie",
        "zh": "chinese mandarin zho chi cmn",
    }.items()
    for name in names.split()
}


def language_code(text: str) -> str:
    """The ISO 639-1 code of a language; its ISO 639-3 code if it has no shorter one (Cantonese: `yue`).

    Args:
        text: a code with or without a country (`en`, `en-US`, `eng`), or an English name.

    Raises:
        ValueError: no language is called so; says what is like it.

    >>> [language_code(text) for text in ("EN", "en-US", "deu", "Persian", "yue")]
    ['en', 'en', 'de', 'fa', 'yue']
    """
    word = text.strip().casefold()
    word = word if word in _NAMES else word.replace("_", "-").partition("-")[0]
    if word in _CODES:
        return word
    if word in _NAMES:
        return _NAMES[word]
    if len(word) == 3 and word.isascii() and word.isalpha():
        return word
    near = difflib.get_close_matches(word, _NAMES, n=1, cutoff=0.75)
    hint = f"did you mean {near[0]}?" if near else "write its code, such as en"
    raise ValueError(f"no language is called {text!r}; {hint}")
