"""One feature each, under the names of torchaudio and librosa: `LogMel`, `MFCC`, `Chroma`, `RMS`, ...

Each is a `FeatureStack` with a stack of one and keyword arguments instead of a config. All map `waveform (B, T)` in
[-1, 1], zero beyond `lengths (B,)`, to `features (B, F, N)` float32 and `frames (B,)`, with N = 1 + T // hop_length
frames, zero beyond each clip's own. `lengths` may be left out when all clips have T samples, and one clip `(T,)` is a
batch of one. A clip's values do not depend on its padding or on the other clips of the batch.

For several features at once use one `FeatureStack`, which computes their spectrum once.
"""

import warnings
from typing import Any, ClassVar

from torch import Tensor

from serx.dsp.batching import check_lengths, shape_of
from serx.dsp.mel_warp import Warp
from serx.features.stack import FeaturesConfig, FeatureStack, why_rows_are_empty


class _Transform(FeatureStack):
    """A stack of one feature, whose settings are keys of `FeaturesConfig`.

    Raises:
        ValueError: a setting is out of its range.
        ConfigError: the feature needs frequencies above half the sample rate, or most of its rows would be empty.

    Warns:
        UserWarning: some rows are empty, whatever the sound.
    """

    feature: ClassVar[str]

    def __init__(self, sample_rate: int, **settings: Any) -> None:
        config = FeaturesConfig(stack=(self.feature,), **settings)
        super().__init__(config, sample_rate)
        empty = why_rows_are_empty(config, sample_rate)
        if empty:
            warnings.warn(empty, stacklevel=3)

    def forward(
        self, waveform: Tensor, lengths: Tensor | None = None, warp: Warp | None = None
    ) -> tuple[Tensor, Tensor]:
        """Computes the feature of a batch, as `FeatureStack.forward`.

        Raises:
            ValueError: a shape or type does not fit, or lengths are beyond the batch.
        """
        if not isinstance(waveform, Tensor) or waveform.dim() not in (1, 2) or not waveform.is_floating_point():
            raise ValueError(f"got {shape_of(waveform)}; waveforms (B, T) of floats with full scale 1 are expected")
        if 0 in waveform.shape:
            raise ValueError(f"got {shape_of(waveform)}; give at least one clip of at least one sample")
        if lengths is not None:
            check_lengths(lengths, 1 if waveform.dim() == 1 else len(waveform), waveform.shape[-1])
        return super().forward(waveform, lengths, warp)


class _OfFrames(_Transform):
    """A feature of frames of `n_fft` samples."""

    def __init__(self, sample_rate: int = 16_000, *, n_fft: int = 1024, hop_length: int = 256) -> None:
        super().__init__(sample_rate, n_fft=n_fft, hop_length=hop_length)


class _OfSpectrum(_Transform):
    """A feature of the STFT."""

    def __init__(
        self,
        sample_rate: int = 16_000,
        *,
        n_fft: int = 1024,
        win_length: int | None = None,
        hop_length: int = 256,
    ) -> None:
        super().__init__(sample_rate, n_fft=n_fft, win_length=win_length, hop_length=hop_length)


class _OfPitch(_Transform):
    """A feature of the pitch tracker, whose frame is at least four periods of `pitch_min`."""

    def __init__(
        self,
        sample_rate: int = 16_000,
        *,
        hop_length: int = 256,
        pitch_min: float = 65.0,
        pitch_max: float = 800.0,
    ) -> None:
        super().__init__(sample_rate, hop_length=hop_length, pitch_min=pitch_min, pitch_max=pitch_max)


class MelSpectrogram(_Transform):
    """Mel power, F = n_mels, with Slaney's scale and norm as in `librosa.feature.melspectrogram`.

    >>> import torch
    >>> from serx.features import MelSpectrogram
    >>> mel, frames = MelSpectrogram(sample_rate=16000, n_mels=40)(torch.zeros(2, 16000))
    >>> mel.shape, frames
    (torch.Size([2, 40, 63]), tensor([63, 63]))
    """

    feature = "mel"

    def __init__(
        self,
        sample_rate: int = 16_000,
        *,
        n_fft: int = 1024,
        win_length: int | None = None,
        hop_length: int = 256,
        n_mels: int = 64,
        f_min: float = 0.0,
        f_max: float | None = None,
    ) -> None:
        super().__init__(
            sample_rate, n_fft=n_fft, win_length=win_length, hop_length=hop_length, n_mels=n_mels, f_min=f_min,
            f_max=f_max,
        )  # fmt: skip


class LogMel(_Transform):
    """Mel power in dB, F = n_mels, with a floor `top_db` below each clip's own maximum.

    >>> import torch
    >>> from serx.features import LogMel
    >>> noise = torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    >>> noise[1, 8000:] = 0
    >>> mel, frames = LogMel(sample_rate=16000, n_mels=64)(noise, lengths=torch.tensor([16000, 8000]))
    >>> mel.shape, frames
    (torch.Size([2, 64, 63]), tensor([63, 32]))
    """

    feature = "logmel"

    def __init__(
        self,
        sample_rate: int = 16_000,
        *,
        n_fft: int = 1024,
        win_length: int | None = None,
        hop_length: int = 256,
        n_mels: int = 64,
        f_min: float = 0.0,
        f_max: float | None = None,
        amin: float = 1e-10,
        top_db: float | None = 80.0,
    ) -> None:
        super().__init__(
            sample_rate, n_fft=n_fft, win_length=win_length, hop_length=hop_length, n_mels=n_mels, f_min=f_min,
            f_max=f_max, amin=amin, top_db=top_db,
        )  # fmt: skip


class MFCC(_Transform):
    """Mel-frequency cepstral coefficients, F = n_mfcc: the orthonormal DCT-II of `LogMel`, as `librosa.feature.mfcc`.

    >>> import torch
    >>> from serx.features import MFCC
    >>> mfcc, _ = MFCC(sample_rate=16000, n_mfcc=20)(torch.zeros(16000))
    >>> mfcc.shape
    torch.Size([1, 20, 63])
    """

    feature = "mfcc"

    def __init__(
        self,
        sample_rate: int = 16_000,
        *,
        n_mfcc: int = 40,
        n_fft: int = 1024,
        win_length: int | None = None,
        hop_length: int = 256,
        n_mels: int = 64,
        f_min: float = 0.0,
        f_max: float | None = None,
        amin: float = 1e-10,
        top_db: float | None = 80.0,
    ) -> None:
        super().__init__(
            sample_rate, n_mfcc=n_mfcc, n_fft=n_fft, win_length=win_length, hop_length=hop_length, n_mels=n_mels,
            f_min=f_min, f_max=f_max, amin=amin, top_db=top_db,
        )  # fmt: skip


class Chroma(_OfSpectrum):
    """Pitch classes, F = 12 from C to B, each frame with maximum 1, as `librosa.feature.chroma_stft(tuning=0)`.

    >>> import torch
    >>> from serx.features import Chroma
    >>> tone = torch.sin(2 * torch.pi * 440 / 16000 * torch.arange(16000))  # A
    >>> chroma, _ = Chroma(sample_rate=16000)(tone)
    >>> int(chroma[0, :, 30].argmax())
    9
    """

    feature = "chroma"


class ChromaCQT(_Transform):
    """Pitch classes of a constant-Q transform from C2 to C8, F = 12, near `librosa.feature.chroma_cqt(tuning=0)`.

    `hop_length` must be a multiple of 32.

    >>> import torch
    >>> from serx.features import ChromaCQT
    >>> chroma, _ = ChromaCQT(sample_rate=16000)(torch.zeros(16000))
    >>> chroma.shape
    torch.Size([1, 12, 63])
    """

    feature = "chroma_cqt"

    def __init__(self, sample_rate: int = 16_000, *, hop_length: int = 256) -> None:
        super().__init__(sample_rate, hop_length=hop_length)


class Tonnetz(_OfSpectrum):
    """Tonal centroids of `Chroma`, F = 6, as `librosa.feature.tonnetz`.

    >>> import torch
    >>> from serx.features import Tonnetz
    >>> Tonnetz(sample_rate=16000)(torch.zeros(16000))[0].shape
    torch.Size([1, 6, 63])
    """

    feature = "tonnetz"


class ZeroCrossingRate(_OfFrames):
    """Sign changes per sample in frames of `n_fft` samples, F = 1, as `librosa.feature.zero_crossing_rate`.

    >>> import torch
    >>> from serx.features import ZeroCrossingRate
    >>> tone = torch.sin(2 * torch.pi * 1000 / 16000 * torch.arange(16000))  # 2000 crossings a second
    >>> rate, _ = ZeroCrossingRate(sample_rate=16000)(tone)
    >>> round(rate[0, 0, 30].item(), 2)
    0.12
    """

    feature = "zcr"


class RMS(_OfFrames):
    """Root mean square of frames of `n_fft` samples, F = 1, as `librosa.feature.rms`.

    >>> import torch
    >>> from serx.features import RMS
    >>> level, _ = RMS(sample_rate=16000)(torch.full((16000,), 0.5))
    >>> level[0, 0, 30].item()
    0.5
    """

    feature = "rms"


class SpectralCentroid(_OfSpectrum):
    """Mean frequency in Hz weighted by magnitude, F = 1, as `librosa.feature.spectral_centroid`.

    >>> import torch
    >>> from serx.features import SpectralCentroid
    >>> tone = torch.sin(2 * torch.pi * 1000 / 16000 * torch.arange(16000))
    >>> centroid, _ = SpectralCentroid(sample_rate=16000)(tone)
    >>> round(centroid[0, 0, 30].item(), -1)
    1000.0
    """

    feature = "centroid"


class SpectralBandwidth(_OfSpectrum):
    """Standard deviation in Hz around the centroid, F = 1, as `librosa.feature.spectral_bandwidth`.

    >>> import torch
    >>> from serx.features import SpectralBandwidth
    >>> SpectralBandwidth(sample_rate=16000)(torch.zeros(16000))[0].shape
    torch.Size([1, 1, 63])
    """

    feature = "bandwidth"


class SpectralRolloff(_OfSpectrum):
    """Frequency in Hz below which 85 % of the magnitude lies, F = 1, as `librosa.feature.spectral_rolloff`.

    >>> import torch
    >>> from serx.features import SpectralRolloff
    >>> SpectralRolloff(sample_rate=16000)(torch.zeros(16000))[0].shape
    torch.Size([1, 1, 63])
    """

    feature = "rolloff"


class SpectralFlatness(_OfSpectrum):
    """Geometric over arithmetic mean of the power, F = 1, as `librosa.feature.spectral_flatness`.

    >>> import torch
    >>> from serx.features import SpectralFlatness
    >>> SpectralFlatness(sample_rate=16000)(torch.zeros(16000))[0].round(decimals=3).unique()
    tensor([1.])
    """

    feature = "flatness"


class SpectralContrast(_Transform):
    """Decibels between the loudest and quietest 2 % of each band, F = contrast_bands + 1, as librosa's.

    >>> import torch
    >>> from serx.features import SpectralContrast
    >>> SpectralContrast(sample_rate=16000, contrast_bands=5)(torch.zeros(16000))[0].shape
    torch.Size([1, 6, 63])
    """

    feature = "contrast"

    def __init__(
        self,
        sample_rate: int = 16_000,
        *,
        n_fft: int = 1024,
        win_length: int | None = None,
        hop_length: int = 256,
        contrast_bands: int = 6,
    ) -> None:
        super().__init__(
            sample_rate, n_fft=n_fft, win_length=win_length, hop_length=hop_length, contrast_bands=contrast_bands
        )


class Pitch(_OfPitch):
    """Fundamental frequency by YIN in semitones above 27.5 Hz, 0 where unvoiced, F = 1.

    >>> import torch
    >>> from serx.features import Pitch
    >>> tone = torch.sin(2 * torch.pi * 220 / 16000 * torch.arange(16000))  # three octaves above 27.5 Hz
    >>> pitch, _ = Pitch(sample_rate=16000)(tone)
    >>> round(pitch[0, 0, 30].item(), 2)
    36.0
    """

    feature = "pitch"


class Voicing(_OfPitch):
    """Periodicity of each frame by YIN, from 0 for noise or silence to 1, F = 1.

    >>> import torch
    >>> from serx.features import Voicing
    >>> tone = torch.sin(2 * torch.pi * 220 / 16000 * torch.arange(16000))
    >>> voicing, _ = Voicing(sample_rate=16000)(tone)
    >>> round(voicing[0, 0, 30].item(), 2)
    1.0
    """

    feature = "voicing"
