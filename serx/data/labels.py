"""From emotion words to class numbers: canonical words, explicit renames, and nothing dropped without a note."""

import difflib
import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Literal

import numpy as np

from serx.data.utterance import Utterance, visible
from serx.data.utterances import Utterances
from serx.errors import ConfigError, DataError
from serx.metrics.votes import majority

# The canonical words, in the order of the classes. `register_emotion` appends to them.
EMOTIONS: list[str] = ["neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised", "boredom"]

# Other spellings of the canonical words: word forms, and the codes that corpora and papers use. Words for a neighboring
# emotion (joy, excitement, frustration) are not synonyms: whether they are the same class is for data.label_map to say.
SYNONYMS: dict[str, str] = {
    **dict.fromkeys(("neu", "neutrality"), "neutral"),
    **dict.fromkeys(("calmness",), "calm"),
    **dict.fromkeys(("hap", "happiness"), "happy"),
    **dict.fromkeys(("sadness",), "sad"),
    **dict.fromkeys(("ang", "anger"), "angry"),
    **dict.fromkeys(("fea", "fear", "afraid", "scared"), "fearful"),
    **dict.fromkeys(("dis", "disgusted"), "disgust"),
    **dict.fromkeys(
        ("sur", "surprise", "ps", "pleasant_surprise", "pleasant_surprised", "pleasantly_surprised"), "surprised"
    ),
    **dict.fromkeys(("bored",), "boredom"),
}

LabelsFrom = Literal["emotion", "votes"]
_SAY: Mapping[LabelsFrom, tuple[str, ...]] = {"emotion": ("emotion",), "votes": ("emotion", "votes")}  # what says it
UNSURE = "unsure"  # the label of a prediction below `min_confidence`, so no class may have this name
_TYPO = 0.7  # difflib ratio: `clam`/`calm` (0.75) is a typo, `mad`/`sad` (0.67) is another word


_RESERVED = f"{UNSURE!r} is what serx calls a prediction below min_confidence, and cannot be an emotion"
_MAX_SHOWN = 3  # clips of an emotion named in a message


@dataclass(frozen=True)
class LabeledCorpus:
    """Utterances with their class numbers.

    Attributes:
        utterances: the clips kept, in the order given; `emotion` is still the word before the map.
        targets: for each utterance the index of its label in `labels`; of votes, the label with most of them.
        labels: ordered class names.
        dropped: number of clips dropped because the map says null, by emotion.
        votes: `(n, C)` float64, the votes of each clip for each label; a single one for a clip without votes. None if
            the labels are not from votes.
        without_vote: number of clips dropped because the map says null to every emotion that they have votes for.
        dropped_votes: the votes for emotions to which the map says null, of clips that are kept or not, by emotion.
        positions: for each utterance its position among those that were given.
    """

    utterances: Utterances
    targets: list[int]
    labels: tuple[str, ...]
    dropped: dict[str, int]
    votes: np.ndarray | None = None
    without_vote: int = 0
    dropped_votes: dict[str, float] = field(default_factory=dict)
    positions: list[int] = field(default_factory=list)

    @property
    def absent(self) -> tuple[str, ...]:
        """The labels without a clip, such as `calm` when a RAVDESS model is evaluated on CREMA-D."""
        present = set(self.targets)
        return tuple(label for index, label in enumerate(self.labels) if index not in present)


def register_emotion(word: str, spellings: Collection[str] = ()) -> None:
    """Adds a canonical emotion word, after those of `EMOTIONS`, and other spellings of it.

    Call it in a module of your own and name that module with `--import`. Registering the same word again adds
    spellings. A word that is already canonical (`"happy"`) gets the new spellings and keeps its position.

    Args:
        word: the canonical word, such as `"contempt"`.
        spellings: other words or codes for it, as manifests and file names write them.

    Raises:
        ConfigError: the word has no letter, or a spelling already means another emotion.

    >>> register_emotion("contempt", spellings=["con", "contemptuous"])
    >>> normalize_emotion("Contemptuous")
    'contempt'
    >>> order_labels(["contempt", "amused", "sad"])
    ('sad', 'contempt', 'amused')
    """
    word = _plain_word(word)
    plain_spellings = [_plain_word(spelling) for spelling in spellings]
    if not any(letter.isalpha() for letter in word):
        raise ConfigError(f"register_emotion: {word!r} is not a word; write its name, such as contempt")
    if word == UNSURE:
        raise ConfigError(f"register_emotion: {_RESERVED}; choose another word")
    for spelling in [word, *plain_spellings]:
        meaning = spelling if spelling in EMOTIONS else SYNONYMS.get(spelling, word)
        if meaning != word:
            raise ConfigError(f"register_emotion({word!r}): {spelling!r} already means {meaning}; leave it out")
    if word not in EMOTIONS:
        EMOTIONS.append(word)
    SYNONYMS.update({spelling: word for spelling in plain_spellings if spelling != word})


def normalize_emotion(text: str) -> str:
    """The canonical word of an emotion: lower case, single underscores, canonical spelling.

    >>> normalize_emotion(" Anger "), normalize_emotion("Pleasant-Surprise"), normalize_emotion("joy")
    ('angry', 'surprised', 'joy')
    """
    word = _plain_word(text)
    return SYNONYMS.get(word, word)


def order_labels(emotions: Iterable[str]) -> tuple[str, ...]:
    """Distinct emotions: those of `EMOTIONS` first and in that order, then the others alphabetically.

    >>> order_labels(["joy", "sad", "neutral", "amused", "sad"])
    ('neutral', 'sad', 'amused', 'joy')
    """
    distinct = set(emotions)
    return tuple(word for word in EMOTIONS if word in distinct) + tuple(sorted(distinct.difference(EMOTIONS)))


def assign_labels(
    utterances: Iterable[Utterance],
    labels: Sequence[str] | None,
    label_map: Mapping[str, str | None],
    labels_from: LabelsFrom = "emotion",
) -> LabeledCorpus:
    """Turns emotions, or votes for emotions, into class numbers.

    The map is applied once, not repeatedly: with `{calm: neutral, neutral: null}` calm clips are kept as neutral.
    A word in `labels` or in the map may have no clip, because one configuration serves several corpora and a
    checkpoint brings its own labels. Only a word that looks like a typo of a known word is an error.

    With `labels_from="votes"` the map is applied to the words of the votes: votes for words of one class add up, and
    those mapped to null are left out. A clip without votes has a single one, for its emotion.

    Args:
        utterances: the clips, each with its emotion.
        labels: class names in order, or None for the emotions present after the map in canonical order.
        label_map: renames an emotion (`{"calm": "neutral"}`) or drops it (`{"boredom": None}`).
        labels_from: what the labels of a clip are read from.

    Raises:
        DataError: a misspelled word, a label given twice, an emotion that is neither a label nor mapped to null, a
            label called unsure, votes that are negative, infinite or all 0, or no clip left.

    >>> from pathlib import Path
    >>> clips = [Utterance(Path(f"/{e}.wav"), "own", "1", e) for e in ("sad", "calm", "boredom")]
    >>> labeled = assign_labels(clips, None, {"calm": "neutral", "boredom": None})
    >>> labeled.labels, labeled.targets, labeled.dropped
    (('neutral', 'sad'), [1, 0], {'boredom': 1})
    """
    clips = _columns(utterances)
    first, number = clips.distinct(*_SAY[labels_from])
    words_of = [_words(clips[i], labels_from) for i in first.tolist()]  # of each combination of words
    _check_spelling(words_of, labels, label_map)
    words = dict.fromkeys(word for words in words_of for word in words)
    targets_by_emotion = {word: label_map.get(word, word) for word in words}
    chosen = (
        order_labels(word for word in targets_by_emotion.values() if word is not None) if labels is None else labels
    )
    _check_reserved(clips, number, words_of, chosen, label_map, targets_by_emotion)
    _check_unlabeled(clips, number, words_of, chosen, targets_by_emotion)

    index = {label: number for number, label in enumerate(chosen)}
    dropped, dropped_votes = Counter[str](), Counter[str]()
    votes = np.zeros((len(first), len(chosen)))
    has_votes, counts = clips.has("votes"), np.bincount(number, minlength=len(first)).tolist()
    for row, words_of_clip in enumerate(words_of):
        for word, times in words_of_clip.items():
            target = targets_by_emotion[word]
            if target is not None:
                votes[row, index[target]] += times
            elif has_votes[first[row]] and labels_from == "votes":
                dropped_votes[word] += times * counts[row]
            else:
                dropped[word] += counts[row]
    kept = np.asarray(votes.any(axis=1))[number]
    positions = np.flatnonzero(kept)
    if not len(positions):
        left_out = ", ".join([*dropped, *dropped_votes])
        why = f"data.label_map drops all of {left_out}" if left_out else "there are no clips"
        raise DataError(f"no clip left to label: {why}; keep at least one emotion")
    return LabeledCorpus(
        utterances=clips if kept.all() else clips.take(positions),
        targets=majority(votes)[0][number[positions]].tolist(),
        labels=tuple(chosen),
        dropped=dict(dropped),
        votes=votes[number[positions]] if labels_from == "votes" else None,
        without_vote=int(has_votes[~kept].sum()) if labels_from == "votes" else 0,
        dropped_votes=dict(dropped_votes),
        positions=positions.tolist(),
    )


def _columns(utterances: Iterable[Utterance]) -> Utterances:
    return utterances if isinstance(utterances, Utterances) else Utterances.of(tuple(utterances))


def _words(clip: Utterance, labels_from: LabelsFrom) -> Mapping[str, float]:
    """The emotion words that label a clip, and the votes for each; a single vote if there are none.

    A clip with ratings only has no word.
    """
    if labels_from == "emotion" or not clip.votes:
        return _one_vote(clip.emotion)
    votes: dict[str, float] = {}
    for word, number in clip.votes:
        if not (math.isfinite(number) and number >= 0):
            raise DataError(
                f"{clip.source}: {number:g} votes for {word}; give a number of raters or a share, 0 or more"
            )
        votes[word] = votes.get(word, 0.0) + number
    if not math.fsum(votes.values()):
        raise DataError(
            f"{clip.source}: 0 votes for each of {', '.join(votes)}; leave them empty, so that its emotion counts, or "
            "take the clip out"
        )
    return {word: number for word, number in votes.items() if number}


@lru_cache(maxsize=1 << 10)
def _one_vote(emotion: str) -> Mapping[str, float]:
    """The same object for all clips of an emotion, which must not be changed."""
    return MappingProxyType({emotion: 1.0} if emotion else {})


def only_shared(
    utterances: Iterable[Utterance],
    labels: Sequence[str] | None,
    label_map: Mapping[str, str | None],
    labels_from: LabelsFrom = "emotion",
) -> tuple[tuple[str, ...], dict[str, str | None]]:
    """Labels and a label map that keep the emotions which every corpus has after `label_map`, and drop the others.

    If `labels` are given (a checkpoint fixes them), those are kept instead.

    Raises:
        DataError: the corpora share fewer than two emotions; the message lists those of each corpus.
    """
    words: dict[str, dict[str, str]] = {}  # corpus -> {emotion before the map: emotion after it}
    clips = _columns(utterances)
    for i in clips.distinct("corpus", *_SAY[labels_from])[0].tolist():
        clip = clips[i]
        for emotion in _words(clip, labels_from):
            word = label_map.get(emotion, emotion)
            if word is not None:
                words.setdefault(clip.corpus, {})[emotion] = word
    shared = order_labels(set.intersection(*(set(renamed.values()) for renamed in words.values()))) if words else ()
    if labels is None and len(shared) < 2:
        each = "; ".join(f"{corpus}: {', '.join(order_labels(renamed.values()))}" for corpus, renamed in words.items())
        raise DataError(
            f"data.labels is shared, but the corpora share fewer than two emotions ({each}); rename some with "
            "data.label_map, or list the classes in data.labels"
        )
    kept = tuple(labels or shared)
    unlabeled = {emotion for renamed in words.values() for emotion, word in renamed.items() if word not in kept}
    return kept, {**label_map, **dict.fromkeys(order_labels(unlabeled), None)}


def _check_spelling(
    words_of: Sequence[Mapping[str, float]], labels: Sequence[str] | None, label_map: Mapping[str, str | None]
) -> None:
    known = order_labels([*EMOTIONS, *(word for words in words_of for word in words)])
    written = [(f"data.labels.{number}", label) for number, label in enumerate(labels or ())]
    for emotion, target in label_map.items():
        written.append((f"data.label_map.{emotion}", emotion))
        if target is not None:
            written.append((f"data.label_map.{emotion}", target))
    faults = [
        f"{where}: no emotion is called {word!r}, did you mean {near!r}?"
        for where, word in written
        if word not in known and (near := _nearest(word, known)) is not None
    ]
    if labels is not None:
        faults += [
            f"data.labels: {label!r} is listed {n} times; keep one" for label, n in Counter(labels).items() if n > 1
        ]
        if not labels:
            faults.append(
                "data.labels is empty: list the classes, or leave data.labels out to use all emotions present"
            )
    if faults:
        raise DataError("\n".join(faults))


def _check_reserved(
    clips: Utterances,
    number: np.ndarray,
    words_of: Sequence[Mapping[str, float]],
    labels: Sequence[str],
    label_map: Mapping[str, str | None],
    targets_by_emotion: Mapping[str, str | None],
) -> None:
    """Raises on a class whose name is that of an abstention."""
    for emotion, target in label_map.items():
        if target is not None and _plain_word(target) == UNSURE:
            raise DataError(f"data.label_map.{emotion}: {_RESERVED}; map to another word, or to null to drop the clips")
    for position, label in enumerate(labels):
        if _plain_word(label) != UNSURE:
            continue
        mapped = [any(targets_by_emotion[word] == label for word in words) for words in words_of]
        chosen = np.flatnonzero(np.array(mapped, bool)[number])
        where = _sources(clips, chosen, 1) if len(chosen) else f"data.labels.{position}"
        fix = f"rename it, such as data.label_map.{UNSURE}=uncertain, or drop it with data.label_map.{UNSURE}=null"
        raise DataError(f"{where}: {_RESERVED}; {fix}")


def _sources(clips: Utterances, chosen: np.ndarray, shown: int = _MAX_SHOWN) -> str:
    """Where the first chosen clips are listed: `file.csv:LINE`, or the file if its name tells the emotion."""
    more = f" and {len(chosen) - shown} more" if len(chosen) > shown > 1 else ""
    return ", ".join(clips.source(i) for i in chosen[:shown].tolist()) + more


def _nearest(word: str, known: Sequence[str]) -> str | None:
    return next(iter(difflib.get_close_matches(normalize_emotion(word), known, n=1, cutoff=_TYPO)), None)


def _plain_word(text: str) -> str:
    return "_".join(visible(text).casefold().replace("-", " ").replace("_", " ").split())


def _check_unlabeled(
    clips: Utterances,
    number: np.ndarray,
    words_of: Sequence[Mapping[str, float]],
    labels: Sequence[str],
    targets_by_emotion: Mapping[str, str | None],
) -> None:
    unlabeled = [e for e in order_labels(targets_by_emotion) if targets_by_emotion[e] not in (None, *labels)]
    if not unlabeled:
        return
    listed = []
    for emotion in unlabeled:
        chosen = np.flatnonzero(np.array([emotion in words for words in words_of], bool)[number])
        target = targets_by_emotion[emotion]
        renamed = "" if target == emotion else f", mapped to {target}"
        corpora = ", ".join(sorted(clips.present("corpus", chosen)))
        listed.append(f"{emotion} ({len(chosen)} clips of {corpora}{renamed}: {_sources(clips, chosen)})")
    first = unlabeled[0]
    combination = next(row for row, words in enumerate(words_of) if first in words)
    where = clips.source(int((number == combination).argmax()))
    raise DataError(
        f"{where}: emotions that are missing in data.labels ({', '.join(labels)}): {'; '.join(listed)}. For each: add "
        f"it to data.labels, or map it: data.label_map.{first}={labels[0]}, or drop it: data.label_map.{first}=null"
    )
