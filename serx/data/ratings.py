"""Ratings of clips on dimensions such as arousal, valence and dominance, as numbers `(n, D)`."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from serx.data.utterance import Utterance
from serx.data.utterances import Utterances
from serx.errors import ConfigError, DataError

Task = Literal["emotions", "dimensions"]


def ratings_of(utterances: Sequence[Utterance], dimensions: Sequence[str]) -> np.ndarray:
    """The rating of each clip on each dimension, `(n, D)` float64; NaN where it has none.

    Raises:
        DataError: a rating is not finite, or a clip has two on one dimension.

    >>> from pathlib import Path
    >>> clip = Utterance(Path("/a.wav"), "own", "1", "sad", dimensions=(("valence", 2.0), ("arousal", 3.5)))
    >>> ratings_of([clip], ["arousal", "dominance"])
    array([[3.5, nan]])
    """
    clips = Utterances.of(utterances)
    first, number = clips.distinct("dimensions")
    column_of, ratings = clips.words["dimensions"], np.full((len(first), len(dimensions)), np.nan)
    for row, i in enumerate(first.tolist()):
        rated = column_of.values[column_of.codes[i]]
        of_clip = dict(rated)
        if len(of_clip) < len(rated):
            raise DataError(f"{clips.source(i)}: two ratings on one dimension; keep one")
        for column, name in enumerate(dimensions):
            value = of_clip.get(name)
            if value is not None and not math.isfinite(value):
                raise DataError(
                    f"{clips.source(i)}: {name} {value:g} is not a number; leave it empty where it is unknown"
                )
            ratings[row, column] = math.nan if value is None else value
    return ratings[number]


def check_rated(utterances: Sequence[Utterance], ratings: np.ndarray, dimensions: Sequence[str]) -> None:
    """Checks that each dimension has a rating.

    Raises:
        DataError: names the dimension, and those that the data have.
    """
    for name, column in zip(dimensions, ratings.T, strict=True):
        if np.isnan(column).all():
            rated = Utterances.of(utterances).present("dimensions")
            known = sorted({other for ratings_of_clip in rated for other, _ in ratings_of_clip})
            there = f"the data rate {', '.join(known)}" if known else "the data rate no dimension"
            raise DataError(f"data.dimensions: no clip has a rating of {name}; {there}")


def check_emotions_only(tasks: Sequence[Task], what: str) -> None:
    """Refuses dimensions for `what`, which scores emotions.

    Raises:
        ConfigError: dimensions are among the tasks.

    >>> check_emotions_only(["emotions"], "a sweep")
    """
    if "dimensions" in tasks:
        raise ConfigError(f"data.tasks has dimensions, and {what} scores emotions only; write data.tasks=[emotions]")
