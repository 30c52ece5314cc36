"""Scores against votes: majority, ties, divergence, and what a single rater scores."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from serx.errors import DataError
from serx.metrics import (
    fit_temperature,
    kl_divergences,
    majority,
    nll,
    rater_agreement,
    rater_confusions,
    soft_nll,
    to_shares,
)


def random_votes(clips: int = 60, classes: int = 4, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return np.array(
        [random.multinomial(random.integers(1, 8), random.dirichlet(np.ones(classes))) for _ in range(clips)]
    )


def test_the_majority_is_the_class_with_most_votes_and_ties_are_marked():
    votes = random_votes()
    targets, tied = majority(votes)
    for row, target, tie in zip(votes, targets, tied, strict=True):
        assert row[target] == row.max() and tie == (np.count_nonzero(row == row.max()) > 1)


def test_sums_of_shares_that_differ_by_rounding_alone_tie():
    assert majority(np.array([[0.1 + 0.2, 0.3, 0.4 - 0.2]]))[1].tolist() == [True]
    assert majority(np.array([[0.301, 0.3, 0.2]]))[1].tolist() == [False]


def test_the_divergence_is_that_of_scipy_and_the_loss_less_the_entropy_of_the_votes():
    shares = to_shares(random_votes())
    likely = np.random.default_rng(1).dirichlet(np.ones(4), len(shares))
    expected = [stats.entropy(p, q) for p, q in zip(shares, likely, strict=True)]
    np.testing.assert_allclose(kl_divergences(shares, likely), expected, atol=1e-12)
    entropy = np.mean([stats.entropy(p) for p in shares])
    assert soft_nll(shares, likely) - entropy == pytest.approx(np.mean(expected), abs=1e-12)
    assert kl_divergences(shares, shares).max() == 0


def test_no_constant_prediction_is_closer_to_the_votes_than_their_mean():
    shares = to_shares(random_votes())
    mean = kl_divergences(shares, np.broadcast_to(shares.mean(0), shares.shape)).mean()
    for other in np.random.default_rng(2).dirichlet(np.ones(4), 50):
        assert kl_divergences(shares, np.broadcast_to(other, shares.shape)).mean() > mean


def test_unanimous_votes_give_the_loss_and_the_temperature_of_labels():
    random = np.random.default_rng(3)
    targets, likely = random.integers(0, 4, 50), random.dirichlet(np.ones(4), 50)
    assert soft_nll(np.eye(4)[targets], likely) == nll(targets, likely)
    assert fit_temperature(np.eye(4)[targets], likely) == fit_temperature(targets, likely)


def test_the_temperature_for_votes_minimizes_their_cross_entropy():
    shares = to_shares(random_votes(200))
    likely = to_shares((shares + 0.1) ** 3)  # overconfident
    best = fit_temperature(shares, likely)

    def loss(temperature: float) -> float:
        scaled = likely ** (1 / temperature)
        return soft_nll(shares, scaled / scaled.sum(1, keepdims=True))

    assert loss(best) < min(loss(best * 0.98), loss(best * 1.02))


def left_out(votes: np.ndarray, predictions: np.ndarray) -> tuple[list[int], list[int], list[int], list[float]]:
    """Majority of the others, answer, prediction and weight of every rater, one by one."""
    rows = []
    for row, prediction in zip(votes, predictions, strict=True):
        raters = [c for c, number in enumerate(row) for _ in range(number)]
        for i, answer in enumerate(raters):
            others = np.bincount([r for j, r in enumerate(raters) if j != i], minlength=len(row))
            best = np.flatnonzero(others == others.max())
            if len(raters) > 1:
                rows += [(int(c), answer, int(prediction), 1 / len(raters) / len(best)) for c in best]
    return tuple(map(list, zip(*rows, strict=True)))


def test_a_single_rater_and_a_model_are_scored_as_one_by_one_with_scikit_learn():
    votes = random_votes()
    predictions = np.random.default_rng(5).integers(0, 4, len(votes))
    truth, answers, predicted, weights = left_out(votes, predictions)
    found = rater_agreement(votes, predictions)
    for guesses, scores in ((answers, found), (predicted, found["model"])):
        assert scores["uar"] == pytest.approx(sk.balanced_accuracy_score(truth, guesses, sample_weight=weights))
        assert scores["accuracy"] == pytest.approx(sk.accuracy_score(truth, guesses, sample_weight=weights))


def test_raters_who_agree_score_1_and_two_who_never_do_score_0():
    predictions = np.array([0, 1])
    agreed = rater_agreement(np.array([[4, 0], [0, 3]]), predictions)
    assert agreed["uar"] == agreed["accuracy"] == agreed["model"]["uar"] == 1 and agreed["n_clips"] == 2
    never = rater_agreement(np.array([[1, 1], [1, 1]]), predictions)
    assert never["uar"] == never["accuracy"] == 0 and never["model"]["accuracy"] == 0.5


def test_raters_who_answer_at_random_score_chance_also_where_few_of_them_tie():
    random = np.random.default_rng(6)
    votes = random.multinomial(5, [0.5, 0.5], 4000)
    assert rater_agreement(votes, np.zeros(4000, int))["accuracy"] == pytest.approx(0.5, abs=0.02)


def test_shares_and_clips_of_one_rater_say_nothing_about_a_single_rater():
    predictions = np.array([0, 0])
    assert rater_agreement(np.array([[0.75, 0.25], [1.0, 0.0]]), predictions) is None
    mixed = np.array([[0.75, 0.25], [3.0, 1.0]])
    assert not rater_confusions(mixed)[0].any() and rater_agreement(mixed, predictions)["n_clips"] == 1


def test_shares_that_are_no_distributions_are_refused():
    with pytest.raises(DataError, match="1 of 2 rows of shares are not distributions, such as row 1"):
        soft_nll([[0.5, 0.5], [0.5, 0.6]], [[0.5, 0.5], [0.5, 0.5]])
    with pytest.raises(DataError, match="as many shares as probabilities"):
        kl_divergences([[0.5, 0.5]], [[0.2, 0.3, 0.5]])
