"""Mixup and cutmix mix features and targets by the same weight; MixStyle mixes statistics and leaves targets."""

import torch

from serx.augment import AugmentConfig, cutmix, mix, mixstyle, mixup
from serx.dsp.statistics import VARIANCE_OFFSET

FRAMES = torch.tensor([10, 6, 8, 1])
PARTNER = torch.tensor([1, 0, 3, 2])


def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clip i holds the value i + 1 in all its frames and has class i."""
    valid = torch.arange(12) < FRAMES[:, None]
    features = torch.arange(1.0, 5)[:, None, None] * valid[:, None].expand(4, 3, 12)
    return features, FRAMES, torch.eye(4)


def test_the_given_tensors_return_if_all_are_off():
    given = batch()
    for mixed, tensor in zip(mix(*given, AugmentConfig(), seed=1), given, strict=True):
        assert mixed is tensor


def test_mixstyle_gives_mixed_statistics_and_keeps_the_normalized_course():
    torch.manual_seed(0)
    valid = (torch.arange(12) < torch.tensor([10, 6, 8, 9])[:, None])[:, None]
    frames = valid.sum((1, 2))
    clips = (
        torch.randn(4, 3, 12) * torch.tensor([1.0, 2, 3, 4])[:, None, None] + torch.arange(4.0)[:, None, None]
    ) * valid
    styled = mixstyle(clips, frames, PARTNER, torch.tensor([0.0, 1.0, 0.5, 0.0]))
    for i, weight in ((0, 0.0), (2, 0.5), (3, 0.0)):
        own, partner = clips[i, :, : frames[i]], clips[PARTNER[i], :, : frames[PARTNER[i]]]
        result = styled[i, :, : frames[i]]
        torch.testing.assert_close(result.mean(-1), weight * own.mean(-1) + (1 - weight) * partner.mean(-1))
        deviation = [(x.var(-1, correction=0) + VARIANCE_OFFSET).sqrt() for x in (own, partner)]
        ratio = (weight * deviation[0] + (1 - weight) * deviation[1]) / deviation[0]
        torch.testing.assert_close(
            result - result.mean(-1, keepdim=True), (own - own.mean(-1, keepdim=True)) * ratio[:, None]
        )
        assert not styled[i, :, frames[i] :].any()
    assert torch.equal(styled[1], clips[1])


def test_mixstyle_changes_clips_with_its_probability_and_leaves_targets():
    config = AugmentConfig(mixstyle=0.5)
    features, frames, targets = batch()
    features = features + torch.arange(12) * (features > 0) * torch.tensor([1.0, 2, 3, 4])[:, None, None]
    changed = []
    for seed in range(100):
        styled, same_frames, same_targets = mix(features, frames, targets, config, seed)
        assert same_frames is frames and same_targets is targets
        changed.append((styled != features).flatten(1).any(1))
    fraction = torch.stack(changed).float().mean()
    assert 0.25 < fraction < 0.5  # half of them, less those that are their own partner


def test_mixup_mixes_features_and_targets_by_the_same_weight():
    weight = torch.tensor([0.25, 1.0, 0.5, 0.0])
    features, frames, targets = mixup(*batch(), PARTNER, weight)
    assert frames.tolist() == [10, 10, 8, 8]
    assert features[0, 0, 0] == 0.25 * 1 + 0.75 * 2 and features[1, 0, 0] == 2 and features[3, 0, 5] == 3
    assert targets[0].tolist() == [0.25, 0.75, 0, 0] and targets[3].tolist() == [0, 0, 1, 0]


def test_cutmix_targets_are_the_fraction_of_frames_pasted_and_no_padding_is_pasted():
    for position in (0.0, 0.5, 0.999):
        for weight in (0.0, 0.3, 0.8, 1.0):
            weights, positions = torch.full((4,), weight), torch.full((4,), position)
            features, frames, targets = cutmix(*batch(), PARTNER, weights, positions)
            assert torch.equal(frames, FRAMES)
            for i, count in enumerate(FRAMES.tolist()):
                row = features[i, 0]
                assert (row[:count] > 0).all() and not row[count:].any()
                pasted = (row == PARTNER[i] + 1).sum() / count
                torch.testing.assert_close(targets[i, PARTNER[i]], pasted)
                torch.testing.assert_close(targets[i].sum(), torch.tensor(1.0))
                assert (features[i] == row).all()  # in all rows the same frames


def test_the_stretch_of_cutmix_follows_position_and_weight():
    features, _, targets = cutmix(*batch(), PARTNER, torch.full((4,), 0.5), torch.tensor([0.0, 0.999, 0.0, 0.0]))
    assert features[0, 0].tolist() == [2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 0, 0]
    assert features[1, 0].tolist() == [2, 2, 2, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    torch.testing.assert_close(targets[0], torch.tensor([0.7, 0.3, 0, 0]))


def test_a_batch_gets_mixup_or_cutmix_if_both_are_on_and_the_seed_decides():
    both = AugmentConfig(mixup=1.0, cutmix=1.0)
    whole = [float(mix(*batch(), both, seed)[0].frac().abs().sum()) == 0 for seed in range(40)]
    assert 8 < sum(whole) < 32  # cutmix leaves the numbers whole, mixup does not
    first, second = (mix(*batch(), both, seed=3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
