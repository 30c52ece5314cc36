"""Pitch and voicing: harmonic tones to a few cents, noise and silence unvoiced, real voices as librosa hears them."""

import librosa
import numpy as np
import pytest
import torch

from serx.dsp.pitch import REFERENCE, track_pitch
from tests.conftest import RATE, batched


def pitch_of(wave: np.ndarray, rate: int = RATE, lowest: float = 65.0) -> tuple[np.ndarray, np.ndarray]:
    pitch = track_pitch(torch.from_numpy(wave)[None], 256, rate, lowest, 800.0)
    return pitch.semitones[0, :, 0].numpy(), pitch.voicing[0, :, 0].numpy()


def semitones(hertz: np.ndarray | float) -> np.ndarray:
    return 12 * np.log2(np.asarray(hertz) / REFERENCE)


def voice(hertz: np.ndarray | float, seconds: float = 0.5, rate: int = RATE, tilt: float = 1.0) -> np.ndarray:
    """Harmonics up to 4 kHz that fall by `tilt`."""
    phase = 2 * np.pi * np.cumsum(np.broadcast_to(hertz, round(seconds * rate))) / rate
    count = int(min(4000, rate / 2 - 1) / np.max(hertz))
    wave = sum(np.sin(k * phase + k) / k**tilt for k in range(1, count + 1))
    return (0.3 * wave / np.abs(wave).max()).astype(np.float32)


@pytest.mark.parametrize("hertz", [75.0, 110.0, 157.3, 220.0, 333.3, 512.0, 760.0])
@pytest.mark.parametrize("tilt", [0.5, 1.0, 2.0])
def test_a_harmonic_tones_pitch_is_right_to_a_few_cents(hertz, tilt):
    pitch, voicing = pitch_of(voice(hertz, tilt=tilt))
    inner = slice(4, -4)
    assert np.abs(pitch[inner] - semitones(hertz)).max() < 0.04
    assert voicing[inner].min() > 0.95


def test_a_missing_fundamental_is_heard():
    time = np.arange(8000) / RATE
    wave = sum(np.sin(2 * np.pi * 200 * k * time) for k in (3, 4, 5, 6)).astype(np.float32) / 4
    assert np.abs(pitch_of(wave)[0][4:-4] - semitones(200.0)).max() < 0.04


def test_a_glide_is_followed():
    hertz = np.geomspace(120, 240, RATE)
    pitch, _ = pitch_of(voice(hertz, 1.0))
    center = np.minimum(np.arange(len(pitch)) * 256, RATE - 1)
    assert np.abs(pitch - semitones(hertz[center]))[4:-4].max() < 0.3


def test_level_and_a_little_noise_change_nothing_much():
    wave = voice(180.0)
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
    for level in (0.1, 0.3, 1.0):  # beside which a hum is nothing but rounding
        assert not pitch_of((level + hum).astype(np.float32))[0][4:-4].any()


@pytest.mark.parametrize("rate", [8000, 22050, 48000])
def test_other_sample_rates_and_ranges(rate):
    pitch, _ = pitch_of(voice(140.0, rate=rate), rate, lowest=50.0)
    assert np.abs(pitch[len(pitch) // 3 : -len(pitch) // 3] - semitones(140.0)).max() < 0.05


@pytest.mark.speech
def test_real_voices_are_heard_as_librosas_pyin_hears_them(speech_root):
    files = sorted((speech_root / "ravdess16k" / "Actor_02").glob("*.flac"))[:6:2]
    waves = [librosa.load(path, sr=RATE)[0] for path in files]
    tracked = track_pitch(batched(waves)[0], 256, RATE, 65.0, 800.0)
    agree, close = [], []
    for i, wave in enumerate(waves):
        f0, voiced, _ = librosa.pyin(wave, fmin=65, fmax=800, sr=RATE, frame_length=1024, hop_length=256)
        mine = tracked.semitones[i, : len(f0), 0].numpy()
        both = voiced & (mine > 0)
        agree.append((voiced == (mine > 0)).mean())
        close.append((np.abs(mine - semitones(np.where(voiced, f0, 1.0)))[both] < 0.5).mean())
    assert np.mean(agree) > 0.8
    assert np.mean(close) > 0.9
