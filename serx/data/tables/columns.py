"""Which column of a table means what: serx's names, the names of other tools, and what must not be passed over."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serx.data.labels import EMOTIONS, normalize_emotion

REQUIRED = ("path", "emotion")
DIMENSIONS = ("arousal", "valence", "dominance")
COLUMNS = (
    *REQUIRED, "speaker", "sex", "corpus", "split", "language", "style", "intensity", "start", "end", "duration",
    "weight", *DIMENSIONS,
)  # fmt: skip

# The names of the same columns in other tools. A name that could be two of them is in `_AMBIGUOUS`.
_OTHER_NAMES = {
    "path": """file filename file_name filepath file_path audio audio.path audio_path audio_file audio_filename
        audio_filepath wav wavfile wav_file wav_path wav_filename clip_path file_id fname""",
    "emotion": """label labels class target category emo emotions emotion_label emotion_class emotion_name emoclass
        label_name major_emotion""",
    "speaker": """actor spk spkr speaker_id speakerid spk_id spkid spkrid subject subject_id person person_id actor_id
        talker participant participant_id client_id speaker_name""",
    "sex": "gender speaker_sex speaker_gender",
    "corpus": "dataset database corpus_name dataset_name",
    "split": "partition subset set split_set",
    "language": "lang language_code",
    "style": "speaking_style",
    "intensity": "emotion_intensity",
    "start": """begin onset start_time starttime start_seconds start_s start_sec begin_time begin_seconds t_start tmin
        xmin""",
    "end": "stop end_time endtime end_seconds end_s end_sec stop_time stop_seconds t_end tmax xmax",
    "duration": "dur duration_seconds duration_s duration_sec",
    "weight": "sample_weight clip_weight",
    "arousal": "activation emoact aro",
    "valence": "emoval",
    "dominance": "emodom dom",
}
_MEANING = {other: name for name, others in _OTHER_NAMES.items() for other in others.split()}
_AMBIGUOUS = {
    "name": ("path", "speaker"),
    "id": ("path", "speaker"),
    "source": ("path", "corpus"),
    "offset": ("start", "end"),
    "val": ("valence", "split"),
}
# A column of times that is not read would silently make whole files of segments.
_TIMES = {
    "start", "begin", "beginning", "onset", "offset", "end", "ending", "stop", "duration", "dur", "from", "to", "t0",
    "t1", "t2",
}  # fmt: skip
_VOTES = re.compile(r"(?:emotions?|labels?|votes?)\.(.+)")
_VOTES_UNDERSCORE = re.compile(r"(?:emotion|label|votes?)_(.+)")  # only before the name of an emotion
_NO_EMOTION = {"confidence", "agreement", "certainty", "intensity", "level", "score", "id", "rater", "count", "name"}
_TYPO, _ALIKE = 0.75, 0.6  # difflib ratios: of a slip of the keyboard, and of a name worth mentioning


@dataclass(frozen=True)
class Columns:
    """Where the cells of a row are.

    Attributes:
        index: a name of `COLUMNS` -> the number of its cell.
        votes: emotion -> the number of the cell with its votes.
        titles: a name of `COLUMNS`, or an emotion -> how the table calls it.
        notes: for the user: names of other tools that were understood, and columns that are not used.
    """

    index: Mapping[str, int]
    votes: Mapping[str, int]
    titles: Mapping[str, str]
    notes: tuple[str, ...]


def plain(cell: str) -> str:
    """The name of a column, however it is written: lower case, underscores for spaces.

    >>> plain(' "File Name"')
    'file_name'
    """
    return "_".join(cell.strip().strip('"').casefold().split())


def is_known(name: str) -> bool:
    """Whether `name`, in `plain` form, is a column that serx reads.

    >>> is_known("file_name"), is_known("emotion.happy"), is_known("color")
    (True, True, False)
    """
    return name in COLUMNS or name in _MEANING or _voted(name) is not None


def known_as(name: str, renamed: Mapping[str, str | None]) -> str | None:
    """The column of `COLUMNS` that a name stands for; None if there is none, or `renamed` says not to use it.

    >>> known_as("Gender", {}), known_as("color", {"color": "emotion"}), known_as("gender", {"gender": None})
    ('sex', 'emotion', None)
    """
    answers = {plain(theirs): ours for theirs, ours in renamed.items()}
    name = plain(name)
    name = answers.get(name, _MEANING.get(name, name)) or ""
    return name if name in COLUMNS else None


def match_columns(header: Sequence[str], renamed: Mapping[str, str | None]) -> tuple[Columns, list[str]]:
    """What each column means, and what is wrong with the header.

    Args:
        header: the names of the columns.
        renamed: `data.columns`: a name in the table -> a name of `COLUMNS`, `emotion.WORD`, or None: do not use it.

    >>> columns, faults = match_columns(["File Name", "label", "begin", "end", "color"], {})
    >>> columns.index, faults
    ({'path': 0, 'emotion': 1, 'start': 2, 'end': 3}, [])
    >>> columns.notes
    ("read 'File Name' as path, 'label' as emotion, 'begin' as start", "not used: 'color'")
    """
    titles = [cell.strip() or f"column {number}" for number, cell in enumerate(header, 1)]
    names = [plain(cell) for cell in header]
    answers, faults = _answers(renamed)
    meant, more = _meanings(names, titles, answers)
    faults += more
    index = {name: meant[name][0] for name in COLUMNS if name in meant}
    votes, vote_faults = _votes(meant, names, titles)
    used = {number for numbers in meant.values() for number in numbers}
    others = [i for i, name in enumerate(names) if i not in used and answers.get(name, name) is not None]
    times = [i for i in others if _tokens(titles[i]) & _TIMES]
    faults += vote_faults + _missing(index, votes, [names[i] for i in others if i not in times], names)
    faults += [_passed_over(titles[i], names[i], index) for i in times]
    if "duration" in index and not {"start", "end"} & set(index) and not faults:
        faults.append(_passed_over(titles[index["duration"]], names[index["duration"]], index))
    called = {name: titles[i] for name, i in {**index, **votes}.items()}
    read = [f"{called[name]!r} as {name}" for name, i in index.items() if names[i] != name and names[i] not in answers]
    unused = [f"{titles[i]!r}{_resembles(names[i], index)}" for i in others if header[i].strip()]
    notes = ([f"read {', '.join(read)}"] if read else []) + ([f"not used: {', '.join(unused)}"] if unused else [])
    return Columns(index, votes, called, tuple(notes)), faults


def _answers(renamed: Mapping[str, str | None]) -> tuple[dict[str, str | None], list[str]]:
    """`data.columns` in `plain` form, and a line for each name that serx does not know."""
    answers: dict[str, str | None] = {}
    faults = []
    for theirs, name in renamed.items():
        ours = None if name is None else _MEANING.get(plain(name), plain(name))
        answers[plain(theirs)] = ours
        if ours is not None and ours not in COLUMNS and _voted(ours) is None:
            near = difflib.get_close_matches(ours, COLUMNS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(COLUMNS)}, emotion.WORD and null"
            faults.append(f"data.columns.{theirs}: no column is called {name!r}; {hint}")
    return answers, faults


def _meanings(
    names: Sequence[str], titles: Sequence[str], answers: Mapping[str, str | None]
) -> tuple[dict[str, list[int]], list[str]]:
    """What is read -> the columns that hold it; and where that is not clear."""
    faults: list[str] = []
    meant: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        ours = answers.get(name, name)
        if ours is not None and (ours in COLUMNS or _voted(ours)):
            meant.setdefault(ours, []).append(number)
    faults += [
        f"column {name!r} occurs {len(found)} times; keep one" for name, found in meant.items() if len(found) > 1
    ]
    for name in COLUMNS:
        others = [i for i, n in enumerate(names) if _MEANING.get(n) == name and n not in answers]
        if name in meant or not others:
            continue
        meant[name] = others[:1]
        if len(others) > 1:
            listed = " and ".join(repr(titles[i]) for i in others)
            faults.append(f"{listed} could each be {name!r}; rename one of them to {name!r}")
    if "offset" in names and "offset" not in answers:  # behind an onset it is the end, before a duration the start
        if "start" in meant and not {"end", "duration"} & set(meant):
            meant["end"] = [names.index("offset")]
        elif "duration" in meant and not {"start", "end"} & set(meant):
            meant["start"] = [names.index("offset")]
    return meant, faults


def _votes(
    meant: Mapping[str, Sequence[int]], names: Sequence[str], titles: Sequence[str]
) -> tuple[dict[str, int], list[str]]:
    """Emotion -> the column with its votes; and where that is not clear."""
    votes: dict[str, int] = {}
    faults = []
    for name, (number, *_) in meant.items():
        word = None if name in COLUMNS else _voted(name)
        if word is None:
            continue
        if word in votes:
            faults.append(f"{titles[votes[word]]!r} and {titles[number]!r} are both votes for {word}; keep one")
        elif not any(letter.isalpha() for letter in word):
            faults.append(f"{titles[number]!r} looks like votes for an emotion {word!r}; {_way_out(names[number])}")
        else:
            votes[word] = number
    return votes, faults


def _voted(name: str) -> str | None:
    """The emotion whose votes a column holds."""
    if match := _VOTES.fullmatch(name):
        return None if match[1] in _NO_EMOTION else normalize_emotion(match[1])
    match = _VOTES_UNDERSCORE.fullmatch(name)
    return word if match and (word := normalize_emotion(match[1])) in EMOTIONS else None


def _missing(index: Mapping[str, int], votes: Mapping[str, int], others: list[str], names: list[str]) -> list[str]:
    """A line for each column that must be there, and for each that seems to be misspelled."""
    faults = []
    for name in COLUMNS:
        if name in index:
            continue
        needed = name in REQUIRED and not (name == "emotion" and (votes or set(DIMENSIONS) & set(index)))
        near = difflib.get_close_matches(name, others, n=1, cutoff=_TYPO)
        could = [other for other in others if name in _AMBIGUOUS.get(other, ())]
        if near:
            faults.append(f"no column {name!r}; rename {near[0]!r} to {name!r}, or {_way_out(near[0])}")
        elif needed and could:
            faults.append(f"no column {name!r}; if {could[0]!r} is it, rename it to {name!r}")
        elif needed:
            faults.append(f"no column {name!r} among {', '.join(filter(None, names)) or 'nothing'}; add it")
    return faults


def _passed_over(title: str, name: str, index: Mapping[str, int]) -> str:
    """Why a column of times cannot be used, and what to do."""
    free = [time for time in ("start", "end") if time not in index]
    if name in ("duration", *_OTHER_NAMES["duration"].split()):
        return f"{title!r} without a start: add a column start if clips are parts of files, or {_way_out(name)}"
    rename = f"rename it to {' or '.join(free)}, in seconds" if free else "delete it"
    return f"{title!r} looks like a time and is not read: {rename}, or {_way_out(name)}"


def _way_out(name: str) -> str:
    return f"set data.columns.{name}=null if it should not be used"


def _tokens(title: str) -> set[str]:
    return {word.casefold() for word in re.findall(r"\b[tT]\d\b|[A-Z]?[a-z]+|[A-Z]+(?![a-z])", title)}


def _resembles(name: str, index: Mapping[str, int]) -> str:
    """What an unused column could have meant."""
    if name in _AMBIGUOUS:
        free = [meaning for meaning in _AMBIGUOUS[name] if meaning not in index]
        return f" (rename it if it is {' or '.join(free)})" if free else ""
    if name in _MEANING or name in COLUMNS:
        return ""
    if normalize_emotion(name) in EMOTIONS:
        return f" (votes are called 'emotion.{name}')"
    near = difflib.get_close_matches(name, [n for n in COLUMNS if n not in index], n=1, cutoff=_ALIKE)
    near = near or [_MEANING[n] for n in difflib.get_close_matches(name, _MEANING, n=1, cutoff=_TYPO)]
    return f" (did you mean {near[0]!r}?)" if near and near[0] not in index else ""
