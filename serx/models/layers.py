"""Layers that know where a clip ends: nothing past its last frame reaches its logits.

A zero-padded convolution at a clip's end sees zeros; so must one in the middle of a padded batch. Each convolution
here therefore reads a masked input, and each pooling is masked. Frames shrink as `ceil(frames / stride)`.
"""

from typing import Annotated, Any

import torch
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from serx.dsp.batching import valid_mask
from serx.dsp.statistics import row_statistics

STD_FLOOR = 1e-5  # variance under the root: keeps its gradient finite on one frame


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError(f"a kernel must be odd, so that it has a center, not {kernel}")
    return kernel


Kernel = Annotated[int, Field(ge=1), AfterValidator(_odd)]


def strided(frames: Tensor, stride: int) -> Tensor:
    """Frames left after an odd, centered convolution of this stride."""
    return torch.div(frames + stride - 1, stride, rounding_mode="floor")


def time_mask(frames: Tensor, like: Tensor) -> Tensor:
    """1 where a frame is valid, shaped to multiply `like (B, ..., N)` and of its dtype."""
    mask = valid_mask(frames, like.shape[-1]).to(like.dtype)
    return mask.view(len(frames), *[1] * (like.dim() - 2), like.shape[-1])


def relu_within(x: Tensor, mask: Tensor) -> Tensor:
    """In place: the ReLU of `x (B, ..., N)`, zero where `mask` is.

    The mask needs no gradient of its own, which would be another pass over the tensor: that of a ReLU is zero wherever
    its result is.
    """
    with torch.no_grad():
        x.mul_(mask)
    return x.relu_()


class SqueezeExcite(nn.Module):
    """Scales each channel by what the whole clip holds (Hu et al. 2018); the mean is over valid positions."""

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        hidden = max(4, channels // reduction)
        self.gate = nn.Sequential(
            nn.Linear(channels, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, channels), nn.Sigmoid()
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`x (B, C, ..., N)` is zero where `mask` is."""
        rows = x.shape[2:-1].numel()
        mean = x.flatten(2).sum(-1) / (mask.flatten(1).sum(-1, keepdim=True) * rows)
        return x * self.gate(mean).view(*mean.shape, *[1] * (x.dim() - 2))


class ResidualBlock(nn.Module):
    """Two masked convolutions, squeeze-excite and a shortcut (He et al. 2016), in one or two dimensions.

    `(B, C, N)` or `(B, C, F, N)` in; channels `width`, axes divided by `stride` (time is the last) out.
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
        self.excite = SqueezeExcite(width)
        same = inputs == width and set(stride) == {1}
        self.shortcut = (
            nn.Identity() if same else nn.Sequential(conv(inputs, width, 1, stride, bias=False), norm(width))
        )
        self.dropout = nn.Dropout(dropout)
        self.time_stride = stride[-1]

    def forward(self, x: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """`x` zero beyond `frames (B,)` -> the same promise, and the frames left."""
        frames = strided(frames, self.time_stride)
        inner = self.norm1(self.conv1(x))
        mask = time_mask(frames, inner)
        inner = self.dropout(relu_within(inner, mask))
        inner = self.norm2(self.conv2(inner)).mul_(mask)
        return relu_within(self.excite(inner, mask) + self.shortcut(x), mask), frames


class BidirectionalGru(nn.Module):
    """Two GRUs over time, one from the first frame on and one from the last back: `(B, C, N)` -> `(B, 2 units, N)`.

    The second reads each clip's own frames in reverse, so that neither meets padding before a frame; packed sequences
    would do the same, but ask the host for the lengths. Zero beyond the frames.
    """

    def __init__(self, channels: int, units: int) -> None:
        super().__init__()
        self.onward = nn.GRU(channels, units, batch_first=True)
        self.back = nn.GRU(channels, units, batch_first=True)

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:
        position = torch.arange(x.shape[-1], device=x.device)
        mirrored = (frames[:, None] - 1 - position).clamp(min=0)[..., None]  # (B, N, 1)
        x = x.transpose(1, 2)
        reverse = self.back(x.gather(1, mirrored.expand(x.shape)))[0]
        both = torch.cat([self.onward(x)[0], reverse.gather(1, mirrored.expand(reverse.shape))], dim=-1).transpose(1, 2)
        return both * time_mask(frames, both)


class AttentiveStatistics(nn.Module):
    """Weighted mean and deviation over valid frames, `(B, C, N)` -> `(B, 2 C)` (Okabe et al. 2018).

    In float32: a softmax over hundreds of frames and a variance by differences lose too much in half precision.
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
        return torch.cat([mean, (variance + STD_FLOOR).sqrt()], dim=1)


class OutputLayer(nn.Linear):
    """The last layer of a network, from a clip's embedding `(B, D)` to logits `(B, C)`."""


class Classifier(nn.Sequential):
    """Batch norm, dropout and the verdict on a clip's embedding `(B, D)`: logits `(B, C)`."""

    def __init__(self, inputs: int, classes: int, dropout: float) -> None:
        super().__init__(nn.BatchNorm1d(inputs), nn.Dropout(dropout), OutputLayer(inputs, classes))


class RelaxedFreqNorm(nn.Module):
    """`net` on `(1 - share)` of the features and `share` of the same with each row's clip mean 0 and deviation 1."""

    def __init__(self, net: nn.Module, share: float) -> None:
        super().__init__()
        self.net, self.share = net, share

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        mask = time_mask(frames, features)
        mean, variance = row_statistics(features, mask)
        normalized = (features - mean) * variance.rsqrt() * mask
        return self.net(torch.lerp(features, normalized, self.share), frames)
