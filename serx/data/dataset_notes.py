"""What a user is told about the clips of a dataset: which were dropped, skipped or doubtful, and why."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from serx.data.corpora import NO_AGREEMENT
from serx.data.labels import LabeledCorpus
from serx.metrics.votes import majority
from serx.terminal import printable

if TYPE_CHECKING:
    from serx.data.dataset import DataConfig

MAX_SHOWN = 5  # names in a message


def target_notes(
    config: "DataConfig",
    labeled: LabeledCorpus | None,
    clips: int,
    used: np.ndarray,
    rated: np.ndarray,
) -> list[str]:
    """What is dropped, and which clips lack a label or a rating.

    Args:
        config: of the dataset.
        labeled: the clips that have a label; None if emotions are not learned.
        clips: how many there are.
        used: `(n,)` indices of those that have a label or a rating.
        rated: `(clips, D)` bool, the dimensions on which each clip is rated.
    """
    notes = []
    if labeled is not None:
        what = "without a class, by" if "dimensions" in config.tasks else "dropped by"
        for emotion, count in labeled.dropped.items():
            why = "data.label_map" if emotion in config.label_map else "data.labels: shared"
            notes.append(f"{what} {why}: {count} x {emotion}")
        if config.labels_from == "emotion" and NO_AGREEMENT in labeled.labels:
            notes.append(
                f"warning: {NO_AGREEMENT} is a class: clips on whose emotion the raters did not agree; drop them with "
                f"data.label_map.{NO_AGREEMENT}=null, or learn from the votes: data.labels_from=votes"
            )
        notes += _vote_notes(labeled)
    if "dimensions" not in config.tasks:
        return notes
    if dropped := clips - len(used):
        lack = "a rating" if labeled is None else "a class or a rating"
        notes.append(f"dropped: {dropped} clips without {lack} of {', '.join(config.dimensions)}")
    if labeled is not None and len(labeled.positions) < len(used):
        notes.append(f"{len(used) - len(labeled.positions)} of {len(used)} clips have ratings and no class")
    for name, column in zip(config.dimensions, rated[used].T, strict=True):
        if not column.all():
            notes.append(f"{int((~column).sum())} of {len(used)} clips have no rating of {name}")
    return notes


def _vote_notes(labeled: LabeledCorpus) -> list[str]:
    """What is left of the votes, and which clips have none."""
    if labeled.votes is None:
        return []
    clips, voted = len(labeled.utterances), int(labeled.utterances.has("votes").sum())
    notes = []
    for emotion, number in labeled.dropped_votes.items():
        notes.append(f"left out by the label map: {number:g} votes for {emotion}")
    if labeled.without_vote:
        notes.append(f"dropped: {labeled.without_vote} clips without a vote for any of {', '.join(labeled.labels)}")
    if voted < clips:
        notes.append(f"{clips - voted} of {clips} clips have no votes: their emotion is their label")
    if tied := int(majority(labeled.votes)[1].sum()):
        notes.append(
            f"the votes of {tied} of {clips} clips tie: they train with their shares of votes, and count in no score "
            "of classes"
        )
    return notes


def weight_notes(weights: np.ndarray) -> list[str]:
    """The range of the weights of clips `(n,)`, unless all are equal."""
    low, high = weights.min(), weights.max()
    if low == high:
        return []
    return [f"clips have weights from {low:g} to {high:g}: the loss of a clip is multiplied with its weight"]


def warning_notes(warnings: dict[str, str]) -> list[str]:
    """One line per warning about files that are used, with the first few names."""
    paths: dict[str, list[Path]] = {}
    for path, what in warnings.items():
        paths.setdefault(what, []).append(Path(path))
    return [f"warning: {what}: {_first_names(found)}" for what, found in paths.items()]


def skipped_notes(files: list[tuple[str, Path]]) -> list[str]:
    """One line per reason, with the first few names."""
    paths: dict[str, list[Path]] = {}
    for reason, path in files:
        paths.setdefault(reason, []).append(path)
    return [f"skipped ({reason}): {_first_names(found)}" for reason, found in paths.items()]


def _first_names(paths: Sequence[Path]) -> str:
    more = f", and {len(paths) - MAX_SHOWN} more" if len(paths) > MAX_SHOWN else ""
    return f"{', '.join(map(printable, paths[:MAX_SHOWN]))}{more}"
