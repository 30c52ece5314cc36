"""Whole-clip FFTs: multiply each clip's spectrum by its own response, or convolve it with its own impulse response.

The clip is followed by enough zeros that nothing wraps around, so the size of the transform, and with it the rest of
the batch, does not reach the result.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from serx.transforms.chunks import by_chunks

CPU_CHUNK = 2  # clips at a time on a CPU


def fft_size(least: int) -> int:
    """The smallest 2**a * 3**b * 5**c that is not below `least`: sizes at which FFTs are fast."""
    best = 1 << (least - 1).bit_length()
    for three_five in (3, 5, 9, 15, 25, 27, 45, 75):
        factor = -(-least // three_five)
        best = min(best, three_five << (factor - 1).bit_length())
    return best


def shape_spectrum(x: Tensor, response: Callable[..., Tensor], margin: int, *per_clip: Tensor) -> Tensor:
    """Filters each clip of `x (B, T)` by a real response, without delay.

    Args:
        response: maps frequencies `(bins,)`, in cycles a sample, and `per_clip` tensors `(b, ...)` to `(b, bins)`.
        margin: samples after which the filter has died away.
    """
    size = fft_size(x.shape[1] + margin)
    frequency = torch.fft.rfftfreq(size, device=x.device)

    def shape(part: Tensor, *per_clip: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(part, n=size)
        return torch.fft.irfft(spectrum * response(frequency, *per_clip), n=size)[:, : part.shape[1]]

    return by_chunks(shape, CPU_CHUNK, x.shape[1], x, *per_clip)


def convolve(x: Tensor, make: Callable[..., Tensor], taps: int, *per_clip: Tensor) -> Tensor:
    """The first T samples of each clip of `x (B, T)` convolved with its own impulse response.

    Args:
        make: maps `per_clip` tensors `(b, ...)` to impulse responses `(b, taps)`.
    """
    size = fft_size(x.shape[1] + taps - 1)

    def turn(part: Tensor, *per_clip: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(part, n=size) * torch.fft.rfft(make(*per_clip), n=size)
        return torch.fft.irfft(spectrum, n=size)[:, : part.shape[1]]

    return by_chunks(turn, CPU_CHUNK, x.shape[1], x, *per_clip)
