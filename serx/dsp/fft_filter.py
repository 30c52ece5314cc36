"""Filters by FFT of the whole clip: each clip by its own frequency response or its own impulse response.

Multiplication of spectra is circular convolution. Enough zeros follow the clip that nothing wraps around into it, so
the size of the transform, and with it the rest of the batch, does not change the result.
"""

import math
from collections.abc import Callable
from functools import reduce

import torch
from torch import Tensor

from serx.dsp.batching import cached, map_chosen, map_in_chunks
from serx.seeding import is_plain_on_cpu

CPU_CHUNK = 2  # clips at a time on a CPU
FILTER_CHUNK = 8  # the same where each clip needs one spectrum only


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
    return map_in_chunks(_filter(response, x, margin), FILTER_CHUNK, x.shape[1], x, *per_clip)


def shape_chosen(
    x: Tensor,
    lengths: Tensor,
    chosen: Tensor,
    response: Callable[..., Tensor],
    margin: int,
    *per_clip: Tensor,
    in_place: bool = False,
) -> Tensor:
    """`shape_spectrum` of the `chosen (B,)` clips, zero beyond `lengths (B,)`; the other clips are unchanged.

    With `in_place` a CPU writes the result into `x`.

    >>> x, chosen = torch.ones(2, 3), torch.tensor([True, False])
    >>> shape_chosen(x, torch.tensor([2, 3]), chosen, lambda f: torch.full((1, len(f)), 0.5), margin=0)
    tensor([[0.5000, 0.5000, 0.0000],
            [1.0000, 1.0000, 1.0000]])
    """
    return map_chosen(_filter(response, x, margin), FILTER_CHUNK, chosen, x, lengths, *per_clip, in_place=in_place)


def _filter(response: Callable[..., Tensor], x: Tensor, margin: int) -> Callable[..., Tensor]:
    """The function that filters some clips of `x (B, T)`; see `shape_spectrum`."""
    size = fft_size(x.shape[1] + margin)
    frequency = _frequencies(size, x.device)

    def shape(part: Tensor, *per_clip: Tensor) -> Tensor:
        factor = response(frequency, *per_clip)
        if len(part) == 1 and is_plain_on_cpu(part) and size % 2 == 0:
            return _filter_one(part, factor[0], size)
        spectrum = torch.fft.rfft(part, n=size)
        spectrum.real.mul_(factor)  # a product of a complex and a real tensor would make the latter complex
        spectrum.imag.mul_(factor)
        return torch.fft.irfft(spectrum, n=size)[:, : part.shape[1]]

    return shape


def _filter_one(x: Tensor, factor: Tensor, size: int) -> Tensor:
    """One clip `x (1, T)` with its spectrum of `size // 2 + 1` bins multiplied by the real `factor`.

    MKL takes four times as long for one long real transform as for each of several, so the clip's even samples are
    taken as real parts and the odd ones as imaginary parts of half as many numbers. With their transform Z, n = size
    and m = n / 2, the product is

        Z'[k] = a[k] Z[k] + j b[k] conj(Z[m - k])
        a[k] = (1 - s[k]) / 2 factor[k] + (1 + s[k]) / 2 factor[m - k],    s[k] = sin(2 pi k / n)
        b[k] = c[k] / 2 (factor[k] - factor[m - k]),                       c[k] = cos(2 pi k / n)

    which follows from the spectra of the even and the odd samples, (Z[k] +- conj(Z[m - k])) / 2.
    """
    half = size // 2
    weight, cosine = _turns(size)
    padded = x.new_zeros(size)
    padded[: x.shape[1]] = x[0]
    spectrum = torch.view_as_real(torch.fft.fft(torch.view_as_complex(padded.view(half, 2))))
    mirrored = torch.empty_like(spectrum)  # j conj(Z[m - k]): real and imaginary part change places
    mirrored[0] = spectrum[0].flip(0)
    mirrored.view(-1)[2:] = spectrum.view(-1)[2:].flip(0)
    there, back = factor[:half], factor.flip(0)[:half]
    first, second = torch.lerp(back, there, weight), (there - back).mul_(cosine)
    for part in (0, 1):
        spectrum[:, part].mul_(first).addcmul_(mirrored[:, part], second)
    filtered = torch.view_as_real(torch.fft.ifft(torch.view_as_complex(spectrum)))
    return filtered.view(1, size)[:, : x.shape[1]]


@cached
def _turns(size: int) -> tuple[Tensor, Tensor]:
    """`(1 - sin) / 2` and `cos / 2` of the angles 2 pi k / size, k below size / 2."""
    angle = torch.arange(size // 2, dtype=torch.float64) * (2 * math.pi / size)
    return ((1 - angle.sin()) / 2).float(), (angle.cos() / 2).float()


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


@cached
def _frequencies(size: int, device: torch.device) -> Tensor:
    return torch.fft.rfftfreq(size, device=device)


def low_pass_response(frequency: Tensor, cutoff: Tensor, order: int) -> Tensor:
    """Magnitude `(b, bins)` of Butterworth low-passes, 1 / sqrt(1 + (f / cutoff)^(2 order)).

    Args:
        frequency: `(bins,)` in cycles per sample.
        cutoff: `(b,)` in cycles per sample; the response is -3 dB there, then falls by 6 * order dB an octave.

    >>> low_pass_response(torch.tensor([0.0, 0.1, 0.4]), torch.tensor([0.1]), order=4)
    tensor([[1.0000, 0.7071, 0.0039]])
    """
    return _power((frequency / cutoff[:, None]).square_(), order).add_(1).rsqrt_()


def high_pass_response(frequency: Tensor, cutoff: Tensor, order: int) -> Tensor:
    """Magnitude `(b, bins)` of Butterworth high-passes; 0 at frequency 0.

    >>> high_pass_response(torch.tensor([0.0, 0.1, 0.4]), torch.tensor([0.1]), order=4)
    tensor([[0.0000, 0.7071, 1.0000]])
    """
    return _power((cutoff[:, None] / frequency).square_(), order).add_(1).rsqrt_()


def _power(x: Tensor, exponent: int) -> Tensor:
    """`x ** exponent` by repeated squaring, which takes a fraction of the time of a general power."""
    if exponent == 1:
        return x
    half = _power(x, exponent // 2).square()
    return half * x if exponent % 2 else half


def peak_response(frequency: Tensor, center: Tensor, gain_db: Tensor, q: Tensor) -> Tensor:
    """Magnitude `(b, bins)` of parametric equalizers, the product over their `(b, bands)` peaks of

        |s^2 + s A / Q + 1| / |s^2 + s / (A Q) + 1|,    s = j f / center,    A = 10^(gain_db / 40)

    >>> frequency, center, q = torch.tensor([0.0, 0.1]), torch.tensor([[0.1]]), torch.tensor([[1.0]])
    >>> peak_response(frequency, center, torch.tensor([[20.0]]), q)  # 20 dB at the center
    tensor([[ 1., 10.]])
    """
    gain = 10 ** (gain_db / 40)
    with_gain, without_gain = (gain / q).square(), (1 / (gain * q)).square()

    def peak(band: int) -> Tensor:
        squared = (frequency / center[:, band, None]).square_()
        real_squared = (1 - squared).square_()
        numerator = torch.addcmul(real_squared, squared, with_gain[:, band, None])
        return numerator.div_(real_squared.addcmul_(squared, without_gain[:, band, None])).sqrt_()

    # One band after the other: all of them at once leave a CPU's cache.
    return reduce(torch.mul, map(peak, range(center.shape[1])))
