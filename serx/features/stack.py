"""`FeatureStack`: waveforms to any list of features, all computed from one shared spectrum."""

from collections import Counter
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, Field, model_validator
from torch import Tensor, nn

from serx.base_config import BaseConfig
from serx.dsp.deltas import delta
from serx.dsp.descriptors import contrast_bands
from serx.dsp.mel import MelScale, mel_filters
from serx.dsp.mel_warp import Warp
from serx.dsp.spectrum import dct_matrix
from serx.dsp.statistics import Statistic, summarize
from serx.errors import ConfigError
from serx.features.front_ends import CQT_LOWEST, CQT_OCTAVES, ConstantQ, front_end
from serx.features.normalizer import RemoveLevel
from serx.features.registry import WAVEFORM, compute_feature, feature_names, get_feature, unknown_feature
from serx.features.views import Views

CPU_CHUNK = 2  # clips at a time: 64 at once leave the cache and take 2-5 times as long per clip
WARPABLE = frozenset({"mel", "logmel", "mfcc"})
_WITHOUT_N_FFT = frozenset({WAVEFORM, "chroma_cqt", "pitch", "voicing"})  # whose frames have another length


def _known(name: str) -> str:
    if name != WAVEFORM and name not in feature_names():
        raise ValueError(unknown_feature(name))
    return name


FeatureName = Annotated[str, Field(max_length=255), AfterValidator(_known)]
Hertz = Annotated[float, Field(ge=0, le=96_000)]  # half of the highest sample rate


class FeaturesConfig(BaseConfig):
    """What a model reads. Names and defaults are those of torchaudio and librosa; a bare list is the `stack`.

    >>> FeaturesConfig(stack=("mfcc", "rms"), n_mfcc=20, deltas=1).bins
    42
    """

    stack: tuple[FeatureName, ...] = Field(
        ("logmel",),
        min_length=1,
        max_length=32,
        description=f"features, in this order: {', '.join(feature_names())}; or `waveform`",
    )
    n_fft: int = Field(1024, ge=16, le=1 << 14, multiple_of=2, description="size of the FFT, and of a frame")
    win_length: int | None = Field(None, ge=16, le=1 << 14, description="length of the Hann window; `null` is n_fft")
    hop_length: int = Field(256, ge=1, le=1 << 14, description="from one frame to the next")
    n_mels: int = Field(64, ge=1, le=2048, description="number of mel filters")
    n_mfcc: int = Field(40, ge=1, le=2048, description="number of MFCCs, at most n_mels")
    f_min: Hertz = Field(0.0, description="lower edge of the mel filters")
    f_max: Hertz | None = Field(None, gt=0, description="upper edge of the mel filters; `null` is half the sample rate")
    amin: float = Field(1e-10, ge=1e-30, le=1, description="smallest power before the logarithm")
    top_db: float | None = Field(80.0, ge=1, le=300, description="range of decibels below each clip's own maximum")
    contrast_bands: int = Field(6, ge=1, le=16, description="octaves above 200 Hz; one band below is added")
    pitch_min: float = Field(65.0, ge=20, le=5000, description="lowest pitch that is tracked")
    pitch_max: float = Field(800.0, ge=20, le=5000, description="highest pitch that is tracked")
    deltas: int = Field(0, ge=0, le=2, description="number of time derivatives of the whole stack that are appended")
    statistics: tuple[Statistic, ...] = Field(
        (), max_length=6, description="over each clip's frames: one vector per clip, and F times as many rows"
    )
    front_end: Literal["torch", "torchaudio", "nnaudio"] = Field(
        "torch", description="library that computes the spectrum; they agree to 1e-5"
    )
    trainable: bool = Field(False, description="learn the STFT kernels and mel filters (front_end nnaudio only)")
    normalize: Literal["none", "clip", "training"] = Field(
        "training", description="scale each row by its statistics over the clip or over the training speakers"
    )
    remove_level: RemoveLevel = Field(
        False, description="subtract each clip's own mean: `true` after normalize, `first` before it"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, given: Any) -> Any:
        """`features: [mfcc, chroma]` is short for `features: {stack: [mfcc, chroma]}`."""
        return {"stack": tuple(given)} if isinstance(given, list | tuple) else given

    @model_validator(mode="after")
    def _consistent(self) -> "FeaturesConfig":
        if "mfcc" in self.stack and self.n_mfcc > self.n_mels:
            raise ValueError(f"n_mfcc {self.n_mfcc} is larger than n_mels {self.n_mels}; raise n_mels or lower n_mfcc")
        if (self.win_length or self.n_fft) > self.n_fft:
            raise ValueError(f"win_length {self.win_length} is larger than n_fft {self.n_fft}; raise n_fft")
        if self.trainable and self.front_end != "nnaudio":
            raise ValueError("trainable needs front_end: nnaudio")
        if self.trainable and not WARPABLE.issuperset(self.stack):
            raise ValueError("trainable needs a stack of mel, logmel and mfcc only")
        if self.f_max is not None and self.f_min >= self.f_max:
            raise ValueError(f"f_min {self.f_min} is not below f_max {self.f_max}")
        if self.pitch_min >= self.pitch_max:
            raise ValueError(f"pitch_min {self.pitch_min} is not below pitch_max {self.pitch_max}")
        if "chroma_cqt" in self.stack and self.hop_length % (1 << (CQT_OCTAVES - 1)):
            raise ValueError(f"chroma_cqt needs a hop_length that is a multiple of 32, not {self.hop_length}")
        if WAVEFORM in self.stack:
            if len(self.stack) > 1 or self.deltas or self.statistics:
                raise ValueError("waveform must be alone in the stack: no other features, no deltas, no statistics")
            if self.normalize != "none" or self.remove_level:
                raise ValueError("a model of waveforms normalizes them: use normalize: none and remove_level: false")
        if self.statistics and (self.normalize == "clip" or self.remove_level):
            raise ValueError("statistics give one vector per clip; use normalize: training and remove_level: false")
        return self

    @model_validator(mode="after")
    def _reads_everything_once(self) -> "FeaturesConfig":
        window = self.win_length or self.n_fft
        if self.hop_length > window and not _WITHOUT_N_FFT.issuperset(self.stack):
            raise ValueError(
                f"hop_length {self.hop_length} is larger than the window of {window} samples, so that samples between "
                "two frames are read by none; lower hop_length"
            )
        for name in ("stack", "statistics"):
            twice = [item for item, count in Counter(getattr(self, name)).items() if count > 1]
            if twice:
                raise ValueError(f"{name} lists {', '.join(twice)} more than once; list each once")
        return self

    @property
    def bins(self) -> int:
        """F, the number of feature rows."""
        if WAVEFORM in self.stack:
            return 1
        rows = sum(get_feature(name).row_count(self) for name in self.stack)
        return rows * (1 + self.deltas) * (len(self.statistics) or 1)


class FeatureStack(nn.Module):
    """Module from `waveform (B, T)` and `lengths (B,)` to `features (B, F, N)` float32 and `frames (B,)`.

    The rows F are the features of `config.stack` in their order, then their deltas. N is 1 + T // hop_length; the
    features are zero beyond each clip's frames, 1 + length // hop_length. With `statistics`, N is 1. The stack
    `[waveform]` returns the samples themselves: F is 1 and N is T.

    Everything is computed in float32, also under autocast. Fixed filters are not part of the state; trainable ones are.

    >>> stack = FeatureStack(FeaturesConfig(stack=("logmel", "zcr", "rms"), n_mels=64), sample_rate=16000)
    >>> features, frames = stack(torch.zeros(2, 16000), lengths=torch.tensor([16000, 8000]))
    >>> features.shape, frames
    (torch.Size([2, 66, 63]), tensor([63, 32]))
    """

    dct: Tensor

    def __init__(self, config: FeaturesConfig, sample_rate: int) -> None:
        """Builds the filters.

        Raises:
            ConfigError: the features need frequencies above half the sample rate, or most rows would be empty.
        """
        super().__init__()
        self.config, self.sample_rate = config, sample_rate
        check_rate(config, sample_rate)
        win_length = config.win_length or config.n_fft
        self.spectrum = front_end(
            config.front_end, config.n_fft, win_length, config.hop_length, sample_rate, config.trainable
        )
        self.scale = MelScale(sample_rate, config.n_fft, config.n_mels, config.f_min, config.f_max or sample_rate / 2)
        self.mel = nn.Parameter(mel_filters(self.scale)) if config.trainable else None
        self.register_buffer("dct", dct_matrix(config.n_mfcc, config.n_mels), persistent=False)
        needs_cqt = "chroma_cqt" in config.stack
        self.constant_q = ConstantQ(config.hop_length, sample_rate) if needs_cqt else nn.Identity()

    def forward(
        self, waveform: Tensor, lengths: Tensor | None = None, warp: Warp | None = None
    ) -> tuple[Tensor, Tensor]:
        """Computes the features of a batch.

        Args:
            waveform: `(B, T)` in [-1, 1], zero beyond `lengths`; or one clip `(T,)`.
            lengths: `(B,)` int64 samples of each clip; by default all T.
            warp: shifts each clip in pitch and stretches it in time, within the mel spectrogram.

        Raises:
            ConfigError: a `warp` of features other than mel, logmel and mfcc, or of trainable filters.
        """
        obstacle = why_not_warpable(self.config) if warp is not None else None
        if obstacle:
            raise ConfigError(obstacle)
        if waveform.dim() == 1:
            waveform = waveform[None]
        if lengths is None:
            lengths = torch.full((len(waveform),), waveform.shape[1], device=waveform.device)
        if self.config.stack == (WAVEFORM,):
            return waveform.float()[:, None], lengths
        with torch.autocast(waveform.device.type, enabled=False):
            chunk = CPU_CHUNK if waveform.device.type == "cpu" else len(waveform)
            waveforms, counts = waveform.float().split(chunk), lengths.split(chunk)
            warps = warp.split(chunk) if warp is not None else [None] * len(counts)
            parts = [self._features(*part) for part in zip(waveforms, counts, warps, strict=True)]
            features, frames = (torch.cat(column) for column in zip(*parts, strict=True))
            return features.transpose(1, 2), frames

    def _features(self, waveform: Tensor, lengths: Tensor, warp: Warp | None) -> tuple[Tensor, Tensor]:
        """`(b, T)` -> `(b, N, F)`: the stack, its derivatives, and the statistics of both."""
        views = Views(self, waveform, lengths, warp)
        stack = torch.cat([compute_feature(name, views) for name in self.config.stack], dim=-1)
        derivatives = [delta(stack, views.frames, order) for order in range(1, self.config.deltas + 1)]
        features = torch.cat([stack, *derivatives], dim=-1) * views.valid[..., None]
        if not self.config.statistics:
            return features, views.frames
        return summarize(features, views.frames, self.config.statistics), torch.ones_like(views.frames)


def why_not_warpable(config: FeaturesConfig) -> str | None:
    """Why these features cannot be warped in the mel spectrogram, and what to do instead; None if they can.

    >>> why_not_warpable(FeaturesConfig(stack=("logmel", "mfcc"))) is None
    True
    """
    others = [name for name in config.stack if name not in WARPABLE]
    if not others and not config.trainable:
        return None
    reason = f"features.stack contains {', '.join(others)}" if others else "features.trainable is set"
    return f"augment.mel_warp warps mel, logmel and mfcc by fixed filters, but {reason}; augment the waveform instead"


def empty_rows(config: FeaturesConfig, sample_rate: int) -> int:
    """The number of mel filters between two neighboring bins of the FFT: their rows are the same for every sound.

    >>> empty_rows(FeaturesConfig(n_fft=256, n_mels=128), sample_rate=16000)
    13
    """
    if not WARPABLE & set(config.stack):
        return 0
    scale = MelScale(sample_rate, config.n_fft, config.n_mels, config.f_min, config.f_max or sample_rate / 2)
    return int((mel_filters(scale) == 0).all(0).sum())


def why_rows_are_empty(config: FeaturesConfig, sample_rate: int) -> str | None:
    """Says how many rows of the mel spectrogram are always empty, and how to mend it; None if none is."""
    rows = empty_rows(config, sample_rate)
    if not rows:
        return None
    width, top = sample_rate / config.n_fft, config.f_max or sample_rate / 2
    return (
        f"{rows} of {config.n_mels} mel filters from {config.f_min:g} to {top:g} Hz lie between two bins of the FFT, "
        f"which are {width:.1f} Hz apart (features.n_fft: {config.n_fft}), so that these rows never change; raise "
        "features.n_fft, lower features.n_mels, or widen features.f_min to f_max"
    )


def check_rate(config: FeaturesConfig, sample_rate: int) -> None:
    """Checks that audio at this sample rate has the frequencies that the features need.

    Raises:
        ConfigError: it has not.
    """
    nyquist = sample_rate / 2
    if WARPABLE & set(config.stack) and not (config.f_min < nyquist and (config.f_max or nyquist) <= nyquist):
        raise ConfigError(
            f"features.f_min, f_max: {config.f_min} to {config.f_max or nyquist} Hz, but audio at {sample_rate} Hz "
            f"ends at {nyquist:.0f} Hz; lower them or raise data.sample_rate"
        )
    if 2 * empty_rows(config, sample_rate) > config.n_mels:
        raise ConfigError(str(why_rows_are_empty(config, sample_rate)))
    if "contrast" in config.stack:
        contrast_bands(sample_rate, config.n_fft // 2 + 1, config.contrast_bands)
    if "chroma_cqt" in config.stack and nyquist < CQT_LOWEST * 2**CQT_OCTAVES:
        raise ConfigError(f"features.stack: chroma_cqt reaches 4186 Hz, more than half of {sample_rate} Hz; use chroma")
    if {"pitch", "voicing"} & set(config.stack) and config.pitch_max > sample_rate / 4:
        raise ConfigError(
            f"features.pitch_max: {config.pitch_max} Hz is above {sample_rate / 4:.0f} Hz, a quarter of "
            "the sample rate; lower it"
        )
