"""Scores of predicted dimensions such as arousal: concordance (CCC), error (RMSE) and correlation (Pearson).

The concordance correlation coefficient (Lin 1989, "A concordance correlation coefficient to evaluate reproducibility")
is `2 cov(x, y) / (var(x) + var(y) + (mean(x) - mean(y))^2)`, with variances over n. It is 1 for equal values alone: a
wrong scale or offset lowers it, unlike Pearson's correlation.

All three follow from six sums over clips, so that a bootstrap over speakers is one matrix product.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from serx.errors import DataError
from serx.metrics.classification import ratio


def regression_sums(targets: ArrayLike, predictions: ArrayLike) -> np.ndarray:
    """What the scores follow from: clips, sum of targets, of predictions, of their squares and of their product: (6,).

    Args:
        targets: (n,) ratings.
        predictions: (n,).

    Raises:
        DataError: unequal lengths, or a value that is not finite.

    >>> regression_sums([1, 2], [1, 3]).tolist()
    [2.0, 3.0, 4.0, 5.0, 10.0, 7.0]
    """
    x, y = np.asarray(targets, float), np.asarray(predictions, float)
    if x.ndim != 1 or x.shape != y.shape:
        raise DataError(f"scores need one prediction for each rating: ratings {x.shape}, predictions {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise DataError("a rating or a prediction is NaN or infinite, so there is no score; leave out unrated clips")
    return np.array([len(x), x.sum(), y.sum(), x @ x, y @ y, x @ y])


def ccc(targets: ArrayLike, predictions: ArrayLike) -> float:
    """Concordance correlation coefficient, -1 to 1; 0 if targets or predictions do not vary.

    Args:
        targets: (n,) ratings.
        predictions: (n,).

    Raises:
        DataError: no clip, unequal lengths, or a value that is not finite.

    >>> ccc([1, 2, 3], [1, 2, 3]), round(ccc([1, 2, 3], [2, 3, 4]), 4)
    (1.0, 0.5714)
    """
    return float(ccc_from_sums(_centered(targets, predictions)))


def pearson(targets: ArrayLike, predictions: ArrayLike) -> float:
    """Pearson's correlation, -1 to 1; 0 if targets or predictions do not vary. Arguments and errors as of `ccc`.

    >>> round(pearson([1, 2, 3], [20, 30, 40]), 4)
    1.0
    """
    return float(pearson_from_sums(_centered(targets, predictions)))


def rmse(targets: ArrayLike, predictions: ArrayLike) -> float:
    """Root of the mean squared error, in units of the ratings. Arguments and errors as of `ccc`.

    >>> rmse([1, 2, 3], [2, 3, 4])
    1.0
    """
    return float(rmse_from_sums(_centered(targets, predictions)))


def ccc_from_sums(sums: np.ndarray) -> np.ndarray:
    """CCC from `regression_sums`: (..., 6) -> (...).

    >>> round(float(ccc_from_sums(regression_sums([1, 2, 3], [2, 3, 4]))), 4)
    0.5714
    """
    x, y, xx, yy, xy = _moments(sums)
    return ratio(2 * xy, xx + yy + (x - y) ** 2)


def pearson_from_sums(sums: np.ndarray) -> np.ndarray:
    """Pearson's correlation from `regression_sums`: (..., 6) -> (...)."""
    _, _, xx, yy, xy = _moments(sums)
    return ratio(xy, np.sqrt(xx * yy))


def rmse_from_sums(sums: np.ndarray) -> np.ndarray:
    """RMSE from `regression_sums`: (..., 6) -> (...)."""
    n, _, _, xx, yy, xy = np.moveaxis(np.asarray(sums, float), -1, 0)
    return np.sqrt(np.maximum(ratio(xx + yy - 2 * xy, n), 0.0))


REGRESSION_METRICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "ccc": ccc_from_sums,
    "rmse": rmse_from_sums,
    "pearson": pearson_from_sums,
}
_ROUNDING = 1e-12  # a variance below this part of the mean square is 0


def _moments(sums: np.ndarray) -> tuple[np.ndarray, ...]:
    """Means, variances and covariance over n; what is left of a variance by rounding is 0."""
    n, x, y, xx, yy, xy = np.moveaxis(np.asarray(sums, float), -1, 0)
    mean_x, mean_y, square_x, square_y = ratio(x, n), ratio(y, n), ratio(xx, n), ratio(yy, n)
    var_x, var_y = square_x - mean_x**2, square_y - mean_y**2
    var_x, var_y = (
        np.where(var_x > _ROUNDING * square_x, var_x, 0.0),
        np.where(var_y > _ROUNDING * square_y, var_y, 0.0),
    )
    varies = (var_x > 0) & (var_y > 0)
    return mean_x, mean_y, var_x, var_y, np.where(varies, ratio(xy, n) - mean_x * mean_y, 0.0)


def _centered(targets: ArrayLike, predictions: ArrayLike) -> np.ndarray:
    """The sums of targets and predictions less the mean target, which changes no score and loses fewer digits."""
    x, y = np.asarray(targets, float), np.asarray(predictions, float)
    if not x.size:
        raise DataError("there is no clip, so there is no score; give at least one rating and its prediction")
    return regression_sums(x - x.mean(), y - x.mean())
