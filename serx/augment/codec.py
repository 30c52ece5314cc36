"""What lossy codecs do to speech: noise that follows the spectrum, weak bands that fade, and an upper band limit.

Codecs quantize the spectrum of short frames, coarsely where the ear notices least: near the loudest bands, and in bands
that these mask. Real quantization turns a rounding error into a step, so a clip would differ in another batch or on
another device. The transform does what quantization does on average instead, Berger's test channel of rate-distortion
theory: each coefficient of a band shrinks a little and gets Gaussian noise.
"""

import math
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from serx.augment.filters import Hertz
from serx.augment.transform import DecibelRange, Probability, WaveformTransform, log_uniform, register_transform
from serx.dsp.batching import cached, map_chosen, zero_beyond
from serx.dsp.noise import NOISE_TABLE, read_table
from serx.seeding import ClipRandom

BANDS = 20  # equally spaced on the mel scale up to half the sample rate; a codec has 20 (Opus) to 50 (AAC)
BAND_DB = 4.0  # the ratio of each band differs from the clip's by up to this
TREBLE_DB = 12.0  # the ratio of the highest band is lower by up to this
WINDOW_SECONDS = 0.03  # at most 43 ms for AAC, 26 for MP3, 20 for Opus
FADING = 0.7  # at most; what is quantized away is down by 4 dB then, as in Opus at 24 kbit/s
ORDERS = (2.0, 16.0)  # of the low-pass: Opus at low rates fades slowly toward 8 kHz, MP3 ends sharply
_CPU_CHUNK = 2
_SILENCE = 1e-20  # power; below, a band is left as it is


class CodecParams(NamedTuple):
    """`on` bool, `fading`, the low-pass's `cutoff` in cycles per sample and its `order`, each `(B,)`.

    `snr_db (B, BANDS)`; the `start (B,)` in the table of noise; the sample rate in Hz, a Python number.
    """

    on: Tensor
    snr_db: Tensor
    fading: Tensor
    cutoff: Tensor
    order: Tensor
    start: Tensor
    rate: float


@register_transform
class Codec(WaveformTransform):
    """Imitates AAC, MP3 and Opus at usual rates, so that a model predicts the same emotion for a lossy copy.

    In each frame the loudest band gets noise at `snr_db` below it. A band that is d dB softer has a ratio that is
    `masking` times d dB lower. Each clip draws what else differs among codecs: the ratio of each band (by 4 dB up or
    down, and up to 12 dB lower toward the treble), and how much a noisy band fades: AAC fills weak bands with noise,
    while MP3 and Opus let them fade.

    Below about 10 dB voices get hoarse and watery, as on a bad line.

    Args:
        p: probability of the codec, per clip.
        snr_db: range of the signal-to-noise ratio of the loudest band in dB, uniform. Lower is stronger.
        masking: dB of that ratio lost for each dB by which a band is softer than the loudest one, 0 to 0.9.
        cutoff_hz: range of the upper band limit, uniform in octaves, at least 50 Hz; it may lie above what audio holds.

    >>> import torch
    >>> from serx.augment import Compose
    >>> waveform, lengths = Compose([Codec(p=1.0)])(torch.rand(2, 16000))
    """

    kind: Literal["codec"] = "codec"
    p: Probability = 0.3
    snr_db: DecibelRange = (14.0, 36.0)
    masking: Annotated[float, Field(ge=0, le=0.9)] = 0.35
    cutoff_hz: Hertz = (4000.0, 20_000.0)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> CodecParams:
        on, snr_db, treble = random.chance(self.p), random.uniform(*self.snr_db), random.uniform(-TREBLE_DB, 0.0)
        of_bands = torch.stack([random.uniform(-BAND_DB, BAND_DB) for _ in range(BANDS)], 1)
        of_bands += snr_db[:, None] + treble[:, None] * torch.linspace(0, 1, BANDS, device=treble.device)
        fading, order = random.uniform(0.0, FADING), log_uniform(random, ORDERS)
        cutoff = log_uniform(random, self.cutoff_hz) / rate
        return CodecParams(on, of_bands, fading, cutoff, order, random.integers(NOISE_TABLE), rate)

    def apply(self, x: Tensor, lengths: Tensor, params: CodecParams) -> tuple[Tensor, Tensor]:
        size = 1 << round(math.log2(WINDOW_SECONDS * params.rate))
        band_of_bin, averages = _bands(size, x.device)
        frequency = torch.linspace(0, 0.5, size // 2 + 1, device=x.device)

        def coded(x: Tensor, noise: Tensor, snr_db: Tensor, fading: Tensor, cutoff: Tensor, order: Tensor) -> Tensor:
            clean, added = _spectra(x, size), _spectra(noise, size)
            power = (clean.real.square() + clean.imag.square()) @ averages  # (B, N, bands)
            loudest = power.amax(2, keepdim=True)
            softer = (loudest / power.clamp(min=_SILENCE)).clamp(1, 1 / _SILENCE)
            ratio = (10 ** (-snr_db[:, None] / 10) * softer**self.masking).clamp(max=1)  # of noise to signal
            kept = 1 - fading[:, None, None] * ratio
            level = (ratio * kept * power).sqrt() / math.sqrt(size / 2)  # of unit noise, whose bins have power size / 2
            limit = ((frequency / cutoff[:, None]) ** (2 * order[:, None]) + 1).rsqrt()[:, None]
            spectra = (clean * kept[..., band_of_bin] + added * level[..., band_of_bin]) * limit
            return _signal(spectra, size, x.shape[1])

        noise = zero_beyond(read_table("white", params.start, x.shape[1]), lengths)
        given = noise, params.snr_db, params.fading, params.cutoff, params.order
        return map_chosen(coded, _CPU_CHUNK, params.on, x, lengths, *given), lengths


def _spectra(x: Tensor, size: int) -> Tensor:
    """`(B, T)` -> `(B, N, size // 2 + 1)` complex: frames that overlap by half, the first and last reach beyond."""
    hop = size // 2
    padded = F.pad(x, (hop, hop + -x.shape[1] % hop))
    return torch.fft.rfft(padded.unfold(1, size, hop) * _window(size, x.device))


def _signal(spectra: Tensor, size: int, samples: int) -> Tensor:
    """The inverse of `_spectra`: two halves of neighboring frames add up to `(B, samples)`."""
    frames = torch.fft.irfft(spectra, n=size) * _window(size, spectra.device)
    first, second = frames.chunk(2, dim=2)
    return (second[:, :-1] + first[:, 1:]).flatten(1)[:, :samples]


@cached
def _window(size: int, device: torch.device) -> Tensor:
    """Square root of a Hann window: applied twice, neighboring frames add up to 1."""
    return torch.hann_window(size).sqrt().to(device)


@cached
def _bands(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The band `(bins,)` of each bin, and the matrix `(bins, BANDS)` that averages the power within bands."""
    bins = size // 2 + 1
    mel = torch.log1p(torch.arange(bins, dtype=torch.float64) / (bins - 1) * 8000 / 700)
    band = (mel / mel[-1] * BANDS).long().clamp(max=BANDS - 1)
    members = F.one_hot(band, BANDS).float()
    return band.to(device), (members / members.sum(0).clamp(min=1)).to(device)
