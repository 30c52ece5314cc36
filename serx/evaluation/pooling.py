"""The folds of a protocol pooled: every clip is predicted by a model that was not trained on its speaker, then scored.

Pooled scores weigh all clips alike, whichever fold tests them. With several seeds, the clips of each seed are pooled,
and the scores are means over seeds. Their intervals resample speakers with all seeds of a speaker together, because a
second seed is not a second speaker.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from serx import metrics
from serx.errors import DataError
from serx.evaluation.predictions import Predictions, join
from serx.evaluation.ratings import (
    Ratings,
    join_ratings,
    ratings_head,
    score_rating_runs,
    score_ratings,
)
from serx.evaluation.scores import score_predictions, score_votes
from serx.evaluation.stamps import fold_names, pooled_stamp
from serx.metrics.classification import CONFUSION_METRICS
from serx.metrics.intervals import RESAMPLES, bootstrap_interval, clips_by_name


@dataclass(frozen=True)
class FoldResult:
    """The predictions for the test part of one fold by the model of one seed.

    Attributes:
        protocol: the protocol stamp of the fold's evaluation.
        predictions: of emotions; None for a model of dimensions alone.
        ratings: of dimensions; None for a model of emotions alone.
        without_adaptation: UAR and accuracy of the same clips without speaker adaptation, if the model was adapted.
        corpus_probe: how well a probe tells the corpus from the model's embedding, where there are several corpora.

    >>> p = Predictions(("a.wav",), ("ann",), (None,), (None,), np.array([0]), np.array([[0.9, 0.1]]), ("happy", "sad"))
    >>> FoldResult(seed=0, fold=2, protocol="loso fold 2", predictions=p).paths
    ('a.wav',)
    """

    seed: int
    fold: int
    protocol: str
    predictions: Predictions | None
    without_adaptation: Mapping[str, float] | None = None
    ratings: Ratings | None = None
    corpus_probe: Mapping[str, Any] | None = None

    @property
    def paths(self) -> tuple[str, ...]:
        """The audio files of the clips."""
        clips = self.ratings if self.predictions is None else self.predictions
        return () if clips is None else clips.paths

    @property
    def speaker_ids(self) -> tuple[str, ...]:
        """The speakers of the clips."""
        clips = self.ratings if self.predictions is None else self.predictions
        return () if clips is None else clips.speaker_ids

    @property
    def emotions(self) -> Predictions:
        """The predictions of emotions.

        Raises:
            DataError: the model predicts dimensions alone.
        """
        if self.predictions is None:
            raise DataError("a model of dimensions alone has no predictions of emotions; see data.tasks")
        return self.predictions


def complete_seeds(results: Sequence[FoldResult]) -> tuple[list[FoldResult], list[str]]:
    """The results of the seeds that can be pooled, and a line on each seed that cannot be yet.

    Those are the seeds with the most folds (among equals, the folds of the first seed): a mean over seeds, one of which
    has tested half of the speakers, would be a mean over different speakers.
    """
    folds = {seed: sorted(r.fold for r in results if r.seed == seed) for seed in _sorted(r.seed for r in results)}
    most = max(folds.values(), key=len, default=[])
    incomplete = [f"seed {seed}, which has only {fold_names(own)} yet" for seed, own in folds.items() if own != most]
    return [r for r in results if folds[r.seed] == most], incomplete


def summarize_folds(results: Sequence[FoldResult], resamples: int = RESAMPLES) -> dict[str, Any]:
    """All scores of the folds, ready for JSON: those of `score_predictions` for all clips, and more.

    `accuracy`, `uar`, `macro_f1` and `weighted_f1` are means over seeds of pooled scores; `intervals` are over
    speakers. So are the scores of `dimensions`, as of `score_ratings`. `seeds` holds the scores of each seed, `folds`
    those of each fold, `per_fold` their means over seeds in the order of the folds, `fold_mean` and `fold_std` (n - 1)
    the mean and standard deviation of those. `run_std` (n - 1) is the standard deviation of all runs, every fold under
    every seed. There, `ccc` is the mean over the dimensions.

    Raises:
        DataError: no fold, folds with different labels or dimensions, a clip that two folds of one seed tested, or
            seeds that tested different folds.
    """
    if not results:
        raise DataError("no fold has been tested yet")
    if complete_seeds(results)[1]:
        raise DataError("the seeds have tested different folds; pass the results of complete_seeds")
    by_seed = {seed: [r for r in results if r.seed == seed] for seed in _sorted(r.seed for r in results)}
    for seed, own in by_seed.items():
        paths = [path for r in own for path in r.paths]
        if len(set(paths)) < len(paths):
            raise DataError(f"seed {seed}: folds share clips of their test parts; keep one protocol in one folder")
    if len({(r.predictions is None, r.ratings is None) for r in results}) > 1:
        raise DataError("folds of different data.tasks cannot be scored together")
    pooled = [_pooled(own) for own in by_seed.values()]
    folds = [
        {
            "seed": r.seed,
            "fold": r.fold,
            "protocol": r.protocol,
            **_scores(r),
            "without_adaptation": r.without_adaptation,
            "corpus_probe": r.corpus_probe,
        }
        for r in results
    ]
    numbers = _sorted(r.fold for r in results)
    names = [name for name in (*CONFUSION_METRICS, "ccc") if name in folds[0]]
    per_fold = {
        name: [float(np.mean([f[name] for f in folds if f["fold"] == number])) for number in numbers] for name in names
    }
    stamp = pooled_protocol(results)
    scores = _pooled_emotions([r.emotions for r in pooled], stamp, resamples) if pooled[0].predictions else {}
    runs = [r.ratings for r in pooled if r.ratings is not None]
    if runs:
        scores = {**(scores or ratings_head(runs[0], stamp)), "dimensions": score_rating_runs(runs, resamples)}
    probes = [r.corpus_probe for r in results if r.corpus_probe is not None]
    return {
        **scores,
        **({"corpus_probe": _mean_probe(probes)} if probes else {}),
        "n_clips": len({path for r in results for path in r.paths}),
        "seeds": [{"seed": seed, **_scores(r)} for seed, r in zip(by_seed, pooled, strict=True)],
        "folds": folds,
        "per_fold": {"fold": numbers, **per_fold},
        "fold_mean": {name: float(np.mean(values)) for name, values in per_fold.items()},
        "fold_std": {
            name: float(np.std(values, ddof=1)) if len(values) > 1 else None for name, values in per_fold.items()
        },
        "run_std": {
            name: float(np.std([f[name] for f in folds], ddof=1)) if len(folds) > 1 else None for name in names
        },
    }


def _pooled(results: Sequence[FoldResult]) -> FoldResult:
    """The folds of one seed as one, with the clips of all."""
    predictions = [r.predictions for r in results if r.predictions is not None]
    ratings = [r.ratings for r in results if r.ratings is not None]
    return FoldResult(
        results[0].seed,
        0,
        results[0].protocol,
        join(predictions) if predictions else None,
        ratings=join_ratings(ratings) if ratings else None,
    )


def _mean_probe(probes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The means over the models of all folds and seeds."""
    means = {name: float(np.mean([probe[name] for probe in probes])) for name in ("balanced_accuracy", "chance")}
    return {**means, "with_training_clips": any(probe["with_training_clips"] for probe in probes)}


def _pooled_emotions(seeds: Sequence[Predictions], stamp: str, resamples: int) -> dict[str, Any]:
    """The scores of emotions over the clips of all seeds: means over seeds of pooled scores, and the tables."""
    confusions = speaker_confusions(seeds)  # (S, seeds, C, C)
    scores = score_predictions(join(seeds), stamp, resamples)
    if "votes" in scores:  # the same clips under every seed have the same raters
        of_one_seed = score_votes(seeds[0], resamples)
        scores["votes"] |= {name: of_one_seed[name] for name in ("tied", "rater")}
    for name, metric in CONFUSION_METRICS.items():
        scores[name] = float(metric(confusions.sum(0)).mean())
        bounds = bootstrap_interval(confusions, _mean_over_seeds(metric), resamples)
        scores["intervals"][name] = None if bounds is None else list(bounds)
    return scores


def speaker_confusions(runs: Sequence[Predictions]) -> np.ndarray:
    """`(S, runs, C, C)` counts: the confusion matrix of each speaker in each run, speakers sorted by name."""
    speaker_ids = sorted({speaker_id for p in runs for speaker_id in p.speaker_ids})
    counts = np.zeros((len(speaker_ids), len(runs), len(runs[0].labels), len(runs[0].labels)))
    for run, p in enumerate(p.with_class() for p in runs):
        predicted = p.predicted
        for speaker_id, clips in clips_by_name(p.speaker_ids).items():
            matrix = metrics.confusion_matrix(p.targets[clips], predicted[clips], len(p.labels))
            counts[speaker_ids.index(speaker_id), run] = matrix
    return counts


def _mean_over_seeds(metric: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    """From counts `(..., seeds, C, C)` to the mean of a metric over the seeds."""
    return lambda counts: metric(counts).mean(-1)


def pooled_protocol(results: Sequence[FoldResult]) -> str:
    """The protocol stamp of all folds together."""
    return pooled_stamp([r.protocol for r in results], {r.fold for r in results}, {r.seed for r in results})


def _scores(result: FoldResult) -> dict[str, Any]:
    scores: dict[str, float] = {}
    if result.predictions is not None:
        known = result.predictions.with_class()
        counts = metrics.confusion_matrix(known.targets, known.predicted, len(known.labels))
        scores = {name: float(metric(counts)) for name, metric in CONFUSION_METRICS.items()}
    if result.ratings is not None:
        scores["ccc"] = score_ratings(result.ratings, resamples=1)["mean"]["ccc"]
    return {**scores, "n_clips": len(result.paths), "speakers": sorted(set(result.speaker_ids))}


def _sorted(numbers: Iterable[int]) -> list[int]:
    return sorted(set(numbers))
