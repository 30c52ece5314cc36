"""Augmentation: frozen settings that draw each clip's parameters, and pure functions that apply them.

A waveform transform maps `(B, T)`, `lengths` to the same; a spectrogram transform maps `(B, F, N)`, `frames`.
`draw` takes all randomness from a `ClipRandom`, one stream a clip; `apply` has none. No loop over clips, nothing
waits for the device, and p = 0 gives the input back bit for bit.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple, Protocol

import torch
from pydantic import Field
from torch import Tensor

from serx.section import Section
from serx.seeding import ClipRandom, derive, generator
from serx.transforms.functional import valid_mask
from serx.transforms.resampling import RATIO_STEPS, change_speed
from serx.transforms.warp import FusedWarp

Probability = Annotated[float, Field(ge=0, le=1)]
Range = tuple[float, float]
NOISE_TABLE = 1 << 21  # samples of noise that clips start anywhere in: 131 s at 16 kHz


class Transform(Protocol):
    """What every transform can do; `rate` is samples or frames a second."""

    @property
    def kind(self) -> str: ...
    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> Any: ...
    def apply(self, x: Tensor, lengths: Tensor, params: Any) -> tuple[Tensor, Tensor]: ...


class NoiseParams(NamedTuple):
    """`on`, `snr_db` and `start` in the noise table, each `(B,)`."""

    on: Tensor
    snr_db: Tensor
    start: Tensor


class Noise(Section):
    """White Gaussian noise at a signal-to-noise ratio from `snr_db`, measured over the clip's own samples."""

    kind: Literal["noise"] = "noise"
    p: Probability = 0.5
    snr_db: Range = (10.0, 40.0)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> NoiseParams:
        return NoiseParams(random.chance(self.p), random.uniform(*self.snr_db), random.integers(NOISE_TABLE))

    def apply(self, x: Tensor, lengths: Tensor, params: NoiseParams) -> tuple[Tensor, Tensor]:
        index = (params.start[:, None] + torch.arange(x.shape[1], device=x.device)) % NOISE_TABLE
        noise = _noise_table(x.device)[index] * valid_mask(lengths, x.shape[1])
        power = x.square().sum(1) / noise.square().sum(1).clamp(min=1e-20)
        gain = (power * 10 ** (-params.snr_db / 10)).sqrt()  # 0 for a silent clip, which stays silent
        return torch.where(params.on[:, None], x + gain[:, None] * noise, x), lengths


class GainParams(NamedTuple):
    """`on` and `gain_db`, each `(B,)`."""

    on: Tensor
    gain_db: Tensor


class Gain(Section):
    """Louder or softer by `gain_db`; the result may exceed full scale, as float signals may."""

    kind: Literal["gain"] = "gain"
    p: Probability = 0.5
    gain_db: Range = (-12.0, 6.0)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> GainParams:
        return GainParams(random.chance(self.p), random.uniform(*self.gain_db))

    def apply(self, x: Tensor, lengths: Tensor, params: GainParams) -> tuple[Tensor, Tensor]:
        gain = torch.where(params.on, 10 ** (params.gain_db / 20), 1.0)
        return x * gain[:, None], lengths


class CropParams(NamedTuple):
    """`start (B,)` in samples and the window's `size`, a host number."""

    start: Tensor
    size: int


class Crop(Section):
    """A window of `seconds` from a random place; a shorter clip is kept whole. Every clip is cropped."""

    kind: Literal["crop"] = "crop"
    seconds: float = Field(2.3, gt=0)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> CropParams:
        size = round(self.seconds * rate)
        return CropParams(random.integers((lengths - size).clamp(min=0) + 1), size)

    def apply(self, x: Tensor, lengths: Tensor, params: CropParams) -> tuple[Tensor, Tensor]:
        lengths = lengths.clamp(max=params.size)
        index = params.start[:, None] + torch.arange(min(params.size, x.shape[1]), device=x.device)
        cropped = x.gather(1, index.clamp(max=x.shape[1] - 1))
        return cropped * valid_mask(lengths, cropped.shape[1]), lengths


class SpeedParams(NamedTuple):
    """`steps (B,)` int64: the clip is read at steps / 128 of its speed; 128 where it is left alone."""

    steps: Tensor
    slowest: int


class Speed(Section):
    """Plays the clip faster or slower, pitch and formants with it (Ko et al. 2015), in steps of 1/128.

    Beyond about 0.85-1.18 a voice begins to sound like another person's mood.
    """

    kind: Literal["speed"] = "speed"
    p: Probability = 0.5
    ratio: Range = (0.88, 1.12)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> SpeedParams:
        on, ratio = random.chance(self.p), random.uniform(*self.ratio)
        steps = torch.where(on, (ratio * RATIO_STEPS).round(), RATIO_STEPS).long()
        return SpeedParams(steps, min(RATIO_STEPS, round(self.ratio[0] * RATIO_STEPS)))

    def apply(self, x: Tensor, lengths: Tensor, params: SpeedParams) -> tuple[Tensor, Tensor]:
        return change_speed(x, lengths, params.steps, params.slowest)


class MaskParams(NamedTuple):
    """`start` and `width (B,)` of each of the masks."""

    start: tuple[Tensor, ...]
    width: tuple[Tensor, ...]


class TimeMask(Section):
    """Sets up to `width` frames to zero, `count` times, within the clip (SpecAugment, Park et al. 2019)."""

    kind: Literal["time_mask"] = "time_mask"
    p: Probability = 1.0
    count: int = Field(2, ge=1, le=10)
    width: int = Field(14, ge=1)
    share: float = Field(0.2, gt=0, le=1)  # at most so much of the clip by one mask

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> MaskParams:
        widest = (lengths * self.share).long().clamp(max=self.width)
        return _draw_masks(lengths, widest, self.p, self.count, random)

    def apply(self, x: Tensor, lengths: Tensor, params: MaskParams) -> tuple[Tensor, Tensor]:
        return x.masked_fill(_covered(params, x.shape[2])[:, None, :], 0.0), lengths


class FrequencyMask(Section):
    """Sets up to `width` rows to zero, `count` times (SpecAugment, Park et al. 2019)."""

    kind: Literal["frequency_mask"] = "frequency_mask"
    p: Probability = 1.0
    count: int = Field(2, ge=1, le=10)
    width: int = Field(8, ge=1)
    rows: int = Field(64, ge=1)  # how many rows the masks may fall on, from the first

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> MaskParams:
        rows = torch.full_like(lengths, self.rows)
        return _draw_masks(rows, rows.clamp(max=self.width), self.p, self.count, random)

    def apply(self, x: Tensor, lengths: Tensor, params: MaskParams) -> tuple[Tensor, Tensor]:
        return x.masked_fill(_covered(params, x.shape[1])[:, :, None], 0.0), lengths


WaveformTransform = Annotated[Noise | Gain | Crop | Speed, Field(discriminator="kind")]
SpectrogramTransform = Annotated[TimeMask | FrequencyMask, Field(discriminator="kind")]


class AugmentConfig(Section):
    """Two lists of transforms, applied in order to training clips only, and mixup."""

    waveform: tuple[WaveformTransform, ...] = ()
    spectrogram: tuple[SpectrogramTransform, ...] = ()
    fused: FusedWarp | None = None  # pitch and stretch within the mel front end, between the two lists
    mixup: float = Field(0.0, ge=0)  # alpha of the Beta distribution of mixing weights (Zhang et al. 2018); 0 is off


def augment(
    transforms: Sequence[Transform],
    x: Tensor,
    lengths: Tensor,
    clips: Tensor,
    rate: float,
    seed: int,
    epoch: int,
) -> tuple[Tensor, Tensor]:
    """Applies `transforms` in order, each with parameters keyed by (seed, its place, epoch, clip).

    Args:
        x: `(B, T)` waveforms or `(B, F, N)` spectrograms.
        lengths: `(B,)` samples or frames.
        clips: `(B,)` int64, the clips' numbers in the corpus.
        rate: samples or frames a second.
    """
    for place, transform in enumerate(transforms):
        random = ClipRandom(clips, derive(seed, f"augment/{transform.kind}", place, epoch))
        x, lengths = transform.apply(x, lengths, transform.draw(lengths, random, rate))
    return x, lengths


def _draw_masks(size: Tensor, widest: Tensor, p: float, count: int, random: ClipRandom) -> MaskParams:
    on = random.chance(p)
    widths = tuple(torch.where(on, random.integers(widest + 1), 0) for _ in range(count))
    return MaskParams(tuple(random.integers(size - width + 1) for width in widths), widths)


def _covered(params: MaskParams, size: int) -> Tensor:
    """`(B, size)` bool, true under any of the masks; positions are integers, whatever the precision around."""
    position = torch.arange(size, device=params.start[0].device)
    covered = torch.zeros((), dtype=torch.bool, device=position.device)
    for start, width in zip(params.start, params.width, strict=True):
        covered = covered | ((position >= start[:, None]) & (position < (start + width)[:, None]))
    return covered


@lru_cache(maxsize=4)
def _noise_table(device: torch.device) -> Tensor:
    """The same Gaussian samples on every device, made once."""
    return torch.randn(NOISE_TABLE, generator=generator(0, "noise table")).to(device)
