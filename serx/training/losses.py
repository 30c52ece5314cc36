"""The training loss: cross-entropy of every ensemble member, with class weights and logit adjustment."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from serx.config.training import TrainConfig
from serx.training.sampling import sampling_weights

CCC_FLOOR = 1e-8  # of the denominator, for a batch in which nothing varies


def class_weights(mode: str, targets: np.ndarray, classes: int, clip_weights: np.ndarray | None = None) -> Tensor:
    """The weight of each class in the loss, `(C,)` float32.

    Args:
        mode: `none`, all 1; or `balanced`, n / (number of classes with clips * clips of the class), as scikit-learn has
            it. A class without clips gets 0.
        targets: `(n,)` class indices; or `(n, C)` shares of votes, of which a clip counts for each class by its share.
        classes: the number C of classes.
        clip_weights: `(n,)`, what the loss of each clip is multiplied with; None for 1. A clip of weight 2 counts as
            two clips.

    >>> class_weights("balanced", np.array([0, 0, 0, 1]), 2)
    tensor([0.6667, 2.0000])
    """
    if mode == "none":
        return torch.ones(classes)
    counts = class_counts(targets, classes, clip_weights)
    balanced = counts.sum() / (np.count_nonzero(counts) * np.where(counts > 0, counts, 1))
    return torch.from_numpy(np.where(counts > 0, balanced, 0.0).astype(np.float32))


def class_counts(targets: np.ndarray, classes: int, weights: np.ndarray | None = None) -> np.ndarray:
    """The clips of each class, `(C,)`.

    Args:
        targets: `(n,)` class indices, or `(n, C)` shares of votes.
        classes: the number C of classes.
        weights: `(n,)`, how often each clip counts; None for once.

    >>> class_counts(np.array([[0.75, 0.25], [0.5, 0.5]]), 2)
    array([1.25, 0.75])
    """
    if targets.ndim == 1:
        return np.bincount(targets, weights, minlength=classes)
    return (targets if weights is None else targets * weights[:, None]).sum(0)


def logit_offsets(
    config: TrainConfig,
    targets: np.ndarray,
    corpora: np.ndarray,
    classes: int,
    clip_weights: np.ndarray | None = None,
) -> Tensor:
    """What the loss adds to the logit of each class, `(C,)` float32: `logit_adjustment` * log(share of the class).

    The shares are those of an epoch's clips, as `config.sampling` draws them. With the shares in the loss, the network
    need not learn which classes are frequent, and predicts as if all were equally frequent. UAR rewards that (Menon et
    al. 2021, "Long-tail learning via logit adjustment"). A class without clips gets 0.

    Args:
        config: the `train` section.
        targets: `(n,)` class indices, or `(n, C)` shares of votes.
        corpora: `(n,)` indices of the clips' corpora.
        classes: the number C of classes.
        clip_weights: `(n,)`, what the loss of each clip is multiplied with; None for 1.

    >>> logit_offsets(TrainConfig(logit_adjustment=1.0), np.array([0, 0, 0, 1]), np.zeros(4, int), 2)
    tensor([-0.2877, -1.3863])
    """
    weights = sampling_weights(config.sampling, targets, corpora, clip_weights)
    if clip_weights is not None:
        weights = clip_weights if weights is None else weights * clip_weights
    drawn = class_counts(targets, classes, weights)
    shares = np.where(drawn > 0, drawn, 1.0) / drawn.sum()
    offsets = np.where(drawn > 0, config.logit_adjustment * np.log(shares), 0.0)
    return torch.from_numpy(offsets.astype(np.float32))


def cross_entropy(
    member_logits: Tensor,
    truth: Tensor,
    class_weights: Tensor,
    label_smoothing: float = 0.0,
    logit_offsets: Tensor | None = None,
    possible: Tensor | None = None,
) -> Tensor:
    """The cross-entropy of each clip, summed over the members of an ensemble: `(B,)` float32.

    A sum, so that each member gets the gradient that it would get alone.

    A corpus that has no label for an emotion does not say that its clips lack it. With `possible`, the softmax of each
    clip is over the classes of its corpus alone, and the logits of the others get no gradient.

    Args:
        member_logits: `(B, M, C)`.
        truth: `(B, C)` probabilities of the classes: shares of votes, or one-hot without votes and mixup.
        class_weights: `(C,)`.
        label_smoothing: the share of the truth that is spread evenly over all classes.
        logit_offsets: `(C,)`, added to the logits.
        possible: `(B, C)` bool, the classes that the clip's corpus has; None for all classes.

    >>> cross_entropy(torch.zeros(1, 3, 2), torch.tensor([[1.0, 0.0]]), torch.ones(2))  # 3 * log(2)
    tensor([2.0794])
    """
    logits = member_logits.float()
    logits = logits if logit_offsets is None else logits + logit_offsets
    if possible is not None:
        return _masked_cross_entropy(logits, truth, class_weights, label_smoothing, possible)
    truth = truth[:, None].expand_as(logits)
    losses = F.cross_entropy(
        logits.flatten(0, 1), truth.flatten(0, 1), class_weights, label_smoothing=label_smoothing, reduction="none"
    )
    return losses.unflatten(0, logits.shape[:2]).sum(1)


def _masked_cross_entropy(
    logits: Tensor, truth: Tensor, class_weights: Tensor, label_smoothing: float, possible: Tensor
) -> Tensor:
    """`F.cross_entropy` over the `possible` classes of each clip; smoothing spreads over these alone."""
    log_probabilities = logits.masked_fill(~possible[:, None], float("-inf")).log_softmax(-1)
    log_probabilities = log_probabilities.masked_fill(~possible[:, None], 0.0)
    spread = possible / possible.sum(1, keepdim=True)
    target = torch.lerp(truth, spread.to(truth.dtype), label_smoothing)
    return -(class_weights * target)[:, None].mul(log_probabilities).sum((1, 2))


def concordance_loss(member_values: Tensor, ratings: Tensor, weights: Tensor) -> Tensor:
    """1 - CCC over a batch, averaged over the dimensions and summed over the members of an ensemble: a scalar.

    The concordance correlation coefficient is that of `serx.metrics.ccc`. As a loss it asks for the right scale as well
    as the right order (Trigeorgis et al. 2016, "Adieu features?"). It is a score of the whole batch, so a larger batch
    is a better estimate. A dimension with fewer than two ratings in the batch is left out.

    Args:
        member_values: `(B, M, D)`.
        ratings: `(B, D)`, with 0 as the lowest rating of training and 1 as the highest; NaN where there is none.
        weights: `(B,)`, how much each clip counts.

    >>> values = torch.tensor([[0.0], [0.5], [1.0]])
    >>> concordance_loss(values[:, None], values, torch.ones(3)).abs() < 1e-6
    tensor(True)
    """
    rated = ~ratings.isnan()
    truth, values = torch.where(rated, ratings, 0.0)[:, None], member_values.float()
    weight = (rated * weights[:, None])[:, None]
    share = weight / weight.sum(0, keepdim=True).clamp(min=1e-12)
    mean_truth, mean_value = (share * truth).sum(0, keepdim=True), (share * values).sum(0, keepdim=True)
    off_truth, off_value = truth - mean_truth, values - mean_value
    covariance = (share * off_truth * off_value).sum(0)
    spread = (share * (off_truth.square() + off_value.square())).sum(0)
    agreement = 2 * covariance / (spread + (mean_truth - mean_value)[0].square() + CCC_FLOOR)  # (M, D)
    counts = rated.sum(0) >= 2
    return ((1 - agreement) * counts).sum() / counts.sum().clamp(min=1)


def classes_of_corpora(targets: np.ndarray, corpora: np.ndarray, classes: int) -> np.ndarray | None:
    """Which classes the corpus of each clip has, `(n, C)` bool; None if every corpus has the same.

    Args:
        targets: `(n,)` class indices; or `(n, C)` shares of votes: a corpus has the classes that a rater chose.
        corpora: `(n,)` indices of the clips' corpora.
        classes: the number C of classes.

    >>> classes_of_corpora(np.array([0, 1, 1, 2]), np.array([0, 0, 1, 1]), 3)[[0, 3]].tolist()
    [[True, True, False], [False, True, True]]
    """
    has = np.zeros((corpora.max() + 1, classes), bool)
    if targets.ndim == 1:
        has[corpora, targets] = True
    else:
        np.logical_or.at(has, corpora, targets > 0)
    has[~has.any(1)] = True  # a corpus with ratings only says nothing about classes
    return None if (has == has[0]).all() else has[corpora]
