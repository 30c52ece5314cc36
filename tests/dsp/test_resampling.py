"""Speed change against closed forms: a tone becomes a tone of another frequency, without aliases."""

import numpy as np
import pytest
import torch

from serx.dsp.resampling import RATIO_STEPS, change_speed, change_speed_uniformly
from tests.conftest import batched

RATE = 16_000


def tone(hertz: float, samples: int = RATE) -> torch.Tensor:
    return torch.from_numpy(np.sin(2 * np.pi * hertz * np.arange(samples) / RATE)).float()[None]


def played(x: torch.Tensor, step: int) -> torch.Tensor:
    y, lengths = change_speed(x, torch.tensor([x.shape[1]]), torch.tensor([step]), step)
    return y[0, : int(lengths[0])]


@pytest.mark.parametrize("step", [96, 113, 128, 141, 168])
def test_a_tone_becomes_the_tone_of_the_new_frequency(step):
    y = played(tone(1000.0), step)
    ideal = np.sin(2 * np.pi * 1000.0 * step / RATIO_STEPS * np.arange(len(y)) / RATE)
    inner = slice(300, len(y) - 300)  # without the edges of the clip
    assert np.abs(y.numpy() - ideal)[inner].max() < 2e-3


@pytest.mark.parametrize("step", [97, 128, 160])
def test_duration_is_divided_by_the_speed(step):
    x = tone(200.0, 12_345)
    assert len(played(x, step)) == -(-12_345 * RATIO_STEPS // step)


def test_frequencies_above_the_new_nyquist_frequency_are_removed():
    y = played(tone(7_500.0), 160)  # would become 9,375 Hz
    assert y[300:-300].square().mean().sqrt() < 0.7 * 10 ** (-50 / 20)


def test_speed_one_copies_a_clip_bit_for_bit_in_any_batch():
    x = torch.cat([tone(300.0), tone(500.0)])
    y, lengths = change_speed(x, torch.tensor([RATE, 9000]), torch.tensor([110, 128]), 110)
    assert torch.equal(y[1, :9000], x[1, :9000])
    assert not y[1, 9000:].any()
    assert lengths.tolist() == [-(-RATE * 128 // 110), 9000]


def test_a_constant_stays_constant():
    y = played(torch.ones(1, 4000), 117)
    assert (y[200:-200] - 1).abs().max() < 1e-6


def test_a_clip_does_not_depend_on_other_clips_or_on_the_bound_of_speeds():
    x = torch.cat([tone(300.0), tone(4000.0), tone(900.0)])
    lengths, steps = torch.tensor([RATE, 5000, 12_000]), torch.tensor([120, 140, 100])
    x = x * (torch.arange(RATE) < lengths[:, None])
    together, new = change_speed(x, lengths, steps, 96)
    for i in range(3):
        alone, count = change_speed(x[i : i + 1, : lengths[i]], lengths[i : i + 1], steps[i : i + 1], int(steps[i]))
        assert count[0] == new[i]
        torch.testing.assert_close(alone[0, : int(count[0])], together[i, : int(count[0])], rtol=0, atol=1e-6)


@pytest.mark.parametrize("speed", [104, RATIO_STEPS, 150])
def test_one_speed_for_all_clips_equals_the_same_speed_for_each_bit_for_bit(clips, speed):
    waveform, lengths = batched(clips, extra=77)
    expected, counts = change_speed(waveform, lengths, torch.full_like(lengths, speed), speed)
    played, new = change_speed_uniformly(waveform, lengths, speed)
    assert torch.equal(new, counts)
    assert torch.equal(played, expected[:, : played.shape[1]]) and not expected[:, played.shape[1] :].any()
