"""`Classical`: scikit-learn's logistic regression or support vector machine, stored and applied as plain tensors.

Input `(B, F, N)`, output `(B, C)`. A vector (N = 1), such as `features.statistics` makes, is read as it is; a sequence
is averaged over its valid frames. scikit-learn fits; the result goes into buffers, so that checkpoints look like any
other and predicting does not need scikit-learn. Nothing here has a gradient: `training/classical.py` calls `fit`.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from serx.models.layers import time_mask
from serx.models.registry import BaseModelConfig, register_model

CALIBRATION_FOLDS = 5  # of speakers, to scale an SVM's decisions to logits
ABSENT_CLASS_LOGIT = -30.0  # of a class without a training clip
MAX_ITERATIONS = 5000


class ClassicalConfig(BaseModelConfig):
    """The classifier and the regularization strengths to try. Each `c` is one epoch; validation chooses among them.

    >>> ClassicalConfig(classifier="svm", c=(1.0, 10.0)).kind
    'classical'
    """

    kind: Literal["classical"] = "classical"
    classifier: Literal["logistic_regression", "svm"] = Field(
        "logistic_regression", description="logistic regression, or a support vector machine with a Gaussian kernel"
    )
    c: tuple[Annotated[float, Field(ge=1e-9, le=1e9)], ...] = Field(
        (0.001, 0.003, 0.01, 0.03, 0.1),
        min_length=1,
        max_length=100,
        description="inverse strengths of regularization to try; validation chooses one",
    )
    gamma: float | None = Field(
        None, ge=1e-9, le=1e6, description="of the SVM's kernel; null: 1 / (F * variance of the vectors)"
    )
    ensemble_size: int = Field(
        1, ge=1, le=1, description="always 1: a fit is deterministic, so an ensemble would repeat it"
    )
    relaxed_freq_norm: float = Field(0.0, ge=0, le=0, description="always 0: a vector has no frames")

    @property
    def fits(self) -> int:
        return len(self.c)


@register_model(ClassicalConfig)
class Classical(nn.Module):
    """`logits = kernel(vectors) @ weight.T + bias`; the kernel of a logistic regression is the identity."""

    weight: Tensor
    bias: Tensor

    def __init__(self, config: ClassicalConfig, bins: int, classes: int) -> None:
        super().__init__()
        self.config = config
        self.kernel = RadialBasis(bins) if config.classifier == "svm" else nn.Identity()
        self.register_buffer("weight", torch.zeros(classes, 0 if config.classifier == "svm" else bins))
        self.register_buffer("bias", torch.zeros(classes))

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        return self.kernel(self.vectors(features, frames)) @ self.weight.T + self.bias

    def vectors(self, features: Tensor, frames: Tensor) -> Tensor:
        """What is classified: the mean over valid frames, `(B, F, N)` -> `(B, F)`."""
        return (features * time_mask(frames, features)).sum(-1) / frames[:, None]

    def resize_support(self, count: int) -> None:
        """Resizes the buffers of an SVM for `count` support vectors, a number that training finds."""
        if isinstance(self.kernel, RadialBasis):
            self.kernel.support = self.kernel.support.new_zeros(count, self.kernel.support.shape[1])
            self.weight = self.weight.new_zeros(len(self.weight), count)

    def fit(
        self,
        vectors: Tensor,
        targets: np.ndarray,
        c: float,
        speaker_ids: Sequence[str],
        balanced: bool,
        weights: np.ndarray | None = None,
    ) -> None:
        """Fits from scratch.

        Args:
            vectors: `(n, F)`, features on a common scale.
            targets: `(n,)` class indices of at least two classes.
            c: the inverse regularization strength, scikit-learn's `C`.
            speaker_ids: the n speakers. The calibration of an SVM keeps each speaker within one fold.
            balanced: gives every class the same weight, however many clips it has.
            weights: `(n,)`, how much each vector counts; None for once.
        """
        x, class_weight = vectors.double().cpu().numpy(), "balanced" if balanced else None
        if isinstance(self.kernel, RadialBasis):
            gamma = self.config.gamma or 1 / (x.shape[1] * max(x.var(), np.finfo(np.float32).eps))
            svm = _OneVersusRestSvm(c, gamma, class_weight, len(self.bias))
            weight, bias = svm.fit(x, targets, weights)
            scale = _calibration_scale(svm, x, targets, speaker_ids, weights)
            used = np.flatnonzero(weight.any(0))
            self.resize_support(len(used))
            self.kernel.support.copy_(torch.from_numpy(x[used]))
            self.kernel.gamma.fill_(gamma)
            weight, bias = scale * weight[:, used], scale * bias
        else:
            weight, bias = _logistic_regression(x, targets, c, class_weight, len(self.bias), weights)
        bias[np.bincount(targets, minlength=len(bias)) == 0] = ABSENT_CLASS_LOGIT
        self.weight.copy_(torch.from_numpy(weight))
        self.bias.copy_(torch.from_numpy(bias))


class RadialBasis(nn.Module):
    """`exp(-gamma * |x - s|^2)` of each vector x and each support vector s: `(B, F)` -> `(B, S)`."""

    support: Tensor
    gamma: Tensor

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.register_buffer("support", torch.zeros(0, bins))
        self.register_buffer("gamma", torch.ones(()))

    def forward(self, vectors: Tensor) -> Tensor:
        # By differences: |x|^2 - 2 x s + |s|^2 cancels, and the last digits would depend on the other clips of a batch.
        distances = torch.cdist(vectors.float(), self.support, compute_mode="donot_use_mm_for_euclid_dist")
        return (-self.gamma * distances.square()).exp()


def _logistic_regression(
    x: np.ndarray,
    targets: np.ndarray,
    c: float,
    class_weight: str | None,
    classes: int,
    weights: np.ndarray | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression: weights `(C, F)` and biases `(C,)`, zero for classes without a clip."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  (imports in 0.6 s, which networks save)

    fitted = LogisticRegression(C=c, class_weight=class_weight, max_iter=MAX_ITERATIONS).fit(x, targets, weights)
    # Of two classes scikit-learn stores the second one's weights only: the first one's are 0.
    present = fitted.classes_ if len(fitted.classes_) > 2 else fitted.classes_[1:]
    weight, bias = np.zeros((classes, x.shape[1])), np.zeros(classes)
    weight[present], bias[present] = fitted.coef_, fitted.intercept_
    return weight, bias


class _OneVersusRestSvm:
    """One SVM a class, against all other classes: `decisions = exp(-gamma * |x - x_i|^2) @ weight.T + bias`."""

    def __init__(self, c: float, gamma: float, class_weight: str | None, classes: int) -> None:
        self.gamma, self.classes = gamma, classes
        self.settings: dict[str, Any] = {"C": c, "gamma": gamma, "class_weight": class_weight, "cache_size": 500}

    def fit(
        self, x: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Weights `(C, n)` over the n clips, most of them 0, and biases `(C,)`."""
        from sklearn.svm import SVC  # noqa: PLC0415

        weight, bias = np.zeros((self.classes, len(x))), np.zeros(self.classes)
        for i in range(self.classes):
            positive = targets == i
            if positive.all() or not positive.any():  # nothing to separate: the same decision for every clip
                bias[i] = 1.0 if positive.all() else -1.0
                continue
            fitted = SVC(**self.settings).fit(x, positive, weights)
            weight[i, fitted.support_], bias[i] = fitted.dual_coef_[0], fitted.intercept_[0]
        return weight, bias

    def decisions(self, x: np.ndarray, fitted_on: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """`(m, C)` of clips `x (m, F)`."""
        from sklearn.metrics.pairwise import rbf_kernel  # noqa: PLC0415

        return rbf_kernel(x, fitted_on, self.gamma) @ weight.T + bias


def _calibration_scale(
    svm: _OneVersusRestSvm,
    x: np.ndarray,
    targets: np.ndarray,
    speaker_ids: Sequence[str],
    weights: np.ndarray | None,
) -> float:
    """The factor that turns decisions into logits (temperature scaling, Guo et al. 2017).

    It maximizes the likelihood of decisions on speakers left out of the fit. An SVM is overconfident on the clips that
    it was fitted on, and on other clips of their speakers.
    """
    from scipy.optimize import minimize_scalar  # noqa: PLC0415
    from scipy.special import log_softmax  # noqa: PLC0415
    from sklearn.model_selection import GroupKFold, KFold  # noqa: PLC0415

    speakers = len(set(speaker_ids))
    by_speaker = GroupKFold(min(CALIBRATION_FOLDS, speakers)).split(x, targets, speaker_ids) if speakers > 1 else None
    decisions = np.empty((len(x), svm.classes))
    for fitted, held_out in by_speaker or KFold(min(CALIBRATION_FOLDS, len(x))).split(x):
        weight, bias = svm.fit(x[fitted], targets[fitted], None if weights is None else weights[fitted])
        decisions[held_out] = svm.decisions(x[held_out], x[fitted], weight, bias)

    def loss(log_scale: float) -> float:
        losses = -log_softmax(np.exp(log_scale) * decisions, axis=1)[np.arange(len(x)), targets]
        return losses.mean() if weights is None else np.average(losses, weights=weights)

    return float(np.exp(minimize_scalar(loss, bounds=(-5, 5), method="bounded").x))
