"""The named transforms equal a `FeatureStack` with the same settings, and take torchaudio's keyword names."""

import pytest
import torch

from serx import features
from serx.errors import ConfigError
from serx.features import FeaturesConfig, FeatureStack
from serx.features.registry import _FEATURES
from tests.conftest import RATE, batched

SPECTRUM = {"n_fft": 512, "win_length": 400, "hop_length": 160}
MEL = {**SPECTRUM, "n_mels": 40, "f_min": 50.0, "f_max": 7000.0}
DECIBELS = {"amin": 1e-8, "top_db": 60.0}
PITCH = {"hop_length": 160, "pitch_min": 80.0, "pitch_max": 500.0}
FRAMES = {"n_fft": 512, "hop_length": 160}
TRANSFORMS = {
    "mel": (features.MelSpectrogram, MEL),
    "logmel": (features.LogMel, {**MEL, **DECIBELS}),
    "mfcc": (features.MFCC, {**MEL, **DECIBELS, "n_mfcc": 13}),
    "zcr": (features.ZeroCrossingRate, FRAMES),
    "rms": (features.RMS, FRAMES),
    "chroma": (features.Chroma, SPECTRUM),
    "chroma_cqt": (features.ChromaCQT, {"hop_length": 160}),
    "contrast": (features.SpectralContrast, {**SPECTRUM, "contrast_bands": 4}),
    "tonnetz": (features.Tonnetz, SPECTRUM),
    "centroid": (features.SpectralCentroid, SPECTRUM),
    "bandwidth": (features.SpectralBandwidth, SPECTRUM),
    "rolloff": (features.SpectralRolloff, SPECTRUM),
    "flatness": (features.SpectralFlatness, SPECTRUM),
    "pitch": (features.Pitch, PITCH),
    "voicing": (features.Voicing, PITCH),
}


def test_every_shipped_feature_has_a_transform():
    shipped = {name for name, feature in _FEATURES.items() if feature.compute.__name__ == f"_{name}"}
    assert shipped == TRANSFORMS.keys()


@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize("defaults", [True, False])
def test_a_transform_equals_the_stack_of_its_feature(name, defaults, clips):
    transform, settings = TRANSFORMS[name]
    settings = {} if defaults else settings
    waveform, lengths = batched(clips)
    expected, frames = FeatureStack(FeaturesConfig(stack=(name,), **settings), RATE)(waveform, lengths)
    values, counts = transform(sample_rate=RATE, **settings)(waveform, lengths)
    assert torch.equal(values, expected) and torch.equal(counts, frames)


def test_a_transform_takes_one_clip_without_lengths(clips):
    wave = torch.from_numpy(clips[0])
    mel, frames = features.LogMel(sample_rate=RATE, n_mels=40)(wave)
    assert mel.shape == (1, 40, 1 + len(wave) // 256)
    assert frames.tolist() == [mel.shape[2]]


def test_an_unknown_keyword_is_an_error():
    with pytest.raises(TypeError, match="n_mels"):
        features.Chroma(sample_rate=RATE, n_mels=40)


def test_a_setting_out_of_range_is_an_error():
    with pytest.raises(ValueError, match="n_mfcc 80 is larger than n_mels 40"):
        features.MFCC(sample_rate=RATE, n_mfcc=80, n_mels=40)
    with pytest.raises(ConfigError, match="lower them or raise data.sample_rate"):
        features.LogMel(sample_rate=8000, f_max=8000.0)
