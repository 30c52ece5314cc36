"""Noise at a signal-to-noise ratio: synthetic in three colors, or recorded."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from serx.augment.recordings import Recordings, RecordingTransform
from serx.augment.transform import Probability, Range, WaveformTransform, register_transform
from serx.dsp.noise import NOISE_TABLE, add_at_snr, read_table
from serx.seeding import ClipRandom


class NoiseParams(NamedTuple):
    """`on` bool, `snr_db`, and the `start` in the table of noise, each `(B,)`."""

    on: Tensor
    snr_db: Tensor
    start: Tensor


@register_transform
class Noise(WaveformTransform):
    """Adds Gaussian noise at a signal-to-noise ratio, measured over the clip's own samples.

    White noise below about 5 dB hides the spectral tilt and the breathiness that separate sadness from neutral. Pink
    noise (-3 dB per octave) is closer to rooms and streets, brown noise (-6 dB per octave) to engines.

    Args:
        p: probability of noise, per clip.
        snr_db: range of the ratio in dB, uniform. Lower is stronger.
        color: `white`, `pink` or `brown`.

    >>> import torch
    >>> from serx.augment import Compose
    >>> waveform = torch.sin(torch.arange(16000) * 0.3)[None]
    >>> noisy, _ = Compose([Noise(p=1.0, snr_db=(10, 10))])(waveform)
    >>> round(10 * torch.log10(waveform.square().sum() / (noisy - waveform).square().sum()).item(), 2)
    10.0
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
    """`on` bool, `snr_db`, and large integers that give the recording and the offset in it, each `(B,)`."""

    on: Tensor
    snr_db: Tensor
    choice: Tensor
    offset: Tensor


@register_transform
class BackgroundNoise(RecordingTransform):
    """Adds a random stretch of a random recording at a signal-to-noise ratio. A short recording repeats.

    Noise with voices in it brings emotions of its own. As with `Noise`, less than about 5 dB hides soft emotions.

    Args:
        folder: audio files of any format that serx reads, at any depth.
        p: probability of noise, per clip.
        snr_db: range of the ratio in dB, uniform. Lower is stronger.

    >>> import torch
    >>> from serx.augment import Compose
    >>> augment = Compose([BackgroundNoise(folder="noises", p=1.0)], recordings={"noises": [torch.randn(40000)]})
    >>> waveform, lengths = augment(torch.rand(2, 16000))
    """

    kind: Literal["background_noise"] = "background_noise"
    p: Probability = 0.5
    snr_db: Range = (5.0, 30.0)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> BackgroundNoiseParams:
        return BackgroundNoiseParams(random.chance(self.p), random.uniform(*self.snr_db), random.bits(), random.bits())

    def apply_with(
        self, recordings: Recordings, x: Tensor, lengths: Tensor, params: BackgroundNoiseParams
    ) -> tuple[Tensor, Tensor]:
        noise = recordings.loop(params.choice, params.offset, x.shape[1])
        return torch.where(params.on[:, None], add_at_snr(x, lengths, noise, params.snr_db), x), lengths
