"""`Ratings`: predicted values of dimensions such as arousal, their scores, their tables and their CSV file."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serx.data.utterance import is_unknown
from serx.errors import DataError
from serx.metrics.intervals import RESAMPLES, bootstrap_interval, clips_by_name
from serx.metrics.regression import REGRESSION_METRICS, regression_sums
from serx.terminal import Block, Table

COLUMNS = ["path", "speaker", "sex"]


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
    r = ratings
    known = not any(map(is_unknown, r.speaker_ids))
    speakers = list(clips_by_name(r.speaker_ids).values()) if known else []
    corpora = [speaker_id.partition("/")[0] for speaker_id in r.speaker_ids]
    # Without the mean rating the sums lose fewer digits; no score changes.
    center = np.nanmean(r.targets, 0)
    truth, predicted = r.targets - center, r.predicted - center

    def sums(clips: np.ndarray, column: int) -> np.ndarray:
        rated = clips[~np.isnan(truth[clips, column])]
        return regression_sums(truth[rated, column], predicted[rated, column])

    def summary(of: np.ndarray) -> dict[str, Any]:
        return {**{name: float(metric(of)) for name, metric in REGRESSION_METRICS.items()}, "n_clips": int(of[0])}

    every = np.arange(len(r.paths))
    scores: dict[str, Any] = {}
    per_speaker = np.array([[sums(clips, column) for column in range(len(r.dimensions))] for clips in speakers])
    for column, name in enumerate(r.dimensions):
        intervals = {
            metric: bootstrap_interval(per_speaker[:, column], function, resamples, seed=seed) if speakers else None
            for metric, function in REGRESSION_METRICS.items()
        }
        groups = {
            f"per_{kind}": {group: summary(sums(clips, column)) for group, clips in clips_by_name(names).items()}
            for kind, names in (("sex", r.sexes), ("corpus", corpora))
        }
        lists = {metric: None if found is None else list(found) for metric, found in intervals.items()}
        scores[name] = {**summary(sums(every, column)), "intervals": lists, **groups}
    ccc = REGRESSION_METRICS["ccc"]
    bounds = bootstrap_interval(per_speaker, lambda s: ccc(s).mean(-1), resamples, seed=seed) if speakers else None
    mean = float(np.mean([scores[name]["ccc"] for name in r.dimensions]))
    return {**scores, "mean": {"ccc": mean, "interval": None if bounds is None else list(bounds)}}


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


def ratings_csv(ratings: Ratings) -> bytes:
    """A CSV file, UTF-8, one row for each clip: its ratings, empty where there is none, and the predictions."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*COLUMNS, *ratings.dimensions, *(f"predicted_{name}" for name in ratings.dimensions)])
    clips = zip(ratings.paths, ratings.speaker_ids, ratings.sexes, ratings.targets, ratings.predicted, strict=True)
    for path, speaker_id, sex, targets, predicted in clips:
        rated = ["" if np.isnan(value) else f"{value:.9g}" for value in targets]
        writer.writerow([path, speaker_id, sex or "", *rated, *(f"{value:.9g}" for value in predicted)])
    return text.getvalue().encode(errors="backslashreplace")


def _cell(value: float, bounds: Sequence[float] | None) -> str:
    return f"{value:.3f}" + (f" ({bounds[0]:.3f} to {bounds[1]:.3f})" if bounds else "")
