"""White, pink and brown noise from one long table, added at a signal-to-noise ratio."""

import torch
from torch import Tensor

from serx.dsp.batching import cached, read_from, valid_mask
from serx.seeding import generator

NOISE_TABLE = 1 << 21  # samples of noise that clips start anywhere in: 131 s at 16 kHz


_TAIL = 1 << 17  # samples by which a table is lengthened, so that few sizes are kept


EXPONENT = {"white": 0, "pink": 1, "brown": 2}  # power falls as 1 / f ** exponent: 0, 3 and 6 dB an octave


FLAT_BELOW = 1 / 800  # of the sample rate, 20 Hz at 16 kHz: otherwise brown noise would be mostly inaudible


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
