"""Noise measured as a signal: its ratio to the clip, its color, and its independence between clips."""

import numpy as np
import pytest
import torch

from serx.augment import Noise
from serx.seeding import ClipRandom, derive
from tests.conftest import RATE, batched


def random_for(count: int) -> ClipRandom:
    return ClipRandom(torch.arange(count), derive(0, "test"))


@pytest.mark.parametrize("snr_db", [0.0, 12.5, 40.0])
def test_noise_has_its_signal_to_noise_ratio(snr_db, clips):
    x, lengths = batched(clips, extra=3000)
    noise = Noise(p=1.0, snr_db=(snr_db, snr_db))
    noisy, _ = noise.apply(x, lengths, noise.draw(lengths, random_for(len(x)), RATE))
    for clean, mixed, length in zip(x, noisy, lengths, strict=True):
        signal, added = clean[:length].double(), (mixed - clean)[:length].double()
        measured = 10 * torch.log10(signal.square().sum() / added.square().sum())
        assert abs(float(measured) - snr_db) < 0.01
        assert not mixed[length:].any()


def test_noise_is_white_and_differs_between_clips(clips):
    x, lengths = batched([clips[1], clips[1]])
    noise = Noise(p=1.0, snr_db=(0.0, 0.0))
    added = noise.apply(x, lengths, noise.draw(lengths, random_for(2), RATE))[0] - x
    assert abs(np.corrcoef(added.numpy())[0, 1]) < 0.03
    power = np.abs(np.fft.rfft(added[0].numpy())) ** 2
    low, high = power[100:4000].mean(), power[4000:7900].mean()
    assert abs(10 * np.log10(low / high)) < 0.5


@pytest.mark.parametrize(("color", "slope"), [("white", 0.0), ("pink", -3.0103), ("brown", -6.0206)])
def test_the_spectrum_of_noise_falls_by_0_3_or_6_db_per_octave(color, slope):
    x = torch.from_numpy(np.sin(np.arange(60 * RATE) * 0.3).astype(np.float32))[None]
    noise = Noise(p=1.0, snr_db=(0.0, 0.0), color=color)
    lengths = torch.tensor([x.shape[1]])
    added = (noise.apply(x, lengths, noise.draw(lengths, random_for(1), RATE))[0] - x)[0].double()
    power = torch.fft.rfft(added.unfold(0, 4096, 2048) * torch.hann_window(4096)).abs().square().mean(0)
    hertz = np.fft.rfftfreq(4096, 1 / RATE)
    octaves = [
        10 * np.log10(power[(hertz >= f) & (hertz < 2 * f)].mean()) for f in (60, 120, 240, 480, 960, 1920, 3840)
    ]
    assert np.polyfit(range(7), octaves, 1)[0] == pytest.approx(slope, abs=0.15)


@pytest.mark.parametrize("color", ["pink", "brown"])
def test_pink_and_brown_noise_have_their_signal_to_noise_ratio(color, clips):
    x, lengths = batched(clips, extra=100)
    noise = Noise(p=1.0, snr_db=(7.0, 7.0), color=color)
    added = noise.apply(x, lengths, noise.draw(lengths, random_for(len(x)), RATE))[0].double() - x
    torch.testing.assert_close(
        10 * torch.log10(x.double().square().sum(1) / added.square().sum(1)),
        torch.full((4,), 7.0).double(),
        atol=0.01,
        rtol=0,
    )
