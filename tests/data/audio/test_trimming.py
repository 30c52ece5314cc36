"""Silence at both ends: what is cut, what is kept, and how little that depends on a small change of the sound."""

import numpy as np
import pytest

from serx.data.audio.clip import prepare_clip
from serx.data.audio.config import AudioConfig
from serx.data.audio.trimming import trim_bounds, trim_silence
from tests.conftest import RATE, speechlike


def after_breath(breath_db: float) -> np.ndarray:
    """`(T,)`: half a second of a tone, with half a second of noise before and after it, `breath_db` below the tone."""
    tone = np.sin(np.arange(RATE // 2) * 0.3)
    breath = np.sign(np.sin(np.arange(RATE // 2) * 1.1)) * 10 ** (-breath_db / 20) / np.sqrt(2)
    return np.concatenate([breath, tone, breath]).astype(np.float32)


def test_trimming_cuts_silent_ends_and_keeps_a_margin():
    loud = speechlike(0.5, 200, 0, level=0.5)
    hiss = 1e-4 * np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    trimmed = trim_silence(np.concatenate([hiss, loud, hiss[:8000]]), RATE, 35.0, 0.05)
    assert 0.5 <= len(trimmed) / RATE <= 0.5 + 2 * 0.05 + 0.06
    assert np.abs(trimmed).max() == np.abs(loud).max()


@pytest.mark.parametrize("spread_db", [0.0, 5.0])
def test_trimming_does_not_depend_on_the_level(spread_db):
    sound = np.concatenate([np.zeros(5000), speechlike(0.4, 150, 1), np.zeros(3000)]).astype(np.float32)
    quiet, loud = (trim_silence(sound * level, RATE, 35.0, 0.05, spread_db) for level in (1, 2))
    assert np.array_equal(quiet * 2, loud)


def test_a_breath_at_the_threshold_is_kept_or_cut_as_a_whole_by_one_threshold_and_by_degrees_by_several():
    def lengths(spread_db):
        bounds = [trim_bounds(after_breath(level), RATE, 35.0, 0.0, spread_db) for level in np.arange(28.5, 43, 1.0)]
        return np.array([end - start for start, end in bounds])

    steps = np.diff(lengths(0.0))
    assert steps.min() < -0.9 * RATE and np.count_nonzero(steps) == 1
    steps = np.diff(lengths(5.0))
    assert steps.min() >= -RATE // 11 - 1 and np.count_nonzero(steps) == 11
    assert lengths(5.0)[0] == lengths(0.0)[0] and lengths(5.0)[-1] == lengths(0.0)[-1]


def test_several_thresholds_give_the_mean_of_their_cuts():
    sound = np.concatenate([np.geomspace(1e-4, 1, RATE), np.geomspace(1, 1e-3, RATE // 2)]).astype(np.float32)
    sound *= np.sin(np.arange(len(sound)) * 0.2)
    each = np.array([trim_bounds(sound, RATE, threshold, 0.0) for threshold in range(28, 33)])
    bounds = trim_bounds(sound, RATE, 30.0, 0.0, spread_db=2.0)  # 28.0, 28.4, ...: not only those of `each`
    np.testing.assert_allclose(bounds, each.mean(axis=0), atol=100)
    assert (each[0] - each[-1])[0] > 700  # far apart


def test_decoding_trims_with_the_thresholds_of_its_settings():
    sound = after_breath(33.0)
    for spread_db in (0.0, 5.0):
        config = AudioConfig(trim_db=35.0, trim_spread_db=spread_db)
        expected = trim_silence(sound, RATE, 35.0, config.trim_keep_seconds, spread_db)
        assert np.array_equal(prepare_clip(sound, RATE, config), expected)
