"""Protocol stamps, the words beside every number: what evaluation adds to a split's, and those of folds in one."""

import re
from collections import defaultdict
from collections.abc import Collection, Sequence

from serx.metrics.intervals import clips_by_name

# Clauses that differ from fold to fold, said once of all: `make_split` and `enrolled_stamp` write them.
_LEFT_OUT = re.compile("(.+) left out")
_ADAPTED = re.compile("ADAPTED to each speaker with ([0-9]+)(?: to ([0-9]+))? unlabeled clips")


def adapted_stamp(stamp: str, speaker_ids: Sequence[str]) -> str:
    """The stamp of clips by these speakers `(n,)`, each of whom was enrolled by the clips of their own among them."""
    return f"{stamp}; {_adapted([len(clips) for clips in clips_by_name(speaker_ids).values()])}"


def is_adapted(stamp: str) -> bool:
    """Whether the voices were made known, which is another protocol than to hear each clip by itself."""
    return _ADAPTED.search(stamp) is not None


def pooled_stamp(stamps: Sequence[str], folds: Collection[int], seeds: Collection[int]) -> str:
    """The stamps of folds in one: what any of them warns of stays said."""
    protocol = stamps[0].split(",")[0].split(" fold ")[0]
    parts = [part for stamp in stamps for clause in stamp.split("; ") for part in clause.split(", ")]
    told = [part for part in dict.fromkeys(parts) if part.split(" fold ")[0] != protocol]
    left_out = list(dict.fromkeys(match[1] for match in map(_LEFT_OUT.fullmatch, told) if match))
    counts = [int(n) for match in map(_ADAPTED.fullmatch, told) if match for n in match.groups() if n]
    told = [part for part in told if not (_LEFT_OUT.fullmatch(part) or _ADAPTED.fullmatch(part))]
    told += [f"{', '.join(left_out)} left out{' in turn' * (len(left_out) > 1)}"] if left_out else []
    told += [_adapted(counts)] if counts else []
    if len(folds) > 1 or any(" fold " in stamp.split(",")[0] for stamp in stamps):
        protocol += f" {named(sorted(folds))}"
    return ", ".join([protocol, *told, *([f"{len(seeds)} seeds"] if len(seeds) > 1 else [])])


def named(folds: Sequence[int]) -> str:
    """`fold 2`, `folds 0-2, 4`: ascending numbers for people."""
    runs: dict[int, list[int]] = defaultdict(list)
    for place, number in enumerate(folds):
        runs[number - place].append(number)
    ranges = ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs.values())
    return f"fold{'s' * (len(folds) > 1)} {ranges}"


def _adapted(counts: Collection[int]) -> str:
    low, high = min(counts), max(counts)
    number = str(low) if low == high else f"{low} to {high}"
    return f"ADAPTED to each speaker with {number} unlabeled clips"
