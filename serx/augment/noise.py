"""Noise at a signal-to-noise ratio: synthetic in three colors, or recorded."""

from typing import ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from serx.augment.recordings import Recordings, RecordingTransform
from serx.augment.transform import DecibelRange, Probability, WaveformTransform, register_transform
from serx.dsp.noise import NOISE_TABLE, add_at_snr, add_rows_at_snr, read_table, table_rows
from serx.seeding import ClipRandom, is_plain_on_cpu

SILENCE_FRAME, SILENCE_DB = 512, 60.0  # samples


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

    works_in_place: ClassVar[bool] = True
    kind: Literal["noise"] = "noise"
    p: Probability = 0.5
    snr_db: DecibelRange = (10.0, 40.0)
    color: Literal["white", "pink", "brown"] = "white"

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> NoiseParams:
        return NoiseParams(random.chance(self.p), random.uniform(*self.snr_db), random.integers(NOISE_TABLE))

    def apply(self, x: Tensor, lengths: Tensor, params: NoiseParams, in_place: bool = False) -> tuple[Tensor, Tensor]:
        if is_plain_on_cpu(x) and x.is_contiguous():
            noises = table_rows(self.color, params.start, x.shape[1])
            return add_rows_at_snr(x, lengths, noises, params.snr_db, params.on, in_place), lengths
        noise = read_table(self.color, params.start, x.shape[1])
        return torch.where(params.on[:, None], add_at_snr(x, lengths, noise, params.snr_db), x), lengths


def without_silence(recording: Tensor) -> Tensor:
    """A recording `(T,)` without the frames whose peak is more than 60 dB below its own, the default of librosa's trim.

    Raises:
        ValueError: every sample is zero.

    >>> without_silence(torch.cat([torch.ones(1024), torch.zeros(4096), torch.ones(1024)])).shape
    torch.Size([2048])
    """
    peaks = F.pad(recording.abs(), (0, -len(recording) % SILENCE_FRAME)).view(-1, SILENCE_FRAME).amax(1)
    if peaks.max() == 0:
        raise ValueError("a recording of background noise is silent: every sample is zero; leave it out")
    audible = (peaks > peaks.max() * 10 ** (-SILENCE_DB / 20)).repeat_interleave(SILENCE_FRAME)[: len(recording)]
    return recording if audible.all() else recording[audible]


class BackgroundNoiseParams(NamedTuple):
    """`on` bool, `snr_db`, and large integers that give the recording and the offset in it, each `(B,)`."""

    on: Tensor
    snr_db: Tensor
    choice: Tensor
    offset: Tensor


@register_transform
class BackgroundNoise(RecordingTransform):
    """Adds a random stretch of a random recording at a signal-to-noise ratio. A short recording repeats.

    The silence of a recording (60 dB below its peak) is cut out first, so that every stretch has noise in it.

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
    snr_db: DecibelRange = (5.0, 30.0)

    def prepare(self, recording: Tensor) -> Tensor:
        """The recording without its silence, which would leave a clip as it is.

        Raises:
            ValueError: every sample is zero.
        """
        return without_silence(recording) if recording.ndim == 1 and len(recording) else recording  # refused later

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> BackgroundNoiseParams:
        return BackgroundNoiseParams(random.chance(self.p), random.uniform(*self.snr_db), random.bits(), random.bits())

    def apply_with(
        self, recordings: Recordings, x: Tensor, lengths: Tensor, params: BackgroundNoiseParams
    ) -> tuple[Tensor, Tensor]:
        noise = recordings.loop(params.choice, params.offset, x.shape[1])
        if is_plain_on_cpu(x) and x.is_contiguous():
            return add_rows_at_snr(x, lengths, noise.unbind(), params.snr_db, params.on), lengths
        return torch.where(params.on[:, None], add_at_snr(x, lengths, noise, params.snr_db), x), lengths
