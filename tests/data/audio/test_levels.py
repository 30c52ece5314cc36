"""Levels: silence, offsets and samples that are no numbers; quick checks decide as the exact ones."""

import math

import numpy as np
import pytest
import soundfile

from serx.data.audio import levels
from serx.data.audio.config import AudioConfig
from serx.data.audio.decoding import decode, read_folder
from serx.data.audio.error import AudioError
from serx.data.audio.levels import SILENT_DB, loudest_level_db, remove_offset
from tests.conftest import RATE, speechlike
from tests.data.audio.test_decoding import PLAIN, error_reason, write


@pytest.mark.parametrize("seconds", [0.05, 3.0])
def test_the_level_is_that_of_the_loudest_25_ms_without_an_offset(seconds):
    time = np.arange(round(seconds * RATE)) / RATE
    tone = np.sin(2 * np.pi * 400 * time)  # whole periods in 25 ms
    assert loudest_level_db(0.1 * tone, RATE) == pytest.approx(-20 - 10 * np.log10(2), abs=0.01)
    assert loudest_level_db(0.1 * tone + 0.5, RATE) == pytest.approx(-20 - 10 * np.log10(2), abs=0.01)
    late = np.concatenate([np.zeros(RATE + 77), 0.1 * tone])
    assert loudest_level_db(late, RATE) == pytest.approx(-20 - 10 * np.log10(2), abs=0.5)
    assert loudest_level_db(np.full(RATE, 0.5), RATE) == loudest_level_db(tone[:0], RATE) == -np.inf


@pytest.mark.parametrize(("level_db", "is_silent"), [(-90, True), (-82, True), (-78, False), (-60, False)])
@pytest.mark.parametrize("rate", [8_000, RATE, 48_000])
def test_noise_below_the_last_bits_of_16_is_silent_and_soft_noise_is_not(level_db, is_silent, rate, tmp_path):
    noise = 10 ** (level_db / 20) * np.random.default_rng(0).choice([-1.0, 1.0], rate)
    noise = np.repeat(noise, 10)[:rate]  # below 4 kHz for the most part, so that resampling takes little away
    path = write(tmp_path / "a.wav", noise, rate, subtype="FLOAT")
    if is_silent:
        assert error_reason(path) == "silent"
    else:
        assert len(decode(path, PLAIN)) == RATE


def test_recordings_of_noise_may_be_as_soft_as_they_are(tmp_path):
    write(tmp_path / "room.wav", 1e-5 * np.random.default_rng(0).standard_normal(RATE), subtype="FLOAT")
    assert len(read_folder(tmp_path, RATE)[0]) == RATE
    write(tmp_path / "room.wav", np.zeros(RATE))
    with pytest.raises(AudioError, match="silent: every sample is zero"):
        read_folder(tmp_path, RATE)


@pytest.mark.speech
def test_the_softest_clips_of_real_corpora_are_far_from_silent(speech_root):
    """RAVDESS has the softest clips of the corpora at hand; all clips of these speakers are measured."""
    for folder in ("ravdess16k/Actor_09", "ravdess16k/Actor_20"):
        levels = [loudest_level_db(decode(path, PLAIN), RATE) for path in (speech_root / folder).rglob("*.flac")]
        assert len(levels) == 60 and SILENT_DB + 20 < min(levels) < -50


@pytest.mark.parametrize("tail", [0.0, 0.3])
@pytest.mark.parametrize(
    ("sample", "reason"), [(np.nan, "nonfinite"), (-np.inf, "nonfinite"), (2e4, "absurd_level"), (-2e4, "absurd_level")]
)
def test_one_bad_sample_among_good_ones_is_an_error(sample, reason, tail, tmp_path):
    samples = np.full(RATE, tail, np.float32)
    samples[::2] *= -1
    samples[777] = sample
    soundfile.write(tmp_path / "a.wav", samples, RATE, subtype="FLOAT")
    with pytest.raises(AudioError) as error:
        decode(tmp_path / "a.wav", AudioConfig(sample_rate=RATE))
    assert error.value.reason == reason


@pytest.mark.parametrize("offset", [0.5, -0.2, 0.01])
def test_a_constant_offset_changes_nothing(offset, tmp_path):
    wave = 0.3 * speechlike(1.0, 150, 0)
    wave -= wave.mean()
    soundfile.write(tmp_path / "a.wav", np.r_[wave, 1e-3 * wave] + offset, 44_100, subtype="FLOAT")
    soundfile.write(tmp_path / "b.wav", np.r_[wave, 1e-3 * wave], 44_100, subtype="FLOAT")
    config = AudioConfig(trim_db=30.0)
    shifted, plain = decode(tmp_path / "a.wav", config), decode(tmp_path / "b.wav", config)
    np.testing.assert_allclose(shifted, plain, atol=1e-6)


def test_a_small_mean_is_left_alone_bit_for_bit():
    wave = speechlike(1.0, 150, 0)
    wave -= wave.mean()
    assert remove_offset(kept := wave + np.float32(0.049 * wave.std())) is kept
    assert abs(remove_offset(wave + np.float32(0.06 * wave.std())).mean()) < 1e-6
    assert loudest_level_db(remove_offset(np.full(RATE, 0.5, np.float32)), RATE) == -np.inf


def test_the_quick_check_of_an_offset_decides_as_the_exact_one():
    random = np.random.default_rng(0)
    for offset in (0.0, 0.02, 0.0499, 0.0501, 0.06, -0.06, 0.5, 5.0):
        wave = random.standard_normal(9000)
        wave = ((wave - wave.mean()) / wave.std() + offset).astype(np.float32)
        mean = wave.mean(dtype=np.float64)
        is_kept = abs(mean) <= levels.MAX_OFFSET * wave.std(dtype=np.float64)
        expected = wave if is_kept else wave - np.float32(mean)
        assert np.array_equal(levels.remove_offset(wave), expected)


@pytest.mark.parametrize("loud_at", [None, 0, 4100, 8300, 8399])
@pytest.mark.parametrize("peak_at", [None, 5000])
def test_a_clip_is_silent_wherever_its_loudest_25_ms_are_too_quiet(loud_at, peak_at):
    wave = np.full(8400, 0.2, np.float32)  # a constant has no level
    if peak_at is not None:
        wave[peak_at:] += 1.0e-5  # a step has a high value and hardly any level
    if loud_at is not None:
        wave[loud_at] -= 0.1
    level_db = levels.loudest_level_db(wave, RATE)
    assert math.isinf(level_db) or level_db < levels.SILENT_DB or loud_at is not None
    if loud_at is None:
        with pytest.raises(AudioError, match="silent"):
            levels.check_not_silent(wave, RATE, "a.wav")
    else:
        levels.check_not_silent(wave, RATE, "a.wav")


def test_a_clip_with_a_silent_middle_is_not_silent():
    wave = np.zeros(8400, np.float32)
    wave[:800] = 0.01 * np.sin(np.arange(800))
    levels.check_not_silent(wave, RATE, "a.wav")


@pytest.mark.parametrize("size", [0, 1, 2, 399, 400, 65_536, 262_145])
def test_the_quick_mean_and_mean_square_are_exact_to_a_ten_thousandth(size):
    wave = np.random.default_rng(size).normal(0.05, 0.1, size).astype(np.float32)
    mean, power = levels.quick_moments(wave)
    exact = np.square(wave, dtype=np.float64).sum() / max(1, size)
    assert abs(power - exact) <= 1e-4 * exact
    assert abs(mean - wave.sum(dtype=np.float64) / max(1, size)) <= 1e-4 * math.sqrt(exact)
