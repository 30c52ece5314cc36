"""The source and the filter have the properties that their arguments set."""

import numpy as np
import pytest
from scipy.signal import lfilter

from serx.data.synthetic import vocal_tract

SECONDS = 2.0
N_FRAMES = int(SECONDS * vocal_tract.SAMPLE_RATE / vocal_tract.HOP)


def phonate(f0_hz: float = 100.0, **changes: float) -> vocal_tract.Array:
    settings = {"open_quotient": 0.6, "tilt_db": 1.0, "jitter": 0.0, "shimmer": 0.0, "breath_db": -120.0} | changes
    steady = np.ones(N_FRAMES)
    return vocal_tract.phonate(f0_hz * steady, steady, generator=np.random.default_rng(0), **settings)


def closures(source: vocal_tract.Array, f0_hz: float) -> tuple[vocal_tract.Array, vocal_tract.Array]:
    """Time (in samples, interpolated) and depth of the minimum at the end of every glottal cycle."""
    period = int(vocal_tract.SAMPLE_RATE / f0_hz)
    minima = [
        i for i in range(period, len(source) - period) if source[i] == source[i - period // 2 : i + period // 2].min()
    ]
    left, middle, right = (source[np.array(minima) + shift] for shift in (-1, 0, 1))
    return np.array(minima) + (left - right) / (2 * (left - 2 * middle + right)), -middle


def harmonic_db(source: vocal_tract.Array, frequency_hz: float) -> float:
    spectrum = np.abs(np.fft.rfft(source * np.hanning(len(source))))
    center = round(frequency_hz * len(source) / vocal_tract.SAMPLE_RATE)
    return 20 * np.log10(spectrum[center - 3 : center + 4].max())


@pytest.mark.parametrize("jitter", [0.01, 0.03])
def test_periods_have_the_requested_jitter(jitter):
    times, _ = closures(phonate(jitter=jitter), 100.0)
    periods = np.diff(times)
    assert np.mean(np.abs(np.diff(periods))) / np.mean(periods) == pytest.approx(jitter, rel=0.15)


@pytest.mark.parametrize("shimmer", [0.05, 0.2])
def test_pulses_have_the_requested_shimmer(shimmer):
    _, depths = closures(phonate(f0_hz=100.0, shimmer=shimmer, tilt_db=8.0), 100.0)
    assert np.mean(np.abs(np.diff(depths))) / np.mean(depths) == pytest.approx(shimmer, rel=0.2)


def test_the_tilt_attenuates_the_source_at_3_khz():
    steep, flat = phonate(tilt_db=15.0), phonate(tilt_db=0.01)
    fall = harmonic_db(flat, 3000) - harmonic_db(flat, 100) - harmonic_db(steep, 3000) + harmonic_db(steep, 100)
    assert fall == pytest.approx(15.0, abs=0.3)


def test_pressed_phonation_has_a_weaker_first_harmonic():
    pressed, breathy = phonate(open_quotient=0.4), phonate(open_quotient=0.8)
    assert harmonic_db(pressed, 100) - harmonic_db(pressed, 200) < harmonic_db(breathy, 100) - harmonic_db(breathy, 200)


def test_breath_noise_has_the_requested_level():
    clean, breathy = phonate(), phonate(breath_db=-10.0)
    noise = breathy - clean
    # The glottis is open for 60 % of a cycle, with noise at full amplitude; the rest has 0.3.
    expected = -10 + 10 * np.log10(0.6 * 1.0 + 0.4 * 0.3**2)
    assert 20 * np.log10(np.std(noise) / np.std(clean)) == pytest.approx(expected, abs=0.3)


def test_a_constant_tract_is_a_cascade_of_klatt_resonators():
    formants, n = np.array([500.0, 1500, 2500, 3500, 4500]), 64
    tracks = vocal_tract.Tracks(np.tile(formants, (n, 1)), np.ones(n), np.zeros(n), np.full(n, 4000.0))
    source = np.random.default_rng(0).standard_normal(n * vocal_tract.HOP)
    expected = source
    for f, b in zip(formants, vocal_tract.BANDWIDTHS_HZ, strict=True):  # Klatt 1980, equations 1 and 2
        c = -np.exp(-2 * np.pi * b / vocal_tract.SAMPLE_RATE)
        d = 2 * np.exp(-np.pi * b / vocal_tract.SAMPLE_RATE) * np.cos(2 * np.pi * f / vocal_tract.SAMPLE_RATE)
        expected = lfilter([1 - d - c], [1, -d, -c], expected)
    result = vocal_tract.resonate(source, np.zeros_like(source), tracks)
    settled = slice(10 * vocal_tract.HOP, None)  # the first segment fades in
    assert np.max(np.abs(result - expected)[settled]) < 1e-3 * np.max(np.abs(expected))


def test_a_shorter_tract_scales_formants_and_transitions_are_gradual():
    phones = [vocal_tract.PHONES["i"][0], vocal_tract.PHONES["u"][0]]
    man, woman = (vocal_tract.articulate(phones, [0.2, 0.2], tract) for tract in (1.0, 1.17))
    np.testing.assert_allclose(woman.formants_hz, 1.17 * man.formants_hz)
    np.testing.assert_allclose(man.formants_hz[[5, -5], 1], [2290, 870])
    glide = man.formants_hz[20:31, 1]
    assert np.all(np.diff(glide) <= 0)
    assert np.min(np.diff(glide)) > 870 - 2290  # more than one step


def test_room_noise_has_the_requested_level():
    noise = vocal_tract.record(np.zeros(32000), (0.0,) * 6, -50.0, np.random.default_rng(0))
    assert 20 * np.log10(np.sqrt(np.mean(noise**2))) == pytest.approx(-50.0, abs=0.1)


def test_the_microphone_applies_its_response_at_each_frequency():
    times = np.arange(16000) / vocal_tract.SAMPLE_RATE
    for frequency, gain_db in zip(vocal_tract.MICROPHONE_HZ[1:-1], (3.0, -2.0, 1.0, -4.0), strict=True):
        tone = np.sin(2 * np.pi * frequency * times)
        recorded = vocal_tract.record(tone, (0.0, 3.0, -2.0, 1.0, -4.0, 0.0), -120.0, np.random.default_rng(0))
        assert 20 * np.log10(np.std(recorded) / np.std(tone)) == pytest.approx(gain_db, abs=0.01)
