"""MixStyle lends statistics alone; with mixup and cutmix what is mixed in the features is mixed in the truth."""

import torch

from serx.augment.compose import AugmentConfig
from serx.augment.mixing import cutmix, mix, mixstyle, mixup
from serx.dsp.statistics import VARIANCE_OFFSET

FRAMES = torch.tensor([10, 6, 8, 1])
PARTNER = torch.tensor([1, 0, 3, 2])


def a_batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clip i is full of i + 1 up to its end, and of class i."""
    valid = torch.arange(12) < FRAMES[:, None]
    features = torch.arange(1.0, 5)[:, None, None] * valid[:, None].expand(4, 3, 12)
    return features, FRAMES, torch.eye(4)


def test_off_gives_the_very_same_tensors_back():
    batch = a_batch()
    for got, given in zip(mix(*batch, AugmentConfig(), seed=1), batch, strict=True):
        assert got is given


def test_a_clip_lent_a_style_has_its_partner_s_statistics_and_its_own_course():
    torch.manual_seed(0)
    valid = (torch.arange(12) < torch.tensor([10, 6, 8, 9])[:, None])[:, None]
    frames = valid.sum((1, 2))
    clips = (
        torch.randn(4, 3, 12) * torch.tensor([1.0, 2, 3, 4])[:, None, None] + torch.arange(4.0)[:, None, None]
    ) * valid
    styled = mixstyle(clips, frames, PARTNER, torch.tensor([0.0, 1.0, 0.5, 0.0]))
    for i, kept in ((0, 0.0), (2, 0.5), (3, 0.0)):
        own, other = clips[i, :, : frames[i]], clips[PARTNER[i], :, : frames[PARTNER[i]]]
        got = styled[i, :, : frames[i]]
        torch.testing.assert_close(got.mean(-1), kept * own.mean(-1) + (1 - kept) * other.mean(-1))
        root = [(x.var(-1, correction=0) + VARIANCE_OFFSET).sqrt() for x in (own, other)]
        ratio = (kept * root[0] + (1 - kept) * root[1]) / root[0]
        torch.testing.assert_close(
            got - got.mean(-1, keepdim=True), (own - own.mean(-1, keepdim=True)) * ratio[:, None]
        )
        assert not styled[i, :, frames[i] :].any()
    assert torch.equal(styled[1], clips[1])


def test_styles_are_lent_as_often_as_asked_and_the_truth_stays():
    lent = AugmentConfig(mixstyle=0.5)
    features, frames, truth = a_batch()
    features = features + torch.arange(12) * (features > 0) * torch.tensor([1.0, 2, 3, 4])[:, None, None]
    changed = []
    for seed in range(100):
        styled, same_frames, same_truth = mix(features, frames, truth, lent, seed)
        assert same_frames is frames and same_truth is truth
        changed.append((styled != features).flatten(1).any(1))
    share = torch.stack(changed).float().mean()
    assert 0.25 < share < 0.5  # half of them, less those that are their own partner


def test_mixup_mixes_features_and_truth_by_the_same_share():
    share = torch.tensor([0.25, 1.0, 0.5, 0.0])
    features, frames, truth = mixup(*a_batch(), PARTNER, share)
    assert frames.tolist() == [10, 10, 8, 8]
    assert features[0, 0, 0] == 0.25 * 1 + 0.75 * 2 and features[1, 0, 0] == 2 and features[3, 0, 5] == 3
    assert truth[0].tolist() == [0.25, 0.75, 0, 0] and truth[3].tolist() == [0, 0, 1, 0]


def test_cutmix_pastes_what_the_truth_says_and_no_padding():
    for place in (0.0, 0.5, 0.999):
        for kept in (0.0, 0.3, 0.8, 1.0):
            share, where = torch.full((4,), kept), torch.full((4,), place)
            features, frames, truth = cutmix(*a_batch(), PARTNER, share, where)
            assert torch.equal(frames, FRAMES)
            for i, count in enumerate(FRAMES.tolist()):
                row = features[i, 0]
                assert (row[:count] > 0).all() and not row[count:].any()
                other = (row == PARTNER[i] + 1).sum() / count
                torch.testing.assert_close(truth[i, PARTNER[i]], other)
                torch.testing.assert_close(truth[i].sum(), torch.tensor(1.0))
                assert (features[i] == row).all()  # all rows alike


def test_cutmix_stretches_lie_anywhere_and_follow_the_share():
    features, _, truth = cutmix(*a_batch(), PARTNER, torch.full((4,), 0.5), torch.tensor([0.0, 0.999, 0.0, 0.0]))
    assert features[0, 0].tolist() == [2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 0, 0]
    assert features[1, 0].tolist() == [2, 2, 2, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    torch.testing.assert_close(truth[0], torch.tensor([0.7, 0.3, 0, 0]))


def test_both_take_turns_and_the_seed_decides():
    both = AugmentConfig(mixup=1.0, cutmix=1.0)
    whole = [float(mix(*a_batch(), both, seed)[0].frac().abs().sum()) == 0 for seed in range(40)]
    assert 8 < sum(whole) < 32  # cutmix leaves the numbers whole, mixup does not
    once, again = (mix(*a_batch(), both, seed=3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
