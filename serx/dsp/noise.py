"""White, pink and brown noise, read from one long table, and its addition at a signal-to-noise ratio.

The power of colored noise falls as 1 / f^k: by 0, 3 or 6 dB an octave. It is white noise whose spectrum is multiplied
by f^(-k / 2). The product of spectra is periodic, so the end of the table joins its beginning, and a clip may start
reading anywhere.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from serx.dsp.batching import cached, read_from, valid_mask
from serx.seeding import generator

NOISE_TABLE = 1 << 21  # samples of the table, 131 s at 16 kHz
EXPONENT = {"white": 0, "pink": 1, "brown": 2}  # k above
FLAT_BELOW = 1 / 800  # of the sample rate, 20 Hz at 16 kHz: most power of brown noise would be inaudible otherwise
_TAIL = 1 << 17  # samples by which a table is extended at a time, so that few sizes are cached


def add_at_snr(x: Tensor, lengths: Tensor, noise: Tensor, snr_db: Tensor) -> Tensor:
    """Adds `noise (B, T)` to `x (B, T)`, scaled to a signal-to-noise ratio of `snr_db (B,)` over each clip's samples.

    A silent clip or silent noise leaves `x` unchanged. The result is zero beyond `lengths (B,)`, where `x` is.

    >>> add_at_snr(torch.ones(1, 4), torch.tensor([4]), torch.tensor([[1.0, -1.0, 1.0, -1.0]]), torch.tensor([20.0]))
    tensor([[1.1000, 0.9000, 1.1000, 0.9000]])
    """
    noise = noise * valid_mask(lengths, x.shape[1])
    level = torch.linalg.vector_norm(x, dim=1) / torch.linalg.vector_norm(noise, dim=1).clamp(min=1e-10)
    gain = level * 10 ** (-snr_db / 20)
    return torch.addcmul(x, gain[:, None], noise)


def add_rows_at_snr(
    x: Tensor, lengths: Tensor, noises: Iterable[Tensor], snr_db: Tensor, chosen: Tensor, in_place: bool = False
) -> Tensor:
    """`add_at_snr` for the `chosen (B,)` clips, one after the other: on a CPU each stays in the cache meanwhile.

    Args:
        x: `(B, T)`, contiguous.
        noises: `(T,)` for each clip.
        in_place: write into `x`.

    >>> x, noise, snr_db = torch.ones(1, 4), torch.tensor([[1.0, -1.0, 1.0, -1.0]]), torch.tensor([20.0])
    >>> add_rows_at_snr(x, torch.tensor([4]), noise, snr_db, torch.tensor([True]))
    tensor([[1.1000, 0.9000, 1.1000, 0.9000]])
    """
    result = x if in_place else torch.empty_like(x)
    factors = (10 ** (-snr_db / 20)).unbind()
    rows = zip(x.unbind(), result.unbind(), noises, lengths.tolist(), factors, chosen.tolist(), strict=True)
    for clip, row, noise, length, factor, is_chosen in rows:
        if is_chosen:
            if length < len(noise):
                noise = noise.clone()  # noqa: PLW2901
                noise[length:] *= 0  # with the signs of zero that `add_at_snr` has
            level = torch.linalg.vector_norm(clip) / torch.linalg.vector_norm(noise).clamp(min=1e-10)
            torch.addcmul(clip, level * factor, noise, out=row)
        elif not in_place:
            row.copy_(clip)
    return result


def read_table(color: str, start: Tensor, size: int) -> Tensor:
    """Noise of unit power `(B, size)`, read from `start (B,)` in the table, which repeats.

    >>> noise = read_table("pink", torch.tensor([0, 1000]), 4000)
    >>> torch.equal(noise[0, 1000:], noise[1, :3000])
    True
    """
    return read_from(_extended_table(color, start.device, -(-size // _TAIL)), start, size)


def table_rows(color: str, start: Tensor, size: int) -> Iterable[Tensor]:
    """The rows of `read_table`, of which none is copied; not to be written into."""
    table = _extended_table(color, start.device, -(-size // _TAIL))
    return (table[first : first + size] for first in start.tolist())


@cached
def _extended_table(color: str, device: torch.device, tails: int) -> Tensor:
    """The table followed by its own beginning, `tails * _TAIL` samples of it."""
    size = NOISE_TABLE + tails * _TAIL
    return noise_table(color, device).repeat(-(-size // NOISE_TABLE))[:size]


@cached
def noise_table(color: str, device: torch.device) -> Tensor:
    """`(NOISE_TABLE,)` samples of unit power, the same on every device."""
    white = torch.randn(NOISE_TABLE, generator=generator(0, "noise table"))
    if color == "white":
        return white.to(device)
    frequency = torch.fft.rfftfreq(NOISE_TABLE).clamp(min=FLAT_BELOW)
    colored = torch.fft.irfft(torch.fft.rfft(white) * frequency ** (-EXPONENT[color] / 2), n=NOISE_TABLE)
    return (colored / colored.std()).to(device)
