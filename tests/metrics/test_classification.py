"""Scores against scikit-learn and by hand; intervals against what a bootstrap over speakers must do."""

import math
import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from serx.errors import DataError
from serx.metrics import classification as metrics
from serx.metrics.intervals import clips_by_name, score_intervals, speaker_interval

LABELS = ("neutral", "calm", "happy", "sad")
CASES = {
    "every class": ([0, 0, 1, 1, 2, 2, 3, 3, 3, 1], [0, 1, 1, 1, 2, 0, 3, 3, 2, 3]),
    "a class without clips": ([0, 0, 1, 1, 3], [0, 1, 1, 2, 3]),
    "a class never predicted": ([0, 1, 2, 3, 3], [0, 1, 3, 3, 3]),
    "a class neither there nor predicted": ([0, 1, 3, 3], [1, 1, 3, 3]),
    "a single class": ([2, 2, 2], [2, 0, 2]),
    "one clip, right": ([1], [1]),
    "one clip, wrong": ([1], [2]),
}


def oracle(targets, guesses):
    averages = {"labels": range(len(LABELS)), "zero_division": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # balanced_accuracy_score tells of predicted classes without a clip
        uar = sk.balanced_accuracy_score(targets, guesses)
    return {
        "accuracy": sk.accuracy_score(targets, guesses),
        "uar": uar,
        "macro_f1": sk.f1_score(targets, guesses, average="macro", **averages),
        "weighted_f1": sk.f1_score(targets, guesses, average="weighted", **averages),
        "precision": sk.precision_score(targets, guesses, average=None, **averages),
        "recall": sk.recall_score(targets, guesses, average=None, **averages),
        "f1": sk.f1_score(targets, guesses, average=None, **averages),
        "support": np.bincount(targets, minlength=len(LABELS)),
        "confusion": sk.confusion_matrix(targets, guesses, labels=range(len(LABELS))),
    }


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize("case", CASES)
def test_both_ways_to_the_scores_agree_with_scikit_learn(case):
    targets, guesses = map(np.array, CASES[case])
    confusion = metrics.confusion_matrix(targets, guesses, len(LABELS))
    for scores in (metrics.score(targets, guesses, LABELS), metrics.from_confusion(confusion)):
        for name, expected in oracle(targets, guesses).items():
            np.testing.assert_allclose(getattr(scores, name), expected, rtol=0, atol=1e-12, err_msg=name)


def test_scores_of_many_random_confusions_agree_with_scikit_learn():
    generator = np.random.default_rng(1)
    for _ in range(50):
        n = int(generator.integers(1, 40))
        targets, guesses = generator.integers(0, 4, (2, n)) * generator.integers(0, 2, (2, n))
        scores = metrics.from_confusion(metrics.confusion_matrix(targets, guesses, 4))
        for name, expected in oracle(targets, guesses).items():
            np.testing.assert_allclose(getattr(scores, name), expected, rtol=0, atol=1e-12, err_msg=name)


def test_scores_worked_out_by_hand():
    # Truth in rows: 8 of 10 angry recognized, 1 of 2 sad, no clip of the third class, which is predicted once.
    scores = metrics.from_confusion([[8, 1, 1], [1, 1, 0], [0, 0, 0]])
    assert scores.accuracy == pytest.approx(9 / 12)
    assert scores.uar == pytest.approx((8 / 10 + 1 / 2) / 2)  # not divided by three
    assert scores.f1 == pytest.approx([16 / 19, 2 / 4, 0])
    assert scores.macro_f1 == pytest.approx((16 / 19 + 1 / 2) / 3)
    assert scores.weighted_f1 == pytest.approx((10 * 16 / 19 + 2 * 1 / 2) / 12)
    assert scores.precision == pytest.approx([8 / 9, 1 / 2, 0])
    assert scores.support.tolist() == [10, 2, 0]


def test_probabilities_are_scored_by_their_largest():
    probabilities = np.array([[0.1, 0.6, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1]])
    assert metrics.score([1, 1], probabilities, LABELS).confusion[1].tolist() == [1, 1, 0, 0]


def test_stacked_confusions_are_scored_each_by_itself():
    stack = np.random.default_rng(0).integers(0, 5, (7, 3, 4, 4))
    for metric in metrics.CONFUSION_METRICS.values():
        together = metric(stack)
        assert together.shape == (7, 3)
        assert together[4, 2] == pytest.approx(float(metric(stack[4, 2])), abs=1e-15)


@pytest.mark.parametrize(
    ("targets", "outputs", "clue"),
    [
        ([], [], "at least one"),
        ([0, 1], [0], "as many"),
        ([0, 4], [0, 1], "targets run from 0 to 4"),
        ([0, 1], [0, -1], "predictions run from -1"),
        ([0], [[0.5, 0.5]], "2 columns"),
    ],
)
def test_clips_that_cannot_be_scored_are_refused(targets, outputs, clue):
    with pytest.raises(DataError, match=clue):
        metrics.score(targets, outputs, LABELS)


@pytest.mark.parametrize(("confusion", "clue"), [(np.zeros((3, 3)), "no clip"), (np.ones((2, 3)), "square")])
def test_a_confusion_without_clips_or_corners_is_refused(confusion, clue):
    with pytest.raises(DataError, match=clue):
        metrics.from_confusion(confusion)


def test_calibration_agrees_with_plain_loops_and_scikit_learn():
    generator = np.random.default_rng(2)
    targets, probabilities = generator.integers(0, 4, 300), softmax(2 * generator.standard_normal((300, 4)))
    assert metrics.nll(targets, probabilities) == pytest.approx(sk.log_loss(targets, probabilities), abs=1e-12)

    brier = sum((p[c] - (c == t)) ** 2 for p, t in zip(probabilities, targets, strict=True) for c in range(4)) / 300
    assert metrics.brier(targets, probabilities) == pytest.approx(brier, abs=1e-12)

    ece = 0.0
    for index in range(15):
        inside = [k for k, p in enumerate(probabilities) if index / 15 < max(p) <= (index + 1) / 15]
        if inside:
            right = np.mean([probabilities[k].argmax() == targets[k] for k in inside])
            ece += len(inside) / 300 * abs(right - np.mean([max(probabilities[k]) for k in inside]))
    assert metrics.ece(targets, probabilities) == pytest.approx(ece, abs=1e-12)


def test_calibration_worked_out_by_hand():
    # Two clips at 0.8 confidence, one of them right: the one filled bin is off by 0.3.
    targets, probabilities = np.array([0, 1]), np.array([[0.8, 0.2], [0.8, 0.2]])
    assert metrics.ece(targets, probabilities) == pytest.approx(0.3)
    assert metrics.brier(targets, probabilities) == pytest.approx((2 * 0.2**2 + 2 * 0.8**2) / 2)
    assert metrics.nll(targets, probabilities) == pytest.approx(-(math.log(0.8) + math.log(0.2)) / 2)


def test_a_confidence_on_the_edge_falls_into_the_lower_bin():
    probabilities = np.array([[0.75, 0.25], [0.5, 0.5], [1.0, 0.0]])
    counts = metrics.calibration_counts(np.array([0, 1, 0]), probabilities, bins=4)
    assert counts.tolist() == [[0, 0, 0], [1, 0.5, 0], [1, 0.75, 1], [1, 1, 1]]


def test_a_sure_mistake_costs_much_but_not_infinity():
    min_confidence = np.array([[1.0, 0.0]], np.float32)
    assert 30 < metrics.nll(np.array([1]), min_confidence) < 40
    assert metrics.brier(np.array([1]), min_confidence) == 2
    assert metrics.ece(np.array([1]), min_confidence) == 1
    assert (
        metrics.ece(np.array([0]), min_confidence)
        == metrics.brier(np.array([0]), min_confidence)
        == metrics.nll(np.array([0]), min_confidence)
        == 0
    )


def hits(correct, of):
    """Two-class confusions (S, 2, 2) of speakers with `of` clips of either class, `correct` (S, 2) recognized."""
    confusions = np.zeros((len(correct), 2, 2))
    confusions[:, [0, 1], [0, 1]] = correct
    confusions[:, [0, 1], [1, 0]] = of - np.asarray(correct)
    return confusions


def population(generator, speakers, clips):
    """Speakers whose recognition rates differ: mean 0.6, standard deviation 0.15."""
    rates = generator.beta(5.8, 3.87, (speakers, 1))
    return hits(generator.binomial(clips, np.repeat(rates, 2, axis=1)), clips)


def test_intervals_equal_a_bootstrap_that_copies_clips_speaker_by_speaker():
    generator = np.random.default_rng(3)
    confusions = generator.integers(0, 6, (4, 3, 3))
    draws = np.random.default_rng(9).multinomial(4, [0.25] * 4, size=200)
    for metric, name in ((metrics.uar, "uar"), (metrics.macro_f1, "macro_f1")):
        scores = []
        for draw in draws:
            chosen = sum(times * confusions[speaker] for speaker, times in enumerate(draw))
            pairs = [(t, g) for t in range(3) for g in range(3) for _ in range(chosen[t, g])]
            targets, guesses = map(np.array, zip(*pairs, strict=True))
            scores.append(getattr(metrics.score(targets, guesses, ("a", "b", "c")), name))
        expected = np.quantile(scores, [0.025, 0.975])
        assert speaker_interval(confusions, metric, 200, seed=9) == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize(("speakers", "least", "most"), [(5, 0.78, 0.91), (60, 0.91, 0.985)])
def test_intervals_hold_the_truth_nineteen_times_in_twenty_but_less_with_few_speakers(speakers, least, most):
    generator = np.random.default_rng(4)
    held = 0
    for trial in range(400):
        low, high = speaker_interval(population(generator, speakers, 10), metrics.accuracy, 400, seed=trial)
        held += low <= 5.8 / (5.8 + 3.87) <= high
    assert least <= held / 400 <= most


def test_an_interval_over_speakers_is_wider_than_over_clips_when_speakers_differ():
    confusions = population(np.random.default_rng(5), 10, 40)
    counts = confusions.sum(0).astype(int)
    by_clip = np.repeat(np.eye(4), counts.ravel(), axis=0).reshape(-1, 2, 2)  # every clip its own "speaker"
    speakers = speaker_interval(confusions, metrics.uar)
    clips = speaker_interval(by_clip, metrics.uar)
    assert speakers[1] - speakers[0] > 1.8 * (clips[1] - clips[0])
    alike = hits(np.full((10, 2), 24), 40)
    assert speaker_interval(alike, metrics.uar) == pytest.approx((0.6, 0.6))


def test_the_same_seed_gives_the_same_interval_and_another_seed_another():
    confusions = population(np.random.default_rng(6), 8, 20)
    first = speaker_interval(confusions, metrics.uar, seed=1)
    assert first == speaker_interval(confusions, metrics.uar, seed=1)
    assert first != speaker_interval(confusions, metrics.uar, seed=2)
    narrow = speaker_interval(confusions, metrics.uar, level=0.5, seed=1)
    assert first[0] < narrow[0] < narrow[1] < first[1]


def test_one_speaker_has_no_interval():
    assert speaker_interval(np.ones((1, 2, 2)), metrics.uar) is None
    intervals = score_intervals(np.array([0, 1]), np.array([[0.9, 0.1], [0.6, 0.4]]), ["OAF", "OAF"])
    assert set(intervals) == {*metrics.CONFUSION_METRICS, "nll", "brier", "ece"}
    assert set(intervals.values()) == {None}


def test_every_interval_of_many_alike_speakers_closes_on_its_score():
    generator = np.random.default_rng(7)
    targets, probabilities = generator.integers(0, 3, 50), softmax(generator.standard_normal((50, 3)))
    everyone = np.tile(targets, 6), np.tile(probabilities, (6, 1)), np.repeat(list("abcdef"), 50)
    scores = metrics.score(targets, probabilities, ("x", "y", "z"))
    expected = {name: getattr(scores, name) for name in metrics.CONFUSION_METRICS}
    expected |= {name: getattr(metrics, name)(targets, probabilities) for name in ("nll", "brier", "ece")}
    for name, bounds in score_intervals(*everyone).items():
        assert bounds == pytest.approx([expected[name]] * 2, abs=1e-12), name


def test_clips_are_grouped_by_name_with_the_unknown_last():
    groups = clips_by_name(["b", None, "a", "b"])
    assert {name: clips.tolist() for name, clips in groups.items()} == {"a": [2], "b": [0, 3], "unknown": [1]}
    assert list(groups) == ["a", "b", "unknown"]
    assert clips_by_name([None, None]) == {}


def test_sure_verdicts_are_counted_as_plain_loops_count_them():
    random = np.random.default_rng(3)
    probabilities = random.dirichlet([0.5] * 4, 300)
    targets = random.integers(0, 4, 300)
    for row in metrics.selective(targets, probabilities, [0.0, 0.5, 0.8, 1.1]):
        kept = [(p, t) for p, t in zip(probabilities, targets, strict=True) if p.max() >= row["confidence"]]
        assert row["coverage"] == pytest.approx(len(kept) / 300)
        if kept:
            assert row["accuracy"] == pytest.approx(sum(p.argmax() == t for p, t in kept) / len(kept))
        else:
            assert np.isnan(row["accuracy"])
    everything = metrics.selective(targets, probabilities, [0.0])[0]
    assert everything == {"confidence": 0.0, "coverage": 1.0, "accuracy": (probabilities.argmax(1) == targets).mean()}
    exactly = metrics.selective(np.array([0]), np.array([[0.75, 0.25]]), [0.75])[0]
    assert exactly["coverage"] == 1  # as sure as that is sure
