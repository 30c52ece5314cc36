"""What all encoders are made of: settings of training, self-attention, dropout and input masks."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from serx.dsp.batching import valid_mask
from serx.models.layers import VARIANCE_FLOOR


class EncoderOptions(NamedTuple):
    """How an encoder is used; none of it belongs to its weights.

    Attributes:
        dropout: after attention, feed-forward and their activations, in the layers that are trained.
        mask_time: (number, largest width in frames) of the masks over the input features in training.
        mask_feature: (number, largest width in channels) of the masks over the input features in training.
        pad_seconds: silence is appended up to this length, and the encoder attends to it; None: no silence.
        gradient_checkpointing: compute each layer again in the backward pass instead of keeping its activations.
    """

    dropout: float = 0.0
    mask_time: tuple[int, int] = (0, 0)
    mask_feature: tuple[int, int] = (0, 0)
    pad_seconds: float | None = None
    gradient_checkpointing: bool = False


PLAIN = EncoderOptions()


class Encoder(nn.Module):
    """A pretrained transformer from waveforms to one state a frame and layer.

    Attributes:
        width: D, the channels of a state.
        depth: the number of layers. There are `depth + 1` states: the input of the first layer and each output.
        sample_rate: of the waveform, in Hz.
        options: how it is used.
        input_masks: masks the input features in training (SpecAugment).
    """

    width: int
    depth: int
    sample_rate = 16_000
    options: EncoderOptions
    input_masks: "InputMasks"

    def levels(self) -> list[list[nn.Module]]:
        """What may be tuned, from the last layer down; each norm goes with the layer next to it."""
        raise NotImplementedError

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[list[Tensor], Tensor]:
        """Encodes clips; nothing beyond a clip's end changes its states.

        Args:
            waveform: `(B, T)` in [-1, 1], zero beyond `lengths`.
            lengths: `(B,)` samples of each clip.

        Returns:
            `depth + 1` states `(B, N, D)`, the last after the final norm, and the frames `(B,)` of each clip, at least
            one. States beyond a clip's frames are arbitrary.
        """
        raise NotImplementedError

    def layer_statistics(self, waveform: Tensor, lengths: Tensor) -> Tensor:
        """Mean and standard deviation of every layer's states over each clip's frames.

        Args:
            waveform: `(B, T)` in [-1, 1], zero beyond `lengths`.
            lengths: `(B,)` samples.

        Returns:
            `(B, (depth + 1) * 2 * D)` float32: the mean `(D,)` and the deviation `(D,)` of the first layer's input,
            then of each layer's output.
        """
        states, frames = self(waveform, lengths)
        mask = valid_mask(frames, states[0].shape[1])[..., None]
        statistics: list[Tensor] = []
        for state in map(Tensor.float, states):
            mean = (state * mask).sum(1) / frames[:, None]
            variance = ((state - mean[:, None]) * mask).square().sum(1) / frames[:, None]
            statistics += [mean, (variance + VARIANCE_FLOOR).sqrt()]
        return torch.cat(statistics, dim=1)


class SelfAttention(nn.Module):
    """Multi-head attention of each frame to the frames that a mask allows (Vaswani et al. 2017)."""

    def __init__(self, width: int, heads: int, dropout: float, key_bias: bool = True) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width, bias=key_bias)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`x (B, N, D)` -> the same shape; `mask` is added to the scores, or true where a key counts."""
        query, key, value = (
            projection(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        dropout = self.dropout if self.training else 0.0
        if mask.dtype != torch.bool:
            mask = mask.to(query.dtype)
        attended = F.scaled_dot_product_attention(query, key, value, mask, dropout)
        return self.out_proj(attended.transpose(1, 2).flatten(2))


def attention_mask(frames: Tensor, size: int) -> Tensor:
    """`(B, 1, N, N)` bool, true where the key is one of the clip's `frames (B,)`."""
    return valid_mask(frames, size)[:, None, None].expand(-1, 1, size, -1)


def run_layers(layers: Iterable[nn.Module], x: Tensor, *context: Tensor, recompute: bool) -> list[Tensor]:
    """The input `x` and the output of each `layer(x, *context)`; with `recompute`, trained ones keep no activations."""
    states = [x]
    for layer in layers:
        x = checkpoint(layer, x, *context, use_reentrant=False) if recompute and layer.training else layer(x, *context)
        states.append(x)
    return states


class InputMasks(nn.Module):
    """Masks stretches of frames and of channels in training (Park et al. 2019, "SpecAugment").

    Widths are uniform from 0 to the largest; a masked stretch lies within the clip. The numbers come from torch's
    generator, which training seeds at each step, as for dropout.

    >>> masks = InputMasks(mask_time=(1, 4), mask_feature=(0, 0))
    >>> masks(torch.ones(1, 6, 2), torch.tensor([6])).shape
    torch.Size([1, 6, 2])
    """

    def __init__(self, mask_time: tuple[int, int], mask_feature: tuple[int, int]) -> None:
        super().__init__()
        self.mask_time, self.mask_feature = mask_time, mask_feature

    def forward(self, x: Tensor, frames: Tensor, fill: Tensor | None = None) -> Tensor:
        """`x (B, N, E)`: masked frames become `fill (E,)` or zero, and masked channels become zero."""
        if not self.training:
            return x
        if self.mask_time[0]:
            masked = _stretches(self.mask_time, frames, x.shape[1])[..., None]
            x = torch.where(masked, x.new_zeros(()) if fill is None else fill.to(x.dtype), x)
        if self.mask_feature[0]:
            channels = torch.full_like(frames, x.shape[2])
            x = x.masked_fill(_stretches(self.mask_feature, channels, x.shape[2])[:, None], 0.0)
        return x


def _stretches(mask: tuple[int, int], sizes: Tensor, total: int) -> Tensor:
    """`(B, total)` bool, true within `number` random stretches of each clip's first `sizes (B,)` positions."""
    number, largest = mask
    width, start = torch.rand(2, len(sizes), number, device=sizes.device)
    width = torch.minimum((width * (largest + 1)).long(), sizes[:, None])
    start = (start * (sizes[:, None] - width + 1)).long()
    position = torch.arange(total, device=sizes.device)
    within = (position >= start[..., None]) & (position < (start + width)[..., None])
    return within.any(1)
