"""Whole-clip FFTs: multiply each clip's spectrum by its own response, or convolve it with its own impulse response.

The clip is followed by enough zeros that nothing wraps around, so the size of the transform, and with it the rest of
the batch, does not reach the result.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from serx.dsp.batching import map_in_chunks

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

    return map_in_chunks(shape, CPU_CHUNK, x.shape[1], x, *per_clip)


def convolve(x: Tensor, make: Callable[..., Tensor], taps: int, *per_clip: Tensor) -> Tensor:
    """The first T samples of each clip of `x (B, T)` convolved with its own impulse response.

    Args:
        make: maps `per_clip` tensors `(b, ...)` to impulse responses `(b, taps)`.
    """
    size = fft_size(x.shape[1] + taps - 1)

    def turn(part: Tensor, *per_clip: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(part, n=size) * torch.fft.rfft(make(*per_clip), n=size)
        return torch.fft.irfft(spectrum, n=size)[:, : part.shape[1]]

    return map_in_chunks(turn, CPU_CHUNK, x.shape[1], x, *per_clip)


def low_response(frequency: Tensor, cutoff: Tensor, order: int) -> Tensor:
    """`(b, bins)` of a Butterworth low-pass at `cutoff (b,)`, both in cycles a sample."""
    return (1 + (frequency / cutoff[:, None]) ** (2 * order)).rsqrt()


def high_response(frequency: Tensor, cutoff: Tensor, order: int) -> Tensor:
    """`(b, bins)` of a Butterworth high-pass at `cutoff (b,)`; nothing at 0."""
    return (1 + (cutoff[:, None] / frequency) ** (2 * order)).rsqrt()


def peak_response(frequency: Tensor, center: Tensor, gain_db: Tensor, q: Tensor) -> Tensor:
    """The product of the peaks |s^2 + s A / Q + 1| / |s^2 + s / (A Q) + 1|, s = jf / center, A = 10^(gain / 40)."""
    ratio = frequency / center[..., None]
    off, turn = (1 - ratio.square()).square(), ratio / q[..., None]
    gain = (10 ** (gain_db / 40))[..., None]
    return ((off + (turn * gain).square()) / (off + (turn / gain).square())).sqrt().prod(1)
