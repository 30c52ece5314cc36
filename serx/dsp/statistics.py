"""Statistics over a clip's frames: a sequence of features to one vector, for models without a time axis."""

import math
from typing import Literal

import torch
from torch import Tensor

Statistic = Literal["mean", "std", "min", "max", "range", "median"]


def summarize(features: Tensor, frames: Tensor, names: tuple[Statistic, ...]) -> Tensor:
    """`features (B, N, F)`, zero beyond `frames (B,)` -> `(B, 1, F * len(names))`, statistic after statistic.

    `std` divides by the number of frames, so that one frame has deviation 0; `median` of an even number is the mean
    of the middle two, as numpy's.
    """
    count = frames[:, None, None]
    valid = torch.arange(features.shape[1], device=frames.device)[:, None] < count
    mean = features.sum(1, keepdim=True) / count

    def least() -> Tensor:
        return features.masked_fill(~valid, math.inf).amin(1, keepdim=True)

    def greatest() -> Tensor:
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
        "min": least,
        "max": greatest,
        "range": lambda: greatest() - least(),
        "median": median,
    }
    return torch.cat([compute[name]() for name in names], dim=-1)


STILL = 1e-3  # variance added to a row's, so that the noise of a silent row is not blown up


def row_statistics(features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (with `STILL`) `(B, F, 1)` of each clip's rows over its valid frames, 1 in `mask (B, 1, N)`."""
    count = mask.sum(-1, keepdim=True)
    mean = features.sum(-1, keepdim=True) / count
    return mean, ((features - mean) * mask).square().sum(-1, keepdim=True) / count + STILL
