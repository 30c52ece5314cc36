"""Augmentation of training clips: the lists of transforms a run may choose from, and how they are applied."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from serx.augment.crop import Crop, Shift
from serx.augment.filters import BandPass, Equalizer, HighPass, LowPass
from serx.augment.level import Clipping, Gain, PolarityInversion
from serx.augment.masks import FrequencyMask, TimeMask
from serx.augment.mel_warp import MelWarp
from serx.augment.noise import BackgroundNoise, Noise
from serx.augment.reverb import ImpulseResponse, Reverb
from serx.augment.speed_and_pitch import PitchShift, PitchTempo, Speed, TimeStretch
from serx.augment.telephone import Telephone
from serx.augment.transform import Transform
from serx.base_config import BaseConfig
from serx.seeding import ClipRandom, derive

# Random streams keep the names they were first given, so that a run resumed or repeated draws what it drew before.
_FIRST_NAMES = {
    "background_noise": "noise_files",
    "impulse_response": "room_files",
    "polarity_inversion": "polarity",
    "mel_warp": "fused",
}
CPU_NUMBERS = 1 << 20  # at a time on a CPU: a whole batch of waveforms leaves the cache with every transform

WaveformTransform = Annotated[
    Noise
    | Gain
    | PolarityInversion
    | Clipping
    | Crop
    | Shift
    | Speed
    | PitchShift
    | TimeStretch
    | PitchTempo
    | LowPass
    | HighPass
    | BandPass
    | Equalizer
    | Telephone
    | Reverb
    | ImpulseResponse
    | BackgroundNoise,
    Field(discriminator="kind"),
]
SpectrogramTransform = Annotated[TimeMask | FrequencyMask, Field(discriminator="kind")]


def stream_name(kind: str) -> str:
    """The name under which a transform's randomness is derived."""
    return _FIRST_NAMES.get(kind, kind)


class AugmentConfig(BaseConfig):
    """Two lists of transforms, applied in order to training clips only, and mixtures of clips."""

    waveform: tuple[WaveformTransform, ...] = ()
    spectrogram: tuple[SpectrogramTransform, ...] = ()
    mel_warp: MelWarp | None = None  # pitch and stretch within the mel front end, between the two lists
    mixstyle: float = Field(0.0, ge=0, le=1)  # probability that a clip is lent another's long-term spectrum; 0 is off
    mixup: float = Field(0.0, ge=0)  # alpha of the Beta distribution of mixing weights (Zhang et al. 2018); 0 is off
    cutmix: float = Field(0.0, ge=0)  # the same for stretches of other clips pasted in (Yun et al. 2019)


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
    chunk = max(1, CPU_NUMBERS // x.shape[1:].numel()) if x.device.type == "cpu" else len(x)
    parts = zip(x.split(chunk), lengths.split(chunk), clips.split(chunk), strict=True)
    augmented = [_in_turn(transforms, *part, rate, seed, epoch) for part in parts]
    return torch.cat([x for x, _ in augmented]), torch.cat([lengths for _, lengths in augmented])


def _in_turn(
    transforms: Sequence[Transform], x: Tensor, lengths: Tensor, clips: Tensor, rate: float, seed: int, epoch: int
) -> tuple[Tensor, Tensor]:
    for place, transform in enumerate(transforms):
        random = ClipRandom(clips, derive(seed, f"augment/{stream_name(transform.kind)}", place, epoch))
        x, lengths = transform.apply(x, lengths, transform.draw(lengths, random, rate))
    return x, lengths
