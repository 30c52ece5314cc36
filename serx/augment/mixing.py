"""Mixtures of two clips: mixup and cutmix mix features and targets, MixStyle mixes the statistics of the rows."""

import numpy as np
import torch
from torch import Tensor

from serx.augment.compose import AugmentConfig
from serx.dsp.batching import valid_mask
from serx.dsp.statistics import row_statistics

STYLE_ALPHA = 0.3  # of the Beta distribution of MixStyle's weights: mostly one clip's style or the other's


def mix(
    features: Tensor, frames: Tensor, targets: Tensor, config: AugmentConfig, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Mixes a batch by `config.mixstyle`, then by `mixup` or `cutmix`; if both are on, a coin decides for the batch.

    Weights and partners are drawn on the host, so nothing waits for the device.

    Args:
        features: `(B, F, N)`, zero beyond `frames (B,)`.
        targets: `(B, C)`, one-hot.
        seed: decides everything.

    Returns:
        The mixed features, frames and targets; the given tensors if all three are off.

    >>> features, frames = torch.rand(4, 64, 100), torch.full((4,), 100)
    >>> targets = torch.eye(4)
    >>> features, frames, targets = mix(features, frames, targets, AugmentConfig(mixup=0.4, mixstyle=0.5), seed=0)
    >>> targets.sum(1)
    tensor([1., 1., 1., 1.])
    """
    random, size = np.random.default_rng(seed), len(frames)

    def on_device(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(frames.device, non_blocking=True)

    if config.mixstyle > 0:
        weight = random.beta(STYLE_ALPHA, STYLE_ALPHA, size)
        weight = np.where(random.random(size) < config.mixstyle, weight, 1.0).astype(np.float32)
        features = mixstyle(features, frames, on_device(random.permutation(size)), on_device(weight))
    if max(config.mixup, config.cutmix) == 0:
        return features, frames, targets

    partner = on_device(random.permutation(size))
    cut = config.cutmix > 0 and (config.mixup == 0 or random.random() < 0.5)
    alpha = config.cutmix if cut else config.mixup
    weights = on_device(random.beta(alpha, alpha, size).astype(np.float32))
    if not cut:
        return mixup(features, frames, targets, partner, weights)
    return cutmix(features, frames, targets, partner, weights, on_device(random.random(size, dtype=np.float32)))


def mixstyle(features: Tensor, frames: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    """Gives each row of a clip a mean and a standard deviation between its own and its partner's.

    Zhou et al. 2021, "Domain generalization with MixStyle", on the rows of a spectrogram. The statistics over time are
    the long-term spectrum, which depends on speaker and room. What changes within the clip stays its own.

    Args:
        features: `(B, F, N)`, zero beyond `frames (B,)`.
        partner: `(B,)` int64, the index of the other clip.
        weight: `(B,)` in [0, 1], of the clip's own statistics. A clip with weight 1 stays as it was.

    Returns:
        `(B, F, N)`, zero beyond the frames.

    >>> features = torch.tensor([[[1.0, 3.0]], [[10.0, 30.0]]])
    >>> mixstyle(features, torch.tensor([2, 2]), partner=torch.tensor([1, 0]), weight=torch.tensor([0.0, 1.0])).round()
    tensor([[[10., 30.]],
    <BLANKLINE>
            [[10., 30.]]])
    """
    mask = valid_mask(frames, features.shape[-1])[:, None]
    mean, variance = row_statistics(features, mask)
    deviation, weight = variance.sqrt(), weight[:, None, None]
    mixed_mean = torch.lerp(mean[partner], mean, weight)
    mixed_deviation = torch.lerp(deviation[partner], deviation, weight)
    styled = ((features - mean) * (mixed_deviation / deviation) + mixed_mean) * mask
    return torch.where(weight == 1, features, styled)


def mixup(
    features: Tensor, frames: Tensor, targets: Tensor, partner: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Averages each clip with its partner, features and targets alike (Zhang et al. 2018).

    Args:
        features: `(B, F, N)`, zero beyond `frames (B,)`.
        targets: `(B, C)`, one-hot or probabilities.
        partner: `(B,)` int64, the index of the other clip.
        weight: `(B,)` in [0, 1], of the clip itself. Weights are drawn from Beta(alpha, alpha); alpha 0.1 to 0.4 is
            usual. From 1 on most mixtures have no clear emotion.

    Returns:
        Features, frames and targets of the mixtures. A mixture is as long as the longer of its clips.

    >>> features, frames, targets = torch.tensor([[[0.0]], [[1.0]]]), torch.tensor([1, 1]), torch.eye(2)
    >>> mixup(features, frames, targets, torch.tensor([1, 0]), torch.tensor([0.75, 0.5]))[2]
    tensor([[0.7500, 0.2500],
            [0.5000, 0.5000]])
    """
    mixed = torch.lerp(features[partner], features, weight[:, None, None])
    targets = torch.lerp(targets[partner], targets, weight[:, None])
    return mixed, torch.maximum(frames, frames[partner]), targets


def cutmix(
    features: Tensor, frames: Tensor, targets: Tensor, partner: Tensor, weight: Tensor, position: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Replaces a stretch of frames of each clip by the same frames of its partner (Yun et al. 2019, in time only).

    The stretch lies within both clips, so no padding is pasted. Targets are mixed by the fraction of frames replaced.

    Args:
        features: `(B, F, N)`, zero beyond `frames (B,)`.
        targets: `(B, C)`, one-hot or probabilities.
        partner: `(B,)` int64, the index of the other clip.
        weight: `(B,)` in [0, 1]; the stretch has `1 - weight` of the frames of the shorter clip.
        position: `(B,)` in [0, 1), where the stretch lies between the first and the last position that fit.

    >>> features = torch.tensor([[[1.0, 1, 1, 1]], [[2, 2, 2, 2]]])
    >>> frames, partner, weight = torch.tensor([4, 4]), torch.tensor([1, 0]), torch.tensor([0.75, 1.0])
    >>> mixed, _, targets = cutmix(features, frames, torch.eye(2), partner, weight, torch.tensor([0.5, 0.5]))
    >>> mixed[0], targets[0]
    (tensor([[1., 1., 2., 1.]]), tensor([0.7500, 0.2500]))
    """
    both = torch.minimum(frames, frames[partner])
    width = ((1 - weight) * both).round().long()
    start = (position * (both - width + 1)).long()
    index = torch.arange(features.shape[2], device=features.device)
    pasted = (index >= start[:, None]) & (index < (start + width)[:, None])
    mixed = torch.where(pasted[:, None], features[partner], features)
    return mixed, frames, torch.lerp(targets, targets[partner], (width / frames)[:, None])
