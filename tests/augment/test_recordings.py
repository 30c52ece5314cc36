"""Recordings: how they are read and repeated, and the noise that transforms make of them."""

import numpy as np
import pytest
import torch

from serx.augment import BackgroundNoise, Noise, Recordings, load_recordings
from serx.augment.noise import without_silence
from serx.seeding import ClipRandom, derive
from tests.conftest import RATE, batched

CPU = torch.device("cpu")
RECORDINGS = Recordings.of([torch.tensor([1.0, 2, 3]), torch.tensor([10.0]), torch.tensor([5.0, 6])], CPU)


def test_a_read_continues_with_zeros_beyond_the_end_of_a_recording():
    assert RECORDINGS.read(torch.tensor([0, 1, 2, 3]), 4).tolist() == [
        [1, 2, 3, 0],
        [10, 0, 0, 0],
        [5, 6, 0, 0],
        [1, 2, 3, 0],
    ]


def test_a_loop_begins_at_the_offset_and_repeats():
    looped = RECORDINGS.loop(torch.tensor([0, 1, 2]), torch.tensor([2, 7, -1]), 5)
    assert looped.tolist() == [[3, 1, 2, 3, 1], [10] * 5, [6, 5, 6, 5, 6]]


def test_background_noise_is_a_stretch_of_a_recording_at_its_ratio(clips):
    x, lengths = batched(clips)
    noises = [torch.randn(50_000, generator=torch.Generator().manual_seed(i)) for i in range(2)]
    (noise,) = load_recordings([BackgroundNoise(p=1.0, snr_db=(9.0, 9.0), folder="recordings")], lambda _: noises, CPU)
    params = noise.draw(lengths, ClipRandom(torch.arange(4), derive(0, "test")), RATE)
    added = noise.apply(x, lengths, params)[0].double() - x
    ratio = 10 * torch.log10(x.double().square().sum(1) / added.square().sum(1))
    np.testing.assert_allclose(ratio, 9.0, atol=0.01)
    for row, length, choice, offset in zip(added, lengths, params.choice % 2, params.offset % 50_000, strict=True):
        recording = noises[int(choice)].roll(-int(offset))[:length].double()
        assert np.corrcoef(row[:length], recording)[0, 1] > 0.9999


def test_recordings_are_chosen_equally_often():
    params = BackgroundNoise(folder="recordings").draw(torch.ones(3000), ClipRandom(torch.arange(3000), 5), RATE)
    assert torch.bincount(params.choice % 3).min() > 900


def test_transforms_without_a_folder_load_nothing():
    noise = Noise()

    def load(folder: str):
        raise AssertionError

    assert load_recordings([noise], load, CPU) == (noise,)


def test_a_recording_that_is_mostly_silence_changes_every_clip(clips):
    x, lengths = batched(clips)
    recording = torch.zeros(200_000)
    recording[150_000:160_000] = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    (noise,) = load_recordings([BackgroundNoise(p=1.0, snr_db=(9.0, 9.0), folder="r")], lambda _: [recording], CPU)
    assert noise.recordings.longest < 11_000
    for key in range(25):
        params = noise.draw(lengths, ClipRandom(torch.arange(4), key), RATE)
        added = noise.apply(x, lengths, params)[0].double() - x
        ratio = 10 * torch.log10(x.double().square().sum(1) / added.square().sum(1))
        np.testing.assert_allclose(ratio, 9.0, atol=0.01)


def test_a_recording_without_silence_is_kept_as_it_is():
    recording = torch.randn(50_001, generator=torch.Generator().manual_seed(0))
    assert without_silence(recording) is recording


def test_a_silent_recording_is_refused():
    with pytest.raises(ValueError, match="every sample is zero; leave it out"):
        load_recordings([BackgroundNoise(folder="r")], lambda _: [torch.zeros(5000)], CPU)
