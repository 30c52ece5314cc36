"""Shape of the spectrum: librosa's values, tones, noise and silence."""

import librosa
import numpy as np
import pytest
import torch

from serx.dsp.spectral_shape import contrast_bands
from serx.features.stack import FeaturesConfig, FeatureStack
from tests.conftest import RATE, batched
from tests.features.test_stack import worst_relative_error

N_FFT, HOP = 1024, 256
SPECTRUM = {"n_fft": N_FFT, "hop_length": HOP}
LIBROSA = {
    "centroid": lambda y: librosa.feature.spectral_centroid(y=y, sr=RATE, **SPECTRUM),
    "bandwidth": lambda y: librosa.feature.spectral_bandwidth(y=y, sr=RATE, **SPECTRUM),
    "flatness": lambda y: librosa.feature.spectral_flatness(y=y, **SPECTRUM),
    "contrast": lambda y: librosa.feature.spectral_contrast(y=y, sr=RATE, **SPECTRUM),
    "rolloff": lambda y: librosa.feature.spectral_rolloff(y=y, sr=RATE, **SPECTRUM),
}


def rows_of(name: str, *waves: np.ndarray) -> list[np.ndarray]:
    features, frames = FeatureStack(FeaturesConfig(stack=(name,)), RATE)(*batched(list(waves)))
    return [row[:, : int(count)].numpy() for row, count in zip(features, frames, strict=True)]


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


def white_noise(seconds: float = 4.0) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(round(seconds * RATE)).astype(np.float32) * 0.1


def assert_equal_to_librosa(name: str, waves: list[np.ndarray]) -> None:
    for wave, mine in zip(waves, rows_of(name, *waves), strict=True):
        reference = LIBROSA[name](wave)
        assert mine.shape == reference.shape
        off = np.abs(mine - reference) / np.abs(reference).max()
        if name == "rolloff":  # where the cumulated magnitude meets the share to rounding, the bin beside it
            assert (off > 1e-6).mean() < 0.01 and np.abs(mine - reference).max() <= RATE / N_FFT + 1e-3
        elif name == "contrast":  # in digital silence a bin's decibels are those of rounding errors
            assert (off > 1e-4).mean() < 0.02 and off.max() < 2e-3
        else:
            assert off.max() < 1e-4


@pytest.mark.parametrize("name", LIBROSA)
def test_each_equals_librosas(name, clips):
    assert_equal_to_librosa(name, clips)


@pytest.mark.speech
@pytest.mark.parametrize("name", LIBROSA)
def test_each_equals_librosas_on_real_speech(name, speech_root):
    files = sorted((speech_root / "ravdess16k" / "Actor_02").glob("*.flac"))[:4]
    assert_equal_to_librosa(name, [librosa.load(path, sr=RATE)[0] for path in files])


def test_a_tones_centroid_is_its_frequency_and_its_bandwidth_is_narrow():
    for hertz in (500.0, 1000.0, 3123.0):
        inner = slice(4, -4)  # frames without the zeros before and after
        assert np.abs(rows_of("centroid", tone(hertz))[0][0, inner] - hertz).max() < 0.01 * hertz
        assert rows_of("bandwidth", tone(hertz))[0][0, inner].max() < 60
        assert rows_of("flatness", tone(hertz))[0][0, inner].max() < 1e-3


def test_white_noise_has_its_centroid_in_the_middle_and_rolls_off_at_the_share():
    noise = white_noise()
    assert abs(rows_of("centroid", noise)[0].mean() - RATE / 4) < 50
    assert abs(rows_of("rolloff", noise)[0].mean() - 0.85 * RATE / 2) < 50
    # flat magnitude on (0, f): deviation f / sqrt(12); and exp(E log x) / E x of exponential power is exp(-gamma)
    assert abs(rows_of("bandwidth", noise)[0].mean() - RATE / 2 / np.sqrt(12)) < 50
    assert abs(rows_of("flatness", noise)[0].mean() - np.exp(-np.euler_gamma)) < 0.02


def test_a_silent_clip_has_no_centre_and_a_flat_spectrum():
    silence = np.zeros(4000, np.float32)
    for name, value in {"centroid": 0, "bandwidth": 0, "rolloff": 0, "flatness": 1, "contrast": 0}.items():
        assert np.allclose(rows_of(name, silence)[0], value, atol=1e-6), name


def test_a_tone_stands_out_in_its_own_contrast_band():
    edges = [0, 200, 400, 800, 1600, 3200, 6400, 8000]
    noise = white_noise(1.0) * 0.01
    quiet = rows_of("contrast", noise)[0][:, 5:-5].mean(1)
    for hertz in (300.0, 1100.0, 5000.0):
        loud = rows_of("contrast", noise + tone(hertz))[0][:, 5:-5].mean(1)
        assert np.argmax(loud - quiet) == np.searchsorted(edges, hertz) - 1


def test_level_moves_none_of_them(clips):
    for name in ("centroid", "bandwidth", "rolloff", "contrast"):
        wave = clips[1] + white_noise(1.0)
        soft, loud = rows_of(name, wave * 0.1, wave)
        assert worst_relative_error(soft, loud) < 1e-3, name


def test_contrast_bands_meet_and_reach_the_top():
    bands = contrast_bands(RATE, N_FFT // 2 + 1, 6)
    assert len(bands) == 7
    assert bands[0][0] == 0 and bands[-1][1] == N_FFT // 2 + 1
    assert all(torch.tensor(low) <= high for low, high, _ in bands)
