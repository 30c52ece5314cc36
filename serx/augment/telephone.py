"""A telephone line: 300 to 3400 Hz, and the noise of eight bits a sample on the mu-law scale (ITU-T G.711).

Quantizing would make a step out of a rounding error, so that a clip would sound different in another batch or on
another device. Its error, which is what is heard, is drawn instead: noise as strong as a step of the scale is wide.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from serx.augment.transform import Probability
from serx.base_config import BaseConfig
from serx.dsp.batching import valid_mask
from serx.dsp.fft_filter import high_pass_response, low_pass_response, shape_spectrum
from serx.dsp.noise import NOISE_TABLE, read_table
from serx.seeding import ClipRandom

LOW_HZ, HIGH_HZ, ORDER = 300.0, 3400.0, 8
MU, LEVELS = 255, 127  # levels to each side of zero
_MARGIN_SECONDS = 0.25


class LineParams(NamedTuple):
    """`on` and `start` in the noise table, each `(B,)`; the rate in Hz, a host number."""

    on: Tensor
    start: Tensor
    rate: float


class Telephone(BaseConfig):
    """Sends the clip over a telephone line: band-pass, the noise of mu-law companding to 8 bits, the receiver's
    low-pass.

    Full scale is the line's: clips beyond it are cut off, and very soft ones become noisy. Emotion survives the
    line, if not its brightness; a corpus of calls should have p near 1.
    """

    kind: Literal["telephone"] = "telephone"
    p: Probability = 0.2

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> LineParams:
        return LineParams(random.chance(self.p), random.integers(NOISE_TABLE), rate)

    def apply(self, x: Tensor, lengths: Tensor, params: LineParams) -> tuple[Tensor, Tensor]:
        margin = round(_MARGIN_SECONDS * params.rate)
        low, high = (torch.full_like(x[:, 0], hertz / params.rate) for hertz in (LOW_HZ, HIGH_HZ))
        y = shape_spectrum(x, _band, margin, low, high) * valid_mask(lengths, x.shape[1])
        y = companded(y, read_table("white", params.start, x.shape[1]))
        y = shape_spectrum(y, _receiver, margin, high) * valid_mask(lengths, x.shape[1])
        return torch.where(params.on[:, None], y, x), lengths


def companded(x: Tensor, noise: Tensor) -> Tensor:
    """`x` cut off at 1, plus `noise` of unit power as strong as the rounding to 127 levels of log(1 + 255 |x|).

    A level at |x| is log(256) (1 + 255 |x|) / (255 * 127) wide and its rounding error 1 / sqrt(12) of that; below the
    smallest step the noise fades with the signal, and silence is silent.
    """
    size = x.abs().clamp(max=1)
    smallest = math.log1p(MU) / (MU * LEVELS)
    step = smallest * (1 + MU * size) * (size / smallest).clamp(max=1)
    return x.clamp(-1, 1) + step / math.sqrt(12) * noise


def _band(frequency: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return high_pass_response(frequency, low, ORDER) * low_pass_response(frequency, high, ORDER)


def _receiver(frequency: Tensor, high: Tensor) -> Tensor:
    return low_pass_response(frequency, high, ORDER)
