"""Filters by FFT of the whole clip: each clip by its own frequency response or its own impulse response.

Multiplication of spectra is circular convolution. Enough zeros follow the clip that nothing wraps around into it, so
the size of the transform, and with it the rest of the batch, does not change the result.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from serx.dsp.batching import map_in_chunks

CPU_CHUNK = 2  # clips at a time on a CPU


def fft_size(minimum: int) -> int:
    """The smallest size 2**a * 3**b * 5**c >= `minimum` with small b and c, at which FFTs are fast.

    >>> fft_size(10000)
    10240
    """
    best = 1 << (minimum - 1).bit_length()
    for odd in (3, 5, 9, 15, 25, 27, 45, 75):
        factor = -(-minimum // odd)
        best = min(best, odd << (factor - 1).bit_length())
    return best


def shape_spectrum(x: Tensor, response: Callable[..., Tensor], margin: int, *per_clip: Tensor) -> Tensor:
    """Multiplies the spectrum of each clip of `x (B, T)` by a real response: a filter without delay.

    Args:
        response: maps frequencies `(bins,)` in cycles per sample, and `per_clip` tensors `(b, ...)`, to `(b, bins)`.
        margin: samples after which the filter's impulse response has decayed.

    >>> x = torch.sin(torch.arange(1000) * 0.1)[None]
    >>> halved = shape_spectrum(x, lambda frequency: torch.full((1, len(frequency)), 0.5), margin=0)
    >>> torch.allclose(halved, x / 2, atol=1e-6)
    True
    """
    size = fft_size(x.shape[1] + margin)
    frequency = torch.fft.rfftfreq(size, device=x.device)

    def shape(part: Tensor, *per_clip: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(part, n=size)
        return torch.fft.irfft(spectrum * response(frequency, *per_clip), n=size)[:, : part.shape[1]]

    return map_in_chunks(shape, CPU_CHUNK, x.shape[1], x, *per_clip)


def convolve(x: Tensor, impulse_response: Callable[..., Tensor], taps: int, *per_clip: Tensor) -> Tensor:
    """The first T samples of each clip of `x (B, T)` convolved with its own impulse response.

    Args:
        impulse_response: maps `per_clip` tensors `(b, ...)` to impulse responses `(b, taps)`.

    >>> x, gain = torch.ones(2, 5), torch.tensor([1.0, 3.0])
    >>> convolve(x, lambda gain: gain[:, None] * torch.tensor([0.0, 0.0, 1.0]), 3, gain).round().int().tolist()
    [[0, 0, 1, 1, 1], [0, 0, 3, 3, 3]]
    """
    size = fft_size(x.shape[1] + taps - 1)

    def multiply(part: Tensor, *per_clip: Tensor) -> Tensor:
        spectrum = torch.fft.rfft(part, n=size) * torch.fft.rfft(impulse_response(*per_clip), n=size)
        return torch.fft.irfft(spectrum, n=size)[:, : part.shape[1]]

    return map_in_chunks(multiply, CPU_CHUNK, x.shape[1], x, *per_clip)


def low_pass_response(frequency: Tensor, cutoff: Tensor, order: int) -> Tensor:
    """Magnitude `(b, bins)` of Butterworth low-passes, 1 / sqrt(1 + (f / cutoff)^(2 order)).

    Args:
        frequency: `(bins,)` in cycles per sample.
        cutoff: `(b,)` in cycles per sample; the response is -3 dB there, then falls by 6 * order dB an octave.

    >>> low_pass_response(torch.tensor([0.0, 0.1, 0.4]), torch.tensor([0.1]), order=4)
    tensor([[1.0000, 0.7071, 0.0039]])
    """
    return (1 + (frequency / cutoff[:, None]) ** (2 * order)).rsqrt()


def high_pass_response(frequency: Tensor, cutoff: Tensor, order: int) -> Tensor:
    """Magnitude `(b, bins)` of Butterworth high-passes; 0 at frequency 0.

    >>> high_pass_response(torch.tensor([0.0, 0.1, 0.4]), torch.tensor([0.1]), order=4)
    tensor([[0.0000, 0.7071, 1.0000]])
    """
    return (1 + (cutoff[:, None] / frequency) ** (2 * order)).rsqrt()


def peak_response(frequency: Tensor, center: Tensor, gain_db: Tensor, q: Tensor) -> Tensor:
    """Magnitude `(b, bins)` of parametric equalizers, the product over their `(b, bands)` peaks of

        |s^2 + s A / Q + 1| / |s^2 + s / (A Q) + 1|,    s = j f / center,    A = 10^(gain_db / 40)

    >>> frequency, center, q = torch.tensor([0.0, 0.1]), torch.tensor([[0.1]]), torch.tensor([[1.0]])
    >>> peak_response(frequency, center, torch.tensor([[20.0]]), q)  # 20 dB at the center
    tensor([[ 1., 10.]])
    """
    ratio = frequency / center[..., None]
    real_squared, imaginary = (1 - ratio.square()).square(), ratio / q[..., None]
    gain = (10 ** (gain_db / 40))[..., None]
    return ((real_squared + (imaginary * gain).square()) / (real_squared + (imaginary / gain).square())).sqrt().prod(1)
