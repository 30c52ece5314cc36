"""Pure batched DSP: frames, spectra, decibels, cepstra and deltas, equal to librosa's with the same settings.

Signals are `(B, T)` float32, zero beyond each clip's length. Spectra and features keep frames before bins,
`(B, N, bins)`, because each next step is a matrix product over the bins. Frames are centered on multiples of
`hop_length` with *zero* padding (librosa's default), so that a clip's last frame does not depend on where its batch
ends.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
import torchaudio.functional as AF
from torch import Tensor

TINY = torch.finfo(torch.float32).tiny  # what librosa calls silence when it normalizes a frame


def frame_count(lengths: Tensor, hop_length: int) -> Tensor:
    """Frames `(B,)` of clips of `lengths (B,)` samples: `1 + lengths // hop_length`."""
    return 1 + lengths // hop_length


def analysis_window(win_length: int, n_fft: int) -> Tensor:
    """Periodic Hann window `(n_fft,)`, centered when `win_length` is shorter."""
    left = (n_fft - win_length) // 2
    return F.pad(torch.hann_window(win_length), (left, n_fft - win_length - left))


def centered_frames(waveform: Tensor, size: int, hop_length: int) -> Tensor:
    """`(B, T)` -> `(B, N, size)`, a view of the zero-padded waveform; `size` is even."""
    return F.pad(waveform, (size // 2, size // 2)).unfold(-1, size, hop_length)


def power_spectrum(waveform: Tensor, window: Tensor, hop_length: int) -> Tensor:
    """`(B, T)` -> `(B, N, n_fft // 2 + 1)`, squared magnitudes of the windowed, centered, zero-padded STFT."""
    spectrum = torch.fft.rfft(centered_frames(waveform, len(window), hop_length) * window)
    squares = torch.view_as_real(spectrum).square_()  # in place: a fresh page costs more than the square
    return squares[..., 0] + squares[..., 1]


def dct_matrix(n_mfcc: int, n_mels: int) -> Tensor:
    """`(n_mels, n_mfcc)`, the orthonormal DCT-II."""
    return AF.create_dct(n_mfcc, n_mels, norm="ortho")


def power_to_db(power: Tensor, valid: Tensor, amin: float = 1e-10, top_db: float | None = 80.0) -> Tensor:
    """`(B, N, bins)` power to decibels re 1, floored at `amin` and at `top_db` below *each clip's own* maximum.

    The maximum is over the frames that `valid (B, N)` marks: the first frame after a clip's last may be louder.
    """
    decibels = power.clamp(min=amin).log10_().mul_(10)
    if top_db is None:
        return decibels
    loudest = decibels.amax(-1).masked_fill(~valid, -math.inf).amax(-1)
    return torch.maximum(decibels, loudest[:, None, None] - top_db)


def delta(features: Tensor, frames: Tensor, order: int = 1, width: int = 9) -> Tensor:
    """The `order`-th time derivative of `features (B, N, F)`, as `librosa.feature.delta(mode="interp")`.

    A Savitzky-Golay filter of polynomial degree `order`: its derivative is constant over the window, so librosa's
    polynomial ends are the first and last full window's value repeated. Each clip ends at its own `frames (B,)`;
    a clip shorter than the window is extended by its last frame. What stands beyond the frames is not zero.
    """
    half, size = width // 2, features.shape[1]
    last = frames[:, None] - 1
    position = torch.arange(size, device=features.device)
    held = torch.where((position <= last)[..., None], features, _frame(features, last))
    padded = torch.cat([held[:, :1].expand(-1, half, -1), held, held[:, -1:].expand(-1, half, -1)], dim=1)
    weights = _derivative_weights(order, width)
    slope = padded[:, half : half + size] * weights[half]
    for k in range(1, half + 1):  # a filter of odd order is odd, of even order even
        later, earlier = padded[:, half + k : half + k + size], padded[:, half - k : half - k + size]
        pair = later - earlier if order % 2 else later + earlier
        slope = slope.add_(pair, alpha=weights[half + k])
    first = torch.clamp(last // 2, max=half)
    end = torch.maximum(last - half, first)
    slope = torch.where((position < first)[..., None], _frame(slope, first), slope)
    return torch.where((position > end)[..., None], _frame(slope, end), slope)


def _frame(features: Tensor, index: Tensor) -> Tensor:
    """`features (B, N, F)` at one frame a clip, `index (B, 1)` -> `(B, 1, F)`."""
    return features.gather(1, index[..., None].expand(-1, -1, features.shape[2]))


@lru_cache(maxsize=16)
def _derivative_weights(order: int, width: int) -> tuple[float, ...]:
    """Correlation weights of the least-squares polynomial's `order`-th derivative at the center of `width` frames."""
    offset = torch.arange(width, dtype=torch.float64) - width // 2
    fit = torch.linalg.pinv(torch.stack([offset**degree for degree in range(order + 1)], dim=1))
    return tuple((fit[order] * math.factorial(order)).tolist())
