"""A telephone line: 300 to 3400 Hz, and the noise of 8 bits per sample on the mu-law scale (ITU-T G.711).

Real quantization turns a rounding error into a step, so a clip would differ in another batch or on another device. Its
error is added as noise instead, with the power of a quantization step at each sample.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from serx.augment.transform import Probability, WaveformTransform, register_transform
from serx.dsp.batching import zero_beyond
from serx.dsp.fft_filter import high_pass_response, low_pass_response, shape_spectrum
from serx.dsp.noise import NOISE_TABLE, read_table
from serx.seeding import ClipRandom

LOW_HZ, HIGH_HZ, ORDER = 300.0, 3400.0, 8
MU, LEVELS = 255, 127  # levels on each side of zero
_MARGIN_SECONDS = 0.25


class LineParams(NamedTuple):
    """`on` bool and the `start` in the table of noise, each `(B,)`; the sample rate in Hz, a Python number."""

    on: Tensor
    start: Tensor
    rate: float


@register_transform
class Telephone(WaveformTransform):
    """Sends a clip over a telephone line: band-pass, mu-law noise, and the low-pass of the receiver.

    The line overloads at full scale: what exceeds 1 is cut off. Very soft clips become noisy. Emotion survives the
    line, brightness does not. For telephone calls, train with p near 1.

    Args:
        p: probability of the line, per clip.

    >>> import torch
    >>> from serx.augment import Compose
    >>> waveform, lengths = Compose([Telephone(p=1.0)])(torch.rand(2, 16000))
    """

    kind: Literal["telephone"] = "telephone"
    p: Probability = 0.2

    def why_not_at(self, sample_rate: float) -> str | None:
        if sample_rate / 2 >= HIGH_HZ:
            return None
        return (
            f"a telephone line passes 300 to 3400 Hz, but audio at {sample_rate:g} Hz ends at {sample_rate / 2:g} Hz; "
            "leave telephone out, or raise data.sample_rate"
        )

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> LineParams:
        return LineParams(random.chance(self.p), random.integers(NOISE_TABLE), rate)

    def apply(self, x: Tensor, lengths: Tensor, params: LineParams) -> tuple[Tensor, Tensor]:
        margin = round(_MARGIN_SECONDS * params.rate)
        low, high = (torch.full_like(x[:, 0], hertz / params.rate) for hertz in (LOW_HZ, HIGH_HZ))
        y = shape_spectrum(x, _band, margin, low, high)
        y = companded(zero_beyond(y, lengths), read_table("white", params.start, x.shape[1]))
        y = zero_beyond(shape_spectrum(y, _receiver, margin, high), lengths)
        return torch.where(params.on[:, None], y, x), lengths


def companded(x: Tensor, noise: Tensor) -> Tensor:
    """`x` limited to [-1, 1], plus the error of rounding log(1 + 255 |x|) to 127 levels, made of unit-power `noise`.

    At |x| a level is log(256) (1 + 255 |x|) / (255 * 127) wide, and its rounding error has 1 / sqrt(12) of that as
    standard deviation. Below the smallest step the noise fades with the signal, so silence stays silent.
    """
    size = x.abs().clamp(max=1)
    smallest = math.log1p(MU) / (MU * LEVELS)
    step = smallest * (1 + MU * size) * (size / smallest).clamp(max=1)
    return x.clamp(-1, 1) + step / math.sqrt(12) * noise


def _band(frequency: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return high_pass_response(frequency, low, ORDER) * low_pass_response(frequency, high, ORDER)


def _receiver(frequency: Tensor, high: Tensor) -> Tensor:
    return low_pass_response(frequency, high, ORDER)
