"""All scores of a set of predictions as one dictionary, ready for JSON."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from serx import metrics
from serx.data.utterance import is_unknown
from serx.evaluation.predictions import Predictions
from serx.files import plain
from serx.metrics.classification import CONFUSION_METRICS
from serx.metrics.intervals import RESAMPLES, clips_by_name, score_intervals


def score_predictions(
    predictions: Predictions, protocol: str, resamples: int = RESAMPLES, seed: int = 0
) -> dict[str, Any]:
    """All scores of the predictions: fractions in [0, 1], None where a score is undefined.

    Args:
        predictions: of one part.
        protocol: the protocol stamp, which says under which conditions the scores were measured, such as
            `luna5 fold 0, speaker-independent`.
        resamples: number of resamples of the speakers for the 95 % intervals, which are None for a single speaker.
        seed: of the resamples.
    """
    p = predictions.with_class()
    predicted = p.predicted
    scores = metrics.score(p.targets, predicted, p.labels)

    def summary(clips: np.ndarray) -> dict[str, Any]:
        counts = metrics.confusion_matrix(p.targets[clips], predicted[clips], len(p.labels))
        return {
            "accuracy": float(metrics.accuracy_from_confusion(counts)),
            "uar": float(metrics.uar_from_confusion(counts)),
            "n_clips": len(clips),
        }

    speakers = clips_by_name(p.speaker_ids)
    unknown = any(map(is_unknown, p.speaker_ids))  # they may be any number of people: no interval over speakers
    people = [""] * len(p.speaker_ids) if unknown else p.speaker_ids
    per_speaker = {name: {**summary(clips), "sex": p.sexes[clips[0]]} for name, clips in speakers.items()}
    per_sex = {
        sex: {**summary(clips), "n_speakers": len({p.speaker_ids[clip] for clip in clips})}
        for sex, clips in clips_by_name(p.sexes).items()
    }
    corpora = [speaker_id.partition("/")[0] for speaker_id in p.speaker_ids]
    per_corpus = {
        corpus: {**summary(clips), "n_speakers": 0 if unknown else len({p.speaker_ids[clip] for clip in clips})}
        for corpus, clips in clips_by_name(corpora).items()
    }
    gap = None
    if "male" in per_sex and "female" in per_sex:
        gap = 100 * (per_sex["male"]["accuracy"] - per_sex["female"]["accuracy"])
    columns = {"precision": scores.precision, "recall": scores.recall, "f1": scores.f1, "support": scores.support}
    return {
        **{name: getattr(scores, name) for name in CONFUSION_METRICS},
        "protocol": protocol,
        "n_clips": len(predictions.paths),
        "n_speakers": 0 if unknown else len(speakers),
        "intervals": score_intervals(p.targets, p.probabilities, people, resamples, seed),
        "labels": list(p.labels),
        "per_class": {
            label: {name: column[index].item() for name, column in columns.items()}
            for index, label in enumerate(p.labels)
        },
        "confusion": scores.confusion.tolist(),
        "per_speaker": per_speaker,
        "worst_speaker": worst_first(per_speaker)[0],
        "per_sex": per_sex,
        "per_corpus": per_corpus,
        "sex_gap_accuracy": gap,
        "per_intensity": {name: summary(clips) for name, clips in clips_by_name(p.intensities).items()},
        "calibration": metrics.calibration(p.targets, p.probabilities),
        "selective": plain(metrics.selective(p.targets, p.probabilities)),
        **({} if predictions.votes is None else {"votes": score_votes(predictions, resamples, seed)}),
    }


def score_votes(predictions: Predictions, resamples: int = RESAMPLES, seed: int = 0) -> dict[str, Any]:
    """How well the probabilities meet the shares of the votes, and what a single rater scores.

    Returns:
        `tied`, the number of clips without a majority; `kl`, the mean divergence in nats, with its `kl_interval` over
        speakers; `kl_of_mean`, the divergence of the mean shares of these clips, which no constant prediction beats;
        and `rater`, the scores of `metrics.rater_agreement` with `intervals`, or None where votes are not numbers of
        raters.
    """
    p = predictions
    assert p.votes is not None
    shares = metrics.to_shares(p.votes)
    divergences = metrics.kl_divergences(shares, p.probabilities)
    mean = np.broadcast_to(shares.mean(0), shares.shape)
    speakers = [] if any(map(is_unknown, p.speaker_ids)) else list(clips_by_name(p.speaker_ids).values())
    sums = np.array([[divergences[clips].sum(), len(clips)] for clips in speakers])
    interval = metrics.bootstrap_interval(sums, lambda s: s[:, 0] / s[:, 1], resamples, seed=seed)
    rater = metrics.rater_agreement(p.votes, p.predicted)
    if rater is not None:
        answers = metrics.rater_confusions(p.votes)
        own = np.array([answers[clips].sum(0) for clips in speakers])
        bounds = {
            name: metrics.bootstrap_interval(own, CONFUSION_METRICS[name], resamples, seed=seed)
            for name in ("uar", "accuracy")
        }
        rater["intervals"] = {name: None if bound is None else list(bound) for name, bound in bounds.items()}
    return {
        "tied": int(p.tied.sum()),
        "kl": float(divergences.mean()),
        "kl_interval": None if interval is None else list(interval),
        "kl_of_mean": float(metrics.kl_divergences(shares, mean).mean()),
        "rater": rater,
    }


def worst_first(per_speaker: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Speakers in ascending order of their UAR."""
    return sorted(per_speaker, key=lambda name: (per_speaker[name]["uar"], per_speaker[name]["accuracy"], name))
