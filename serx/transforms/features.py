"""`FeatureStack`: waveforms to the features a model reads, any list of them from one shared spectrum."""

from typing import Literal

import torch
from nnAudio.features import STFT
from pydantic import Field, model_validator
from torch import Tensor, nn
from torchaudio.transforms import Spectrogram

from serx.section import Section
from serx.transforms import functional as S

CPU_CHUNK = 4  # clips at a time: 64 at once leave the cache and take 2-5 times as long a clip


class FeaturesConfig(Section):
    """What a model reads. Names and defaults as in torchaudio and librosa."""

    stack: tuple[Literal["logmel", "mfcc"], ...] = Field(("logmel",), min_length=1)
    n_fft: int = Field(1024, ge=16)
    win_length: int | None = Field(None, ge=16)
    hop_length: int = Field(256, ge=1)
    n_mels: int = Field(64, ge=1)
    n_mfcc: int = Field(40, ge=1)
    f_min: float = Field(0.0, ge=0)
    f_max: float | None = Field(None, gt=0)
    amin: float = Field(1e-10, gt=0)
    top_db: float | None = Field(80.0, gt=0)
    deltas: int = Field(0, ge=0, le=2)  # append that many time derivatives of the whole stack
    front_end: Literal["torch", "torchaudio", "nnaudio"] = "torch"
    trainable: bool = False  # learn the STFT kernels and mel filters (nnaudio only)
    normalize: Literal["none", "clip", "training"] = "training"
    remove_level: bool = False  # then subtract each clip's own scalar mean

    @model_validator(mode="after")
    def _consistent(self) -> "FeaturesConfig":
        if "mfcc" in self.stack and self.n_mfcc > self.n_mels:
            raise ValueError(f"n_mfcc is {self.n_mfcc}, but only n_mels={self.n_mels} are there to transform")
        if (self.win_length or self.n_fft) > self.n_fft:
            raise ValueError(f"win_length {self.win_length} does not fit into n_fft {self.n_fft}")
        if self.trainable and self.front_end != "nnaudio":
            raise ValueError("trainable needs front_end: nnaudio")
        return self

    @property
    def bins(self) -> int:
        """F, the rows of the features."""
        sizes = {"logmel": self.n_mels, "mfcc": self.n_mfcc}
        return sum(sizes[name] for name in self.stack) * (1 + self.deltas)


class FeatureStack(nn.Module):
    """`waveform (B, T)`, `lengths (B,)` -> `features (B, F, N)` float32, `frames (B,)`; zero beyond the frames.

    Runs in float32 whatever autocast says. Fixed filters are not part of the state; trainable ones are.
    """

    mel: Tensor
    dct: Tensor

    def __init__(self, config: FeaturesConfig, sample_rate: int) -> None:
        super().__init__()
        self.config = config
        self.spectrum = _front_end(config, sample_rate)
        mel = S.mel_filters(sample_rate, config.n_fft, config.n_mels, config.f_min, config.f_max)
        if config.trainable:
            self.mel = nn.Parameter(mel)
        else:
            self.register_buffer("mel", mel, persistent=False)
        self.register_buffer("dct", S.dct_matrix(config.n_mfcc, config.n_mels), persistent=False)

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(waveform.device.type, enabled=False):
            chunk = CPU_CHUNK if waveform.device.type == "cpu" else len(waveform)
            parts = [self._static(part) for part in waveform.float().split(chunk)]
            features = torch.cat(parts).transpose(1, 2)
            frames = S.frame_count(lengths, self.config.hop_length)
            features = features * S.valid_mask(frames, features.shape[-1])[:, None]
            derivatives = [S.delta(features, frames, order) for order in range(1, self.config.deltas + 1)]
            return torch.cat([features, *derivatives], dim=1), frames

    def _static(self, waveform: Tensor) -> Tensor:
        """`(B, T)` -> `(B, N, F)`, each feature of the stack from the one spectrum."""
        decibels = S.power_to_db(self.spectrum(waveform) @ self.mel, self.config.amin, self.config.top_db)
        rows = {"logmel": lambda: decibels, "mfcc": lambda: decibels @ self.dct}
        return torch.cat([rows[name]() for name in self.config.stack], dim=-1)


def _front_end(config: FeaturesConfig, sample_rate: int) -> nn.Module:
    """A module `(B, T)` -> power `(B, N, n_fft // 2 + 1)`; all three agree to 1e-5."""
    win_length = config.win_length or config.n_fft
    if config.front_end == "torch":
        return TorchSpectrum(config.n_fft, win_length, config.hop_length)
    if config.front_end == "torchaudio":
        return TorchaudioSpectrum(config.n_fft, win_length, config.hop_length)
    return NnAudioSpectrum(config.n_fft, win_length, config.hop_length, sample_rate, config.trainable)


class TorchSpectrum(nn.Module):
    """torch's FFT over unfolded frames: the fastest of the three on a CPU."""

    window: Tensor

    def __init__(self, n_fft: int, win_length: int, hop_length: int) -> None:
        super().__init__()
        self.hop_length = hop_length
        self.register_buffer("window", S.analysis_window(win_length, n_fft), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        return S.power_spectrum(waveform, self.window, self.hop_length)


class TorchaudioSpectrum(nn.Module):
    """torchaudio's `Spectrogram`, told to pad with zeros."""

    def __init__(self, n_fft: int, win_length: int, hop_length: int) -> None:
        super().__init__()
        self.transform = Spectrogram(n_fft, win_length, hop_length, power=2.0, pad_mode="constant")
        _forget_buffers(self.transform)

    def forward(self, waveform: Tensor) -> Tensor:
        return self.transform(waveform).transpose(1, 2)


class NnAudioSpectrum(nn.Module):
    """nnAudio's STFT as two convolutions, whose kernels can be learnt.

    Power is taken from the complex output: its own magnitude has no gradient on silence.
    """

    def __init__(self, n_fft: int, win_length: int, hop_length: int, sample_rate: int, trainable: bool) -> None:
        super().__init__()
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
        _forget_buffers(self.transform)

    def forward(self, waveform: Tensor) -> Tensor:
        return self.transform(waveform).square().sum(-1).transpose(1, 2)


def _forget_buffers(module: nn.Module) -> None:
    """Keeps a library's constant filters (4 MB of them in nnAudio) out of the state_dict."""
    for part in module.modules():
        for name, buffer in list(part.named_buffers(recurse=False)):
            part.register_buffer(name, buffer, persistent=False)
