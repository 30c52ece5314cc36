"""Data augmentation in batches: `waveform (B, T)`, `lengths (B,)` in and out, each clip with its own random parameters.

    compose           `Compose`: a list of transforms, in any training loop; `AugmentConfig`, the `augment` section
    transform         what a transform is; `register_transform` adds one of your own
    checks            `check_transform`: is a transform of your own independent of padding and batch?
    level             `Gain`, `PolarityInversion`, `Clipping`
    noise             `Noise`, `BackgroundNoise`
    crop              `Crop`, `Shift`
    speed_and_pitch   `Speed`, `PitchShift`, `TimeStretch`, `PitchTempo`
    filters           `LowPass`, `HighPass`, `BandPass`, `Equalizer`
    telephone         `Telephone`
    codec             `Codec`: AAC, MP3, Opus
    reverb            `Reverb`, `ImpulseResponse`
    recordings        audio files that transforms mix in
    masks             `TimeMask`, `FrequencyMask`: SpecAugment
    mel_warp          `MelWarp`: pitch shift and time stretch inside the mel front end
    mixing            `mixup`, `cutmix`, `mixstyle`: mixtures of two clips

All transforms run on CPU and GPU, without a loop over clips. `p` is the probability that a clip is changed; p = 0 is
the identity bit for bit.
"""

# Importing a transform registers it, so that a configuration can name its kind.
from serx.augment.checks import check_transform
from serx.augment.codec import Codec
from serx.augment.compose import AugmentConfig, Compose
from serx.augment.crop import Crop, Shift
from serx.augment.filters import BandPass, Equalizer, HighPass, LowPass
from serx.augment.level import Clipping, Gain, PolarityInversion
from serx.augment.masks import FrequencyMask, TimeMask
from serx.augment.mel_warp import MelWarp
from serx.augment.mixing import cutmix, mix, mixstyle, mixup
from serx.augment.noise import BackgroundNoise, Noise
from serx.augment.recordings import Recordings, RecordingTransform, load_recordings
from serx.augment.reverb import ImpulseResponse, Reverb
from serx.augment.speed_and_pitch import PitchShift, PitchTempo, Speed, TimeStretch
from serx.augment.telephone import Telephone
from serx.augment.transform import SpectrogramTransform, WaveformTransform, register_transform

__all__ = [
    "AugmentConfig",
    "BackgroundNoise",
    "BandPass",
    "Clipping",
    "Codec",
    "Compose",
    "Crop",
    "Equalizer",
    "FrequencyMask",
    "Gain",
    "HighPass",
    "ImpulseResponse",
    "LowPass",
    "MelWarp",
    "Noise",
    "PitchShift",
    "PitchTempo",
    "PolarityInversion",
    "RecordingTransform",
    "Recordings",
    "Reverb",
    "Shift",
    "SpectrogramTransform",
    "Speed",
    "Telephone",
    "TimeMask",
    "TimeStretch",
    "WaveformTransform",
    "check_transform",
    "cutmix",
    "load_recordings",
    "mix",
    "mixstyle",
    "mixup",
    "register_transform",
]
