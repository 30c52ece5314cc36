"""Temperature scaling: how sure a classifier may say it is, learned from validation speakers after each epoch.

Logits are divided by one number T > 0 before the softmax, the T under which the validation clips are likeliest (Guo et
al. 2017, On calibration of modern neural networks, section 4.2). No guess changes: only the confidence does. With
b = 1/T the mean of log-sum-exp(b z) - b z[truth] is convex in b, so its slope has one zero and bisection finds it.
"""

import numpy as np

COLDEST, HOTTEST = 0.25, 10.0  # a validation part without a mistake would ask for T = 0, and be believed
_HALVINGS = 60  # of an interval of length 4: to the last bit
_TINY = 1e-38  # below it float32 softmax has no numbers


def fit_temperature(targets: np.ndarray, probabilities: np.ndarray) -> float:
    """The temperature of least negative log-likelihood, between `COLDEST` and `HOTTEST`.

    Args:
        targets: (n,) class indices of validation clips; never of test clips.
        probabilities: (n, C) at temperature 1; their logarithms are logits, up to a number a clip that cancels.

    Returns:
        T; 1 where there is no clip or a probability is not finite.
    """
    if not len(targets) or not np.isfinite(probabilities).all():
        return 1.0
    logits = np.log(np.maximum(np.asarray(probabilities, float), _TINY))
    truth = logits[np.arange(len(targets)), targets]
    low, high = 1 / HOTTEST, 1 / COLDEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        slope = ((_softmax(middle * logits) * logits).sum(1) - truth).mean()
        low, high = (middle, high) if slope < 0 else (low, middle)
    return float(np.clip(2 / (low + high), COLDEST, HOTTEST))


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """`(n, C)` probabilities whose logits are divided by `temperature`; dividing by its inverse undoes it."""
    return _softmax(np.log(np.maximum(np.asarray(probabilities, float), _TINY)) / temperature)


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)
