"""`FeatureStack`: waveforms to the features a model reads, any list of them from one shared spectrum."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from serx.base_config import BaseConfig
from serx.dsp import descriptors
from serx.dsp.batching import valid_mask
from serx.dsp.chroma import CLASSES, chroma_cqt, chroma_stft, tonnetz
from serx.dsp.mel import MelScale, mel_filters, mel_power
from serx.dsp.pitch import PitchTrack, track_pitch
from serx.dsp.deltas import delta
from serx.dsp.spectrum import dct_matrix, frame_count, power_to_db
from serx.dsp.statistics import Statistic, summarize
from serx.dsp.mel_warp import Warp, shifted_mel_power, stretch_frames, stretched_count
from serx.errors import ConfigError
from serx.features.front_ends import CQT_BINS, CQT_LOWEST, CQT_OCTAVES, ConstantQ, front_end
from serx.features.normalizer import RemoveLevel

CPU_CHUNK = 2  # clips at a time: 64 at once leave the cache and take 2-5 times as long a clip
WARPABLE = frozenset({"mel", "logmel", "mfcc"})

FeatureName = Literal[
    "mel", "logmel", "mfcc", "zcr", "rms", "chroma", "chroma_cqt", "contrast", "tonnetz",
    "centroid", "bandwidth", "rolloff", "flatness", "pitch", "voicing",
]  # fmt: skip


class FeaturesConfig(BaseConfig):
    """What a model reads. Names and defaults as in torchaudio and librosa; a bare list is its `stack`."""

    stack: tuple[Literal[FeatureName, "waveform"], ...] = Field(("logmel",), min_length=1)
    n_fft: int = Field(1024, ge=16, le=1 << 16, multiple_of=2)
    win_length: int | None = Field(None, ge=16)
    hop_length: int = Field(256, ge=1)
    n_mels: int = Field(64, ge=1, le=4096)
    n_mfcc: int = Field(40, ge=1)
    f_min: float = Field(0.0, ge=0)
    f_max: float | None = Field(None, gt=0)
    amin: float = Field(1e-10, gt=0)
    top_db: float | None = Field(80.0, gt=0)
    contrast_bands: int = Field(6, ge=1, le=16)  # octaves above 200 Hz, and one band below
    pitch_min: float = Field(65.0, ge=20)  # Hz
    pitch_max: float = Field(800.0, gt=0)
    deltas: int = Field(0, ge=0, le=2)  # append that many time derivatives of the whole stack
    statistics: tuple[Statistic, ...] = ()  # over each clip's frames: one vector a clip, F times as many rows
    front_end: Literal["torch", "torchaudio", "nnaudio"] = "torch"
    trainable: bool = False  # learn the STFT kernels and mel filters (nnaudio only)
    normalize: Literal["none", "clip", "training"] = "training"
    remove_level: RemoveLevel = False  # subtract each clip's own scalar mean, `true` after that or `first`, before

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, given: Any) -> Any:
        """`features: [mfcc, chroma]` is short for `features: {stack: [mfcc, chroma]}`."""
        return {"stack": tuple(given)} if isinstance(given, list | tuple) else given

    @model_validator(mode="after")
    def _consistent(self) -> "FeaturesConfig":
        if "mfcc" in self.stack and self.n_mfcc > self.n_mels:
            raise ValueError(f"n_mfcc is {self.n_mfcc}, but only n_mels={self.n_mels} are there to transform")
        if (self.win_length or self.n_fft) > self.n_fft:
            raise ValueError(f"win_length {self.win_length} does not fit into n_fft {self.n_fft}")
        if self.trainable and self.front_end != "nnaudio":
            raise ValueError("trainable needs front_end: nnaudio")
        if self.trainable and not WARPABLE.issuperset(self.stack):
            raise ValueError("trainable needs a stack of mel, logmel and mfcc alone")
        if self.f_max is not None and self.f_min >= self.f_max:
            raise ValueError(f"f_min {self.f_min} is not below f_max {self.f_max}")
        if self.pitch_min >= self.pitch_max:
            raise ValueError(f"pitch_min {self.pitch_min} is not below pitch_max {self.pitch_max}")
        if "chroma_cqt" in self.stack and self.hop_length % (1 << (CQT_OCTAVES - 1)):
            raise ValueError(f"chroma_cqt needs a hop_length that is a multiple of 32, not {self.hop_length}")
        if "waveform" in self.stack:
            if len(self.stack) > 1 or self.deltas or self.statistics:
                raise ValueError("waveform stands alone: no other features beside it, no deltas, no statistics")
            if self.normalize != "none" or self.remove_level:
                raise ValueError("a waveform is leveled by its model: use normalize: none and remove_level: false")
        if self.statistics and (self.normalize == "clip" or self.remove_level):
            raise ValueError("statistics are one vector a clip; use normalize: training and remove_level: false")
        return self

    @property
    def bins(self) -> int:
        """F, the rows of the features."""
        sizes = {
            "mel": self.n_mels,
            "logmel": self.n_mels,
            "mfcc": self.n_mfcc,
            "chroma": CLASSES,
            "chroma_cqt": CLASSES,
            "contrast": self.contrast_bands + 1,
            "tonnetz": 6,
        }
        rows = sum(sizes.get(name, 1) for name in self.stack)
        return rows * (1 + self.deltas) * (len(self.statistics) or 1)


class FeatureStack(nn.Module):
    """`waveform (B, T)`, `lengths (B,)` -> `features (B, F, N)` float32, `frames (B,)`; zero beyond the frames.

    Of a stack of `waveform`, the waveform is the only row and samples are the frames.

    Runs in float32 whatever autocast says. Fixed filters are not part of the state; trainable ones are.
    """

    dct: Tensor

    def __init__(self, config: FeaturesConfig, sample_rate: int) -> None:
        """Builds the front end.

        Raises:
            ConfigError: the features do not fit under half the sample rate.
        """
        super().__init__()
        self.config, self.sample_rate = config, sample_rate
        _check_rate(config, sample_rate)
        win_length = config.win_length or config.n_fft
        self.spectrum = front_end(
            config.front_end, config.n_fft, win_length, config.hop_length, sample_rate, config.trainable
        )
        self.scale = MelScale(sample_rate, config.n_fft, config.n_mels, config.f_min, config.f_max or sample_rate / 2)
        self.mel = nn.Parameter(mel_filters(self.scale)) if config.trainable else None
        self.register_buffer("dct", dct_matrix(config.n_mfcc, config.n_mels), persistent=False)
        wanted = "chroma_cqt" in config.stack
        self.constant_q = ConstantQ(config.hop_length, sample_rate) if wanted else nn.Identity()

    def forward(self, waveform: Tensor, lengths: Tensor, warp: Warp | None = None) -> tuple[Tensor, Tensor]:
        """The features, of clips shifted in pitch and stretched in time where a `warp` says so.

        Raises:
            ConfigError: a warp, and features other than mel, logmel and mfcc by fixed filters.
        """
        fault = why_not_warpable(self.config) if warp is not None else None
        if fault:
            raise ConfigError(fault)
        if self.config.stack == ("waveform",):
            return waveform.float()[:, None], lengths
        with torch.autocast(waveform.device.type, enabled=False):
            chunk = CPU_CHUNK if waveform.device.type == "cpu" else len(waveform)
            waveforms, counts = waveform.float().split(chunk), lengths.split(chunk)
            warps = warp.split(chunk) if warp is not None else [None] * len(counts)
            parts = [self._features(*part) for part in zip(waveforms, counts, warps, strict=True)]
            features, frames = (torch.cat(column) for column in zip(*parts, strict=True))
            return features.transpose(1, 2), frames

    def _features(self, waveform: Tensor, lengths: Tensor, warp: Warp | None) -> tuple[Tensor, Tensor]:
        """`(b, T)` -> `(b, N, F)`: the stack, its derivatives, and statistics of all that."""
        views = _Views(self, waveform, lengths, warp)
        stack = torch.cat([_ROWS[name](views) for name in self.config.stack], dim=-1)
        derivatives = [delta(stack, views.frames, order) for order in range(1, self.config.deltas + 1)]
        features = torch.cat([stack, *derivatives], dim=-1) * views.valid[..., None]
        if not self.config.statistics:
            return features, views.frames
        return summarize(features, views.frames, self.config.statistics), torch.ones_like(views.frames)


class _Views:
    """What the features of a few clips share, each computed when first asked for."""

    def __init__(self, stack: FeatureStack, waveform: Tensor, lengths: Tensor, warp: Warp | None) -> None:
        self.stack, self.config, self.sample_rate = stack, stack.config, stack.sample_rate
        self.waveform, self.lengths, self.warp = waveform, lengths, warp
        unwarped = frame_count(lengths, self.config.hop_length)
        self.unwarped, size = unwarped, 1 + waveform.shape[1] // self.config.hop_length
        self.frames = unwarped if warp is None else stretched_count(unwarped, warp.rate)
        self.valid = valid_mask(self.frames, size if warp is None else warp.width(size))

    @cached_property
    def power(self) -> Tensor:
        return self.stack.spectrum(self.waveform)

    @cached_property
    def magnitude(self) -> Tensor:
        return self.power.sqrt()

    @cached_property
    def mel(self) -> Tensor:
        if self.stack.mel is not None:
            return self.power @ self.stack.mel
        if self.warp is None:
            return mel_power(self.power, self.stack.scale)
        shifted = shifted_mel_power(self.power, self.stack.scale, self.warp.pitch_steps)
        return stretch_frames(shifted, self.unwarped, self.warp)

    @cached_property
    def decibels(self) -> Tensor:
        return power_to_db(self.mel, self.valid, self.config.amin, self.config.top_db)

    @cached_property
    def chroma(self) -> Tensor:
        return chroma_stft(self.power, self.sample_rate)

    @cached_property
    def centroid(self) -> Tensor:
        return descriptors.spectral_centroid(self.magnitude, self.sample_rate)

    @cached_property
    def pitch(self) -> PitchTrack:
        config = self.config
        return track_pitch(self.waveform, config.hop_length, self.sample_rate, config.pitch_min, config.pitch_max)


# Each gives (b, N, rows).
_ROWS: dict[str, Callable[[_Views], Tensor]] = {
    "mel": lambda v: v.mel,
    "logmel": lambda v: v.decibels,
    "mfcc": lambda v: v.decibels @ v.stack.dct,
    "zcr": lambda v: descriptors.zero_crossing_rate(v.waveform, v.lengths, v.config.n_fft, v.config.hop_length),
    "rms": lambda v: descriptors.rms(v.waveform, v.config.n_fft, v.config.hop_length),
    "chroma": lambda v: v.chroma,
    "chroma_cqt": lambda v: chroma_cqt(v.stack.constant_q(v.waveform), CQT_BINS),
    "contrast": lambda v: descriptors.spectral_contrast(v.magnitude, v.valid, v.sample_rate, v.config.contrast_bands),
    "tonnetz": lambda v: tonnetz(v.chroma),
    "centroid": lambda v: v.centroid,
    "bandwidth": lambda v: descriptors.spectral_bandwidth(v.magnitude, v.sample_rate, v.centroid),
    "rolloff": lambda v: descriptors.spectral_rolloff(v.magnitude, v.sample_rate),
    "flatness": lambda v: descriptors.spectral_flatness(v.power),
    "pitch": lambda v: v.pitch.semitones,
    "voicing": lambda v: v.pitch.voicing,
}


def why_not_warpable(config: FeaturesConfig) -> str | None:
    """What keeps these features from being warped within the front end, and how to mend it; None if nothing does."""
    others = [name for name in config.stack if name not in WARPABLE]
    if not others and not config.trainable:
        return None
    what = f"features.stack holds {', '.join(others)}" if others else "features.trainable is set"
    return f"augment.mel_warp warps mel, logmel and mfcc by fixed filters, but {what}; augment the waveform instead"


def _check_rate(config: FeaturesConfig, sample_rate: int) -> None:
    top = sample_rate / 2
    if WARPABLE & set(config.stack) and not (config.f_min < top and (config.f_max or top) <= top):
        raise ConfigError(
            f"features.f_min, f_max: {config.f_min} to {config.f_max or top} Hz, but sound at {sample_rate} Hz ends at "
            f"{top:.0f} Hz: lower them, or raise data.sample_rate"
        )
    if "contrast" in config.stack:
        descriptors.contrast_bands(sample_rate, config.n_fft // 2 + 1, config.contrast_bands)
    if "chroma_cqt" in config.stack and sample_rate / 2 < CQT_LOWEST * 2**CQT_OCTAVES:
        raise ConfigError(f"features.stack: chroma_cqt reaches 4186 Hz, more than half of {sample_rate} Hz; use chroma")
    if {"pitch", "voicing"} & set(config.stack) and config.pitch_max > sample_rate / 4:
        raise ConfigError(
            f"features.pitch_max: {config.pitch_max} Hz is above {sample_rate / 4:.0f} Hz, a quarter of "
            "the sample rate; lower it"
        )
