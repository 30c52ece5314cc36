"""Random numbers are a function of seed, purpose and position, and pass tests of uniformity."""

import numpy as np
import pytest
import torch
from scipy import stats

from serx.seeding import FEW_CLIPS, ClipRandom, derive, generator


def test_a_clip_draws_the_same_numbers_in_any_batch_and_order():
    clips = torch.arange(1000)
    whole = ClipRandom(clips, derive(3, "augment", 7))
    part = ClipRandom(clips[[900, 5]], derive(3, "augment", 7))
    for _ in range(3):
        assert torch.equal(whole.uniform()[[900, 5]], part.uniform())


def test_seed_epoch_and_purpose_each_change_the_numbers():
    clips = torch.arange(64)
    keys = [derive(0, "a", 0), derive(1, "a", 0), derive(0, "b", 0), derive(0, "a", 1)]
    draws = [tuple(ClipRandom(clips, key).uniform().tolist()) for key in keys]
    assert len(set(draws)) == len(keys)


def test_draws_are_uniform_over_clips_and_over_calls():
    over_clips = ClipRandom(torch.arange(20_000), derive(0, "x")).uniform(2.0, 5.0)
    assert 2.0 <= over_clips.min() < over_clips.max() < 5.0
    assert stats.kstest((over_clips - 2).numpy() / 3, "uniform").pvalue > 1e-3
    clip = ClipRandom(torch.tensor([17]), derive(0, "x"))
    over_calls = np.array([clip.uniform().item() for _ in range(4000)])
    assert stats.kstest(over_calls, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(over_calls[:-1], over_calls[1:])[0, 1]) < 0.05


def test_numbers_of_consecutive_clips_are_uncorrelated():
    draws = ClipRandom(torch.arange(20_000), derive(0, "x")).uniform().numpy()
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.02


def test_integers_cover_their_range_uniformly():
    counts = torch.tensor([1, 5]).repeat(5000)
    drawn = ClipRandom(torch.arange(10_000), derive(0, "i")).integers(counts)
    assert drawn[0::2].unique().tolist() == [0]
    assert drawn[1::2].unique().tolist() == [0, 1, 2, 3, 4]
    assert stats.chisquare(torch.bincount(drawn[1::2]).numpy()).pvalue > 1e-3


def test_chance_is_never_true_at_zero_and_always_at_one():
    random = ClipRandom(torch.arange(10_000), derive(0, "p"))
    assert not random.chance(0.0).any()
    assert random.chance(1.0).all()
    assert abs(random.chance(0.3).float().mean() - 0.3) < 0.02


@pytest.mark.parametrize("count", [0, 1, FEW_CLIPS, FEW_CLIPS + 1, 500])
def test_numbers_without_tensors_are_those_of_the_tensors(count):
    key = derive(2, "x")
    tensors, numbers = (ClipRandom(torch.arange(count) * 977 - 3, key) for _ in range(2))
    for low, high in [(-12.0, 6.0), (0.1, 0.3), (-1e6, 1e6), (5.0, 5.0), (1e-3, 1.1e-3)]:
        assert numbers.uniforms(low, high) == tensors.uniform(low, high).tolist()
    for p in (0.0, 0.3, 1.0, 0.7):
        assert numbers.chances(p) == tensors.chance(p).tolist()
    assert torch.equal(numbers.bits(), tensors.bits())


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_a_certain_chance_takes_its_place_in_the_stream(p):
    certain, drawn = (ClipRandom(torch.arange(9), derive(0, "p")) for _ in range(2))
    assert certain.chance(p).tolist() == [bool(p)] * 9
    drawn.uniform()
    assert torch.equal(certain.uniform(), drawn.uniform())


def test_draws_have_the_shape_of_the_ids():
    ids = torch.arange(12).view(3, 4)
    random = ClipRandom(ids, 3)
    for drawn in (random.chance(1.0), random.chance(0.5), random.uniform(), random.bits()):
        assert drawn.shape == ids.shape


def test_generators_depend_on_their_position_alone():
    assert torch.equal(
        torch.rand(4, generator=generator(0, "order", 1)), torch.rand(4, generator=generator(0, "order", 1))
    )
    assert not torch.equal(
        torch.rand(4, generator=generator(0, "order", 1)), torch.rand(4, generator=generator(0, "order", 2))
    )
