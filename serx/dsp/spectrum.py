"""Frames, power spectra, decibels and the DCT of cepstra, equal to librosa's with the same settings.

Frame n is centered on sample n * hop_length, so a clip of T samples has 1 + T // hop_length frames. The clip is padded
with *zeros* (librosa's default): with reflection, a clip's last frames would depend on where its batch ends.

Spectra and features have frames before bins, `(B, N, bins)`, since each next step is a matrix product over the bins.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TINY = torch.finfo(torch.float32).tiny  # below it librosa treats a frame as silent when it normalizes


def frame_count(lengths: Tensor, hop_length: int) -> Tensor:
    """Frames `(B,)` of clips of `lengths (B,)` samples.

    >>> frame_count(torch.tensor([16000, 255]), 256)
    tensor([63,  1])
    """
    return 1 + lengths // hop_length


def analysis_window(win_length: int, n_fft: int) -> Tensor:
    """Periodic Hann window of `win_length` samples, centered in `(n_fft,)` zeros.

    >>> analysis_window(4, 8)
    tensor([0.0000, 0.0000, 0.0000, 0.5000, 1.0000, 0.5000, 0.0000, 0.0000])
    """
    left = (n_fft - win_length) // 2
    return F.pad(torch.hann_window(win_length), (left, n_fft - win_length - left))


def centered_frames(waveform: Tensor, size: int, hop_length: int) -> Tensor:
    """Frames of `size` samples, an even number: `(B, T)` -> `(B, N, size)`, a view of the zero-padded waveform."""
    return F.pad(waveform, (size // 2, size // 2)).unfold(-1, size, hop_length)


def real_dft(frames: Tensor) -> Tensor:
    """The DFT of real `frames (..., n)`: real and imaginary part of each bin, `(..., n // 2 + 1, 2)`.

    An exported graph multiplies by sines and cosines where n is no power of two: ONNX Runtime's DFT of such a size has
    a hundred times the error, which bins 80 dB below the loudest show.

    >>> real_dft(torch.tensor([1.0, 0.0, 0.0, 0.0])).tolist()
    [[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]
    """
    size = frames.shape[-1]
    if not torch.compiler.is_exporting() or size & (size - 1) == 0:
        return torch.view_as_real(torch.fft.rfft(frames))
    angles = 2 * math.pi / size * (torch.outer(torch.arange(size), torch.arange(size // 2 + 1)) % size).double()
    return torch.stack([frames @ angles.cos().float(), frames @ -angles.sin().float()], -1)


def power_spectrum(waveform: Tensor, window: Tensor, hop_length: int) -> Tensor:
    """Squared magnitudes of the centered STFT: `(B, T)` -> `(B, N, n_fft // 2 + 1)`.

    Args:
        waveform: `(B, T)`, zero beyond each clip's length.
        window: `(n_fft,)`, see `analysis_window`.
        hop_length: samples from one frame to the next.

    >>> tone = torch.sin(2 * torch.pi * 1000 / 16000 * torch.arange(16000))[None]
    >>> power = power_spectrum(tone, analysis_window(1024, 1024), hop_length=256)
    >>> power.shape, int(power[0, 30].argmax()) * 16000 / 1024
    (torch.Size([1, 63, 513]), 1000.0)
    """
    spectrum = real_dft(centered_frames(waveform, len(window), hop_length) * window)
    squares = spectrum.square_()  # in place: a new page of memory costs more than the square
    return squares[..., 0] + squares[..., 1]


def power_to_db(power: Tensor, valid: Tensor, amin: float = 1e-10, top_db: float | None = 80.0) -> Tensor:
    """Power `(B, N, bins)` in decibels relative to 1, with a floor at `amin` and one `top_db` below the maximum.

    The maximum is *each clip's own*, over the frames that `valid (B, N)` marks: the first frame after a clip's last may
    be louder than all before. torchaudio takes one maximum over the whole batch.

    >>> power = torch.tensor([[[1.0], [1e-20], [100.0]]])
    >>> power_to_db(power, valid=torch.tensor([[True, True, False]]), top_db=80.0).flatten().tolist()
    [0.0, -80.0, 20.0]
    """
    decibels = power.clamp(min=amin).log10_().mul_(10)
    if top_db is None:
        return decibels
    loudest = decibels.amax(-1).masked_fill(~valid, -math.inf).amax(-1)
    return torch.maximum(decibels, loudest[:, None, None] - top_db)


def dct_matrix(n_mfcc: int, n_mels: int) -> Tensor:
    """The orthonormal DCT-II `(n_mels, n_mfcc)` that turns mel decibels `(B, N, n_mels)` into MFCCs by `@`.

    >>> dct = dct_matrix(8, 8)
    >>> torch.allclose(dct.T @ dct, torch.eye(8), atol=1e-6)
    True
    """
    mels, coefficients = torch.arange(float(n_mels)), torch.arange(float(n_mfcc))[:, None]
    dct = torch.cos(math.pi / n_mels * (mels + 0.5) * coefficients)
    dct[0] *= 1 / math.sqrt(2)
    return dct.mul_(math.sqrt(2 / n_mels)).t()
