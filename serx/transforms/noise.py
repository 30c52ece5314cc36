"""Noise added at a signal-to-noise ratio: white, pink or brown, or recorded."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from serx.section import Section
from serx.seeding import ClipRandom, generator
from serx.transforms.functional import cached, read_from, valid_mask
from serx.transforms.recordings import Bank
from serx.transforms.transform import Probability, Range

NOISE_TABLE = 1 << 21  # samples of noise that clips start anywhere in: 131 s at 16 kHz
_TAIL = 1 << 17  # samples by which a table is lengthened, so that few sizes are kept
EXPONENT = {"white": 0, "pink": 1, "brown": 2}  # power falls as 1 / f ** exponent: 0, 3 and 6 dB an octave
FLAT_BELOW = 1 / 800  # of the sample rate, 20 Hz at 16 kHz: otherwise brown noise would be mostly inaudible


class NoiseParams(NamedTuple):
    """`on`, `snr_db` and `start` in the noise table, each `(B,)`."""

    on: Tensor
    snr_db: Tensor
    start: Tensor


class Noise(Section):
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


class FileNoiseParams(NamedTuple):
    """`on`, `snr_db`, and large numbers that `choice` of a recording and `offset` in it follow from, each `(B,)`."""

    on: Tensor
    snr_db: Tensor
    choice: Tensor
    offset: Tensor


class NoiseFiles(Section):
    """Noises from the audio files of `folder`, each clip another stretch of one, at a ratio from `snr_db`.

    A recording shorter than the clip goes round. Noises with voices in them bring emotions of their own.
    """

    kind: Literal["noise_files"] = "noise_files"
    p: Probability = 0.5
    snr_db: Range = (5.0, 30.0)
    folder: str

    def prepare(self, recording: Tensor) -> Tensor:
        return recording

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> FileNoiseParams:
        return FileNoiseParams(random.chance(self.p), random.uniform(*self.snr_db), random.bits(), random.bits())

    def apply_with(self, bank: Bank, x: Tensor, lengths: Tensor, params: FileNoiseParams) -> tuple[Tensor, Tensor]:
        noise = bank.loop(params.choice, params.offset, x.shape[1])
        return torch.where(params.on[:, None], add_at_snr(x, lengths, noise, params.snr_db), x), lengths


def add_at_snr(x: Tensor, lengths: Tensor, noise: Tensor, snr_db: Tensor) -> Tensor:
    """`x (B, T)` plus `noise (B, T)`, scaled so that their powers over the clip's samples are `snr_db (B,)` apart.

    A silent clip, or silent noise, leaves `x` as it is.
    """
    noise = noise * valid_mask(lengths, x.shape[1])
    level = torch.linalg.vector_norm(x, dim=1) / torch.linalg.vector_norm(noise, dim=1).clamp(min=1e-10)
    gain = level * 10 ** (-snr_db / 20)
    return torch.addcmul(x, gain[:, None], noise)


def read_table(color: str, start: Tensor, size: int) -> Tensor:
    """Noise of unit power `(B, size)`, from each clip's own `start (B,)` in the table, round and round."""
    return read_from(_unrolled(color, start.device, -(-size // _TAIL)), start, size)


@cached
def _unrolled(color: str, device: torch.device, tails: int) -> Tensor:
    """The table and, after its end, its beginning again for `tails * _TAIL` samples."""
    size = NOISE_TABLE + tails * _TAIL
    return noise_table(color, device).repeat(-(-size // NOISE_TABLE))[:size]


@cached
def noise_table(color: str, device: torch.device) -> Tensor:
    """`(NOISE_TABLE,)`, the same Gaussian samples on every device, made once; its end joins its beginning."""
    white = torch.randn(NOISE_TABLE, generator=generator(0, "noise table"))
    if color == "white":
        return white.to(device)
    frequency = torch.fft.rfftfreq(NOISE_TABLE).clamp(min=FLAT_BELOW)
    colored = torch.fft.irfft(torch.fft.rfft(white) * frequency ** (-EXPONENT[color] / 2), n=NOISE_TABLE)
    return (colored / colored.std()).to(device)
