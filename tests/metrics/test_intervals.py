"""Intervals do what a bootstrap over speakers must do."""

import numpy as np
import pytest

from serx import metrics
from serx.metrics.classification import CONFUSION_METRICS
from serx.metrics.intervals import bootstrap_interval, clips_by_name, score_intervals, speaker_interval


def two_class_confusions(correct, clips):
    """Confusion matrices (S, 2, 2) of speakers with `clips` clips of each class, `correct` (S, 2) of them correct."""
    confusions = np.zeros((len(correct), 2, 2))
    confusions[:, [0, 1], [0, 1]] = correct
    confusions[:, [0, 1], [1, 0]] = clips - np.asarray(correct)
    return confusions


def population(generator, speakers, clips):
    """Speakers with different recognition rates: mean 0.6, standard deviation 0.15."""
    rates = generator.beta(5.8, 3.87, (speakers, 1))
    return two_class_confusions(generator.binomial(clips, np.repeat(rates, 2, axis=1)), clips)


def test_the_interval_equals_a_bootstrap_that_copies_clips_speaker_by_speaker():
    generator = np.random.default_rng(3)
    confusions = generator.integers(0, 6, (4, 3, 3))
    draws = np.random.default_rng(9).multinomial(4, [0.25] * 4, size=200)
    for metric, name in ((metrics.uar_from_confusion, "uar"), (metrics.macro_f1_from_confusion, "macro_f1")):
        scores = []
        for draw in draws:
            chosen = sum(times * confusions[speaker] for speaker, times in enumerate(draw))
            pairs = [(t, g) for t in range(3) for g in range(3) for _ in range(chosen[t, g])]
            targets, guesses = map(np.array, zip(*pairs, strict=True))
            scores.append(getattr(metrics.score(targets, guesses, ("a", "b", "c")), name))
        expected = np.quantile(scores, [0.025, 0.975])
        assert bootstrap_interval(confusions, metric, 200, seed=9) == pytest.approx(tuple(expected), abs=1e-12)


def test_labels_of_clips_and_sums_of_speakers_give_the_same_interval():
    generator = np.random.default_rng(8)
    targets, guesses = generator.choice(["angry", "calm", "sad"], (2, 90))
    speakers = np.repeat(list("abcde"), 18).tolist()
    sums = np.stack([metrics.confusion_matrix(targets[i : i + 18], guesses[i : i + 18], ["angry", "calm", "sad"])
                     for i in range(0, 90, 18)])  # fmt: skip
    expected = bootstrap_interval(sums, metrics.accuracy_from_confusion)
    assert speaker_interval(targets, guesses, speakers, metrics.accuracy_from_confusion) == expected


@pytest.mark.parametrize(("speakers", "least", "most"), [(5, 0.78, 0.91), (60, 0.91, 0.985)])
def test_95_percent_intervals_hold_the_true_value_95_times_in_100_but_less_often_with_few_speakers(
    speakers, least, most
):
    generator = np.random.default_rng(4)
    held = 0
    for trial in range(400):
        sums = population(generator, speakers, 10)
        low, high = bootstrap_interval(sums, metrics.accuracy_from_confusion, 400, seed=trial)
        held += low <= 5.8 / (5.8 + 3.87) <= high
    assert least <= held / 400 <= most


def test_the_interval_over_speakers_is_wider_than_over_clips_when_speakers_differ():
    confusions = population(np.random.default_rng(5), 10, 40)
    counts = confusions.sum(0).astype(int)
    by_clip = np.repeat(np.eye(4), counts.ravel(), axis=0).reshape(-1, 2, 2)  # each clip as a speaker of its own
    speakers = bootstrap_interval(confusions, metrics.uar_from_confusion)
    clips = bootstrap_interval(by_clip, metrics.uar_from_confusion)
    assert speakers[1] - speakers[0] > 1.8 * (clips[1] - clips[0])
    equal = two_class_confusions(np.full((10, 2), 24), 40)
    assert bootstrap_interval(equal, metrics.uar_from_confusion) == pytest.approx((0.6, 0.6))


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    confusions, uar = population(np.random.default_rng(6), 8, 20), metrics.uar_from_confusion
    first = bootstrap_interval(confusions, uar, seed=1)
    assert first == bootstrap_interval(confusions, uar, seed=1)
    assert first != bootstrap_interval(confusions, uar, seed=2)
    narrow = bootstrap_interval(confusions, uar, level=0.5, seed=1)
    assert first[0] < narrow[0] < narrow[1] < first[1]


def test_a_single_speaker_has_no_interval():
    assert bootstrap_interval(np.ones((1, 2, 2)), metrics.uar_from_confusion) is None
    intervals = score_intervals(np.array([0, 1]), np.array([[0.9, 0.1], [0.6, 0.4]]), ["OAF", "OAF"])
    assert set(intervals) == {*CONFUSION_METRICS, "nll", "brier", "ece"}
    assert set(intervals.values()) == {None}


def test_speakers_with_equal_clips_have_an_interval_of_zero_width_around_the_score():
    generator = np.random.default_rng(7)
    logits = generator.standard_normal((50, 3))
    targets, probabilities = generator.integers(0, 3, 50), np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    everyone = np.tile(targets, 6), np.tile(probabilities, (6, 1)), np.repeat(list("abcdef"), 50)
    scores = metrics.score(targets, probabilities, ("x", "y", "z"))
    expected = {name: getattr(scores, name) for name in CONFUSION_METRICS}
    expected |= metrics.calibration(targets, probabilities)
    for name, bounds in score_intervals(*everyone).items():
        assert bounds == pytest.approx([expected[name]] * 2, abs=1e-12), name


def test_clips_are_grouped_by_name_and_those_without_a_name_come_last():
    groups = clips_by_name(["b", None, "a", "b"])
    assert {name: clips.tolist() for name, clips in groups.items()} == {"a": [2], "b": [0, 3], "unknown": [1]}
    assert list(groups) == ["a", "b", "unknown"]
    assert clips_by_name([None, None]) == {}
