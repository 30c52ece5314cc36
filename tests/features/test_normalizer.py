"""The normalizer scales by the clip or by the training set, and ignores padding."""

import pytest
import torch

from serx.features import Normalizer


def random_features(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    frames = torch.tensor([9, 20, 1])
    features = torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(seed)) * 3 + 7
    return features * (torch.arange(24) < frames[:, None])[:, None], frames


def test_mode_clip_gives_each_row_of_each_clip_mean_zero_and_deviation_one():
    features, frames = random_features()
    scaled = Normalizer(5, "clip", False)(features, frames)
    valid = scaled[1, :, :20]
    torch.testing.assert_close(valid.mean(-1), torch.zeros(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(valid.std(-1, correction=0), torch.ones(5), atol=1e-3, rtol=0)
    assert torch.equal(scaled[2, :, 0], torch.zeros(5))  # one frame equals its own mean


def test_training_statistics_are_those_of_the_valid_frames_in_any_batching():
    features, frames = random_features()
    rows = torch.cat([features[i, :, : int(n)] for i, n in enumerate(frames)], dim=1)
    whole, split = Normalizer(5, "training", False), Normalizer(5, "training", False)
    whole.fit([(features, frames)])
    split.fit([(features[:1], frames[:1]), (features[1:], frames[1:])])
    torch.testing.assert_close(whole.mean[:, 0], rows.mean(1))
    torch.testing.assert_close(whole.deviation[:, 0], rows.std(1, correction=0))
    torch.testing.assert_close(whole.mean, split.mean)
    torch.testing.assert_close(whole.deviation, split.deviation)
    assert whole.state_dict().keys() == {"mean", "deviation"}


@pytest.mark.parametrize("mode", ["none", "clip", "training"])
@pytest.mark.parametrize("remove_level", [False, True, "first"])
def test_normalized_features_do_not_depend_on_padding_and_are_zero_in_it(mode, remove_level):
    features, frames = random_features()
    normalizer = Normalizer(5, mode, remove_level)
    if mode == "training":
        normalizer.fit([(features, frames)])
    padded = normalizer(torch.nn.functional.pad(features, (0, 11)), frames)
    short = normalizer(features, frames)
    torch.testing.assert_close(padded[:, :, :24], short, atol=1e-6, rtol=1e-6)
    assert not (padded * (torch.arange(35) >= frames[:, None])[:, None]).any()


def test_removing_the_level_removes_a_gain():
    features, frames = random_features()
    normalizer = Normalizer(5, "none", True)
    louder = (features + 12.0) * (torch.arange(24) < frames[:, None])[:, None]
    torch.testing.assert_close(normalizer(features, frames), normalizer(louder, frames), atol=1e-5, rtol=0)


def test_removing_the_level_first_removes_a_gain_under_training_statistics_too():
    features, frames = random_features()
    features[:, 0] *= 5  # after division by different deviations, a gain is no longer constant over the rows
    mask = (torch.arange(24) < frames[:, None])[:, None]
    difference = {}
    for remove_level in (True, "first"):
        normalizer = Normalizer(5, "training", remove_level)
        normalizer.fit([(features, frames)])
        soft, loud = normalizer(features, frames), normalizer((features + 12.0) * mask, frames)
        difference[remove_level] = float((soft - loud).abs().max())
        assert not (soft * ~mask).any()
    assert difference["first"] < 1e-4
    assert difference[True] > 0.1


def test_training_statistics_are_of_clips_without_level_when_the_level_is_removed_first():
    features, frames = random_features()
    normalizer = Normalizer(5, "training", "first")
    normalizer.fit([(features[:2], frames[:2]), (features[2:], frames[2:])])
    rows = [clip[:, : int(n)] - clip[:, : int(n)].mean() for clip, n in zip(features, frames, strict=True)]
    torch.testing.assert_close(normalizer.mean[:, 0], torch.cat(rows, 1).mean(1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(normalizer.deviation[:, 0], torch.cat(rows, 1).std(1, correction=0))
    expected = (rows[1] - normalizer.mean) / normalizer.deviation  # the mean is subtracted once
    torch.testing.assert_close(normalizer(features, frames)[1, :, :20], expected, atol=1e-5, rtol=1e-5)


def test_a_constant_row_stays_finite():
    features, frames = torch.full((2, 3, 10), 4.0), torch.tensor([10, 10])
    assert not Normalizer(3, "clip", False)(features, frames).any()
    trained = Normalizer(3, "training", False)
    trained.fit([(features, frames)])
    assert trained(features, frames).isfinite().all()
