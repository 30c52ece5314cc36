"""Descriptors of frames equal librosa's, and have their closed-form values for tones, noise and silence."""

from itertools import pairwise

import librosa
import numpy as np
import pytest
import torch

from serx.dsp.descriptors import contrast_bands, frame_sums, rms, zero_crossing_rate
from serx.features import FeaturesConfig, FeatureStack
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
    """The feature of each wave, `(rows, frames)`, computed in one batch."""
    features, frames = FeatureStack(FeaturesConfig(stack=(name,)), RATE)(*batched(list(waves)))
    return [row[:, : int(count)].numpy() for row, count in zip(features, frames, strict=True)]


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


def white_noise(seconds: float = 4.0) -> np.ndarray:
    return np.random.default_rng(3).standard_normal(round(seconds * RATE)).astype(np.float32) * 0.1


def assert_equals_librosa(name: str, waves: list[np.ndarray]) -> None:
    for wave, values in zip(waves, rows_of(name, *waves), strict=True):
        reference = LIBROSA[name](wave)
        assert values.shape == reference.shape
        error = np.abs(values - reference) / np.abs(reference).max()
        if name == "rolloff":  # rounding of the cumulative magnitude may choose the next bin
            assert (error > 1e-6).mean() < 0.01 and np.abs(values - reference).max() <= RATE / N_FFT + 1e-3
        elif name == "contrast":  # in digital silence, a bin's decibels are those of rounding errors
            assert (error > 1e-4).mean() < 0.02 and error.max() < 2e-3
        else:
            assert error.max() < 1e-4


@pytest.mark.parametrize("name", LIBROSA)
def test_spectral_descriptors_equal_librosa(name, clips):
    assert_equals_librosa(name, clips)


@pytest.mark.speech
@pytest.mark.parametrize("name", LIBROSA)
def test_spectral_descriptors_equal_librosa_on_real_speech(name, speech_root):
    files = sorted((speech_root / "ravdess16k" / "Actor_02").glob("*.flac"))[:4]
    assert_equals_librosa(name, [librosa.load(path, sr=RATE)[0] for path in files])


def test_the_centroid_of_a_tone_is_its_frequency_and_its_bandwidth_is_narrow():
    for hertz in (500.0, 1000.0, 3123.0):
        inner = slice(4, -4)  # frames without the zeros before and after the clip
        assert np.abs(rows_of("centroid", tone(hertz))[0][0, inner] - hertz).max() < 0.01 * hertz
        assert rows_of("bandwidth", tone(hertz))[0][0, inner].max() < 60
        assert rows_of("flatness", tone(hertz))[0][0, inner].max() < 1e-3


def test_descriptors_of_white_noise_have_their_closed_form_values():
    noise = white_noise()
    assert abs(rows_of("centroid", noise)[0].mean() - RATE / 4) < 50
    assert abs(rows_of("rolloff", noise)[0].mean() - 0.85 * RATE / 2) < 50
    # Flat magnitude on (0, f) has deviation f / sqrt(12). Exponential power has exp(E log x) / E x = exp(-gamma).
    assert abs(rows_of("bandwidth", noise)[0].mean() - RATE / 2 / np.sqrt(12)) < 50
    assert abs(rows_of("flatness", noise)[0].mean() - np.exp(-np.euler_gamma)) < 0.02


def test_a_silent_clip_has_centroid_zero_and_a_flat_spectrum():
    silence = np.zeros(4000, np.float32)
    for name, value in {"centroid": 0, "bandwidth": 0, "rolloff": 0, "flatness": 1, "contrast": 0}.items():
        assert np.allclose(rows_of(name, silence)[0], value, atol=1e-6), name


def test_a_tone_raises_the_contrast_of_its_own_band_most():
    edges = [0, 200, 400, 800, 1600, 3200, 6400, 8000]
    noise = white_noise(1.0) * 0.01
    quiet = rows_of("contrast", noise)[0][:, 5:-5].mean(1)
    for hertz in (300.0, 1100.0, 5000.0):
        loud = rows_of("contrast", noise + tone(hertz))[0][:, 5:-5].mean(1)
        assert np.argmax(loud - quiet) == np.searchsorted(edges, hertz) - 1


def test_a_gain_changes_no_spectral_descriptor(clips):
    for name in ("centroid", "bandwidth", "rolloff", "contrast"):
        wave = clips[1] + white_noise(1.0)
        soft, loud = rows_of(name, wave * 0.1, wave)
        assert worst_relative_error(soft, loud) < 1e-3, name


def test_contrast_bands_are_not_empty_and_cover_the_spectrum():
    bands = contrast_bands(RATE, N_FFT // 2 + 1, 6)
    assert len(bands) == 7
    assert bands[0][0] == 0 and bands[-1][1] == N_FFT // 2 + 1
    assert all(low < high and 1 <= count <= high - low for low, high, count in bands)
    assert all(later[0] <= earlier[1] for earlier, later in pairwise(bands))


@pytest.mark.parametrize(("size", "hop"), [(1024, 256), (400, 160), (512, 200), (64, 100), (1024, 333)])
def test_zero_crossings_and_rms_equal_librosa(size, hop, clips):
    waveform, lengths = batched(clips, extra=1234)
    crossings, levels = zero_crossing_rate(waveform, lengths, size, hop), rms(waveform, size, hop)
    for i, wave in enumerate(clips):
        count = 1 + len(wave) // hop
        reference = librosa.feature.zero_crossing_rate(wave, frame_length=size, hop_length=hop)
        assert np.abs(crossings[i, :count].numpy().T - reference).max() < 1e-7
        reference = librosa.feature.rms(y=wave, frame_length=size, hop_length=hop)
        assert worst_relative_error(levels[i, :count].numpy().T, reference) < 1e-6


@pytest.mark.speech
def test_zero_crossings_and_rms_equal_librosa_on_real_speech(speech_root):
    path = sorted((speech_root / "ravdess16k" / "Actor_02").glob("*.flac"))[0]
    test_zero_crossings_and_rms_equal_librosa(1024, 256, [librosa.load(path, sr=RATE)[0]])


def test_a_tone_crosses_zero_twice_per_period():
    for hertz in (100.0, 1000.0, 3000.0):
        rate = zero_crossing_rate(*batched([tone(hertz)]), 1024, 256)[0, 4:-4]
        assert (rate - 2 * hertz / RATE).abs().max() < 1.5 / 1024


def test_the_rms_of_a_sine_is_its_amplitude_over_root_two():
    level = rms(torch.from_numpy(0.5 * tone(1000.0))[None], 1024, 256)[0, 4:-4]
    torch.testing.assert_close(level, torch.full_like(level, 0.5 / 2**0.5), rtol=1e-3, atol=0)


def test_the_end_of_a_clip_is_no_zero_crossing():
    wave = torch.full((1, 3000), -0.3)
    padded = torch.nn.functional.pad(wave, (0, 2000))
    assert not zero_crossing_rate(padded, torch.tensor([3000]), 1024, 256).any()


@pytest.mark.parametrize(("size", "hop", "samples"), [(8, 4, 20), (10, 4, 23), (6, 9, 31), (16, 3, 1)])
def test_frame_sums_equal_sums_of_unfolded_frames(size, hop, samples):
    x = torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(x, (size // 2, size // 2))
    torch.testing.assert_close(frame_sums(x, size, hop), padded.unfold(-1, size, hop).sum(-1))
