"""Time derivatives of features ("deltas"): a Savitzky-Golay filter that respects where each clip ends.

Around each frame, a polynomial of degree `order` is fitted by least squares to a window of `width` frames. With the
frames' offsets t = -width // 2 ... width // 2 as the columns t^0, t^1, ... of a matrix V, the coefficients of the fit
are pinv(V) x, and the derivative at the center is order! times the last of them:

    delta[n] = sum_t w[t] x[n + t],        w = order! pinv(V)[order]

The weights of an odd derivative are odd, those of an even one even, so each pair of frames at n + k and n - k shares
one multiplication.

The order-th derivative of a polynomial of that degree is constant. Where the window reaches beyond the clip, librosa
(mode "interp") evaluates the polynomial of the first or last full window; that is, it repeats the first or last full
window's value.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor


def delta(features: Tensor, frames: Tensor, order: int = 1, width: int = 9) -> Tensor:
    """The `order`-th time derivative of `features (B, N, F)`, as `librosa.feature.delta(mode="interp")`.

    Each clip ends at its own `frames (B,)`; a clip shorter than the window is extended by its last frame. The result
    is not zero beyond the frames.

    >>> ramp = 3 * torch.arange(20.0).reshape(1, 20, 1)
    >>> delta(ramp, torch.tensor([20])).flatten()[:3].round(decimals=3).tolist()
    [3.0, 3.0, 3.0]
    """
    half, size = width // 2, features.shape[1]
    last = frames[:, None] - 1
    position = torch.arange(size, device=features.device)
    extended = torch.where((position <= last)[..., None], features, _frame(features, last))
    padded = torch.cat([extended[:, :1].expand(-1, half, -1), extended, extended[:, -1:].expand(-1, half, -1)], dim=1)
    weights = _derivative_weights(order, width)
    slope = padded[:, half : half + size] * weights[half]
    for k in range(1, half + 1):
        later, earlier = padded[:, half + k : half + k + size], padded[:, half - k : half - k + size]
        pair = later - earlier if order % 2 else later + earlier
        slope = slope.add_(pair, alpha=weights[half + k])
    first_full = torch.clamp(last // 2, max=half)
    last_full = torch.maximum(last - half, first_full)
    slope = torch.where((position < first_full)[..., None], _frame(slope, first_full), slope)
    return torch.where((position > last_full)[..., None], _frame(slope, last_full), slope)


def _frame(features: Tensor, index: Tensor) -> Tensor:
    """One frame of each clip: `features (B, N, F)` at `index (B, 1)` -> `(B, 1, F)`."""
    return features.gather(1, index[..., None].expand(-1, -1, features.shape[2]))


@lru_cache(maxsize=16)
def _derivative_weights(order: int, width: int) -> tuple[float, ...]:
    """The `width` weights w above."""
    offset = torch.arange(width, dtype=torch.float64) - width // 2
    fit = torch.linalg.pinv(torch.stack([offset**degree for degree in range(order + 1)], dim=1))
    return tuple((fit[order] * math.factorial(order)).tolist())
