"""`Classical`: scikit-learn's logistic regression or support vector machines, kept and applied as plain tensors.

Input `(B, F, N)`, output `(B, C)`: a vector (N = 1, as `features.statistics` makes) is itself, a sequence its mean over
valid frames. The fit is scikit-learn's; what it found becomes buffers, so that a checkpoint of it is a checkpoint like
any other, and scikit-learn is not needed to predict. Nothing here has a gradient: `training/candidates.py` fits it.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from serx.models.ensemble import BaseModelConfig
from serx.models.layers import time_mask

FOLDS = 5  # of speakers, for the scale that makes probabilities of an SVM's distances
NEVER = -30.0  # logit of a class without a training clip
MAX_ITERATIONS = 5000


class ClassicalConfig(BaseModelConfig):
    """Which classifier, and the strengths to try: each `c` is one epoch, and validation speakers choose among them."""

    kind: Literal["classical"] = "classical"
    classifier: Literal["logistic_regression", "svm"] = "logistic_regression"
    c: tuple[Annotated[float, Field(gt=0)], ...] = Field((0.001, 0.003, 0.01, 0.03, 0.1), min_length=1)
    gamma: float | None = Field(None, gt=0)  # width of the SVM's kernel; default 1 / (F * variance of the vectors)
    ensemble_size: int = Field(1, ge=1, le=1)  # a fit has no luck to even out
    relaxed_freq_norm: float = Field(0.0, ge=0, le=0)


class Classical(nn.Module):
    """`logits = kernel(vector) @ weight.T + bias`; the kernel of a logistic regression is the identity."""

    weight: Tensor
    bias: Tensor

    def __init__(self, config: ClassicalConfig, bins: int, classes: int) -> None:
        super().__init__()
        self.config = config
        self.kernel = RadialBasis(bins) if config.classifier == "svm" else nn.Identity()
        self.register_buffer("weight", torch.zeros(classes, 0 if config.classifier == "svm" else bins))
        self.register_buffer("bias", torch.zeros(classes))

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        return self.kernel(self.average(features, frames)) @ self.weight.T + self.bias

    def average(self, features: Tensor, frames: Tensor) -> Tensor:
        """What is classified: the mean over valid frames, `(B, F, N)` -> `(B, F)`."""
        return (features * time_mask(frames, features)).sum(-1) / frames[:, None]

    def make_room(self, support_vectors: int) -> None:
        """Gives the buffers room for so many support vectors: how many there are, only the training knows."""
        if isinstance(self.kernel, RadialBasis):
            self.kernel.support = self.kernel.support.new_zeros(support_vectors, self.kernel.support.shape[1])
            self.weight = self.weight.new_zeros(len(self.weight), support_vectors)

    def fit(self, vectors: Tensor, targets: np.ndarray, c: float, speaker_ids: Sequence[str], balanced: bool) -> None:
        """Fits from the beginning.

        Args:
            vectors: `(n, F)`, on a common scale.
            targets: `(n,)` class indices, of at least two classes.
            c: the inverse strength of regularization, as scikit-learn's `C`.
            persons: the n speakers, who are kept apart where an SVM's probabilities are calibrated.
            balanced: every class weighs the same, however many clips it has.
        """
        x, class_weight = vectors.double().cpu().numpy(), "balanced" if balanced else None
        if isinstance(self.kernel, RadialBasis):
            gamma = self.config.gamma or 1 / (x.shape[1] * max(x.var(), np.finfo(np.float32).eps))
            machines = _Machines(c, gamma, class_weight, len(self.bias))
            weight, bias = machines.fit(x, targets)
            scale = _calibrate(machines, x, targets, speaker_ids)
            used = np.flatnonzero(weight.any(0))
            self.make_room(len(used))
            self.kernel.support.copy_(torch.from_numpy(x[used]))
            self.kernel.gamma.fill_(gamma)
            weight, bias = scale * weight[:, used], scale * bias
        else:
            weight, bias = _logistic_regression(x, targets, c, class_weight, len(self.bias))
        bias[np.bincount(targets, minlength=len(bias)) == 0] = NEVER
        self.weight.copy_(torch.from_numpy(weight))
        self.bias.copy_(torch.from_numpy(bias))


class RadialBasis(nn.Module):
    """`exp(-gamma |x - s|^2)` of each vector and each support vector: `(B, F)` -> `(B, S)`."""

    support: Tensor
    gamma: Tensor

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.register_buffer("support", torch.zeros(0, bins))
        self.register_buffer("gamma", torch.ones(()))

    def forward(self, vectors: Tensor) -> Tensor:
        # Differences, not |x|^2 - 2 x s + |s|^2: those cancel, and a clip would hear its neighbors in the last digits.
        distances = torch.cdist(vectors.float(), self.support, compute_mode="donot_use_mm_for_euclid_dist")
        return (-self.gamma * distances.square()).exp()


def _logistic_regression(
    x: np.ndarray, targets: np.ndarray, c: float, class_weight: str | None, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Multinomial logistic regression: weights `(C, F)` and bias `(C,)`, zero for classes without a clip."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415  (0.6 s that nets need not wait)

    found = LogisticRegression(C=c, class_weight=class_weight, max_iter=MAX_ITERATIONS).fit(x, targets)
    # Of two classes scikit-learn keeps the second one's weights alone: the first one's are 0.
    present = found.classes_ if len(found.classes_) > 2 else found.classes_[1:]
    weight, bias = np.zeros((classes, x.shape[1])), np.zeros(classes)
    weight[present], bias[present] = found.coef_, found.intercept_
    return weight, bias


class _Machines:
    """One SVM a class, against all others: `decisions = exp(-gamma |x - x_i|^2) @ weight.T + bias`."""

    def __init__(self, c: float, gamma: float, class_weight: str | None, classes: int) -> None:
        self.gamma, self.classes = gamma, classes
        self.settings: dict[str, Any] = {"C": c, "gamma": gamma, "class_weight": class_weight, "cache_size": 500}

    def fit(self, x: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights `(C, n)` over the n clips, most of them 0, and bias `(C,)`."""
        from sklearn.svm import SVC  # noqa: PLC0415

        weight, bias = np.zeros((self.classes, len(x))), np.zeros(self.classes)
        for i in range(self.classes):
            own = targets == i
            if own.all() or not own.any():  # nothing to tell apart: the same answer to every clip
                bias[i] = 1.0 if own.all() else -1.0
                continue
            found = SVC(**self.settings).fit(x, own)
            weight[i, found.support_], bias[i] = found.dual_coef_[0], found.intercept_[0]
        return weight, bias

    def decisions(self, x: np.ndarray, fitted_on: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
        """`(m, C)` of clips `x (m, F)`."""
        from sklearn.metrics.pairwise import rbf_kernel  # noqa: PLC0415

        return rbf_kernel(x, fitted_on, self.gamma) @ weight.T + bias


def _calibrate(machines: _Machines, x: np.ndarray, targets: np.ndarray, speaker_ids: Sequence[str]) -> float:
    """The factor that makes logits of decisions (Guo et al. 2017), by their likelihood on speakers left out in turn.

    An SVM is surer of the clips it was fitted on, and of their speakers, than it should be of anybody else.
    """
    from scipy.optimize import minimize_scalar  # noqa: PLC0415
    from scipy.special import log_softmax  # noqa: PLC0415
    from sklearn.model_selection import GroupKFold, KFold  # noqa: PLC0415

    speakers = len(set(speaker_ids))
    by_speaker = GroupKFold(min(FOLDS, speakers)).split(x, targets, speaker_ids) if speakers > 1 else None
    left_out = np.empty((len(x), machines.classes))
    for fitted, held in by_speaker or KFold(min(FOLDS, len(x))).split(x):
        weight, bias = machines.fit(x[fitted], targets[fitted])
        left_out[held] = machines.decisions(x[held], x[fitted], weight, bias)

    def loss(log_scale: float) -> float:
        return -log_softmax(np.exp(log_scale) * left_out, axis=1)[np.arange(len(x)), targets].mean()

    return float(np.exp(minimize_scalar(loss, bounds=(-5, 5), method="bounded").x))
