"""Features of speech, computed in batches: `waveform (B, T)`, `lengths (B,)` -> `features (B, F, N)`, `frames (B,)`.

    transforms    one feature each: `LogMel`, `MFCC`, `Chroma`, `RMS`, `Pitch`, ... with torchaudio's keyword names
    stack         `FeatureStack`: any list of features from one spectrum; `FeaturesConfig`, the `features` section
    registry      the features by name; `register_feature` adds one of your own
    views         what the features of a stack share: power, mel, decibels, pitch, ...
    front_ends    the spectrum by torch, torchaudio or nnAudio
    normalizer    `Normalizer`: scale by the statistics of the clip or of the training speakers

B clips, T samples, F feature rows, N frames. Features are float32 and zero beyond each clip's frames. A clip's values
depend neither on its padding nor on the other clips of its batch.
"""

from serx.features.normalizer import Normalizer
from serx.features.registry import feature_names, register_feature
from serx.features.stack import FeaturesConfig, FeatureStack
from serx.features.transforms import (
    MFCC,
    RMS,
    Chroma,
    ChromaCQT,
    LogMel,
    MelSpectrogram,
    Pitch,
    SpectralBandwidth,
    SpectralCentroid,
    SpectralContrast,
    SpectralFlatness,
    SpectralRolloff,
    Tonnetz,
    Voicing,
    ZeroCrossingRate,
)
from serx.features.views import Views

__all__ = [
    "MFCC",
    "RMS",
    "Chroma",
    "ChromaCQT",
    "FeatureStack",
    "FeaturesConfig",
    "LogMel",
    "MelSpectrogram",
    "Normalizer",
    "Pitch",
    "SpectralBandwidth",
    "SpectralCentroid",
    "SpectralContrast",
    "SpectralFlatness",
    "SpectralRolloff",
    "Tonnetz",
    "Views",
    "Voicing",
    "ZeroCrossingRate",
    "feature_names",
    "register_feature",
]
