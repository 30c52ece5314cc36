"""Protocol stamps: the words that say under which protocol a score was measured.

A split has a stamp, such as `kfold fold 0, speaker-independent`. Evaluation adds clauses, and pooling merges the stamps
of several folds into one.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from serx.metrics.intervals import clips_by_name

# Clauses that differ between folds and are merged into one; `make_split` and `adapted_stamp` write them.
_HELD_OUT = re.compile("(.+) held out")
_ADAPTED = re.compile("ADAPTED to each speaker with ([0-9]+)(?: to ([0-9]+))? unlabeled clips")


def adapted_stamp(stamp: str, speaker_ids: Sequence[str]) -> str:
    """The stamp of clips by these speakers `(n,)`, where the model was adapted to each speaker with all of its clips.

    >>> adapted_stamp("kfold fold 0", ["ann", "ann", "ben"])
    'kfold fold 0; ADAPTED to each speaker with 1 to 2 unlabeled clips'
    """
    adapted = _adapted([len(clips) for clips in clips_by_name(speaker_ids).values()])
    return f"{stamp}; {adapted}"


def is_adapted(stamp: str) -> bool:
    """Whether the scores are of models adapted to each speaker, which is another protocol than predicting each clip
    alone.
    """
    return _ADAPTED.search(stamp) is not None


def validation_use(metadata: Mapping[str, Any]) -> str:
    """What the validation clips of a run did for its checkpoint, as the end of a sentence about them.

    >>> validation_use({"config": {"train": {"select": "last"}, "optim": {}}, "temperature": 1.2})
    'fitted the temperature'
    """
    if metadata["config"].get("model", {}).get("kind") == "ensemble":
        return "chose epochs and fitted temperatures of its voters"
    train, optim = metadata["config"].get("train", {}), metadata["config"].get("optim", {})
    is_kept = "temperature" in metadata  # best.safetensors; last.safetensors is the latest epoch and has none
    uses = {
        "chose the epoch": is_kept and train.get("select") != "last" and train.get("epochs") != 1,
        "stopped the training": train.get("patience") is not None,
        "lowered the learning rate": optim.get("schedule") == "plateau",
        "fitted the temperature": is_kept and metadata.get("labels") != [],
    }
    words = [words for words, is_so in uses.items() if is_so]
    return " and ".join(words) or "chose nothing"


def pooled_stamp(stamps: Sequence[str], folds: Collection[int], seeds: Collection[int]) -> str:
    """The stamps of several folds as one; a warning in any of them is kept.

    >>> pooled_stamp(["loso fold 0, speaker-independent", "loso fold 1, speaker-independent"], {0, 1}, {0})
    'loso folds 0-1, speaker-independent'
    """
    protocol = stamps[0].split(",")[0].split(" fold ")[0]
    clauses = [part for stamp in stamps for clause in stamp.split("; ") for part in clause.split(", ")]
    clauses = [part for part in dict.fromkeys(clauses) if part.split(" fold ")[0] != protocol]
    held_out = list(dict.fromkeys(match[1] for match in map(_HELD_OUT.fullmatch, clauses) if match))
    counts = [int(n) for match in map(_ADAPTED.fullmatch, clauses) if match for n in match.groups() if n]
    clauses = [part for part in clauses if not (_HELD_OUT.fullmatch(part) or _ADAPTED.fullmatch(part))]
    if held_out:
        clauses += [f"{', '.join(held_out)} held out{', one in each fold' if len(held_out) > 1 else ''}"]
    if counts:
        clauses += [_adapted(counts)]
    if len(folds) > 1 or any(" fold " in stamp.split(",")[0] for stamp in stamps):
        protocol += f" {fold_names(sorted(folds))}"
    return ", ".join([protocol, *clauses, *([f"{len(seeds)} seeds"] if len(seeds) > 1 else [])])


def fold_names(folds: Sequence[int]) -> str:
    """Ascending numbers of folds as text.

    >>> fold_names([2]), fold_names([0, 1, 2, 4])
    ('fold 2', 'folds 0-2, 4')
    """
    runs: dict[int, list[int]] = defaultdict(list)
    for position, number in enumerate(folds):
        runs[number - position].append(number)
    ranges = ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs.values())
    return f"fold{'s' * (len(folds) > 1)} {ranges}"


def _adapted(counts: Collection[int]) -> str:
    low, high = min(counts), max(counts)
    number = str(low) if low == high else f"{low} to {high}"
    return f"ADAPTED to each speaker with {number} unlabeled clips"
