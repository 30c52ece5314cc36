"""Synthetic speakers differ as designed, and emotions change the audio in the directions of the literature."""

from dataclasses import replace
from functools import cache

import librosa
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import butter, sosfiltfilt

from serx.data.synthetic.speaking_styles import EMOTIONS, STYLES, synthesize_clip, synthesize_speaker
from serx.errors import ConfigError

SPEAKERS = range(1, 9)
FRAMES = {"frame_length": 1024, "hop_length": 160}
RATE = 16000


@cache
def clips(emotion: str) -> tuple[NDArray[np.float32], ...]:
    """Both statements of every speaker, strong except for neutral."""
    strong = emotion != "neutral"
    return tuple(
        synthesize_clip(synthesize_speaker(s, 0), emotion, strong, statement, 1, 0)
        for s in SPEAKERS
        for statement in (1, 2)
    )


@cache
def f0_hz(emotion: str) -> list[NDArray[np.float64]]:
    """Fundamental frequency of the voiced frames of each of these clips."""
    tracks = []
    for clip in clips(emotion):
        f0, voiced, _ = librosa.pyin(
            clip, fmin=55, fmax=650, sr=RATE, frame_length=1024, hop_length=320, resolution=0.2
        )
        tracks.append(f0[voiced])
    return tracks


def level_db(clip):
    return 10 * np.log10(np.mean(clip**2))


def tilt_db(clip):
    """Energy above 1 kHz relative to that below, during vowels, in dB."""
    power = np.abs(librosa.stft(clip, n_fft=512, hop_length=160)) ** 2
    frequency = librosa.fft_frequencies(sr=RATE, n_fft=512)
    low, high = power[frequency < 1000].sum(axis=0), power[(frequency > 1000) & (frequency < 5000)].sum(axis=0)
    vowel = low > 0.05 * low.max()
    return 10 * np.log10(high[vowel].sum() / low[vowel].sum())


def irregularity(clip):
    """Mean difference of neighboring periods of the first harmonic, relative to a period."""
    level = librosa.feature.rms(y=clip, frame_length=512, hop_length=160)[0]
    middle = np.median(
        librosa.yin(clip, fmin=60, fmax=650, sr=RATE, frame_length=1024, hop_length=160)[level > 0.3 * level.max()]
    )
    fundamental = sosfiltfilt(butter(2, [0.6 * middle, 1.6 * middle], "bandpass", fs=RATE, output="sos"), clip)
    up = np.flatnonzero((fundamental[:-1] < 0) & (fundamental[1:] >= 0))
    times = up - fundamental[up] / (fundamental[up + 1] - fundamental[up])
    periods = np.diff(times)
    vowel = np.interp(times[1:], 160 * np.arange(len(level)), level) > 0.3 * level.max()
    vowel &= np.abs(np.log(periods * middle / RATE)) < np.log(1.5)
    runs = vowel[2:] & vowel[1:-1] & vowel[:-2]
    return np.mean((np.abs(np.diff(periods, 2)) / periods[1:-1])[runs])


def mean_of(measure, emotion):
    return np.mean([measure(clip) for clip in clips(emotion)])


def semitones(emotion, percentile):
    """Mean over the clips of a percentile of the pitch, semitones re 1 Hz."""
    return np.mean([12 * np.log2(np.percentile(f0, percentile)) for f0 in f0_hz(emotion)])


def final_rise(emotion):
    """Semitones from the median pitch to that of the last 100 ms of voiced frames."""
    return np.mean([12 * np.log2(np.median(f0[-5:]) / np.median(f0)) for f0 in f0_hz(emotion)])


def test_men_have_a_lower_f0_than_women_near_the_speaker_s_own():
    speakers = [synthesize_speaker(s, 0) for s in SPEAKERS]
    measured = np.array([np.median(f0) for f0 in f0_hz("neutral")]).reshape(-1, 2).mean(axis=1)
    assert [s.sex for s in speakers] == ["male", "female"] * 4
    assert measured[::2].max() < measured[1::2].min()
    assert np.all(np.abs(12 * np.log2(measured / [s.f0_hz for s in speakers])) < 5)


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_f0_stays_in_the_range_of_the_speaker(emotion):
    for i, f0 in enumerate(f0_hz(emotion)):
        lowest, highest = synthesize_speaker(1 + i // 2, 0).f0_range_hz
        low, high = np.percentile(f0, [3, 97])
        assert lowest < low < high < highest


def test_formants_are_proportional_to_the_speaker_s_tract_factor():
    factors, third = [], []
    for speaker in SPEAKERS:
        clip = librosa.resample(
            synthesize_clip(synthesize_speaker(speaker, 0), "neutral", False, 1, 1, 0), orig_sr=RATE, target_sr=10000
        )
        clip = librosa.effects.preemphasis(clip)
        frames = librosa.util.frame(clip, frame_length=300, hop_length=100).T * np.hamming(300)
        energy = np.sum(frames**2, axis=1)
        found = []
        for frame in frames[energy > 0.2 * energy.max()]:
            roots = np.roots(librosa.lpc(frame, order=12))
            sharp = roots[(roots.imag > 0) & (-np.log(np.abs(roots)) * 10000 / np.pi < 400)]
            frequencies = np.sort(np.angle(sharp)) * 10000 / (2 * np.pi)
            found += frequencies[(frequencies > 1900) & (frequencies < 3200)][:1].tolist()
        factors.append(synthesize_speaker(speaker, 0).tract)
        third.append(np.median(found))
    assert np.corrcoef(factors, third)[0, 1] > 0.9
    assert np.median(np.array(third) / factors) == pytest.approx(2450, rel=0.05)  # that of the men of Peterson & Barney


def test_anger_is_louder_and_its_spectrum_flatter_than_sadness():
    assert mean_of(level_db, "angry") > mean_of(level_db, "neutral") + 5 > mean_of(level_db, "sad") + 10
    assert mean_of(tilt_db, "angry") > mean_of(tilt_db, "sad") + 2


def test_happiness_is_higher_and_more_varied_than_neutral():
    assert semitones("happy", 50) > semitones("neutral", 50) + 3
    assert semitones("happy", 95) - semitones("happy", 5) > semitones("neutral", 95) - semitones("neutral", 5) + 0.5


def test_sadness_and_calm_are_slower_than_neutral_and_anger_and_fear_faster():
    slow, neutral, fast = (
        [mean_of(len, emotion) / RATE for emotion in group]
        for group in (("sad", "calm"), ("neutral",), ("angry", "fearful"))
    )
    assert min(slow) > neutral[0] + 0.1
    assert max(fast) < neutral[0] - 0.1


def test_fear_makes_periods_irregular_partly_by_jitter(monkeypatch):
    fearful = mean_of(irregularity, "fearful")
    assert fearful > 1.5 * mean_of(irregularity, "neutral")
    monkeypatch.setitem(STYLES, "fearful", replace(STYLES["fearful"], jitter=0.0))
    without_jitter = clips.__wrapped__("fearful")
    assert np.mean([irregularity(clip) for clip in without_jitter]) < 0.92 * fearful


def test_surprise_rises_at_the_end_and_sadness_falls():
    assert final_rise("surprised") > final_rise("neutral") + 1.5
    assert final_rise("sad") < final_rise("neutral") - 0.7


def test_a_strong_emotion_deviates_more_than_a_normal_one():
    normal = np.mean([level_db(synthesize_clip(synthesize_speaker(s, 0), "angry", False, 1, 1, 0)) for s in SPEAKERS])
    strong = np.mean([level_db(synthesize_clip(synthesize_speaker(s, 0), "angry", True, 1, 1, 0)) for s in SPEAKERS])
    assert strong > normal + 1.5


@pytest.mark.parametrize("emotion", EMOTIONS)
def test_samples_are_finite_unclipped_and_0_8_to_2_seconds(emotion):
    for clip in clips(emotion):
        assert clip.dtype == np.float32
        assert 0.8 * RATE <= len(clip) <= 2.0 * RATE
        assert np.all(np.isfinite(clip))
        assert 0.01 < np.max(np.abs(clip)) < 0.99
        assert np.mean(np.abs(clip) > 0.97 * np.max(np.abs(clip))) < 0.005  # a clipped wave stays at its peak
        np.testing.assert_array_equal(clip * 32768, np.round(clip * 32768))


def test_the_samples_depend_on_each_argument_and_nothing_else():
    first = synthesize_clip(synthesize_speaker(3, 0), "happy", True, 1, 1, 0)
    np.testing.assert_array_equal(first, synthesize_clip(synthesize_speaker(3, 0), "happy", True, 1, 1, 0))
    others = [
        synthesize_clip(synthesize_speaker(5, 0), "happy", True, 1, 1, 0),
        synthesize_clip(synthesize_speaker(3, 0), "sad", True, 1, 1, 0),
        synthesize_clip(synthesize_speaker(3, 0), "happy", False, 1, 1, 0),
        synthesize_clip(synthesize_speaker(3, 0), "happy", True, 2, 1, 0),
        synthesize_clip(synthesize_speaker(3, 0), "happy", True, 1, 2, 0),
        synthesize_clip(synthesize_speaker(3, 1), "happy", True, 1, 1, 1),
    ]
    assert not any(np.array_equal(first, other) for other in others)
    assert synthesize_speaker(3, 0) == synthesize_speaker(3, 0) != synthesize_speaker(3, 1)


@pytest.mark.parametrize(
    "wrong", [("joy", False, 1, 1), ("neutral", True, 1, 1), ("sad", True, 3, 1), ("sad", True, 1, 0)]
)
def test_a_clip_that_does_not_exist_raises_one_line(wrong):
    emotion, strong, statement, repetition = wrong
    with pytest.raises(ConfigError, match=r"^no such clip: .*surprised.*[^\n]$"):
        synthesize_clip(synthesize_speaker(1, 0), emotion, strong, statement, repetition, 0)
