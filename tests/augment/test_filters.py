"""Filters and the telephone line, measured with tones and impulses."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from serx.augment.filters import BandPass, Equalizer, EqualizerParams, HighPass, LowPass
from serx.augment.telephone import Telephone, companded
from serx.dsp.fft_filter import convolve, fft_size
from serx.seeding import ClipRandom, derive
from tests.conftest import RATE


def tone(hertz: float, samples: int = 2 * RATE, level: float = 0.5) -> torch.Tensor:
    return level * torch.from_numpy(np.sin(2 * np.pi * hertz * np.arange(samples) / RATE)).float()[None]


def gain_db(transform, hertz: float) -> float:
    """The gain of a tone away from the clip's ends, by projection onto its own frequency."""
    x = tone(hertz)
    lengths = torch.tensor([x.shape[1]])
    params = transform.draw(lengths, ClipRandom(torch.tensor([0]), derive(0, "test")), RATE)
    y = transform.apply(x, lengths, params)[0]
    wave = np.exp(-2j * np.pi * hertz * np.arange(8000, 24_000) / RATE)
    parts = [abs(np.dot(z[0, 8000:24_000].double().numpy(), wave)) for z in (y, x)]
    return 20 * np.log10(parts[0] / parts[1])


def butterworth(ratio: float, order: int) -> float:
    return -10 * np.log10(1 + ratio ** (2 * order))


@pytest.mark.parametrize("order", [2, 4])
@pytest.mark.parametrize("hertz", [250.0, 1000.0, 2000.0, 4000.0])
def test_pass_filters_have_butterworth_responses(order, hertz):
    low = LowPass(p=1.0, cutoff_hz=(1000.0, 1000.0), order=order)
    high = HighPass(p=1.0, cutoff_hz=(1000.0, 1000.0), order=order)
    band = BandPass(p=1.0, low_hz=(500.0, 500.0), high_hz=(2000.0, 2000.0), order=order)
    assert gain_db(low, hertz) == pytest.approx(butterworth(hertz / 1000, order), abs=0.05)
    assert gain_db(high, hertz) == pytest.approx(butterworth(1000 / hertz, order), abs=0.05)
    both = butterworth(hertz / 2000, order) + butterworth(500 / hertz, order)
    assert gain_db(band, hertz) == pytest.approx(both, abs=0.05)


def test_each_clip_has_its_own_cut_off_uniform_in_octaves():
    params = LowPass(p=1.0).draw(torch.ones(4000), ClipRandom(torch.arange(4000), derive(0, "test")), RATE)
    hertz = params.high * RATE
    assert 2500 <= hertz.min() < 2520 and 7400 < hertz.max() <= 7500
    assert abs(float(hertz.log2().mean()) - np.log2(2500 * 7500) / 2) < 0.02


def test_a_filter_has_zero_phase():
    x = torch.zeros(1, 4000)
    x[0, 2000] = 1.0
    lengths = torch.tensor([4000])
    low = LowPass(p=1.0)
    y = low.apply(x, lengths, low.draw(lengths, ClipRandom(torch.tensor([0]), 1), RATE))[0][0]
    torch.testing.assert_close(y[1000:2000], y[2001:3001].flip(0), rtol=0, atol=1e-6)


def test_an_equalizer_band_has_its_gain_at_its_center_and_none_far_away():
    x, lengths = torch.zeros(2, RATE), torch.tensor([RATE, RATE])
    x[:, 8000] = 1.0
    ones = torch.ones(2, 1)
    params = EqualizerParams(
        torch.tensor([True, True]), ones * 1000 / RATE, torch.tensor([[9.0], [-6.0]]), ones * 2, 4000
    )
    response = torch.fft.rfft(Equalizer(p=1.0).apply(x, lengths, params)[0]).abs().log10() * 20
    assert response[0, 1000] == pytest.approx(9.0, abs=0.01)
    assert response[1, 1000] == pytest.approx(-6.0, abs=0.01)
    assert abs(response[:, 50]).max() < 0.1 and abs(response[:, 7900]).max() < 0.6
    assert 1.0 < response[0, 700] < 5.0  # half the gain in dB lies about center / Q apart


def test_the_telephone_keeps_300_to_3400_hz():
    assert abs(gain_db(Telephone(p=1.0), 1000.0)) < 0.2
    assert gain_db(Telephone(p=1.0), 100.0) < -60
    assert gain_db(Telephone(p=1.0), 6000.0) < -50


def test_companding_noise_has_the_power_of_8_bit_mu_law_quantization():
    x = torch.sin(torch.arange(20_000) * 0.1234)
    noise = torch.randn(20_000, generator=torch.Generator().manual_seed(0))

    def quantized(x: torch.Tensor) -> torch.Tensor:  # mu-law as ITU-T G.711 defines it
        level = torch.log1p(255 * x.abs()) / np.log(256)
        return x.sign() * torch.expm1((level * 127).round() / 127 * np.log(256)) / 255

    for level in (1.0, 0.1, 0.01):
        errors = [(y - level * x).square().mean() for y in (companded(level * x, noise), quantized(level * x))]
        assert abs(10 * torch.log10(errors[0] / errors[1])) < 1
    assert companded(torch.tensor([0.0, 1.0, -1.0, 5.0]), torch.zeros(4)).tolist() == [0, 1, -1, 1]
    assert companded(torch.zeros(1), torch.ones(1)) == 0


def test_fft_sizes_are_products_of_2_3_and_5_and_large_enough():
    for least in (1, 2, 7, 1025, 48_000, 52_001):
        size = fft_size(least)
        assert least <= size < max(2, 1.25 * least)
        for prime in (2, 3, 5):
            while size % prime == 0:
                size //= prime
        assert size == 1


def test_convolution_is_that_of_numpy():
    random = np.random.default_rng(0)
    x, taps = random.standard_normal((3, 500)).astype(np.float32), random.standard_normal((3, 90)).astype(np.float32)
    y = convolve(torch.from_numpy(x), lambda h: h, 90, torch.from_numpy(taps))
    for row, wave, kernel in zip(y, x, taps, strict=True):
        np.testing.assert_allclose(row, np.convolve(wave, kernel)[:500], atol=2e-5)


def test_cut_offs_below_50_hz_are_refused():
    with pytest.raises(ValidationError, match="greater than or equal to 50"):
        HighPass(cutoff_hz=(5.0, 100.0))
