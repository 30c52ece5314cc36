"""From emotion words to class numbers: one canonical vocabulary, explicit renames, and nothing dropped in silence."""

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from serx.data.utterance import Utterance
from serx.errors import DataError

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised", "boredom")

# Other spellings of the canonical words: word forms, and the codes that corpora and papers use. Words that name a
# neighboring emotion (joy, excitement, frustration) stay themselves: renaming those is the user's label map to write.
SYNONYMS: Mapping[str, str] = {
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

_TYPO = 0.7  # difflib ratio: `clam`/`calm` (0.75) is a slip of the hand, `mad`/`sad` (0.67) is another word


@dataclass(frozen=True)
class LabeledCorpus:
    """Utterances with their class numbers.

    Attributes:
        utterances: the clips kept, in the order given; `emotion` is still the word before the map.
        targets: for each utterance the index of its label in `labels`.
        labels: ordered class names.
        dropped: clips left out because the map says null, counted by emotion.
    """

    utterances: tuple[Utterance, ...]
    targets: list[int]
    labels: tuple[str, ...]
    dropped: dict[str, int]

    @property
    def absent(self) -> tuple[str, ...]:
        """The labels that no clip carries, such as `calm` when a RAVDESS model is evaluated on CREMA-D."""
        present = set(self.targets)
        return tuple(label for index, label in enumerate(self.labels) if index not in present)


def normalize_emotion(text: str) -> str:
    """The emotion a word stands for: lower case, single underscores, canonical spelling (`Anger ` -> `angry`)."""
    word = "_".join(text.casefold().replace("-", " ").replace("_", " ").split())
    return SYNONYMS.get(word, word)


def order_labels(emotions: Iterable[str]) -> tuple[str, ...]:
    """Distinct emotions, those of `EMOTIONS` first and in that order, then the others alphabetically."""
    distinct = set(emotions)
    return tuple(word for word in EMOTIONS if word in distinct) + tuple(sorted(distinct.difference(EMOTIONS)))


def assign_labels(
    utterances: Iterable[Utterance], labels: Sequence[str] | None, label_map: Mapping[str, str | None]
) -> LabeledCorpus:
    """Turn emotions into class numbers.

    The map is applied once, not repeatedly: with `{calm: neutral, neutral: null}` calm clips are kept as neutral.
    A word in `labels` or in the map that no clip carries is allowed, because one configuration serves several
    corpora and a checkpoint brings its own labels, unless it looks like a slip for a word that is known.

    Args:
        utterances: the clips, each with its emotion.
        labels: class names in order, or None for the emotions present after the map in canonical order.
        label_map: renames an emotion (`{"calm": "neutral"}`) or drops it (`{"boredom": None}`).

    Raises:
        DataError: a misspelled word, a label given twice, an emotion that is neither a label nor mapped to null, or
            no clip left.
    """
    clips = tuple(utterances)
    _refuse_typos(clips, labels, label_map)
    targets_by_emotion = {clip.emotion: label_map.get(clip.emotion, clip.emotion) for clip in clips}
    if labels is None:
        labels = order_labels(word for word in targets_by_emotion.values() if word is not None)
    else:
        _refuse_strays(clips, labels, targets_by_emotion)

    index = {label: number for number, label in enumerate(labels)}
    kept, targets, dropped = [], [], Counter[str]()
    for clip in clips:
        word = targets_by_emotion[clip.emotion]
        if word is None:
            dropped[clip.emotion] += 1
        else:
            kept.append(clip)
            targets.append(index[word])
    if not kept:
        why = f"data.label_map drops all of {', '.join(dropped)}" if dropped else "no clip was given"
        raise DataError(f"no clip left to label: {why}; keep at least one emotion")
    return LabeledCorpus(tuple(kept), targets, tuple(labels), dict(dropped))


def only_shared(
    utterances: Iterable[Utterance], labels: Sequence[str] | None, label_map: Mapping[str, str | None]
) -> tuple[tuple[str, ...], dict[str, str | None]]:
    """Labels and a label map that keep, after `label_map`, the emotions every corpus has, and drop the others.

    Where a checkpoint has fixed the `labels`, those are kept instead, whatever the corpora share now.

    Raises:
        DataError: the corpora share fewer than two emotions; says which each has.
    """
    words: dict[str, dict[str, str]] = {}  # corpus -> its emotions, before and after the map
    for clip in utterances:
        word = label_map.get(clip.emotion, clip.emotion)
        if word is not None:
            words.setdefault(clip.corpus, {})[clip.emotion] = word
    shared = order_labels(set.intersection(*(set(named.values()) for named in words.values()))) if words else ()
    if labels is None and len(shared) < 2:
        each = "; ".join(f"{corpus}: {', '.join(order_labels(named.values()))}" for corpus, named in words.items())
        raise DataError(f"data.labels is shared, but the corpora share fewer than two emotions ({each}); map some")
    kept = tuple(labels or shared)
    strays = {emotion for named in words.values() for emotion, word in named.items() if word not in kept}
    return kept, {**label_map, **dict.fromkeys(strays, None)}


def _refuse_typos(
    clips: Sequence[Utterance], labels: Sequence[str] | None, label_map: Mapping[str, str | None]
) -> None:
    known = order_labels([*EMOTIONS, *(clip.emotion for clip in clips)])
    written = [("data.labels", label) for label in labels or ()]
    for emotion, target in label_map.items():
        written.append(("data.label_map", emotion))
        if target is not None:
            written.append((f"data.label_map.{emotion}", target))
    faults = [
        f"{where}: no emotion is called {word!r}, did you mean {near!r}?"
        for where, word in written
        if word not in known and (near := _nearest(word, known)) is not None
    ]
    if labels is not None:
        faults += [f"data.labels: {label!r} stands there {n} times" for label, n in Counter(labels).items() if n > 1]
        if not labels:
            faults.append("data.labels is empty: name the emotions to tell apart, or leave it to auto")
    if faults:
        raise DataError("\n".join(faults))


def _nearest(word: str, known: Sequence[str]) -> str | None:
    plain = normalize_emotion(word)
    return next(iter(difflib.get_close_matches(plain, known, n=1, cutoff=_TYPO)), None)


def _refuse_strays(
    clips: Sequence[Utterance], labels: Sequence[str], targets_by_emotion: Mapping[str, str | None]
) -> None:
    strays = [e for e in order_labels(targets_by_emotion) if targets_by_emotion[e] not in (None, *labels)]
    if not strays:
        return
    listed = []
    for emotion in strays:
        corpora = [clip.corpus for clip in clips if clip.emotion == emotion]
        target = targets_by_emotion[emotion]
        renamed = "" if target == emotion else f", mapped to {target}"
        listed.append(f"{emotion} ({len(corpora)} clips of {', '.join(sorted(set(corpora)))}{renamed})")
    first = strays[0]
    raise DataError(
        f"emotions that data.labels ({', '.join(labels)}) does not hold: {'; '.join(listed)}. For each: add it to "
        f"data.labels, or map it: data.label_map.{first}={labels[0]}, or drop it: data.label_map.{first}=null"
    )
