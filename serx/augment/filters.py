"""Filters without delay, each clip by its own cut-offs: low-, high- and band-pass, and a random equalizer.

The responses are those of Butterworth filters, 1 / sqrt(1 + (f / cutoff)^(2 order)): -3 dB at the cut-off, then
6 * order dB an octave; and of the parametric equalizer's peaks. Only magnitudes are applied, so speech stays in place.
"""

import math
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from serx.augment.transform import PositiveRange, Probability, Range, log_uniform
from serx.base_config import BaseConfig
from serx.dsp.batching import valid_mask
from serx.dsp.fft_filter import high_pass_response, low_pass_response, peak_response, shape_spectrum
from serx.seeding import ClipRandom

_MARGIN_SECONDS = 0.25  # after which the sharpest filter below is 100 dB down


def _audible(hertz: tuple[float, float]) -> tuple[float, float]:
    if hertz[0] < 50:
        raise ValueError(f"{list(hertz)} begins below 50 Hz, where filters ring for longer than a syllable")
    return hertz


Hertz = Annotated[PositiveRange, AfterValidator(_audible)]


Order = Annotated[int, Field(ge=1, le=8)]


class FilterParams(NamedTuple):
    """`on (B,)`; cut-offs `(B,)` in cycles a sample; `margin`, a host number."""

    on: Tensor
    low: Tensor | None
    high: Tensor | None
    margin: int


class LowPass(BaseConfig):
    """Takes away what lies above a cut-off from `cutoff_hz`, as a cheap microphone or a codec does.

    Below about 2 kHz consonants and the brightness that marks anger and joy are gone.
    """

    kind: Literal["low_pass"] = "low_pass"
    p: Probability = 0.3
    cutoff_hz: Hertz = (2500.0, 7500.0)
    order: Order = 4

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> FilterParams:
        return FilterParams(random.chance(self.p), None, log_uniform(random, self.cutoff_hz) / rate, _margin(rate))

    def apply(self, x: Tensor, lengths: Tensor, params: FilterParams) -> tuple[Tensor, Tensor]:
        return _pass(x, lengths, params, self.order), lengths


class HighPass(BaseConfig):
    """Takes away what lies below a cut-off from `cutoff_hz`, as a desk microphone does.

    Above about 400 Hz the fundamental of most voices is gone; its harmonics still carry the pitch.
    """

    kind: Literal["high_pass"] = "high_pass"
    p: Probability = 0.3
    cutoff_hz: Hertz = (50.0, 300.0)
    order: Order = 4

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> FilterParams:
        return FilterParams(random.chance(self.p), log_uniform(random, self.cutoff_hz) / rate, None, _margin(rate))

    def apply(self, x: Tensor, lengths: Tensor, params: FilterParams) -> tuple[Tensor, Tensor]:
        return _pass(x, lengths, params, self.order), lengths


class BandPass(BaseConfig):
    """Leaves what lies between a cut-off from `low_hz` and one from `high_hz`."""

    kind: Literal["band_pass"] = "band_pass"
    p: Probability = 0.3
    low_hz: Hertz = (50.0, 300.0)
    high_hz: Hertz = (2500.0, 7500.0)
    order: Order = 4

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> FilterParams:
        on, low = random.chance(self.p), log_uniform(random, self.low_hz) / rate
        return FilterParams(on, low, log_uniform(random, self.high_hz) / rate, _margin(rate))

    def apply(self, x: Tensor, lengths: Tensor, params: FilterParams) -> tuple[Tensor, Tensor]:
        return _pass(x, lengths, params, self.order), lengths


class EqualizerParams(NamedTuple):
    """`on (B,)`, and `(B, bands)` center frequencies in cycles a sample, gains in dB and qualities."""

    on: Tensor
    frequency: Tensor
    gain_db: Tensor
    q: Tensor
    margin: int


class Equalizer(BaseConfig):
    """Random peaks and dips, as microphones and rooms have: `bands` parametric ones on each other.

    Tilting the spectrum by more than about 10 dB changes how tense a voice sounds.
    """

    kind: Literal["equalizer"] = "equalizer"
    p: Probability = 0.3
    bands: int = Field(3, ge=1, le=10)
    frequency_hz: Hertz = (100.0, 6000.0)
    gain_db: Range = (-6.0, 6.0)
    q: PositiveRange = (0.5, 2.0)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> EqualizerParams:
        on = random.chance(self.p)
        frequency = torch.stack([log_uniform(random, self.frequency_hz) / rate for _ in range(self.bands)], 1)
        gain_db = torch.stack([random.uniform(*self.gain_db) for _ in range(self.bands)], 1)
        q = torch.stack([log_uniform(random, self.q) for _ in range(self.bands)], 1)
        return EqualizerParams(on, frequency, gain_db, q, _margin(rate))

    def apply(self, x: Tensor, lengths: Tensor, params: EqualizerParams) -> tuple[Tensor, Tensor]:
        y = shape_spectrum(x, peak_response, params.margin, params.frequency, params.gain_db, params.q)
        y = y * valid_mask(lengths, x.shape[1])
        return torch.where(params.on[:, None], y, x), lengths


def _pass(x: Tensor, lengths: Tensor, params: FilterParams, order: int) -> Tensor:
    def response(frequency: Tensor, *cutoffs: Tensor) -> Tensor:
        kinds = [kind for kind, cutoff in edges if cutoff is not None]
        responses = [kind(frequency, cutoff, order) for kind, cutoff in zip(kinds, cutoffs, strict=True)]
        return math.prod(responses[1:], start=responses[0])

    edges = ((high_pass_response, params.low), (low_pass_response, params.high))
    cutoffs = [cutoff for _, cutoff in edges if cutoff is not None]
    y = shape_spectrum(x, response, params.margin, *cutoffs) * valid_mask(lengths, x.shape[1])
    return torch.where(params.on[:, None], y, x)


def _margin(rate: float) -> int:
    return round(_MARGIN_SECONDS * rate)
