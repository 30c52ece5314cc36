"""`Views`: a few clips and the spectra that their features share, each computed when a feature first asks for it."""

from functools import cached_property
from typing import TYPE_CHECKING

from torch import Tensor

from serx.dsp.batching import valid_mask
from serx.dsp.chroma import chroma_stft
from serx.dsp.descriptors import spectral_centroid
from serx.dsp.mel import mel_power
from serx.dsp.mel_warp import Warp, shifted_mel_power, stretch_frames, stretched_count
from serx.dsp.pitch import PitchTrack, track_pitch
from serx.dsp.spectrum import frame_count, power_to_db

if TYPE_CHECKING:
    from serx.features.stack import FeatureStack


class Views:
    """What `FeatureStack` hands to each feature. Everything is float32, with frames before bins.

    Frame n is centered on sample n * hop_length. The waveform is zero beyond `lengths`. The frames beyond `frames` hold
    what the STFT sees there; `FeatureStack` sets each feature to zero in them.

    Attributes:
        config: the `FeaturesConfig` of the stack.
        sample_rate: Hz.
        waveform: `(B, T)`.
        lengths: `(B,)` samples of each clip.
        frames: `(B,)` frames of each clip.
        valid: `(B, N)` bool, true in the frames of the clip.
        power: `(B, N, n_fft // 2 + 1)`, the power spectrum.
        magnitude: `(B, N, n_fft // 2 + 1)`, its square root.
        mel: `(B, N, n_mels)`, the mel power.
        decibels: `(B, N, n_mels)`, the mel power in dB, no more than `top_db` below the clip's maximum.
        chroma: `(B, N, 12)`, pitch classes from C to B.
        centroid: `(B, N, 1)`, the spectral centroid in Hz.
        pitch: `semitones` above 27.5 Hz and `voicing`, each `(B, N, 1)`.

    >>> import torch
    >>> from serx.features import FeaturesConfig, FeatureStack
    >>> stack = FeatureStack(FeaturesConfig(), sample_rate=16000)
    >>> views = Views(stack, torch.zeros(2, 16000), torch.tensor([16000, 8000]), warp=None)
    >>> views.power.shape, views.decibels.shape, views.frames
    (torch.Size([2, 63, 513]), torch.Size([2, 63, 64]), tensor([63, 32]))
    """

    def __init__(self, stack: "FeatureStack", waveform: Tensor, lengths: Tensor, warp: Warp | None) -> None:
        self.stack, self.config, self.sample_rate = stack, stack.config, stack.sample_rate
        self.waveform, self.lengths, self._warp = waveform, lengths, warp
        size = 1 + waveform.shape[1] // self.config.hop_length
        self._unwarped_frames = frame_count(lengths, self.config.hop_length)
        self.frames = self._unwarped_frames if warp is None else stretched_count(self._unwarped_frames, warp.rate)
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
        if self._warp is None:
            return mel_power(self.power, self.stack.scale)
        shifted = shifted_mel_power(self.power, self.stack.scale, self._warp.pitch_steps)
        return stretch_frames(shifted, self._unwarped_frames, self._warp)

    @cached_property
    def decibels(self) -> Tensor:
        return power_to_db(self.mel, self.valid, self.config.amin, self.config.top_db)

    @cached_property
    def chroma(self) -> Tensor:
        return chroma_stft(self.power, self.sample_rate)

    @cached_property
    def centroid(self) -> Tensor:
        return spectral_centroid(self.magnitude, self.sample_rate)

    @cached_property
    def pitch(self) -> PitchTrack:
        config = self.config
        return track_pitch(self.waveform, config.hop_length, self.sample_rate, config.pitch_min, config.pitch_max)
