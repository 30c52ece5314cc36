"""LoRA: low-rank updates of the linear layers of a frozen encoder (Hu et al. 2022, "LoRA: Low-rank adaptation of large
language models").

The layers are plain torch and not those of peft: a checkpoint keeps both matrices apart from the frozen weights, which
an interrupted run needs to continue to the same bits, and opens where neither peft nor transformers is installed.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serx.models.encoders.layers import Encoder

# The query and value of attention, and both feed-forward layers, by their names in Whisper and in the other encoders.
TARGETS = ("q_proj", "v_proj", "fc1", "fc2", "intermediate_dense", "output_dense")


class LoraLinear(nn.Linear):
    """A frozen linear layer and a trained update of low rank: `x W^T + b + alpha / rank * x A^T B^T`.

    B begins at zero, so that an untrained layer equals the original.

    >>> layer = LoraLinear(nn.Linear(6, 4), rank=2, alpha=4.0)
    >>> [name for name, parameter in layer.named_parameters() if parameter.requires_grad]
    ['lora_a', 'lora_b']
    """

    def __init__(self, original: nn.Linear, rank: int, alpha: float) -> None:
        """Takes over the weight and the bias of `original`, and freezes them."""
        nn.Module.__init__(self)
        self.in_features, self.out_features = original.in_features, original.out_features
        self.weight, self.bias = original.weight.requires_grad_(False), original.bias
        if self.bias is not None:
            self.bias.requires_grad_(False)
        self.scale = alpha / rank
        self.lora_a = nn.Parameter(torch.empty(rank, self.in_features, device=self.weight.device))
        self.lora_b = nn.Parameter(torch.zeros(self.out_features, rank, device=self.weight.device))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """`x (..., in)` -> `(..., out)`."""
        return super().forward(x) + self.scale * F.linear(F.linear(x, self.lora_a), self.lora_b)


def add_lora(encoder: Encoder, rank: int, alpha: float, top_layers: int | None = None) -> list[list[nn.Module]]:
    """Replaces the linear layers named in `TARGETS`, in place, by `LoraLinear`.

    Args:
        encoder: whose other parameters the caller freezes.
        rank: of the updates.
        alpha: their scale is `alpha / rank`.
        top_layers: the number of last layers that get one; None: all.

    Returns:
        The modules that were changed, from the last layer down.
    """
    levels: list[list[nn.Module]] = []
    for level in encoder.levels()[:top_layers]:
        changed = []
        for module in level:
            places = [
                (parent, name, layer)
                for parent in module.modules()
                for name, layer in parent.named_children()
                if name in TARGETS and isinstance(layer, nn.Linear)
            ]
            for parent, name, layer in places:
                setattr(parent, name, LoraLinear(layer, rank, alpha))
            if places:
                changed.append(module)
        if changed:
            levels.append(changed)
    return levels
