"""Noise added at a signal-to-noise ratio: white, pink or brown, or recorded."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from serx.augment.recordings import Recordings
from serx.augment.transform import Probability, Range
from serx.base_config import BaseConfig
from serx.dsp.noise import NOISE_TABLE, add_at_snr, read_table
from serx.seeding import ClipRandom


class NoiseParams(NamedTuple):
    """`on`, `snr_db` and `start` in the noise table, each `(B,)`."""

    on: Tensor
    snr_db: Tensor
    start: Tensor


class Noise(BaseConfig):
    """Gaussian noise at a signal-to-noise ratio from `snr_db`, measured over the clip's own samples.

    Below about 5 dB white noise hides the spectral tilt and the breath that tell sadness from neutral; pink noise is
    closer to rooms and streets.
    """

    kind: Literal["noise"] = "noise"
    p: Probability = 0.5
    snr_db: Range = (10.0, 40.0)
    color: Literal["white", "pink", "brown"] = "white"

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> NoiseParams:
        return NoiseParams(random.chance(self.p), random.uniform(*self.snr_db), random.integers(NOISE_TABLE))

    def apply(self, x: Tensor, lengths: Tensor, params: NoiseParams) -> tuple[Tensor, Tensor]:
        noise = read_table(self.color, params.start, x.shape[1])
        return torch.where(params.on[:, None], add_at_snr(x, lengths, noise, params.snr_db), x), lengths


class BackgroundNoiseParams(NamedTuple):
    """`on`, `snr_db`, and large numbers that `choice` of a recording and `offset` in it follow from, each `(B,)`."""

    on: Tensor
    snr_db: Tensor
    choice: Tensor
    offset: Tensor


class BackgroundNoise(BaseConfig):
    """Noises from the audio files of `folder`, each clip another stretch of one, at a ratio from `snr_db`.

    A recording shorter than the clip goes round. Noises with voices in them bring emotions of their own.
    """

    kind: Literal["background_noise"] = "background_noise"
    p: Probability = 0.5
    snr_db: Range = (5.0, 30.0)
    folder: str

    def prepare(self, recording: Tensor) -> Tensor:
        return recording

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> BackgroundNoiseParams:
        return BackgroundNoiseParams(random.chance(self.p), random.uniform(*self.snr_db), random.bits(), random.bits())

    def apply_with(
        self, bank: Recordings, x: Tensor, lengths: Tensor, params: BackgroundNoiseParams
    ) -> tuple[Tensor, Tensor]:
        noise = bank.loop(params.choice, params.offset, x.shape[1])
        return torch.where(params.on[:, None], add_at_snr(x, lengths, noise, params.snr_db), x), lengths
