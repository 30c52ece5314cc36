"""The source and the filter do what their arguments say."""

import numpy as np
import pytest
from scipy.signal import lfilter

from serx.data.synthetic import vocal_tract as voice

SECONDS = 2.0
N_FRAMES = int(SECONDS * voice.SAMPLE_RATE / voice.HOP)


def phonate(f0_hz: float = 100.0, **changes: float) -> voice.Array:
    settings = {"open_quotient": 0.6, "tilt_db": 1.0, "jitter": 0.0, "shimmer": 0.0, "breath_db": -120.0} | changes
    steady = np.ones(N_FRAMES)
    return voice.phonate(f0_hz * steady, steady, generator=np.random.default_rng(0), **settings)


def closures(source: voice.Array, f0_hz: float) -> tuple[voice.Array, voice.Array]:
    """Instant (samples, to a fraction) and depth of the dip at the end of every glottal cycle."""
    period = int(voice.SAMPLE_RATE / f0_hz)
    dips = [
        i for i in range(period, len(source) - period) if source[i] == source[i - period // 2 : i + period // 2].min()
    ]
    left, middle, right = (source[np.array(dips) + shift] for shift in (-1, 0, 1))
    return np.array(dips) + (left - right) / (2 * (left - 2 * middle + right)), -middle


def harmonic_db(source: voice.Array, frequency_hz: float) -> float:
    spectrum = np.abs(np.fft.rfft(source * np.hanning(len(source))))
    center = round(frequency_hz * len(source) / voice.SAMPLE_RATE)
    return 20 * np.log10(spectrum[center - 3 : center + 4].max())


@pytest.mark.parametrize("asked", [0.01, 0.03])
def test_the_periods_jitter_as_much_as_asked(asked):
    times, _ = closures(phonate(jitter=asked), 100.0)
    periods = np.diff(times)
    assert np.mean(np.abs(np.diff(periods))) / np.mean(periods) == pytest.approx(asked, rel=0.15)


@pytest.mark.parametrize("asked", [0.05, 0.2])
def test_the_pulses_shimmer_as_much_as_asked(asked):
    _, depths = closures(phonate(f0_hz=100.0, shimmer=asked, tilt_db=8.0), 100.0)
    assert np.mean(np.abs(np.diff(depths))) / np.mean(depths) == pytest.approx(asked, rel=0.2)


def test_the_source_falls_by_the_tilt_at_3_khz():
    steep, flat = phonate(tilt_db=15.0), phonate(tilt_db=0.01)
    fall = harmonic_db(flat, 3000) - harmonic_db(flat, 100) - harmonic_db(steep, 3000) + harmonic_db(steep, 100)
    assert fall == pytest.approx(15.0, abs=0.3)


def test_a_pressed_voice_has_a_weaker_first_harmonic():
    pressed, breathy = phonate(open_quotient=0.4), phonate(open_quotient=0.8)
    assert harmonic_db(pressed, 100) - harmonic_db(pressed, 200) < harmonic_db(breathy, 100) - harmonic_db(breathy, 200)


def test_breath_stands_between_the_harmonics_at_its_level():
    clean, breathy = phonate(), phonate(breath_db=-10.0)
    noise = breathy - clean
    # 60 % of a cycle is open, at full strength; the rest at 0.3.
    expected = -10 + 10 * np.log10(0.6 * 1.0 + 0.4 * 0.3**2)
    assert 20 * np.log10(np.std(noise) / np.std(clean)) == pytest.approx(expected, abs=0.3)


def test_a_steady_tract_filters_like_a_cascade_of_klatt_resonators():
    formants, n = np.array([500.0, 1500, 2500, 3500, 4500]), 64
    tracks = voice.Tracks(np.tile(formants, (n, 1)), np.ones(n), np.zeros(n), np.full(n, 4000.0))
    source = np.random.default_rng(0).standard_normal(n * voice.HOP)
    expected = source
    for f, b in zip(formants, voice.BANDWIDTHS_HZ, strict=True):  # Klatt 1980, equations 1 and 2
        c = -np.exp(-2 * np.pi * b / voice.SAMPLE_RATE)
        d = 2 * np.exp(-np.pi * b / voice.SAMPLE_RATE) * np.cos(2 * np.pi * f / voice.SAMPLE_RATE)
        expected = lfilter([1 - d - c], [1, -d, -c], expected)
    result = voice.resonate(source, np.zeros_like(source), tracks)
    settled = slice(10 * voice.HOP, None)  # the first piece fades in
    assert np.max(np.abs(result - expected)[settled]) < 1e-3 * np.max(np.abs(expected))


def test_a_shorter_tract_raises_every_formant_and_only_those_in_between_glide():
    phones = [voice.PHONES["i"][0], voice.PHONES["u"][0]]
    man, woman = (voice.articulate(phones, [0.2, 0.2], tract) for tract in (1.0, 1.17))
    np.testing.assert_allclose(woman.formants_hz, 1.17 * man.formants_hz)
    np.testing.assert_allclose(man.formants_hz[[5, -5], 1], [2290, 870])
    glide = man.formants_hz[20:31, 1]
    assert np.all(np.diff(glide) <= 0)
    assert np.min(np.diff(glide)) > 870 - 2290  # it takes more than one step


def test_the_room_is_as_loud_as_asked():
    noise = voice.record(np.zeros(32000), (0.0,) * 6, -50.0, np.random.default_rng(0))
    assert 20 * np.log10(np.sqrt(np.mean(noise**2))) == pytest.approx(-50.0, abs=0.1)


def test_the_microphone_colours_each_frequency_by_its_own_gain():
    times = np.arange(16000) / voice.SAMPLE_RATE
    for frequency, gain_db in zip(voice.MICROPHONE_HZ[1:-1], (3.0, -2.0, 1.0, -4.0), strict=True):
        tone = np.sin(2 * np.pi * frequency * times)
        heard = voice.record(tone, (0.0, 3.0, -2.0, 1.0, -4.0, 0.0), -120.0, np.random.default_rng(0))
        assert 20 * np.log10(np.std(heard) / np.std(tone)) == pytest.approx(gain_db, abs=0.01)
