"""The leak check: no speaker, no audio, no moment of a file and no copy of audio is in two parts of a split.

Identical audio has identical digests. Copies that were encoded again, filtered, cut or disturbed are found by
`serx.data.copies.pairs`.
"""

from collections.abc import Hashable, Sequence
from itertools import combinations

import numpy as np

from serx.data.copies.pairs import Copy
from serx.data.corpora import canonical_speaker
from serx.data.splits.protocols import Split
from serx.data.utterance import Utterance
from serx.data.utterances import Utterances, overlapping
from serx.errors import LeakError

REMEDY = (
    "delete one file of each pair, or leave copies out: data.duplicates=drop_one (the second of each pair) or "
    "data.duplicates=drop_all (both)"
)
TOGETHER = (
    "cut them so that they do not overlap, or keep them in one part: by a column split and data.protocol=manifest, or "
    "by data.test_speakers and data.valid_speakers"
)
PARTS = ("train", "valid", "test")
MAX_SHOWN = 5  # offenders named in an error message


def check_leaks(utterances: Sequence[Utterance], split: Split, digests: Sequence[str]) -> None:
    """Verifies what a split claims: no shared speakers if it says so, and the same audio never in two parts.

    The same audio is in clips whose samples are equal, and in segments of one file that overlap.

    Args:
        utterances: all clips.
        split: indices into them.
        digests: of each utterance's audio; equal audio has equal digests.

    Raises:
        LeakError: names speakers and pairs of files, at most five of each, and their number.

    >>> from pathlib import Path
    >>> clips = [Utterance(Path(f"/{n}.wav"), "own", "07", "sad") for n in range(3)]
    >>> try:
    ...     check_leaks(clips, Split((0,), (1,), (2,), "", True, False), ["a", "b", "c"])
    ... except LeakError as error:
    ...     print(error)
    speakers in two parts (1): own/07 (train and test, valid and test); put all clips of a speaker into one part
    """
    utterances = Utterances.of(utterances)
    first_of, number = utterances.distinct("corpus", "speaker")
    named = [utterances[i] for i in first_of.tolist()]
    # Utterances made by hand may spell one speaker `7` and `07`.
    speakers = _numbered([(u.corpus, canonical_speaker(u.speaker).casefold()) for u in named])[number]
    audio = _numbered(list(digests))
    shared_speakers: dict[str, list[str]] = {}
    same_audio = []
    for first_part, second_part in combinations(PARTS, 2):
        first, second = getattr(split, first_part), getattr(split, second_part)
        if split.speaker_independent if second_part == "test" else split.validation_independent:
            for i, j in _shared(speakers, first, second):
                spellings = dict.fromkeys((utterances[i].speaker_id, utterances[j].speaker_id))
                shared_speakers.setdefault(" = ".join(spellings), []).append(f"{first_part} and {second_part}")
        same_audio += [_pair(utterances, i, first_part, j, second_part) for i, j in _shared(audio, first, second)]
    pairs = overlapping(utterances)
    part = {i: name for name in PARTS for i in getattr(split, name)} if pairs else {}
    overlaps = [
        _pair(utterances, i, part[i], j, part[j]) for i, j in pairs if i in part and j in part and part[i] != part[j]
    ]
    faults = []
    if shared_speakers:
        named = [f"{speaker_id} ({', '.join(parts)})" for speaker_id, parts in shared_speakers.items()]
        faults.append(f"speakers in two parts ({len(named)}): {_list(named)}; put all clips of a speaker into one part")
    if same_audio:
        faults.append(f"the same audio in two parts ({len(same_audio)}): {_list(same_audio)}; {REMEDY}")
    if overlaps:
        faults.append(f"overlapping segments in two parts ({len(overlaps)}): {_list(overlaps)}; {TOGETHER}")
    if faults:
        raise LeakError("\n".join(faults))


def check_copies(utterances: Sequence[Utterance], split: Split, copies: Sequence[Copy]) -> None:
    """Raises if copies of a clip are in two parts.

    Args:
        utterances: all clips.
        split: indices into them.
        copies: pairs of clips that hold the same recording; those within one part are no leak.

    Raises:
        LeakError: names the most similar pairs, at most five, and their number.
    """
    part = {i: name for name in PARTS for i in getattr(split, name)} if copies else {}
    pairs = [
        f"{_pair(utterances, c.first, part[c.first], c.second, part[c.second])}: {c.correlation:.3f}"
        for c in copies
        if c.first in part and c.second in part and part[c.first] != part[c.second]
    ]
    if pairs:
        raise LeakError(f"copies in two parts ({len(pairs)}, with their correlation): {_list(pairs)}; {REMEDY}")


def _numbered(keys: Sequence[Hashable]) -> np.ndarray:
    """`(n,)`: the same number for equal keys."""
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def _shared(keys: np.ndarray, first: Sequence[int], second: Sequence[int]) -> list[tuple[int, int]]:
    """For each key in both parts, its first index in `first` and in `second`."""
    parts = [np.asarray(part, np.int64) for part in (first, second)]
    (in_first, rows), (in_second, others) = (np.unique(keys[part], return_index=True) for part in parts)
    _, i, j = np.intersect1d(in_first, in_second, assume_unique=True, return_indices=True)
    return sorted(zip(parts[0][rows[i]].tolist(), parts[1][others[j]].tolist(), strict=True))


def _pair(utterances: Sequence[Utterance], i: int, part_of_i: str, j: int, part_of_j: str) -> str:
    return f"{utterances[i].segment} ({part_of_i}) and {utterances[j].segment} ({part_of_j})"


def _list(offenders: list[str]) -> str:
    more = f"; and {len(offenders) - MAX_SHOWN} more" if len(offenders) > MAX_SHOWN else ""
    return "; ".join(offenders[:MAX_SHOWN]) + more
