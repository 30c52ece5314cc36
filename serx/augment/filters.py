"""Filters, each clip with its own cut-offs: low-, high- and band-pass, and a random equalizer.

The magnitude responses are those of Butterworth filters, 1 / sqrt(1 + (f / cutoff)^(2 order)): -3 dB at the cut-off,
then 6 order dB per octave; and of the peaks of a parametric equalizer. The phase is zero, so nothing is delayed.
"""

import math
from typing import Annotated, ClassVar, Literal, NamedTuple

import torch
from pydantic import AfterValidator, Field, model_validator
from torch import Tensor

from serx.augment.transform import (
    Probability,
    WaveformTransform,
    log_uniform,
    ordered,
    register_transform,
)
from serx.dsp.fft_filter import high_pass_response, low_pass_response, peak_response, shape_chosen
from serx.seeding import ClipRandom

_MARGIN_SECONDS = 0.25  # of silence around a clip; by then the sharpest filter's response has fallen by 100 dB


# Below 50 Hz a filter rings for longer than a syllable; 96 kHz is half of the highest sample rate.
Frequency = Annotated[float, Field(ge=50, le=96_000)]
Hertz = Annotated[tuple[Frequency, Frequency], AfterValidator(ordered)]
EqualizerGain = Annotated[float, Field(ge=-40, le=40)]
Quality = Annotated[float, Field(ge=0.05, le=100)]
Order = Annotated[int, Field(ge=1, le=8)]


def beyond_nyquist(name: str, hertz: tuple[float, float], sample_rate: float) -> str | None:
    """Says that a range of frequencies reaches beyond what audio at this sample rate holds; None if it does not."""
    if hertz[1] <= sample_rate / 2:
        return None
    return (
        f"{name} reaches {hertz[1]:g} Hz, but audio at {sample_rate:g} Hz ends at {sample_rate / 2:g} Hz; write "
        f"{name}: [{min(hertz[0], sample_rate / 4):g}, {sample_rate / 2:g}] or less, or raise data.sample_rate"
    )


class FilterParams(NamedTuple):
    """`on (B,)` bool; cut-offs `(B,)` in cycles per sample, or None; the `margin` in samples, a Python int."""

    on: Tensor
    low: Tensor | None
    high: Tensor | None
    margin: int


@register_transform
class LowPass(WaveformTransform):
    """Removes what lies above a cut-off, as a cheap microphone or a codec does.

    Cut-offs below about 2 kHz remove consonants and the brightness that marks anger and joy.

    Args:
        p: probability of the filter, per clip.
        cutoff_hz: range of the cut-off, uniform in octaves, at least 50 Hz.
        order: 6 dB per octave each, 1 to 8.

    >>> import torch
    >>> from serx.augment import Compose
    >>> tone = torch.sin(torch.arange(16000) * 2 * torch.pi * 4000 / 16000)[None]
    >>> filtered, _ = Compose([LowPass(p=1.0, cutoff_hz=(2000, 2000), order=4)])(tone)
    >>> round(20 * torch.log10(filtered[0, 4000:12000].std() / tone[0, 4000:12000].std()).item())  # dB, an octave above
    -24
    """

    works_in_place: ClassVar[bool] = True
    kind: Literal["low_pass"] = "low_pass"
    p: Probability = 0.3
    cutoff_hz: Hertz = (2500.0, 7500.0)
    order: Order = 4

    def why_not_at(self, sample_rate: float) -> str | None:
        return beyond_nyquist("cutoff_hz", self.cutoff_hz, sample_rate)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> FilterParams:
        return FilterParams(random.chance(self.p), None, log_uniform(random, self.cutoff_hz) / rate, _margin(rate))

    def apply(self, x: Tensor, lengths: Tensor, params: FilterParams, in_place: bool = False) -> tuple[Tensor, Tensor]:
        return _pass(x, lengths, params, self.order, in_place), lengths


@register_transform
class HighPass(WaveformTransform):
    """Removes what lies below a cut-off, as a small loudspeaker or a rumble filter does.

    Cut-offs above about 400 Hz remove the fundamental of most voices. The harmonics still carry the pitch.

    Args:
        p: probability of the filter, per clip.
        cutoff_hz: range of the cut-off, uniform in octaves, at least 50 Hz.
        order: 6 dB per octave each, 1 to 8.

    >>> import torch
    >>> from serx.augment import Compose
    >>> tone = torch.sin(torch.arange(16000) * 2 * torch.pi * 200 / 16000)[None]
    >>> filtered, _ = Compose([HighPass(p=1.0, cutoff_hz=(400, 400), order=2)])(tone)
    >>> round(20 * torch.log10(filtered[0, 4000:12000].std() / tone[0, 4000:12000].std()).item())  # dB, an octave below
    -12
    """

    works_in_place: ClassVar[bool] = True
    kind: Literal["high_pass"] = "high_pass"
    p: Probability = 0.3
    cutoff_hz: Hertz = (50.0, 300.0)
    order: Order = 4

    def why_not_at(self, sample_rate: float) -> str | None:
        return beyond_nyquist("cutoff_hz", self.cutoff_hz, sample_rate)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> FilterParams:
        return FilterParams(random.chance(self.p), log_uniform(random, self.cutoff_hz) / rate, None, _margin(rate))

    def apply(self, x: Tensor, lengths: Tensor, params: FilterParams, in_place: bool = False) -> tuple[Tensor, Tensor]:
        return _pass(x, lengths, params, self.order, in_place), lengths


@register_transform
class BandPass(WaveformTransform):
    """Keeps what lies between two cut-offs: a `HighPass` and a `LowPass` at once, with the limits of both.

    Args:
        p: probability of the filter, per clip.
        low_hz: range of the lower cut-off, uniform in octaves, at least 50 Hz.
        high_hz: range of the upper cut-off, uniform in octaves.
        order: 6 dB per octave each, 1 to 8.

    >>> import torch
    >>> from serx.augment import Compose
    >>> waveform, lengths = Compose([BandPass(p=1.0, low_hz=(300, 300), high_hz=(3400, 3400))])(torch.rand(2, 16000))
    """

    works_in_place: ClassVar[bool] = True
    kind: Literal["band_pass"] = "band_pass"
    p: Probability = 0.3
    low_hz: Hertz = (50.0, 300.0)
    high_hz: Hertz = (2500.0, 7500.0)
    order: Order = 4

    @model_validator(mode="after")
    def _passes_something(self) -> "BandPass":
        if self.low_hz[1] >= self.high_hz[0]:
            raise ValueError(
                f"low_hz ends at {self.low_hz[1]:g} Hz and high_hz begins at {self.high_hz[0]:g} Hz, so that nothing "
                "may be left between them; keep low_hz below high_hz"
            )
        return self

    def why_not_at(self, sample_rate: float) -> str | None:
        return beyond_nyquist("low_hz", self.low_hz, sample_rate) or beyond_nyquist(
            "high_hz", self.high_hz, sample_rate
        )

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> FilterParams:
        on, low = random.chance(self.p), log_uniform(random, self.low_hz) / rate
        return FilterParams(on, low, log_uniform(random, self.high_hz) / rate, _margin(rate))

    def apply(self, x: Tensor, lengths: Tensor, params: FilterParams, in_place: bool = False) -> tuple[Tensor, Tensor]:
        return _pass(x, lengths, params, self.order, in_place), lengths


class EqualizerParams(NamedTuple):
    """`on (B,)` bool; center frequencies in cycles per sample, gains in dB and Q, each `(B, bands)`; the margin."""

    on: Tensor
    frequency: Tensor
    gain_db: Tensor
    q: Tensor
    margin: int


@register_transform
class Equalizer(WaveformTransform):
    """Adds random peaks and dips to the spectrum, as microphones and rooms do: parametric bands in a row.

    Gains beyond about 10 dB tilt the spectrum enough to change how tense a voice sounds.

    Args:
        p: probability of the equalizer, per clip.
        bands: number of bands, 1 to 10.
        frequency_hz: range of the center frequencies, uniform in octaves, at least 50 Hz.
        gain_db: range of the gains at the centers in dB, uniform.
        q: range of center frequency over bandwidth, uniform in octaves.

    >>> import torch
    >>> from serx.augment import Compose
    >>> waveform, lengths = Compose([Equalizer(p=1.0, bands=5, gain_db=(-3, 3))])(torch.rand(2, 16000))
    """

    works_in_place: ClassVar[bool] = True
    kind: Literal["equalizer"] = "equalizer"
    p: Probability = 0.3
    bands: int = Field(3, ge=1, le=10)
    frequency_hz: Hertz = (100.0, 6000.0)
    gain_db: Annotated[tuple[EqualizerGain, EqualizerGain], AfterValidator(ordered)] = (-6.0, 6.0)
    q: Annotated[tuple[Quality, Quality], AfterValidator(ordered)] = (0.5, 2.0)

    def why_not_at(self, sample_rate: float) -> str | None:
        return beyond_nyquist("frequency_hz", self.frequency_hz, sample_rate)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> EqualizerParams:
        on = random.chance(self.p)
        frequency = log_uniform(random, self.frequency_hz, self.bands) / rate
        gain_db = torch.stack([random.uniform(*self.gain_db) for _ in range(self.bands)], 1)
        q = log_uniform(random, self.q, self.bands)
        return EqualizerParams(on, frequency, gain_db, q, _margin(rate))

    def apply(
        self, x: Tensor, lengths: Tensor, params: EqualizerParams, in_place: bool = False
    ) -> tuple[Tensor, Tensor]:
        bands = params.frequency, params.gain_db, params.q
        return shape_chosen(x, lengths, params.on, peak_response, params.margin, *bands, in_place=in_place), lengths


def _pass(x: Tensor, lengths: Tensor, params: FilterParams, order: int, in_place: bool) -> Tensor:
    def response(frequency: Tensor, *cutoffs: Tensor) -> Tensor:
        kinds = [kind for kind, cutoff in edges if cutoff is not None]
        responses = [kind(frequency, cutoff, order) for kind, cutoff in zip(kinds, cutoffs, strict=True)]
        return math.prod(responses[1:], start=responses[0])

    edges = ((high_pass_response, params.low), (low_pass_response, params.high))
    cutoffs = [cutoff for _, cutoff in edges if cutoff is not None]
    return shape_chosen(x, lengths, params.on, response, params.margin, *cutoffs, in_place=in_place)


def _margin(rate: float) -> int:
    return round(_MARGIN_SECONDS * rate)
