"""`Normalizer`: features to a common scale, by the clip's own statistics or by those of the training speakers."""

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from serx.dsp.batching import valid_mask
from serx.dsp.statistics import row_statistics

RemoveLevel = bool | Literal["first"]


EPSILON = 1e-5


class Normalizer(nn.Module):
    """`features (B, F, N)`, `frames (B,)` -> the same shape, zero beyond the frames. In this order:

    `mode`: `clip` gives each row of each clip mean 0 and deviation 1; `training` uses `mean` and `deviation (F, 1)` of
    the training speakers, which are part of the state. `remove_level` subtracts each clip's scalar mean over rows and
    frames, and with it the distance to the microphone. Of log-mels, `first` does so entirely, before `training`. After
    it (`True`), a gain has become a larger number in rows of smaller deviation, and its mean alone goes.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, bins: int, mode: Literal["none", "clip", "training"], remove_level: RemoveLevel) -> None:
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
        """Sets the training statistics from `(features, frames)` batches, counted in float64."""
        count = self.mean.new_zeros((), dtype=torch.float64)
        total, squares = torch.zeros_like(self.mean, dtype=torch.float64), torch.zeros_like(self.mean).double()
        for given, frames in batches:  # zero beyond the frames: plain sums are sums over valid frames
            mask = valid_mask(frames, given.shape[-1])[:, None]
            features = _remove_level(given, frames, mask) if self.remove_level == "first" else given
            count = count + frames.sum().double()
            total = total + features.double().sum(dim=(0, 2))[:, None]
            squares = squares + features.double().square().sum(dim=(0, 2))[:, None]
        mean = total / count
        variance = squares / count - mean.square()
        self.mean.copy_(mean)
        self.deviation.copy_(variance.clamp(min=EPSILON**2).sqrt())


def _remove_level(features: Tensor, frames: Tensor, mask: Tensor) -> Tensor:
    """Each clip's `features (B, F, N)` less their mean over rows and valid frames, where `mask (B, 1, N)` is 1."""
    count = frames[:, None, None] * features.shape[1]
    return (features - features.sum(dim=(1, 2), keepdim=True) / count) * mask
