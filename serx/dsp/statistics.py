"""Statistics over a clip's frames: those that replace a sequence by one vector, and those that normalize it."""

import math
from typing import Literal

import torch
from torch import Tensor

from serx.dsp.batching import valid_mask

Statistic = Literal["mean", "std", "min", "max", "range", "median"]
VARIANCE_OFFSET = 1e-3  # added to a row's variance, so that the rounding noise of a silent row is not amplified


def summarize(features: Tensor, frames: Tensor, names: tuple[Statistic, ...]) -> Tensor:
    """`features (B, N, F)`, zero beyond `frames (B,)` -> `(B, 1, F * len(names))`, one statistic after the other.

    `std` divides by the number of frames, so a single frame has deviation 0. `median` of an even number of frames is
    the mean of the middle two, as in numpy.

    >>> features = torch.tensor([[[1.0], [2.0], [6.0], [0.0]]])
    >>> summarize(features, torch.tensor([3]), ("mean", "median", "max")).flatten().tolist()
    [3.0, 2.0, 6.0]
    """
    count = frames[:, None, None]
    valid = valid_mask(frames, features.shape[1])[..., None]
    mean = features.sum(1, keepdim=True) / count

    def minimum() -> Tensor:
        return features.masked_fill(~valid, math.inf).amin(1, keepdim=True)

    def maximum() -> Tensor:
        return features.masked_fill(~valid, -math.inf).amax(1, keepdim=True)

    def deviation() -> Tensor:
        return (((features - mean) * valid).square().sum(1, keepdim=True) / count).sqrt()

    def median() -> Tensor:
        ranked = features.masked_fill(~valid, math.inf).sort(1).values
        middle = torch.cat([(count - 1) // 2, count // 2], dim=1).expand(-1, -1, features.shape[2])
        return ranked.gather(1, middle).mean(1, keepdim=True)

    compute = {
        "mean": lambda: mean,
        "std": deviation,
        "min": minimum,
        "max": maximum,
        "range": lambda: maximum() - minimum(),
        "median": median,
    }
    return torch.cat([compute[name]() for name in names], dim=-1)


def row_statistics(features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance `(B, F, 1)` of each row of `features (B, F, N)` over the frames that `mask (B, 1, N)` marks.

    The features must be zero where the mask is. The variance includes `VARIANCE_OFFSET`.

    >>> mean, variance = row_statistics(torch.tensor([[[1.0, 3.0, 0.0]]]), torch.tensor([[[1, 1, 0]]]))
    >>> mean.item(), round(variance.item(), 4)
    (2.0, 1.001)
    """
    count = mask.sum(-1, keepdim=True)
    mean = features.sum(-1, keepdim=True) / count
    return mean, ((features - mean) * mask).square().sum(-1, keepdim=True) / count + VARIANCE_OFFSET
