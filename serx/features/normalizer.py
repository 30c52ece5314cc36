"""`Normalizer`: scales features by each clip's own statistics or by those of the training speakers."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from serx.dsp.batching import valid_mask
from serx.dsp.statistics import row_statistics

RemoveLevel = bool | Literal["first"]
MIN_DEVIATION = 1e-5  # of a row over the training set, so that a constant row stays finite


class Normalizer(nn.Module):
    """Module from `features (B, F, N)` and `frames (B,)` to features of the same shape, zero beyond the frames.

    Args:
        bins: F.
        mode: `clip` gives each row of each clip mean 0 and deviation 1. `training` subtracts `mean` and divides by
            `deviation`, `(F, 1)` each, which `fit` computes and the state contains. `none` does nothing.
        remove_level: subtracts from each clip its scalar mean over rows and frames, after `mode` (True) or before it
            ("first"). In log-mels a gain is a constant, so "first" removes it entirely, and with it the distance to the
            microphone. After division by the deviation of each row, a gain is no longer constant over the rows, and
            True removes only its mean.

    >>> import torch
    >>> from serx.features import Normalizer
    >>> normalizer = Normalizer(bins=2, mode="clip", remove_level=False)
    >>> features = torch.tensor([[[1.0, 3.0, 0.0], [10.0, 30.0, 0.0]]])
    >>> normalizer(features, torch.tensor([2]))[0, 1, :2].round(decimals=2).tolist()
    [-1.0, 1.0]
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, bins: int, mode: Literal["none", "clip", "training"] = "training", remove_level: RemoveLevel = False
    ) -> None:
        super().__init__()
        self.mode, self.remove_level = mode, remove_level
        if mode == "training":
            self.register_buffer("mean", torch.zeros(bins, 1))
            self.register_buffer("deviation", torch.ones(bins, 1))

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        mask = valid_mask(frames, features.shape[-1])[:, None]
        if self.remove_level == "first":
            features = _remove_level(features, frames, mask)
        if self.mode == "clip":
            mean, variance = row_statistics(features, mask)
            features = (features - mean) / variance.sqrt()
        elif self.mode == "training":
            features = (features - self.mean) / self.deviation
        features = features * mask
        return _remove_level(features, frames, mask) if self.remove_level is True else features

    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Computes the training statistics from batches `(features, frames)`, summed in float64.

        The features must be zero beyond the frames, so that plain sums are sums over valid frames.
        """
        count = self.mean.new_zeros((), dtype=torch.float64)
        total = torch.zeros_like(self.mean, dtype=torch.float64)
        squares = torch.zeros_like(total)
        for batch, frames in batches:
            mask = valid_mask(frames, batch.shape[-1])[:, None]
            features = _remove_level(batch, frames, mask) if self.remove_level == "first" else batch
            count = count + frames.sum().double()
            total = total + features.double().sum(dim=(0, 2))[:, None]
            squares = squares + features.double().square().sum(dim=(0, 2))[:, None]
        mean = total / count
        variance = squares / count - mean.square()
        self.mean.copy_(mean)
        self.deviation.copy_(variance.clamp(min=MIN_DEVIATION**2).sqrt())


def _remove_level(features: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
    """`features (B, F, N)` minus each clip's mean over rows and valid frames, which `mask (B, 1, N)` marks."""
    count = frames[:, None, None] * features.shape[1]
    return (features - features.sum(dim=(1, 2), keepdim=True) / count) * mask
