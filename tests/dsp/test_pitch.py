"""Pitch of harmonic tones is right to a few cents, noise is unvoiced, and real voices agree with librosa's pYIN."""

import librosa
import numpy as np
import pytest
import torch

from serx.dsp.pitch import REFERENCE, track_pitch
from tests.conftest import RATE, batched


def pitch_of(wave: np.ndarray, rate: int = RATE, f_min: float = 65.0) -> tuple[np.ndarray, np.ndarray]:
    pitch = track_pitch(torch.from_numpy(wave)[None], 256, rate, f_min, 800.0)
    return pitch.semitones[0, :, 0].numpy(), pitch.voicing[0, :, 0].numpy()


def semitones(hertz: np.ndarray | float) -> np.ndarray:
    return 12 * np.log2(np.asarray(hertz) / REFERENCE)


def harmonic_tone(hertz: np.ndarray | float, seconds: float = 0.5, rate: int = RATE, tilt: float = 1.0) -> np.ndarray:
    """Harmonics k up to 4 kHz with amplitudes 1 / k^tilt."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(hertz, round(seconds * rate))) / rate
    count = int(min(4000, rate / 2 - 1) / np.max(hertz))
    wave = sum(np.sin(k * phase + k) / k**tilt for k in range(1, count + 1))
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)


@pytest.mark.parametrize("hertz", [75.0, 110.0, 157.3, 220.0, 333.3, 512.0, 760.0])
@pytest.mark.parametrize("tilt", [0.5, 1.0, 2.0])
def test_the_pitch_of_a_harmonic_tone_is_right_to_a_few_cents(hertz, tilt):
    pitch, voicing = pitch_of(harmonic_tone(hertz, tilt=tilt))
    inner = slice(4, -4)
    assert np.abs(pitch[inner] - semitones(hertz)).max() < 0.04
    assert voicing[inner].min() > 0.95


def test_the_pitch_of_harmonics_without_their_fundamental_is_that_fundamental():
    time = np.arange(8000) / RATE
    wave = sum(np.sin(2 * np.pi * 200 * k * time) for k in (3, 4, 5, 6)).astype(np.float32) / 4
    assert np.abs(pitch_of(wave)[0][4:-4] - semitones(200.0)).max() < 0.04


def test_the_pitch_of_a_glide_follows_it():
    hertz = np.geomspace(120, 240, RATE)
    pitch, _ = pitch_of(harmonic_tone(hertz, 1.0))
    center = np.minimum(np.arange(len(pitch)) * 256, RATE - 1)
    assert np.abs(pitch - semitones(hertz[center]))[4:-4].max() < 0.3


def test_a_gain_and_weak_noise_hardly_change_the_pitch():
    wave = harmonic_tone(180.0)
    noisy = wave + 0.01 * np.random.default_rng(0).standard_normal(len(wave)).astype(np.float32)
    soft, _ = pitch_of(wave * 1e-3)
    assert np.abs(soft - pitch_of(wave)[0]).max() < 1e-3
    assert np.abs(pitch_of(noisy)[0] - semitones(180.0))[4:-4].max() < 0.1


def test_noise_silence_and_a_constant_have_no_pitch():
    noise = np.random.default_rng(1).standard_normal(2 * RATE).astype(np.float32) * 0.1
    pitch, voicing = pitch_of(noise)
    assert (pitch > 0).mean() < 0.02 and voicing.mean() < 0.4
    assert not pitch_of(np.zeros(8000, np.float32))[0].any()
    hum = 3e-6 * np.sin(2 * np.pi * 200 * np.arange(8000) / RATE)
    for level in (0.1, 0.3, 1.0):  # next to which the hum is lost in rounding
        assert not pitch_of((level + hum).astype(np.float32))[0][4:-4].any()


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_pitch_is_right_at_other_sample_rates_and_ranges(rate):
    pitch, _ = pitch_of(harmonic_tone(140.0, rate=rate), rate, f_min=50.0)
    assert np.abs(pitch[len(pitch) // 3 : -len(pitch) // 3] - semitones(140.0)).max() < 0.05


@pytest.mark.speech
def test_pitch_of_real_voices_agrees_with_librosas_pyin(speech_root):
    files = sorted((speech_root / "ravdess16k" / "Actor_02").glob("*.flac"))[:6:2]
    waves = [librosa.load(path, sr=RATE)[0] for path in files]
    tracked = track_pitch(batched(waves)[0], 256, RATE, 65.0, 800.0)
    voicing_agrees, pitch_agrees = [], []
    for i, wave in enumerate(waves):
        f0, voiced, _ = librosa.pyin(wave, fmin=65, fmax=800, sr=RATE, frame_length=1024, hop_length=256)
        pitch = tracked.semitones[i, : len(f0), 0].numpy()
        both = voiced & (pitch > 0)
        voicing_agrees.append((voiced == (pitch > 0)).mean())
        pitch_agrees.append((np.abs(pitch - semitones(np.where(voiced, f0, 1.0)))[both] < 0.5).mean())
    assert np.mean(voicing_agrees) > 0.8
    assert np.mean(pitch_agrees) > 0.9
