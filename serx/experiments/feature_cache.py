"""`CachedFeatures`: a feature stack that computes the features of a waveform once, for training without augmentation.

The features of a clip depend neither on the other clips of its batch nor on padding, so features computed in one batch
are valid in the next. They are equal to rounding, not to the bit, so runs that can be resumed do not use this.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from serx.dsp.mel_warp import Warp
from serx.features.stack import FeaturesConfig, FeatureStack
from serx.recognizer import Recognizer


class FeatureCache(dict[int, np.ndarray]):
    """Features (F, N) by the hash of the samples of a waveform. Copies of a model share it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "FeatureCache":
        return self


class CachedFeatures(FeatureStack):
    """`FeatureStack` that looks into a cache first; one cache serves any number of stacks with equal settings.

    On an accelerator, where computing features is cheaper than a transfer, and for warped clips it computes as usual.
    """

    def __init__(self, config: FeaturesConfig, sample_rate: int, cache: FeatureCache) -> None:
        super().__init__(config, sample_rate)
        self.cache = cache

    def forward(
        self, waveform: Tensor, lengths: Tensor | None = None, warp: Warp | None = None
    ) -> tuple[Tensor, Tensor]:
        """`waveform (B, T)`, `lengths (B,)` -> `features (B, F, N)`, `frames (B,)`."""
        if lengths is None or warp is not None or waveform.device.type != "cpu":
            return super().forward(waveform, lengths, warp)
        samples = waveform.numpy()
        keys = [hash(row[:length].tobytes()) for row, length in zip(samples, lengths.tolist(), strict=True)]
        new = [i for i, key in enumerate(keys) if key not in self.cache]
        if new:
            features, frames = super().forward(waveform[new], lengths[new])
            for i, row, count in zip(new, features.detach().numpy(), frames.tolist(), strict=True):
                self.cache[keys[i]] = row[:, :count].copy()
        rows = [self.cache[key] for key in keys]
        counts = [row.shape[1] for row in rows]
        batch = np.zeros((len(rows), rows[0].shape[0], max(counts)), np.float32)
        for padded, row in zip(batch, rows, strict=True):
            padded[:, : row.shape[1]] = row
        return torch.from_numpy(batch), torch.tensor(counts)


def cache_features(recognizer: Recognizer, cache: FeatureCache) -> None:
    """Replaces the feature stack of a recognizer by one with a cache, unless its filters are trained."""
    stack = recognizer.features
    if not stack.config.trainable:
        recognizer.features = CachedFeatures(stack.config, stack.sample_rate, cache).to(stack.dct.device)
