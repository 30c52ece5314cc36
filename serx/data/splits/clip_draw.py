"""`draw_clips`: a random part of the clips, in which copies of the audio and overlapping segments stay together."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from serx.data.splits.speaker_choice import quota
from serx.data.utterances import Utterances, overlapping
from serx.seeding import derive


def draw_clips(
    among: np.ndarray,
    clips: Utterances,
    targets: np.ndarray,
    digests: Sequence[str] | None,
    fraction: float,
    seed: int,
) -> np.ndarray:
    """`(n,)` bool: a fraction of each class of the clips in the mask `among`; clips with equal keys stay together."""
    if not fraction:
        return np.zeros(len(clips), bool)
    named = digests if digests is not None else [f"{s.path.as_posix()}{s.fragment}" for s in clips.segments]
    keys = _kept_together(list(named), overlapping(clips))
    groups: dict[str, list[int]] = defaultdict(list)
    for i in np.flatnonzero(among).tolist():
        groups[keys[i]].append(i)
    classes: dict[int, list[str]] = defaultdict(list)
    for key in sorted(groups, key=lambda key: derive(seed, f"clip {key}")):
        classes[min(targets[groups[key]].tolist())].append(key)
    drawn = (key for keys in classes.values() for key in keys[: quota(fraction, len(keys))])
    chosen = np.zeros(len(clips), bool)
    chosen[[i for key in drawn for i in groups[key]]] = True
    return chosen


def _kept_together(clip_keys: Sequence[str], pairs: Sequence[tuple[int, int]]) -> Sequence[str]:
    """The keys, with the same one for all clips that pairs connect."""
    if not pairs:
        return clip_keys
    leader: dict[str, str] = {}

    def find(key: str) -> str:
        while key in leader:
            key = leader[key]
        return key

    for i, j in pairs:
        first, second = sorted((find(clip_keys[i]), find(clip_keys[j])))
        if first != second:
            leader[second] = first
    return [find(key) for key in clip_keys]
