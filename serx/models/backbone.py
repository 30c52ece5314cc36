"""`Backbone`: features to logits. One network, or an ensemble of one kind that averages its probabilities.

Ensembles follow Lakshminarayanan et al. 2017, "Simple and scalable predictive uncertainty estimation using deep
ensembles": members differ in their initial weights and their dropout. All members read the same batch, so features and
augmentation are computed once. So are the first layers where members share them. With 13 training speakers it is a
matter of chance which of them a single network comes to rely on; averaging evens that out.

A network with strides sees every second or fourth position only, so a clip that begins some milliseconds later may get
another prediction (Zhang 2019, "Making convolutional networks shift-invariant again"). In evaluation, predictions at
several shifts can be averaged (`tta_shifts`).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serx.dsp.statistics import row_statistics
from serx.errors import OutOfMemoryError
from serx.models.layers import time_mask
from serx.models.registry import BaseModelConfig, model_kinds
from serx.system import memory_bytes


class Backbone(nn.Module):
    """Relaxed frequency normalization, then the stages that members share (if any), then M >= 1 members.

    If training does not change the shared stages (they have a true attribute `constant`, such as a frozen encoder), the
    trainer computes their results once, and calls `head_logits` with them.

    Shapes: `features (B, F, N)`, zero beyond `frames (B,)` -> logits `(B, C)`, in training and in evaluation.

    >>> import torch
    >>> from serx.models import MlpConfig, build_model
    >>> backbone = build_model(MlpConfig(ensemble_size=3), bins=40, classes=4).eval()
    >>> features, frames = torch.randn(2, 40, 10), torch.tensor([10, 10])
    >>> backbone(features, frames).shape, backbone.member_logits(features, frames).shape
    (torch.Size([2, 4]), torch.Size([2, 3, 4]))
    """

    def __init__(
        self,
        members: list[nn.Module],
        shared: nn.Module | None = None,
        relaxed_freq_norm: float = 0.0,
        dimensions: int = 0,
        tta_shifts: Sequence[int] = (0,),
    ) -> None:
        """
        Args:
            members: of the ensemble.
            shared: the stages that they share.
            relaxed_freq_norm: weight of the normalized features.
            dimensions: the last of the outputs of each member are values and no logits; they are averaged as they are.
            tta_shifts: frames by which a clip is moved back; the log-probabilities at each are averaged.
        """
        super().__init__()
        self.tta_shifts = tuple(tta_shifts)
        self.relaxed_freq_norm, self.dimensions = relaxed_freq_norm, dimensions
        self.shared = shared
        self.members = nn.ModuleList(members)

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        """`(B, C)`: for several members the logarithm of their mean probability, so that its softmax is that mean."""
        if self.tta_shifts == (0,):
            return self._outputs(features, frames)
        versions = [(F.pad(features, (shift, 0), mode="replicate"), frames + shift) for shift in self.tta_shifts]
        logits, values = split_outputs(torch.stack([self._outputs(*version) for version in versions]), self.dimensions)
        mean = logits.float().log_softmax(-1).mean(0)
        return torch.cat([mean, values.mean(0)], -1) if self.dimensions else mean

    def _outputs(self, features: Tensor, frames: Tensor) -> Tensor:
        features, frames = self._prepare(features, frames)
        if len(self.members) == 1:
            return self.members[0](features, frames)
        outputs = self.head_logits(features, frames).float()
        logits, values = split_outputs(outputs, self.dimensions)
        mean = logits.softmax(-1).mean(1).clamp(min=torch.finfo(torch.float32).tiny).log()
        return torch.cat([mean, values.mean(1)], -1) if self.dimensions else mean

    def member_logits(self, features: Tensor, frames: Tensor) -> Tensor:
        """`(B, M, C)`: the logits of each member. The training loss is the sum of their losses."""
        return self.head_logits(*self._prepare(features, frames))

    def head_logits(self, features: Tensor, frames: Tensor) -> Tensor:
        """`(B, M, C)`: the logits of each member from the results of the shared stages."""
        return torch.stack([member(features, frames) for member in self.members], dim=1)

    @property
    def constant_part(self) -> nn.Module | None:
        """The shared stages, if training does not change them."""
        return self.shared if getattr(self.shared, "constant", False) else None

    def _prepare(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        if self.relaxed_freq_norm > 0:
            features = relaxed_freq_norm(features, frames, self.relaxed_freq_norm)
        return (features, frames) if self.shared is None else self.shared(features, frames)


def split_outputs(outputs: Tensor, dimensions: int) -> tuple[Tensor, Tensor]:
    """Logits `(..., C)` and values of dimensions `(..., D)` of outputs `(..., C + D)`.

    >>> [part.shape[-1] for part in split_outputs(torch.zeros(2, 5), dimensions=2)]
    [3, 2]
    """
    classes = outputs.shape[-1] - dimensions
    return outputs[..., :classes], outputs[..., classes:]


def relaxed_freq_norm(features: Tensor, frames: Tensor, share: float) -> Tensor:
    """Mixes `features (B, F, N)` with themselves normalized: each row of a clip to mean 0 and deviation 1.

    The result is `(1 - share) * features + share * normalized`, zero beyond `frames (B,)`. Instance normalization over
    frequency removes the channel and the speaker's long-term spectrum; relaxing it keeps a part (Kim et al. 2022,
    "Domain generalization with relaxed instance frequency-wise normalization for multi-device acoustic scene
    classification").
    """
    mask = time_mask(frames, features)
    mean, variance = row_statistics(features, mask)
    normalized = (features - mean) * variance.rsqrt() * mask
    return torch.lerp(features, normalized, share)


def build_model(
    config: BaseModelConfig, bins: int, classes: int, pretrained: bool = False, dimensions: int = 0
) -> Backbone:
    """Builds a backbone for features of F = `bins` rows, C = `classes` emotions and D = `dimensions`.

    Args:
        config: of any registered kind.
        bins: the number of feature rows.
        classes: the number of emotions.
        pretrained: loads published weights where the kind has some and `config` asks for them. Training does; opening
            a checkpoint does not, since the checkpoint holds all weights.
        dimensions: the number of dimensions such as arousal, whose values are the last outputs.

    Raises:
        OutOfMemoryError: the weights alone are larger than the machine's memory.
        ConfigError: weights cannot be read, or the network does not fit `bins`.

    >>> from serx.models import Cnn2dConfig
    >>> backbone = build_model(Cnn2dConfig(), bins=64, classes=8)
    >>> round(sum(p.numel() for p in backbone.parameters()) / 1e6, 2)
    0.44
    """
    needed, available = backbone_bytes(config, bins, classes + dimensions), memory_bytes()
    if needed is not None and available is not None and needed > available:
        raise OutOfMemoryError(
            f"model: this {config.kind} takes {needed / 1e9:.1f} GB, and there are {available / 1e9:.1f} GB of memory; "
            "lower its widths, its layers or model.ensemble_size"
        )
    return _build(config, bins, classes, pretrained, dimensions)


def backbone_bytes(config: BaseModelConfig, bins: int, classes: int) -> int | None:
    """The bytes of the weights of a backbone, which is not made for that: on torch's meta device it has shapes only.

    None where that cannot be said: for a network that computes with its weights while it is built.

    >>> from serx.models import Cnn2dConfig
    >>> round(backbone_bytes(Cnn2dConfig(), bins=64, classes=8) / 1e6, 1)
    1.8
    """
    if torch.empty(0).device.type == "meta":  # the caller builds no more than shapes himself
        return None
    try:
        with torch.device("meta"):
            tensors = _build(config, bins, classes, pretrained=False).state_dict().values()
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    except Exception:  # such a network raises any class; building it for real says what is wrong
        return None


def _build(config: BaseModelConfig, bins: int, classes: int, pretrained: bool, dimensions: int = 0) -> Backbone:
    module = model_kinds()[config.kind].module
    make = getattr(module, "from_pretrained", module) if pretrained else module
    share = getattr(module, "shared_part", None)
    shared = None if share is None else share(config, bins, pretrained)
    members = [make(config, bins, classes + dimensions) for _ in range(config.ensemble_size)]
    return Backbone(members, shared, config.relaxed_freq_norm, dimensions, config.tta_shifts)
