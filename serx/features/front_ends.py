"""Front ends: waveform to power spectrum by torch, torchaudio or nnAudio, and nnAudio's constant-Q transform.

The three spectra agree to 1e-5. torch's is the fastest on a CPU; nnAudio's can be learned. Both other libraries are
imported only where they are used: nnAudio imports scipy's signal processing, torchaudio its datasets and models.
"""

from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from serx.dsp.spectrum import analysis_window, power_spectrum

CQT_LOWEST = 440 * 2 ** (-33 / 12)  # Hz, C2: below most voices; its window is 0.8 s long
CQT_OCTAVES = 6  # to C8, 4186 Hz
CQT_BINS = 36  # per octave


def front_end(name: str, n_fft: int, win_length: int, hop_length: int, sample_rate: int, trainable: bool) -> nn.Module:
    """The front end of that name: a module from `waveform (B, T)` to power `(B, N, n_fft // 2 + 1)`.

    Args:
        name: `torch`, `torchaudio` or `nnaudio`.
        trainable: makes nnAudio's kernels parameters.
    """
    if name == "torch":
        return TorchSpectrum(n_fft, win_length, hop_length)
    if name == "torchaudio":
        return TorchaudioSpectrum(n_fft, win_length, hop_length)
    return NnAudioSpectrum(n_fft, win_length, hop_length, sample_rate, trainable)


class TorchSpectrum(nn.Module):
    """torch's FFT of overlapping frames: the fastest of the three on a CPU."""

    window: Tensor

    def __init__(self, n_fft: int, win_length: int, hop_length: int) -> None:
        super().__init__()
        self.hop_length = hop_length
        self.register_buffer("window", analysis_window(win_length, n_fft), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        return power_spectrum(waveform, self.window, self.hop_length)


class TorchaudioSpectrum(nn.Module):
    """torchaudio's `Spectrogram` with zero padding."""

    def __init__(self, n_fft: int, win_length: int, hop_length: int) -> None:
        super().__init__()
        from torchaudio.transforms import Spectrogram

        self.transform = Spectrogram(n_fft, win_length, hop_length, power=2.0, pad_mode="constant")
        _exclude_from_state(self.transform)

    def forward(self, waveform: Tensor) -> Tensor:
        return self.transform(waveform).transpose(1, 2)


class NnAudioSpectrum(nn.Module):
    """nnAudio's STFT: two convolutions, whose kernels can be learned.

    The power is computed from the complex output, because nnAudio's magnitude has no gradient on silence.
    """

    def __init__(self, n_fft: int, win_length: int, hop_length: int, sample_rate: int, trainable: bool) -> None:
        super().__init__()
        from nnAudio.features.stft import STFT

        self.transform = STFT(
            n_fft,
            win_length,
            hop_length=hop_length,
            sr=sample_rate,
            pad_mode="constant",
            output_format="Complex",
            trainable=trainable,
            verbose=False,
        )
        _exclude_from_state(self.transform)

    def forward(self, waveform: Tensor) -> Tensor:
        with _full_precision():
            return self.transform(waveform).square().sum(-1).transpose(1, 2)


class ConstantQ(nn.Module):
    """nnAudio's constant-Q magnitude from C2 to C8, `(B, T)` -> `(B, N, 216)`; within 1 % of `librosa.cqt`.

    Each octave is computed at half the sample rate of the one above, so `hop_length` must be a multiple of 32. Zeros
    are appended to the waveform, as many as the lowest kernel and the low-pass filters reach: otherwise these would be
    cut off at the end of the batch, and a clip's last frames would depend on the batch.
    """

    def __init__(self, hop_length: int, sample_rate: int) -> None:
        super().__init__()
        from nnAudio.features.cqt import CQT2010v2

        self.hop_length = hop_length
        self.transform = CQT2010v2(
            sr=sample_rate,
            hop_length=hop_length,
            fmin=CQT_LOWEST,
            n_bins=CQT_OCTAVES * CQT_BINS,
            bins_per_octave=CQT_BINS,
            pad_mode="constant",
            earlydownsample=False,
            verbose=False,
        )
        _exclude_from_state(self.transform)
        taps = self.transform.lowpass_filter.shape[-1]
        self.reach = (self.transform.n_fft // 2 + taps) << (CQT_OCTAVES - 1)

    def forward(self, waveform: Tensor) -> Tensor:
        frames = 1 + waveform.shape[1] // self.hop_length
        width = (waveform.shape[1] + self.reach + self.hop_length - 1) // self.hop_length * self.hop_length
        with _full_precision():
            magnitude = self.transform(F.pad(waveform, (0, width - waveform.shape[1])))
        return magnitude[..., :frames].transpose(1, 2)


def _full_precision() -> AbstractContextManager[None]:
    """Convolutions in float32: torch lets cuDNN round them to TF32, three decimal digits, on a GPU."""
    cudnn = torch.backends.cudnn
    return cudnn.flags(cudnn.enabled, cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False)


def _exclude_from_state(module: nn.Module) -> None:
    """Keeps a library's constant filters (4 MB in nnAudio) out of the state_dict."""
    for part in module.modules():
        for name, buffer in list(part.named_buffers(recurse=False)):
            part.register_buffer(name, buffer, persistent=False)
