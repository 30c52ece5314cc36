"""Scores of predicted classes agree with scikit-learn and with values worked out by hand."""

import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

import serx.metrics
from serx.errors import DataError
from serx.metrics.classification import CONFUSION_METRICS, confusion_matrix, score, score_from_confusion

LABELS = ("neutral", "calm", "happy", "sad")
CASES = {
    "every class": ([0, 0, 1, 1, 2, 2, 3, 3, 3, 1], [0, 1, 1, 1, 2, 0, 3, 3, 2, 3]),
    "a class without clips": ([0, 0, 1, 1, 3], [0, 1, 1, 2, 3]),
    "a class never predicted": ([0, 1, 2, 3, 3], [0, 1, 3, 3, 3]),
    "a class neither in the targets nor predicted": ([0, 1, 3, 3], [1, 1, 3, 3]),
    "a single class": ([2, 2, 2], [2, 0, 2]),
    "one clip, correct": ([1], [1]),
    "one clip, wrong": ([1], [2]),
}


def by_scikit_learn(targets, guesses):
    averages = {"labels": range(len(LABELS)), "zero_division": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # balanced_accuracy_score warns of predicted classes without a clip
        uar = sk.balanced_accuracy_score(targets, guesses)
    occurring = {**averages, "labels": np.unique(targets)}  # the classes of balanced_accuracy_score
    return {
        "accuracy": sk.accuracy_score(targets, guesses),
        "uar": uar,
        "macro_f1": sk.f1_score(targets, guesses, average="macro", **occurring),
        "weighted_f1": sk.f1_score(targets, guesses, average="weighted", **averages),
        "precision": sk.precision_score(targets, guesses, average=None, **averages),
        "recall": sk.recall_score(targets, guesses, average=None, **averages),
        "f1": sk.f1_score(targets, guesses, average=None, **averages),
        "support": np.bincount(targets, minlength=len(LABELS)),
        "confusion": sk.confusion_matrix(targets, guesses, labels=range(len(LABELS))),
    }


def assert_scores(scores, expected):
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(scores, name), value, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_all_scores_agree_with_scikit_learn(case):
    targets, guesses = map(np.array, CASES[case])
    assert_scores(score(targets, guesses, LABELS), by_scikit_learn(targets, guesses))


def test_scores_of_fifty_random_sets_of_clips_agree_with_scikit_learn():
    generator = np.random.default_rng(1)
    for _ in range(50):
        n = int(generator.integers(1, 40))
        targets, guesses = generator.integers(0, 4, (2, n)) * generator.integers(0, 2, (2, n))
        scores = score_from_confusion(confusion_matrix(targets, guesses, 4))
        assert_scores(scores, by_scikit_learn(targets, guesses))


def test_scores_worked_out_by_hand():
    # Rows are true classes: 8 of 10 angry correct, 1 of 2 sad, no clip of the third class, which is predicted once.
    scores = score_from_confusion([[8, 1, 1], [1, 1, 0], [0, 0, 0]])
    assert scores.accuracy == pytest.approx(9 / 12)
    assert scores.uar == pytest.approx((8 / 10 + 1 / 2) / 2)  # not divided by three
    assert scores.f1 == pytest.approx([16 / 19, 2 / 4, 0])
    assert scores.macro_f1 == pytest.approx((16 / 19 + 1 / 2) / 2)  # of the same two classes
    assert scores.weighted_f1 == pytest.approx((10 * 16 / 19 + 2 * 1 / 2) / 12)
    assert scores.precision == pytest.approx([8 / 9, 1 / 2, 0])
    assert scores.support.tolist() == [10, 2, 0]


@pytest.mark.parametrize("name", ["accuracy", "uar", "macro_f1", "weighted_f1"])
def test_names_of_labels_and_class_indices_give_the_same_score(name):
    targets, guesses = CASES["every class"]
    metric = getattr(serx.metrics, name)
    expected = by_scikit_learn(targets, guesses)[name]
    named = [LABELS[i] for i in targets], [LABELS[i] for i in guesses]
    assert metric(targets, guesses) == metric(*named) == metric(*map(np.array, named), labels=LABELS)
    assert metric(targets, guesses, labels=4) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["precision", "recall", "f1"])
def test_scores_per_class_come_in_the_order_of_the_labels(name):
    targets, guesses = CASES["a class without clips"]
    scores = getattr(serx.metrics, f"{name}_per_class")(targets, guesses, labels=4)
    np.testing.assert_allclose(scores, by_scikit_learn(targets, guesses)[name], atol=1e-12)


def test_without_labels_the_classes_are_those_that_occur():
    assert confusion_matrix(["b", "a"], ["c", "a"]).tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_the_largest_probability_is_the_prediction():
    probabilities = np.array([[0.1, 0.6, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1]])
    assert score([1, 1], probabilities, LABELS).confusion[1].tolist() == [1, 1, 0, 0]


def test_each_of_several_stacked_confusion_matrices_is_scored_alone():
    stack = np.random.default_rng(0).integers(0, 5, (7, 3, 4, 4))
    for metric in CONFUSION_METRICS.values():
        together = metric(stack)
        assert together.shape == (7, 3)
        assert together[4, 2] == pytest.approx(float(metric(stack[4, 2])), abs=1e-15)


@pytest.mark.parametrize(
    ("targets", "outputs", "message"),
    [
        ([], [], "at least one clip"),
        ([0, 1], [0], "one prediction for each target"),
        ([0, 4], [0, 1], "targets range from 0 to 4 but there are 4 classes"),
        ([0, 1], [0, -1], "predictions range from -1"),
        ([0], [[0.5, 0.5]], "2 columns"),
        ([0, 1], [[np.nan] * 4, [0.7, 0.1, 0.1, 0.1]], "outputs of 1 of 2 clips are NaN or infinite"),
        ([0, 1], [0, np.nan], "predictions range from nan"),
        ([0, 1], [0, 0.5], "predictions hold 0.5, which is no class index"),
        (["sad"], ["sad"], "targets are no class indices, such as .*sad.*; give the labels"),
    ],
)
def test_targets_and_predictions_that_do_not_fit_are_refused(targets, outputs, message):
    with pytest.raises(DataError, match=message):
        score(targets, outputs, LABELS)


@pytest.mark.parametrize("name", ["accuracy", "uar", "macro_f1", "weighted_f1", "recall_per_class", "f1_per_class"])
def test_no_clip_has_no_score(name):
    for labels in (None, 4, LABELS):
        with pytest.raises(DataError, match="there is no clip"):
            getattr(serx.metrics, name)([], [], labels)


def test_uar_and_macro_f1_do_not_depend_on_labels_without_clips():
    targets, guesses = [0, 0, 1, 1, 3], [0, 1, 1, 2, 3]
    for name in ("uar", "macro_f1"):
        metric = getattr(serx.metrics, name)
        assert metric(targets, guesses) == metric(targets, guesses, labels=4) == metric(targets, guesses, labels=9)


def test_a_label_that_is_not_in_the_list_is_named():
    with pytest.raises(DataError, match="predictions hold 'bored', which is not among the labels happy, sad"):
        serx.metrics.uar(["sad"], ["bored"], labels=["happy", "sad"])


@pytest.mark.parametrize(("confusion", "message"), [(np.zeros((3, 3)), "no clip"), (np.ones((2, 3)), "square")])
def test_a_confusion_matrix_that_is_empty_or_not_square_is_refused(confusion, message):
    with pytest.raises(DataError, match=message):
        score_from_confusion(confusion)
