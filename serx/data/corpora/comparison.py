"""`compare`: what a scan found of each known corpus, and what is missing of what its authors state."""

from collections import Counter
from collections.abc import Iterable

from serx.data.corpora.registry import CORPORA
from serx.data.utterance import Utterance

_MAX_SHOWN = 8  # names in a line


def compare(utterances: Iterable[Utterance]) -> list[str]:
    """One line for each known corpus: how many of the stated clips, speakers and emotions there are, before label maps.

    >>> from pathlib import Path
    >>> clips = [Utterance(Path(f"/{n}.wav"), "savee", "DC", "sad") for n in range(60)]
    >>> compare(clips)[0].partition("; fewer")[0]
    'savee: 60 of 480 clips; 1 of 4 speakers, without JE, JK, KL'
    """
    found: dict[str, list[Utterance]] = {}
    for clip in utterances:
        if clip.style == "speech" and clip.corpus in CORPORA and CORPORA[clip.corpus].clips is not None:
            found.setdefault(clip.corpus, []).append(clip)
    return [f"{name}: {'; '.join(_lines(name, clips))}" for name, clips in sorted(found.items())]


def _lines(name: str, clips: list[Utterance]) -> list[str]:
    corpus = CORPORA[name]
    lines = [_count(len(clips), corpus.clips or 0, "clips")]
    speakers = {clip.speaker for clip in clips if clip.speaker_known}
    if corpus.speaker_count:
        absent = [s for s in corpus.speakers or () if s not in speakers]
        without = f", without {_names(absent)}" if absent and len(corpus.speakers or ()) == corpus.speaker_count else ""
        lines.append(_count(len(speakers), corpus.speaker_count, "speakers") + without)
    counts = Counter(clip.emotion for clip in clips)
    fewer = [f"{word} ({counts[word]} of {n})" for word, n in corpus.counts.items() if counts[word] < n]
    more = [f"{word} ({counts[word]}, not {n})" for word, n in corpus.counts.items() if counts[word] > n]
    lines += [f"fewer of {_names(fewer)}"] if fewer else []
    lines += [f"more of {_names(more)}"] if more else []
    return lines


def _count(found: int, stated: int, what: str) -> str:
    if found == stated:
        return f"all {stated} {what}"
    return f"{found} of {stated} {what}" if found < stated else f"{found} {what}, {found - stated} more than stated"


def _names(names: list[str]) -> str:
    more = f" and {len(names) - _MAX_SHOWN} more" if len(names) > _MAX_SHOWN else ""
    return ", ".join(names[:_MAX_SHOWN]) + more
