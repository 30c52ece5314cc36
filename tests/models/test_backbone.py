"""`Backbone`: ensembles, shared stages and relaxed frequency normalization against their definitions."""

import re

import pytest
import torch

from serx.models import Cnn2dConfig, build_model
from serx.models.backbone import relaxed_freq_norm
from tests.models.test_models import BINS, CLASSES, random_features, trained_like


def test_an_ensemble_predicts_the_mean_probability_of_its_members():
    ensemble = trained_like("ensemble").eval()
    features, frames = random_features(BINS, [40, 33], 48)
    with torch.inference_mode():
        mean = torch.stack([member(features, frames).softmax(-1) for member in ensemble.members]).mean(0)
        torch.testing.assert_close(ensemble(features, frames).softmax(-1), mean)


def test_members_differ_in_their_initial_weights():
    ensemble = trained_like("ensemble").train()
    logits = ensemble.member_logits(*random_features(BINS, [40, 33], 48))
    assert len({tuple(member.tolist()) for member in logits[0]}) == 3


def test_the_logits_of_a_single_network_are_those_of_its_only_member():
    model = trained_like("cnn2d").eval()
    features, frames = random_features(BINS, [40, 33], 48)
    assert torch.equal(model(features, frames), model.members[0](features, frames))
    assert torch.equal(model.member_logits(features, frames)[:, 0], model(features, frames))


@pytest.mark.parametrize("shared", [1, 2, 3])
def test_members_that_share_stages_equal_networks_with_the_same_first_stages(shared):
    torch.manual_seed(0)
    sizes = {"stem": 8, "widths": (8, 12, 16), "embedding": 24}
    ensemble = build_model(Cnn2dConfig(**sizes, dropout=0, ensemble_size=2, shared_stages=shared), BINS, CLASSES)
    separate = build_model(Cnn2dConfig(**sizes, dropout=0, ensemble_size=2), BINS, CLASSES)
    first_stages = {f"stages.{name}": tensor for name, tensor in ensemble.shared.state_dict().items()}
    for member, whole in zip(ensemble.members, separate.members, strict=True):
        renumbered = {
            re.sub(r"blocks\.(\d+)", lambda match: f"blocks.{int(match[1]) + shared}", name): tensor
            for name, tensor in member.state_dict().items()
        }
        whole.load_state_dict(first_stages | renumbered)
    features, frames = random_features(BINS, [40, 33, 9, 48], 48)

    logits, expected = (model.member_logits(features, frames) for model in (ensemble, separate))
    torch.testing.assert_close(logits, expected)
    logits.square().sum().backward()
    expected.square().sum().backward()
    for name, parameter in ensemble.shared.named_parameters():  # its gradient is the sum over members
        gradient = sum(whole.get_parameter(f"stages.{name}").grad for whole in separate.members)
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-5)


def test_a_single_network_shares_no_stages():
    names = build_model(Cnn2dConfig(shared_stages=2), BINS, CLASSES).state_dict().keys()
    assert names == build_model(Cnn2dConfig(), BINS, CLASSES).state_dict().keys()


def test_more_shared_stages_than_stages_are_refused():
    with pytest.raises(ValueError, match="4 shared stages, but there are 3"):
        Cnn2dConfig(ensemble_size=2, shared_stages=4)


def test_the_relaxed_norm_mixes_features_with_each_row_of_a_clip_normalized():
    features, frames = random_features(4, [30, 12], 30)
    features = 3 * features + 2 * (features != 0)
    relaxed = relaxed_freq_norm(features, frames, 0.25)
    rows = features[1, :, :12]
    normalized = (rows - rows.mean(-1, keepdim=True)) / (rows.var(-1, correction=0, keepdim=True) + 1e-3).sqrt()
    torch.testing.assert_close(relaxed[1, :, :12], 0.75 * rows + 0.25 * normalized)
    assert not relaxed[1, :, 12:].any()


def test_a_backbone_applies_the_relaxed_norm_before_its_members():
    features, frames = random_features(BINS, [40, 33], 48)
    model = trained_like("relaxed norm").eval()
    expected = model.members[0](relaxed_freq_norm(features, frames, 0.5), frames)
    assert torch.equal(model(features, frames), expected)
