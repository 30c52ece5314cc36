"""Rooms measured with an impulse: decay time, direct sound, and length and power of the clip."""

import numpy as np
import pytest
import torch

from serx.augment.recordings import load_recordings
from serx.augment.reverb import ImpulseResponse, Reverb
from serx.seeding import ClipRandom, derive
from tests.conftest import RATE, batched


def random_for(count: int) -> ClipRandom:
    return ClipRandom(torch.arange(count), derive(0, "test"))


def responses_of(room, count: int = 4, size: int = 2 * RATE) -> torch.Tensor:
    """Impulse responses `(count, size)`, each scaled to the energy of an impulse."""
    x, lengths = torch.zeros(count, size), torch.full((count,), size)
    x[:, 0] = 1.0
    return room.apply(x, lengths, room.draw(lengths, random_for(count), RATE))[0]


def rt60_seconds(tail: np.ndarray) -> float:
    """Schroeder's backward integral, the line from -5 to -35 dB continued to -60 dB (ISO 3382, T30)."""
    decay = np.cumsum(tail[::-1].astype(np.float64) ** 2)[::-1]
    decibels = 10 * np.log10(decay[decay > 0] / decay[0])
    part = np.flatnonzero((decibels < -5) & (decibels > -35))
    return -60 / np.polyfit(part / RATE, decibels[part], 1)[0]


@pytest.mark.parametrize("seconds", [0.15, 0.4, 1.0])
def test_a_synthetic_room_decays_by_60_db_in_its_rt60(seconds):
    for response in responses_of(Reverb(p=1.0, rt60_seconds=(seconds, seconds))):
        assert rt60_seconds(response[1:].numpy()) == pytest.approx(seconds, rel=0.1)


def test_each_clip_has_its_own_room_within_the_range():
    responses = responses_of(Reverb(p=1.0, rt60_seconds=(0.2, 0.8)), count=12)
    times = [rt60_seconds(response[1:].numpy()) for response in responses]
    assert 0.18 < min(times) < 0.4 and 0.6 < max(times) < 0.88
    assert np.corrcoef(responses[:2, 1:2000].numpy())[0, 1] < 0.1


@pytest.mark.parametrize("drr_db", [-5.0, 10.0])
def test_direct_sound_and_tail_have_their_energy_ratio(drr_db):
    responses = responses_of(Reverb(p=1.0, drr_db=(drr_db, drr_db))).double()
    measured = 10 * torch.log10(responses[:, 0].square() / responses[:, 1:].square().sum(1))
    np.testing.assert_allclose(measured, drr_db, atol=0.01)


@pytest.mark.parametrize("kind", ["synthetic", "measured"])
def test_a_room_keeps_a_clips_length_and_power(kind, clips):
    x, lengths = batched(clips, extra=500)
    files = ImpulseResponse(p=1.0, folder="recordings")
    room = (
        Reverb(p=1.0)
        if kind == "synthetic"
        else load_recordings([files], lambda _: [torch.tensor([1.0, 0, -0.5])], x.device)[0]
    )
    y, new = room.apply(x, lengths, room.draw(lengths, random_for(len(x)), RATE))
    assert torch.equal(new, lengths)
    torch.testing.assert_close(y.square().sum(1), x.square().sum(1), rtol=1e-4, atol=0)


def test_a_measured_response_is_used_from_its_peak_on():
    response = torch.tensor([0.0, 0.0, 0.1, -0.8, 0.3, 0.2])
    (room,) = load_recordings([ImpulseResponse(p=1.0, folder="recordings")], lambda _: [response], torch.device("cpu"))
    measured = responses_of(room, count=1, size=20)[0]
    np.testing.assert_allclose(measured[:3] / measured[0], [1.0, -0.375, -0.25], atol=1e-6)
    assert measured[3:].abs().max() < 1e-6
