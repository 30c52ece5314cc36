"""`Predictions`: the predictions for a set of clips with what is known about the clips, and the CSV file of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serx.errors import DataError
from serx.evaluation.csv_files import OTHER_NAMES, csv_bytes, read_groups
from serx.metrics.calibration import is_distribution
from serx.metrics.votes import majority

VOTES = "votes_"  # before the label, the name of a column of votes
COLUMNS = ["path", "speaker", "sex", "intensity", "target", "prediction", "confidence"]


@dataclass(frozen=True)
class Predictions:
    """Predictions for n clips.

    Attributes:
        paths: the audio files.
        speaker_ids: the speakers, such as `ravdess/07`.
        sexes: `male`, `female`, or None where unknown.
        intensities: `normal`, `strong`, ... or None where unknown.
        targets: (n,) int, true class indices into `labels`.
        probabilities: (n, C), rows sum to 1.
        labels: the C labels.
        votes: (n, C), how many raters chose each label, or their shares; None unless labels are from votes. Then a
            target is the label with most of them.

    Raises:
        DataError: no clip, fields that do not fit together, or rows that are not probabilities.

    >>> p = Predictions(("a.wav", "b.wav"), ("ann", "ann"), ("female", "female"), (None, None), np.array([0, 1]),
    ...                 np.array([[0.9, 0.1], [0.6, 0.4]]), ("happy", "sad"))
    >>> p.predicted
    array([0, 0])
    """

    paths: tuple[str, ...]
    speaker_ids: tuple[str, ...]
    sexes: tuple[str | None, ...]
    intensities: tuple[str | None, ...]
    targets: np.ndarray
    probabilities: np.ndarray
    labels: tuple[str, ...]
    votes: np.ndarray | None = None

    def __post_init__(self) -> None:
        n, classes = len(self.paths), len(self.labels)
        if n == 0:
            raise DataError("no clip to evaluate: the part is empty; choose another part or protocol")
        lengths = {name: len(getattr(self, name)) for name in ("speaker_ids", "sexes", "intensities", "targets")}
        if set(lengths.values()) != {n} or self.probabilities.shape != (n, classes):
            shape = self.probabilities.shape
            raise DataError(f"{n} paths and {classes} labels do not fit {lengths} and probabilities of shape {shape}")
        if self.votes is not None and self.votes.shape != (n, classes):
            raise DataError(f"{n} paths and {classes} labels do not fit votes of shape {self.votes.shape}")
        if self.targets.min() < 0 or self.targets.max() >= classes:
            raise DataError(f"targets {self.targets.min()} to {self.targets.max()} do not fit {classes} labels")
        if len(set(zip(self.speaker_ids, self.sexes, strict=True))) != len(set(self.speaker_ids)):
            raise DataError("a speaker has two sexes: give every clip of one speaker the same `sex` in the manifest")
        bad = np.flatnonzero(~is_distribution(self.probabilities))
        if bad.size:
            raise DataError(f"{bad.size} of {n} clips have no probabilities that sum to 1, first {self.paths[bad[0]]}")

    @property
    def predicted(self) -> np.ndarray:
        """Predicted class indices (n,), of the largest probabilities."""
        return self.probabilities.argmax(1)

    @property
    def tied(self) -> np.ndarray:
        """Whether the votes of each clip (n,) tie, so that it has no true class."""
        return np.zeros(len(self.paths), bool) if self.votes is None else majority(self.votes)[1]

    def with_class(self) -> "Predictions":
        """The predictions of the clips whose votes do not tie: scores of classes are of these.

        Raises:
            DataError: there is none.
        """
        tied = self.tied
        if tied.all():
            raise DataError("the votes of every clip tie, so that none has a true class; choose another part")
        return self.take(np.flatnonzero(~tied)) if tied.any() else self

    def take(self, clips: np.ndarray) -> "Predictions":
        """The predictions of some `clips (m,)`, by their positions."""
        return Predictions(
            paths=tuple(self.paths[i] for i in clips),
            speaker_ids=tuple(self.speaker_ids[i] for i in clips),
            sexes=tuple(self.sexes[i] for i in clips),
            intensities=tuple(self.intensities[i] for i in clips),
            targets=self.targets[clips],
            probabilities=self.probabilities[clips],
            labels=self.labels,
            votes=None if self.votes is None else self.votes[clips],
        )


def join(parts: Sequence[Predictions]) -> Predictions:
    """The predictions of several parts, one after the other.

    Raises:
        DataError: their labels differ.
    """
    labels = parts[0].labels
    if different := next((p.labels for p in parts if p.labels != labels), None):
        raise DataError(f"labels {', '.join(labels)} and {', '.join(different)} cannot be scored together")
    votes = [p.votes for p in parts if p.votes is not None]
    if len(votes) not in (0, len(parts)):
        raise DataError("labels from votes and others cannot be scored together; use the same data.labels_from")
    return Predictions(
        paths=tuple(path for p in parts for path in p.paths),
        speaker_ids=tuple(speaker_id for p in parts for speaker_id in p.speaker_ids),
        sexes=tuple(sex for p in parts for sex in p.sexes),
        intensities=tuple(intensity for p in parts for intensity in p.intensities),
        targets=np.concatenate([p.targets for p in parts]),
        probabilities=np.concatenate([p.probabilities for p in parts]),
        labels=labels,
        votes=np.concatenate(votes) if votes else None,
    )


def to_csv(groups: Sequence[tuple[Sequence[object], Predictions]], columns: Sequence[str] = ()) -> bytes:
    """A CSV file of predictions, one row for each clip.

    Args:
        groups: the values of `columns` for all rows of a group, such as seed and fold, and its predictions.
        columns: names of the columns that come first.

    Returns:
        Probabilities keep every bit of float32, in which recognizers compute. Labels from votes have a column of votes
        for each label, and no target where the votes tie.
    """
    first = groups[0][1]
    voted = [] if first.votes is None else [f"{VOTES}{label}" for label in first.labels]
    rows: list[list[object]] = [[*columns, *COLUMNS, *(f"p_{label}" for label in first.labels), *voted]]
    for key, p in groups:
        votes = np.empty((len(p.paths), 0)) if p.votes is None else p.votes
        targets = ["" if tied else p.labels[target] for target, tied in zip(p.targets, p.tied, strict=True)]
        clips = zip(p.paths, p.speaker_ids, p.sexes, p.intensities, targets, p.probabilities, votes, strict=True)
        for path, speaker_id, sex, intensity, target, row, votes_of_clip in clips:
            best = row.argmax()
            values = [f"{value:.9g}" for value in (row[best], *row)] + [repr(float(v)) for v in votes_of_clip]
            rows.append([*key, path, speaker_id, sex or "", intensity or "", target, p.labels[best], *values])
    return csv_bytes(rows)


def from_csv(path: Path, columns: Sequence[str] = ()) -> list[tuple[tuple[str, ...], Predictions]]:
    """Reads what `to_csv` wrote: for each value of `columns`, in order, its predictions.

    Raises:
        DataError: the file cannot be read, or is not such a file.
    """
    try:
        header, groups = read_groups(path, columns)
        names = [name for name in header[len(COLUMNS) :] if name.startswith("p_")]
        labels = tuple(name.removeprefix("p_") for name in names)
        voted = [f"{VOTES}{label}" for label in labels]
        if header not in ([*COLUMNS, *names], [*COLUMNS, *names, *voted]):
            raise ValueError(OTHER_NAMES)
        return [(key, _from_rows(members, labels)) for key, members in groups.items()]
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{path}: not a predictions file of this version ({error}); evaluate again") from error


def _from_rows(rows: list[list[str]], labels: tuple[str, ...]) -> Predictions:
    paths, speaker_ids, sexes, intensities, targets = zip(*(row[:5] for row in rows), strict=True)
    values = np.array([row[len(COLUMNS) :] for row in rows])
    probabilities, votes = np.split(values, [len(labels)], axis=1)
    counts = votes.astype(float) if votes.size else None
    numbers = [labels.index(target) for target in targets] if counts is None else majority(counts)[0]
    return Predictions(
        paths=paths,
        speaker_ids=speaker_ids,
        sexes=tuple(sex or None for sex in sexes),
        intensities=tuple(intensity or None for intensity in intensities),
        targets=np.array(numbers),
        probabilities=probabilities.astype(np.float32).astype(float),
        labels=labels,
        votes=counts,
    )
