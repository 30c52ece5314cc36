"""Class weights, logit adjustment and the cross-entropy of single networks and ensembles."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from serx.config.training import TrainConfig
from serx.training.sampling import sampling_shares


def class_weights(mode: str, targets: np.ndarray, classes: int) -> Tensor:
    """Each class's weight in the loss `(C,)`; `balanced` is n / (classes present * count), as scikit-learn has it."""
    counts = np.bincount(targets, minlength=classes)
    if mode == "none":
        return torch.ones(classes)
    balanced = len(targets) / (np.count_nonzero(counts) * np.maximum(counts, 1))
    return torch.from_numpy(np.where(counts > 0, balanced, 0.0).astype(np.float32))


def logit_offsets(train: TrainConfig, targets: np.ndarray, corpora: np.ndarray, classes: int) -> Tensor:
    """What the loss adds to each class's logit `(C,)`: `train.logit_adjustment` times the logarithm of its share.

    The share is that of an epoch's clips, as `train.sampling` draws them. Told it by the loss, the network need not
    learn which classes are frequent, and predicts as if all were: that is what UAR rewards (Menon et al. 2021,
    "Long-tail learning via logit adjustment").
    """
    shares = sampling_shares(train.sampling, targets, corpora)
    drawn = np.bincount(targets, shares, minlength=classes)
    share = np.where(drawn > 0, drawn, 1.0) / drawn.sum()  # a class without a clip has no share to be told of
    offsets = np.where(drawn > 0, train.logit_adjustment * np.log(share), 0.0)
    return torch.from_numpy(offsets.astype(np.float32))


def cross_entropy(
    logits: Tensor, truth: Tensor, class_weights: Tensor, label_smoothing: float, offsets: Tensor | None = None
) -> Tensor:
    """Cross-entropy `(B,)` in float32 of `logits (B, C)`, moved by `offsets (C,)`.

    Of an ensemble's `(B, M, C)` it is the sum over its members.
    """
    members = logits.float() if logits.dim() == 3 else logits.float()[:, None]
    members = members if offsets is None else members + offsets
    truth = truth[:, None].expand_as(members)
    losses = F.cross_entropy(
        members.flatten(0, 1), truth.flatten(0, 1), class_weights, label_smoothing=label_smoothing, reduction="none"
    )
    return losses.unflatten(0, members.shape[:2]).sum(1)
