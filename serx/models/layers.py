"""Layers that respect the end of each clip: nothing beyond a clip's last frame reaches its logits.

A convolution pads the end of a clip with zeros, so it must also find zeros there in a padded batch, where batch norms
have turned padding into something else. Therefore each convolution here reads a masked input, and each pooling is
masked. After a stride, `ceil(frames / stride)` frames are left.
"""

from typing import Annotated, Any

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from serx.dsp.batching import valid_mask

VARIANCE_FLOOR = 1e-5  # added under the root, so that the gradient is finite when a clip has one frame
MIN_STRIDED_CHANNELS = 16  # of a strided 1x1 convolution on a CPU; with fewer, oneDNN corrupts the heap (torch 2.14)


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError(f"a kernel must be odd, so that it has a center, not {kernel}")
    return kernel


Kernel = Annotated[int, Field(ge=1, le=255), AfterValidator(_odd)]


def strided_frames(frames: Tensor, stride: int) -> Tensor:
    """The frames that a centered convolution of an odd kernel and this stride leaves: `ceil(frames / stride)`.

    >>> strided_frames(torch.tensor([9, 4, 1]), 2)
    tensor([5, 2, 1])
    """
    return torch.div(frames + stride - 1, stride, rounding_mode="floor")


def time_mask(frames: Tensor, like: Tensor) -> Tensor:
    """1 where a frame is valid and 0 elsewhere; its shape multiplies `like (B, ..., N)`, and its dtype is the same.

    >>> time_mask(torch.tensor([3, 1]), torch.randn(2, 40, 4))[:, 0]
    tensor([[1., 1., 1., 0.],
            [1., 0., 0., 0.]])
    """
    mask = valid_mask(frames, like.shape[-1]).to(like.dtype)
    return mask.view(len(frames), *[1] * (like.dim() - 2), like.shape[-1])


def masked_relu_(x: Tensor, mask: Tensor) -> Tensor:
    """In place: the ReLU of `x (B, ..., N)`, and zero where `mask` is zero.

    The multiplication by the mask is kept out of the graph, which saves a pass over the tensor. Gradients stay exact:
    a ReLU's gradient is zero wherever its result is.
    """
    with torch.no_grad():
        x.mul_(mask)
    return x.relu_()


class SqueezeExcitation(nn.Module):
    """Scales each channel by a gate computed from the clip's mean over valid positions (Hu et al. 2018)."""

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = max(4, channels // reduction)
        self.gate = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`x (B, C, ..., N)` must be zero where `mask` is; returns the same shape."""
        rows = x.shape[2:-1].numel()
        mean = x.flatten(2).sum(-1) / (mask.flatten(1).sum(-1, keepdim=True) * rows)
        return x * self.gate(mean).view(*mean.shape, *[1] * (x.dim() - 2))


class StridedPointwise(nn.Conv2d):
    """A 1x1 convolution with a stride that takes every `stride`-th position first.

    torch's own writes beyond its memory on CPUs where it reads fewer than `MIN_STRIDED_CHANNELS` channels,
    channels-last, with hundreds of frames.

    >>> StridedPointwise(8, 16, 1, (2, 1))(torch.zeros(1, 8, 5, 7)).shape
    torch.Size([1, 16, 3, 7])
    """

    def forward(self, x: Tensor) -> Tensor:
        rows, frames = self.stride
        return nn.functional.conv2d(x[:, :, ::rows, ::frames], self.weight, self.bias)


class ResidualBlock(nn.Module):
    """Two masked convolutions, squeeze-and-excitation and a shortcut (He et al. 2016), in one or two dimensions.

    `(B, C, N)` or `(B, C, F, N)` -> `width` channels, with each axis divided by its `stride` (time is the last).
    """

    def __init__(self, inputs: int, width: int, stride: tuple[int, ...], kernel: int = 3, dropout: float = 0.0) -> None:
        super().__init__()
        conv: Any = (nn.Conv1d, nn.Conv2d)[len(stride) - 1]
        norm: Any = (nn.BatchNorm1d, nn.BatchNorm2d)[len(stride) - 1]
        padding = kernel // 2
        self.conv1 = conv(inputs, width, kernel, stride, padding, bias=False)
        self.norm1 = norm(width)
        self.conv2 = conv(width, width, kernel, 1, padding, bias=False)
        self.norm2 = norm(width)
        self.excite = SqueezeExcitation(width)
        same_shape = inputs == width and set(stride) == {1}
        pointwise: Any = (
            StridedPointwise if len(stride) == 2 and max(stride) > 1 and inputs < MIN_STRIDED_CHANNELS else conv
        )
        self.shortcut = (
            nn.Identity() if same_shape else nn.Sequential(pointwise(inputs, width, 1, stride, bias=False), norm(width))
        )
        self.dropout = nn.Dropout(dropout)
        self.time_stride = stride[-1]

    def forward(self, x: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """`x`, zero beyond `frames (B,)` -> the result, zero beyond the frames that are left, and those frames."""
        frames = strided_frames(frames, self.time_stride)
        inner = self.norm1(self.conv1(x))
        mask = time_mask(frames, inner)
        inner = self.dropout(masked_relu_(inner, mask))
        inner = self.norm2(self.conv2(inner)).mul_(mask)
        return masked_relu_(self.excite(inner, mask) + self.shortcut(x), mask), frames


class BidirectionalGru(nn.Module):
    """A GRU over time in both directions: `(B, C, N)` -> `(B, 2 * units, N)`, zero beyond `frames (B,)`.

    The backward GRU reads each clip's own frames in reverse, so that it starts at the clip's end and not in its
    padding. Packed sequences would do the same, but need the lengths on the host.
    """

    def __init__(self, channels: int, units: int) -> None:
        super().__init__()
        self.forward_gru = nn.GRU(channels, units, batch_first=True)
        self.backward_gru = nn.GRU(channels, units, batch_first=True)

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:
        position = torch.arange(x.shape[-1], device=x.device)
        mirrored = (frames[:, None] - 1 - position).clamp(min=0)[..., None]  # (B, N, 1)
        x = x.transpose(1, 2)
        backward = self.backward_gru(x.gather(1, mirrored.expand(x.shape)))[0]
        backward = backward.gather(1, mirrored.expand(backward.shape))
        both = torch.cat([self.forward_gru(x)[0], backward], dim=-1).transpose(1, 2)
        return both * time_mask(frames, both)


class AttentiveStatistics(nn.Module):
    """Attention-weighted mean and deviation over valid frames, `(B, C, N)` -> `(B, 2 * C)` (Okabe et al. 2018).

    Computed in float32: a softmax over hundreds of frames and a variance of differences lose too much in half
    precision.
    """

    def __init__(self, channels: int, hidden: int = 64) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Conv1d(channels, hidden, 1), nn.Tanh(), nn.Conv1d(hidden, channels, 1))

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:
        valid = valid_mask(frames, x.shape[-1])[:, None]
        x = x.float()
        weight = self.score(x).float().masked_fill(~valid, float("-inf")).softmax(-1)
        mean = (weight * x).sum(-1)
        variance = (weight * (x - mean[..., None]).square()).sum(-1)
        return torch.cat([mean, (variance + VARIANCE_FLOOR).sqrt()], dim=1)


class OutputLayer(nn.Linear):
    """The last layer of a network, from a clip's embedding `(B, D)` to logits `(B, C)`.

    It is a class so that what it reads can be found (`output_layers`). Use it in a model of your own.

    >>> OutputLayer(192, 8)(torch.zeros(2, 192)).shape
    torch.Size([2, 8])
    """


class EmbeddingHead(nn.Sequential):
    """What follows a clip's embedding `(B, D)`, up to the logits `(B, C)`, where that is more than an `OutputLayer`.

    A class, so that what it reads can be found (`embedding_heads`).

    >>> EmbeddingHead(nn.ReLU(), OutputLayer(192, 8))(torch.zeros(2, 192)).shape
    torch.Size([2, 8])
    """


def output_layers(model: nn.Module) -> list[OutputLayer]:
    """The last layer of each network. Models without one embedding per clip (timm's windows) have none.

    >>> len(output_layers(Classifier(4, 2, dropout=0.0)))
    1
    """
    return [layer for layer in model.modules() if isinstance(layer, OutputLayer)]


def embedding_heads(model: nn.Module) -> list[nn.Module]:
    """What reads the embeddings of a model, one for each network of an ensemble: embedding heads and output layers.

    >>> [type(head).__name__ for head in embedding_heads(Classifier(4, 2, dropout=0.0))]
    ['OutputLayer']
    """
    heads = [module for module in model.modules() if isinstance(module, EmbeddingHead)]
    inner = {layer for head in heads for layer in head.modules() if layer is not head}
    return [m for m in model.modules() if isinstance(m, EmbeddingHead | OutputLayer) and m not in inner]


class Classifier(nn.Sequential):
    """Batch norm, dropout and output layer: a clip's embedding `(B, D)` -> logits `(B, C)`."""

    def __init__(self, inputs: int, classes: int, dropout: float) -> None:
        super().__init__(nn.BatchNorm1d(inputs), nn.Dropout(dropout), OutputLayer(inputs, classes))
