"""CCC, RMSE and Pearson's correlation agree with closed forms, NumPy and SciPy; the loss is 1 - CCC."""

import numpy as np
import pytest
import torch
from scipy import stats

from serx.errors import DataError
from serx.metrics import ccc, ccc_from_sums, pearson, pearson_from_sums, regression_sums, rmse, rmse_from_sums
from serx.training.losses import concordance_loss


def pairs(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.normal(4.0, 1.0, n)
    return x, 0.7 * x + 2 + random.normal(0, 0.5, n)


def reference(x: np.ndarray, y: np.ndarray) -> float:
    return 2 * np.cov(x, y, ddof=0)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def test_the_scores_are_those_of_numpy_and_scipy():
    x, y = pairs()
    assert ccc(x, y) == pytest.approx(reference(x, y), rel=1e-12)
    assert pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic, rel=1e-12)
    assert rmse(x, y) == pytest.approx(np.sqrt(np.mean((x - y) ** 2)), rel=1e-12)


@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1.0), (1.5, 1.0), (0.0, 2.0), (-1.0, -0.5)])
def test_an_offset_or_a_scale_lowers_ccc_by_its_closed_form_and_not_pearson(offset, scale):
    x = pairs()[0]
    x = (x - x.mean()) / x.std()
    assert ccc(x, scale * x + offset) == pytest.approx(2 * scale / (1 + scale**2 + offset**2))
    assert pearson(x, scale * x + offset) == pytest.approx(np.sign(scale))


def test_ccc_is_symmetric_and_keeps_under_a_common_change_of_units():
    x, y = pairs()
    assert ccc(x, y) == pytest.approx(ccc(y, x)) == pytest.approx(ccc((x - 1) / 6, (y - 1) / 6))


def test_values_that_do_not_vary_score_0_however_large_they_are():
    assert ccc([3, 3, 3], [1, 2, 3]) == 0 == pearson([3, 3, 3], [1, 2, 3])
    assert ccc([1.1e6] * 3, [1.1e6] * 3) == 0 == ccc_from_sums(regression_sums([1.1e6] * 3, [1.1e6] * 3))


def test_sums_of_parts_add_up_to_the_scores_of_all():
    x, y = pairs()
    parts = np.stack([regression_sums(x[i::3], y[i::3]) for i in range(3)])
    assert ccc_from_sums(parts.sum(0)) == pytest.approx(ccc(x, y))
    assert pearson_from_sums(parts.sum(0)) == pytest.approx(pearson(x, y))
    assert rmse_from_sums(parts.sum(0)) == pytest.approx(rmse(x, y))
    assert ccc_from_sums(parts).shape == (3,)


def test_no_clip_and_values_that_are_not_finite_are_errors():
    with pytest.raises(DataError, match="no clip"):
        ccc([], [])
    with pytest.raises(DataError, match="NaN or infinite"):
        regression_sums([1.0, np.nan], [1.0, 2.0])
    with pytest.raises(DataError, match="one prediction for each rating"):
        regression_sums([1.0, 2.0], [1.0])


def test_the_loss_is_1_minus_the_mean_ccc_summed_over_the_members():
    random = np.random.default_rng(1)
    ratings, values = random.random((30, 2)), random.random((30, 3, 2))
    loss = concordance_loss(torch.from_numpy(values), torch.from_numpy(ratings).float(), torch.ones(30))
    expected = sum(1 - np.mean([ccc(ratings[:, d], values[:, m, d]) for d in range(2)]) for m in range(3))
    assert float(loss) == pytest.approx(expected, abs=1e-5)


def test_clips_without_a_rating_count_in_no_loss_and_get_no_gradient():
    ratings = torch.rand(10, 2)
    ratings[3:6, 0] = torch.nan
    values = torch.rand(10, 1, 2, requires_grad=True)
    loss = concordance_loss(values, ratings, torch.ones(10))
    rated = [0, 1, 2, 6, 7, 8, 9]
    x, y = ratings.double().numpy(), values.detach().double().numpy()[:, 0]
    expected = 1 - np.mean([ccc(x[rated, 0], y[rated, 0]), ccc(x[:, 1], y[:, 1])])
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    loss.backward()
    assert not values.grad[3:6, 0, 0].any() and values.grad[3:6, 0, 1].all() and values.grad.isfinite().all()


def test_a_clip_of_weight_2_counts_as_two_clips_in_the_loss():
    ratings, values = torch.rand(6, 1), torch.rand(6, 1, 1)
    weights = torch.tensor([1.0, 2, 1, 1, 3, 1])
    repeated = torch.tensor([0, 1, 1, 2, 3, 4, 4, 4, 5])
    torch.testing.assert_close(
        concordance_loss(values, ratings, weights),
        concordance_loss(values[repeated], ratings[repeated], torch.ones(9)),
    )


@pytest.mark.parametrize("rated", [0, 1])
def test_a_batch_with_fewer_than_two_ratings_teaches_nothing(rated):
    ratings = torch.full((4, 1), torch.nan)
    ratings[:rated] = 0.5
    values = torch.rand(4, 1, 1, requires_grad=True)
    loss = concordance_loss(values, ratings, torch.ones(4))
    loss.backward()
    assert loss.item() == 0 and not values.grad.any()
