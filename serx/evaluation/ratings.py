"""`Ratings`: predicted values of dimensions such as arousal, their scores, their tables and their CSV file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serx.data.utterance import is_unknown
from serx.errors import DataError
from serx.evaluation.csv_files import OTHER_NAMES, csv_bytes, read_groups
from serx.metrics.intervals import RESAMPLES, bootstrap_interval, clips_by_name
from serx.metrics.regression import REGRESSION_METRICS, regression_sums
from serx.terminal import Block, Table

COLUMNS = ["path", "speaker", "sex"]
PREDICTED = "predicted_"  # before the dimension, the name of a column of predictions


@dataclass(frozen=True)
class Ratings:
    """Values of D dimensions for n clips, as rated and as predicted.

    Attributes:
        paths: the audio files.
        speaker_ids: the speakers, such as `ravdess/07`.
        sexes: `male`, `female`, or None where unknown.
        dimensions: the D names.
        targets: (n, D) ratings, NaN where a clip has none.
        predicted: (n, D), in units of the ratings.

    Raises:
        DataError: a dimension without a rated clip, or fields that do not fit together.

    >>> r = Ratings(("a.wav", "b.wav"), ("ann", "ben"), (None, None), ("arousal",), np.array([[1.0], [5.0]]),
    ...             np.array([[2.0], [4.0]]))
    >>> round(score_ratings(r)["arousal"]["ccc"], 3)
    0.8
    """

    paths: tuple[str, ...]
    speaker_ids: tuple[str, ...]
    sexes: tuple[str | None, ...]
    dimensions: tuple[str, ...]
    targets: np.ndarray
    predicted: np.ndarray

    def __post_init__(self) -> None:
        shape = len(self.paths), len(self.dimensions)
        if self.targets.shape != shape or self.predicted.shape != shape or len(self.speaker_ids) != len(self.paths):
            raise DataError(f"{shape[0]} paths and {shape[1]} dimensions do not fit ratings {self.targets.shape}")
        unrated = [name for name, of in zip(self.dimensions, self.targets.T, strict=True) if np.isnan(of).all()]
        if unrated:
            raise DataError(f"no clip of this part has a rating of {unrated[0]}; choose another part or other data")


def score_ratings(ratings: Ratings, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """CCC, RMSE and Pearson's correlation of each dimension, with 95 % intervals over speakers.

    Returns:
        For each dimension a dictionary with `ccc`, `rmse`, `pearson`, `n_clips`, `intervals`, and the same scores by
        sex and corpus (`per_sex`, `per_corpus`). Under `mean` the mean CCC of the dimensions and its interval.
    """
    return score_rating_runs([ratings], resamples, seed)


def score_rating_runs(runs: Sequence[Ratings], resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """What `score_ratings` returns, as means over runs that predicted the same clips, such as several seeds.

    Intervals resample speakers with all runs of a speaker together. `n_clips` are those of one run.
    """
    first = runs[0]
    known = not any(is_unknown(speaker_id) for r in runs for speaker_id in r.speaker_ids)

    def summary(of: np.ndarray) -> dict[str, Any]:
        scores = {name: float(metric(of).mean()) for name, metric in REGRESSION_METRICS.items()}
        return {**scores, "n_clips": int(of[0, 0])}

    everything = _sums_by_name(runs, [["all"] * len(run.paths) for run in runs])["all"]
    speakers = speaker_sums(runs) if known else {}
    per_speaker = np.array(list(speakers.values()))  # (S, runs, D, 6)
    corpora = [[speaker_id.partition("/")[0] for speaker_id in run.speaker_ids] for run in runs]
    groups = {
        "per_sex": _sums_by_name(runs, [run.sexes for run in runs]),
        "per_corpus": _sums_by_name(runs, corpora),
    }
    scores: dict[str, Any] = {}
    for column, name in enumerate(first.dimensions):
        intervals = {
            metric: bootstrap_interval(per_speaker[:, :, column], _mean_over_runs(function), resamples, seed=seed)
            if speakers
            else None
            for metric, function in REGRESSION_METRICS.items()
        }
        parts = {
            kind: {group: summary(of[:, column]) for group, of in members.items()} for kind, members in groups.items()
        }
        lists = {metric: None if found is None else list(found) for metric, found in intervals.items()}
        scores[name] = {**summary(everything[:, column]), "intervals": lists, **parts}
    bounds = bootstrap_interval(per_speaker, _mean_over_runs(mean_ccc), resamples, seed=seed) if speakers else None
    mean = float(np.mean([scores[name]["ccc"] for name in first.dimensions]))
    return {**scores, "mean": {"ccc": mean, "interval": None if bounds is None else list(bounds)}}


def speaker_sums(runs: Sequence[Ratings]) -> dict[str, np.ndarray]:
    """`regression_sums` over the rated clips of each speaker, `(runs, D, 6)`; speakers sorted by name."""
    return _sums_by_name(runs, [run.speaker_ids for run in runs])


def mean_ccc(sums: np.ndarray) -> np.ndarray:
    """The mean CCC of the dimensions, from sums (..., D, 6) to (...)."""
    return REGRESSION_METRICS["ccc"](sums).mean(-1)


def _sums_by_name(runs: Sequence[Ratings], names: Sequence[Sequence[str | None]]) -> dict[str, np.ndarray]:
    """The sums over the clips of each name, `(runs, D, 6)`; `names` of the clips of each run."""
    # Without the mean rating the sums lose fewer digits; no score changes.
    center = np.nanmean(runs[0].targets, 0)

    def sums(run: Ratings, clips: np.ndarray) -> np.ndarray:
        """The sums over rated clips, `(D, 6)`."""
        truth, predicted = run.targets[clips] - center, run.predicted[clips] - center
        rated = ~np.isnan(truth)
        return np.array(
            [regression_sums(t[known], p[known]) for t, p, known in zip(truth.T, predicted.T, rated.T, strict=True)]
        )

    clips = [clips_by_name(of_run) for of_run in names]
    groups = sorted({name for of_run in clips for name in of_run})
    nothing = np.zeros(0, int)
    return {
        group: np.array([sums(run, of_run.get(group, nothing)) for run, of_run in zip(runs, clips, strict=True)])
        for group in groups
    }


def _mean_over_runs(metric: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """From sums `(..., runs, 6)` to the mean of a metric over the runs."""
    return lambda sums: metric(sums).mean(-1)


def join_ratings(parts: Sequence[Ratings]) -> Ratings:
    """The ratings of several parts, one after the other.

    Raises:
        DataError: their dimensions differ.
    """
    names = parts[0].dimensions
    if different := next((r.dimensions for r in parts if r.dimensions != names), None):
        raise DataError(f"dimensions {', '.join(names)} and {', '.join(different)} cannot be scored together")
    return Ratings(
        paths=tuple(path for r in parts for path in r.paths),
        speaker_ids=tuple(speaker_id for r in parts for speaker_id in r.speaker_ids),
        sexes=tuple(sex for r in parts for sex in r.sexes),
        dimensions=names,
        targets=np.concatenate([r.targets for r in parts]),
        predicted=np.concatenate([r.predicted for r in parts]),
    )


def rating_tables(scores: Mapping[str, Any]) -> list[Block]:
    """Lines with the scores of `score_ratings`: all clips, then by sex and by corpus."""
    of_dimensions = {name: of for name, of in scores.items() if name != "mean"}
    with_intervals = any(of["intervals"]["ccc"] for of in of_dimensions.values())
    rows = []
    for name, of in of_dimensions.items():
        cells = [_cell(of[metric], of["intervals"][metric]) for metric in REGRESSION_METRICS]
        rows.append([name, *cells, of["n_clips"]])
    title = "Dimensions" + (", with 95 % intervals over speakers" if with_intervals else ", without intervals")
    lines: list[Block] = [Table(title, ["", "CCC", "RMSE", "Pearson", "clips"], rows)]
    if len(of_dimensions) > 1:
        lines.append(f"  mean CCC {_cell(scores['mean']['ccc'], scores['mean']['interval'])}")
    for kind in ("sex", "corpus"):
        groups = {group for of in of_dimensions.values() for group in of[f"per_{kind}"]}
        if len(groups) < 2:
            continue
        rows = [
            [f"{name}, {group}", *(_cell(part[metric], None) for metric in REGRESSION_METRICS), part["n_clips"]]
            for name, of in of_dimensions.items()
            for group, part in of[f"per_{kind}"].items()
            if part["n_clips"]
        ]
        lines.append(Table(f"Dimensions by {kind}", ["", "CCC", "RMSE", "Pearson", "clips"], rows))
    return lines


def ratings_head(ratings: Ratings, protocol: str) -> dict[str, Any]:
    """The first entries of evaluation.json where there are no emotions."""
    unknown = any(map(is_unknown, ratings.speaker_ids))
    return {
        "protocol": protocol,
        "n_clips": len(ratings.paths),
        "n_speakers": 0 if unknown else len(set(ratings.speaker_ids)),
    }


def ratings_csv(groups: Sequence[tuple[Sequence[object], Ratings]], columns: Sequence[str] = ()) -> bytes:
    """A CSV file, one row for each clip: its ratings, empty where there is none, and the predictions.

    Args:
        groups: the values of `columns` for all rows of a group, such as seed and fold, and its ratings.
        columns: names of the columns that come first.
    """
    names = groups[0][1].dimensions
    rows: list[list[object]] = [[*columns, *COLUMNS, *names, *(f"{PREDICTED}{name}" for name in names)]]
    for key, r in groups:
        clips = zip(r.paths, r.speaker_ids, r.sexes, r.targets, r.predicted, strict=True)
        for path, speaker_id, sex, targets, predicted in clips:
            rated = ["" if np.isnan(value) else f"{value:.9g}" for value in targets]
            rows.append([*key, path, speaker_id, sex or "", *rated, *(f"{value:.9g}" for value in predicted)])
    return csv_bytes(rows)


def ratings_from_csv(path: Path, columns: Sequence[str] = ()) -> list[tuple[tuple[str, ...], Ratings]]:
    """Reads what `ratings_csv` wrote: for each value of `columns`, in order, its ratings.

    Raises:
        DataError: the file cannot be read, or is not such a file.
    """
    try:
        header, groups = read_groups(path, columns)
        first = len(COLUMNS)
        names = tuple(header[first : first + (len(header) - first) // 2])
        if not names or header != [*COLUMNS, *names, *(f"{PREDICTED}{name}" for name in names)]:
            raise ValueError(OTHER_NAMES)
        return [(key, _from_rows(members, names)) for key, members in groups.items()]
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{path}: not a file of ratings of this version ({error}); evaluate again") from error


def _from_rows(rows: Sequence[Sequence[str]], dimensions: tuple[str, ...]) -> Ratings:
    paths, speaker_ids, sexes = zip(*(row[: len(COLUMNS)] for row in rows), strict=True)
    values = np.array([[float(cell or "nan") for cell in row[len(COLUMNS) :]] for row in rows])
    targets, predicted = np.split(values, [len(dimensions)], axis=1)
    return Ratings(paths, speaker_ids, tuple(sex or None for sex in sexes), dimensions, targets, predicted)


def _cell(value: float, bounds: Sequence[float] | None) -> str:
    return f"{value:.3f}" + (f" ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else "")
