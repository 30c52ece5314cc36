"""Mixtures of clips: MixStyle lends a clip another's spectrum, mixup and cutmix mix features and truth alike."""

import numpy as np
import torch
from torch import Tensor

from serx.augment.compose import AugmentConfig
from serx.dsp.batching import valid_mask
from serx.dsp.statistics import row_statistics

STYLE_ALPHA = 0.3  # of the Beta distribution of MixStyle's shares: mostly one clip's style or the other's


def mix(
    features: Tensor, frames: Tensor, truth: Tensor, config: AugmentConfig, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Mixes a batch by `config.mixstyle`, then by `mixup` or `cutmix`; by a toss of a coin when both are on.

    Shares and partners are drawn on the host, so that nothing waits for the device.

    Args:
        features: `(B, F, N)`, zero beyond `frames (B,)`.
        truth: `(B, C)`, one-hot.

    Returns:
        The mixed features, frames and truth; the very same ones when all are off.
    """
    random, size = np.random.default_rng(seed), len(frames)

    def on_device(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(frames.device, non_blocking=True)

    if config.mixstyle > 0:
        kept = random.beta(STYLE_ALPHA, STYLE_ALPHA, size)
        kept = np.where(random.random(size) < config.mixstyle, kept, 1.0).astype(np.float32)
        features = mixstyle(features, frames, on_device(random.permutation(size)), on_device(kept))
    if max(config.mixup, config.cutmix) == 0:
        return features, frames, truth

    partner = on_device(random.permutation(size))
    cut = config.cutmix > 0 and (config.mixup == 0 or random.random() < 0.5)
    alpha = config.cutmix if cut else config.mixup
    share = on_device(random.beta(alpha, alpha, size).astype(np.float32))
    if not cut:
        return mixup(features, frames, truth, partner, share)
    return cutmix(features, frames, truth, partner, share, on_device(random.random(size, dtype=np.float32)))


def mixstyle(features: Tensor, frames: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    """Each row of each clip takes mean and deviation by `share (B,)` from itself, for the rest from its `partner (B,)`.

    Zhou et al. 2021, "Domain generalization with MixStyle", on the rows of a spectrogram: what is lent is the long-term
    spectrum, which tells speaker and room, while what moves within the clip stays its own. A share of 1 leaves a clip
    as it was.
    """
    mask = valid_mask(frames, features.shape[-1])[:, None]
    mean, variance = row_statistics(features, mask)
    deviation, share = variance.sqrt(), share[:, None, None]
    lent_mean = torch.lerp(mean[partner], mean, share)
    lent_deviation = torch.lerp(deviation[partner], deviation, share)
    styled = ((features - mean) * (lent_deviation / deviation) + lent_mean) * mask
    return torch.where(share == 1, features, styled)


def mixup(
    features: Tensor, frames: Tensor, truth: Tensor, partner: Tensor, share: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Each clip by `share (B,)` itself, for the rest its `partner (B,)` (Zhang et al. 2018)."""
    mixed = torch.lerp(features[partner], features, share[:, None, None])
    truth = torch.lerp(truth[partner], truth, share[:, None])
    return mixed, torch.maximum(frames, frames[partner]), truth


def cutmix(
    features: Tensor, frames: Tensor, truth: Tensor, partner: Tensor, share: Tensor, place: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """A stretch of each clip gives way to the same frames of its partner (Yun et al. 2019, in time alone).

    The stretch lies within both clips, so no padding is pasted: `1 - share (B,)` of the shorter one, at `place (B,)`
    in [0, 1) of where it fits. The truth is mixed by the frames that were really replaced.
    """
    both = torch.minimum(frames, frames[partner])
    width = ((1 - share) * both).round().long()
    start = (place * (both - width + 1)).long()
    position = torch.arange(features.shape[2], device=features.device)
    pasted = (position >= start[:, None]) & (position < (start + width)[:, None])
    mixed = torch.where(pasted[:, None], features[partner], features)
    return mixed, frames, torch.lerp(truth, truth[partner], (width / frames)[:, None])
