"""Pure batched DSP: spectra, mel, decibels, cepstra and deltas, equal to librosa's with the same settings.

Signals are `(B, T)` float32, zero beyond each clip's length. Spectra keep frames before bins, `(B, N, bins)`, because
each next step is a matrix product over the bins. Frames are centred on multiples of `hop_length` with *zero* padding
(librosa's default), so that a clip's last frame does not depend on where its batch ends.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
import torchaudio.functional as AF
from torch import Tensor


def frame_count(lengths: Tensor, hop_length: int) -> Tensor:
    """Frames `(B,)` of clips of `lengths (B,)` samples: `1 + lengths // hop_length`."""
    return 1 + lengths // hop_length


def valid_mask(counts: Tensor, size: int) -> Tensor:
    """`(B, size)` bool, true at positions before each clip's count."""
    return torch.arange(size, device=counts.device) < counts[:, None]


def analysis_window(win_length: int, n_fft: int) -> Tensor:
    """Periodic Hann window `(n_fft,)`, centred when `win_length` is shorter."""
    left = (n_fft - win_length) // 2
    return F.pad(torch.hann_window(win_length), (left, n_fft - win_length - left))


def power_spectrum(waveform: Tensor, window: Tensor, hop_length: int) -> Tensor:
    """`(B, T)` -> `(B, N, n_fft // 2 + 1)`, squared magnitudes of the windowed, centred, zero-padded STFT."""
    n_fft = len(window)
    frames = F.pad(waveform, (n_fft // 2, n_fft // 2)).unfold(-1, n_fft, hop_length)
    spectrum = torch.view_as_real(torch.fft.rfft(frames * window))
    return spectrum[..., 0].square() + spectrum[..., 1].square()


def mel_filters(sample_rate: int, n_fft: int, n_mels: int, f_min: float, f_max: float | None) -> Tensor:
    """`(n_fft // 2 + 1, n_mels)`, Slaney's scale and area norm as in `librosa.filters.mel`."""
    return AF.melscale_fbanks(
        n_fft // 2 + 1, f_min, f_max or sample_rate / 2, n_mels, sample_rate, norm="slaney", mel_scale="slaney"
    )


def dct_matrix(n_mfcc: int, n_mels: int) -> Tensor:
    """`(n_mels, n_mfcc)`, the orthonormal DCT-II."""
    return AF.create_dct(n_mfcc, n_mels, norm="ortho")


def power_to_db(power: Tensor, amin: float = 1e-10, top_db: float | None = 80.0) -> Tensor:
    """`(B, N, bins)` power to decibels re 1, floored at `amin` and at `top_db` below *each clip's own* maximum."""
    decibels = 10 * torch.log10(power.clamp(min=amin))
    if top_db is None:
        return decibels
    return torch.maximum(decibels, decibels.amax(dim=(1, 2), keepdim=True) - top_db)


def delta(features: Tensor, frames: Tensor, order: int = 1, width: int = 9) -> Tensor:
    """The `order`-th time derivative of `features (B, F, N)`, as `librosa.feature.delta(mode="interp")`.

    A Savitzky-Golay filter of polynomial degree `order`: its derivative is constant over the window, so librosa's
    polynomial ends are the first and last full window's value repeated. Each clip ends at its own `frames (B,)`;
    a clip shorter than the window is extended by its last frame.
    """
    half, size = width // 2, features.shape[-1]
    position = torch.arange(size, device=features.device).expand(len(frames), size)
    last = frames[:, None] - 1
    held = _take(features, torch.minimum(position, last))
    kernel = _derivative_kernel(order, width, features.device)
    padded = F.pad(held, (half, half), mode="replicate")
    slope = F.conv1d(padded.flatten(0, 1)[:, None], kernel[None, None]).view_as(features)
    first = torch.clamp(last // 2, max=half)
    inner = torch.minimum(torch.maximum(position, first), torch.maximum(last - half, first))
    return _take(slope, inner) * (position <= last)[:, None]


def _take(features: Tensor, index: Tensor) -> Tensor:
    """`features (B, F, N)` at the frames `index (B, N)`."""
    return features.gather(-1, index[:, None].expand_as(features))


@lru_cache(maxsize=16)
def _derivative_kernel(order: int, width: int, device: torch.device) -> Tensor:
    """Correlation weights `(width,)` of the least-squares polynomial's `order`-th derivative at the centre."""
    offset = torch.arange(width, dtype=torch.float64) - width // 2
    fit = torch.linalg.pinv(torch.stack([offset**degree for degree in range(order + 1)], dim=1))
    return (fit[order] * math.factorial(order)).float().to(device)
