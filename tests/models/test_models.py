"""Every model: shapes, padding, neighbors, gradients, and what half precision does to it."""

import re

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from serx.errors import ConfigError
from serx.models.cnn1d import Cnn1dConfig
from serx.models.cnn2d import Cnn2dConfig
from serx.models.layers import (
    AttentiveStatistics,
    BidirectionalGru,
    RelaxedFreqNorm,
    ResidualBlock,
    SqueezeExcite,
    relu_within,
    time_mask,
)
from serx.models.mlp import MlpConfig
from serx.models.registry import build
from serx.models.sequential import SequentialConfig
from serx.models.timm_backbone import TimmConfig

BINS, CLASSES = 40, 5
CONFIGS = {
    "cnn1d": Cnn1dConfig(stem=16, widths=(16, 24, 24)),
    "cnn2d": Cnn2dConfig(stem=8, widths=(8, 12, 16), embedding=24),
    "crnn": Cnn2dConfig(stem=8, widths=(8, 12, 16), embedding=24, gru=12),
    "mlp": MlpConfig(widths=(16, 24)),
    "sequential": SequentialConfig(widths=(12, 16), dense=(20,)),
    "end-to-end": SequentialConfig(frames=50, widths=(6, 8, 8), pools=((5, 2), (4, 4), (1, 1)), dense=(20,)),
    "ensemble": Cnn1dConfig(stem=8, widths=(8, 12, 12), ensemble_size=3),
    "shared": Cnn2dConfig(stem=8, widths=(8, 12, 16), embedding=24, ensemble_size=3, shared_stages=2),
    "relaxed": Cnn2dConfig(stem=8, widths=(8, 12, 16), embedding=24, relaxed_freq_norm=0.5),
    "timm-convolutions": TimmConfig(name="resnet10t", frames=48),
    "timm-transformer": TimmConfig(name="vit_tiny_patch16_224", frames=48),
}


def model_of(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    bins = 48 if name == "timm-transformer" else BINS  # a whole number of its patches
    model = build(CONFIGS[name], bins, CLASSES)
    if not name.startswith("timm"):
        _wake_norms(model)
    return model


def _wake_norms(model: torch.nn.Module) -> None:
    """Gives batch norms the biases and statistics of a trained net: with zeros a leak of padding hides."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.bias, 0.2, 1.0)
            torch.nn.init.uniform_(module.running_mean, -1.0, 1.0)


def some_features(bins: int, frames: list[int], width: int) -> tuple[torch.Tensor, torch.Tensor]:
    counts = torch.tensor(frames)
    features = torch.randn(len(frames), bins, width, generator=torch.Generator().manual_seed(1))
    return features * (torch.arange(width) < counts[:, None])[:, None], counts


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_do_not_depend_on_padding_or_neighbours(name):
    model = model_of(name).eval()
    bins = 48 if name == "timm-transformer" else BINS
    features, frames = some_features(bins, [61, 17, 1, 100, 96], 130)
    with torch.inference_mode():
        together = model(features, frames)
        for i, count in enumerate(frames.tolist()):
            alone = model(features[i : i + 1, :, :count], frames[i : i + 1])
            torch.testing.assert_close(alone[0], together[i], rtol=1e-5, atol=1e-5)
    assert together.shape == (5, CLASSES)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_learns_and_every_gradient_is_finite(name):
    model = model_of(name).train()
    bins = 48 if name == "timm-transformer" else BINS
    features, frames = some_features(bins, [40, 33, 9, 48], 48)
    model(features, frames).log_softmax(-1)[:, ..., :2].sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize("name", ["cnn1d", "cnn2d", "crnn", "mlp", "sequential", "end-to-end"])
def test_half_precision_keeps_the_probabilities(name):
    model = model_of(name).eval()
    features, frames = some_features(BINS, [61, 17, 100], 100)
    with torch.inference_mode():
        exact = model(features, frames).softmax(-1)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(features, frames).float().softmax(-1)
    assert (exact - rough).abs().max() < 0.05


@pytest.mark.parametrize("name", ["cnn1d", "cnn2d", "crnn", "mlp", "sequential", "end-to-end"])
def test_what_a_frame_says_is_heard(name):
    model = model_of(name).eval()
    features, frames = some_features(BINS, [50], 50)
    changed = features.clone()
    changed[0, :, 49] += 3.0  # the very last valid frame
    assert (model(features, frames) - model(changed, frames)).abs().max() > 1e-4


def test_attentive_statistics_of_constant_frames_are_the_constant_and_no_deviation():
    pool = AttentiveStatistics(3, 4)
    x = torch.tensor([1.0, -2.0, 5.0])[None, :, None].expand(1, 3, 9).clone()
    x[:, :, 6:] = 100.0  # past the end
    pooled = pool(x, torch.tensor([6]))[0]
    torch.testing.assert_close(pooled[:3], torch.tensor([1.0, -2.0, 5.0]))
    assert pooled[3:].max() < 0.01


def test_both_ways_is_the_two_way_gru_over_packed_sequences():
    torch.manual_seed(0)
    ours, theirs = BidirectionalGru(6, 5), torch.nn.GRU(6, 5, batch_first=True, bidirectional=True)
    known = {f"{name}_reverse": tensor for name, tensor in ours.back.state_dict().items()}
    theirs.load_state_dict({**ours.onward.state_dict(), **known})
    x, frames = some_features(6, [9, 1, 6], 9)
    packed = pack_padded_sequence(x.transpose(1, 2), frames, batch_first=True, enforce_sorted=False)
    expected = pad_packed_sequence(theirs(packed)[0], batch_first=True)[0].transpose(1, 2)
    torch.testing.assert_close(ours(x, frames), expected)


def test_squeeze_excite_averages_over_valid_positions_only():
    excite = SqueezeExcite(4)
    x = torch.randn(2, 4, 5, 8)
    mask = (torch.arange(8) < torch.tensor([8, 3])[:, None]).float()[:, None, None]
    x = x * mask
    alone = excite(x[1:, :, :, :3], mask[1:, ..., :3])
    torch.testing.assert_close(excite(x, mask)[1, :, :, :3], alone[0])


def test_a_strided_block_leaves_half_the_frames_rounded_up():
    block = ResidualBlock(3, 6, (2, 2)).eval()
    features, frames = some_features(7, [9, 4, 1], 9)
    x, left = block(features[:, None].expand(-1, 3, -1, -1), frames)
    assert left.tolist() == [5, 2, 1]
    assert x.shape == (3, 6, 4, 5)
    assert not x[1, :, :, 2:].any()


def test_an_mlp_reads_a_vector_as_it_is_and_a_sequence_by_its_mean():
    model = model_of("mlp").eval()
    features, frames = some_features(BINS, [7, 20], 20)
    mean = features.sum(-1, keepdim=True) / frames[:, None, None]
    torch.testing.assert_close(model(features, frames), model(mean, torch.ones_like(frames)))
    torch.testing.assert_close(model(mean, torch.ones_like(frames)), model.net(mean[..., 0]))


def test_a_misspelt_timm_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="resnet"):
        TimmConfig(name="resnt18")


@pytest.mark.parametrize(("name", "frames"), [("inception_v3", 64), ("hrnet_w18_small", 96), ("coat_tiny", 48)])
def test_a_timm_network_that_cannot_read_the_picture_is_refused_with_what_would_fit(name, frames):
    with pytest.raises(ConfigError, match=rf"{name} cannot read pictures of {BINS} rows and {frames} frames") as caught:
        build(TimmConfig(name=name, frames=frames), BINS, CLASSES)
    assert "multiples of 32 and 96 or more" in str(caught.value) and "\n" not in str(caught.value)
    build(TimmConfig(name=name, frames=96), 96, CLASSES)


def test_a_timm_network_is_tried_without_a_trace():
    torch.manual_seed(0)
    built = build(TimmConfig(name="resnet10t", dropout=0.5), BINS, CLASSES)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    plain = timm.create_model("resnet10t", in_chans=1, num_classes=CLASSES, drop_rate=0.5)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(tensor, plain.state_dict()[name]) for name, tensor in built.net.state_dict().items())
    assert all(module.training for module in built.modules())


def test_a_timm_network_begins_with_the_weights_of_a_file_their_colours_added_up(tmp_path):
    published = timm.create_model("resnet10t", num_classes=1000).state_dict()
    save_file(published, tmp_path / "resnet10t.safetensors")
    config = TimmConfig(name="resnet10t", pretrained=True, weights=str(tmp_path / "resnet10t.safetensors"))
    loaded = build(config, BINS, CLASSES, pretrained=True).net.state_dict()
    assert torch.equal(loaded["layer1.0.conv1.weight"], published["layer1.0.conv1.weight"])
    torch.testing.assert_close(loaded["conv1.0.weight"], published["conv1.0.weight"].sum(1, keepdim=True))
    assert loaded["fc.weight"].shape[0] == CLASSES


@pytest.mark.parametrize("content", [None, b"x" * 100])
def test_pretrained_weights_that_cannot_be_read_are_one_line_and_a_checkpoint_needs_none(content, tmp_path):
    path = tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(content)
    config = TimmConfig(name="resnet10t", pretrained=True, weights=str(path))
    with pytest.raises(ConfigError, match=r"w\.safetensors") as caught:
        build(config, BINS, CLASSES, pretrained=True)
    assert "\n" not in str(caught.value)
    build(config, BINS, CLASSES, pretrained=False)


def test_a_timm_weights_file_that_may_be_a_pickle_is_refused():
    with pytest.raises(ValueError, match="safetensors"):
        TimmConfig(name="resnet10t", pretrained=True, weights="resnet10t.pth")


def test_an_ensemble_answers_with_the_mean_probability_and_trains_each_member_alone():
    ensemble = model_of("ensemble").train()
    features, frames = some_features(BINS, [40, 33], 48)
    apart = ensemble(features, frames)
    assert apart.shape == (2, 3, CLASSES)
    assert len({tuple(member.tolist()) for member in apart[0]}) == 3  # three first weights, three answers
    ensemble.eval()
    with torch.inference_mode():
        mean = torch.stack([member(features, frames).softmax(-1) for member in ensemble.members]).mean(0)
        torch.testing.assert_close(ensemble(features, frames).softmax(-1), mean)


@pytest.mark.parametrize("shared", [1, 2, 3])
def test_members_that_share_stages_are_networks_with_the_same_first_stages(shared):
    torch.manual_seed(0)
    widths = {"stem": 8, "widths": (8, 12, 16), "embedding": 24}
    ensemble = build(Cnn2dConfig(**widths, dropout=0, ensemble_size=2, shared_stages=shared), BINS, CLASSES)
    apart = build(Cnn2dConfig(**widths, dropout=0, ensemble_size=2), BINS, CLASSES)
    trunk = ensemble.trunk.state_dict()
    for branch, whole in zip(ensemble.members, apart.members, strict=True):
        renumbered = {
            re.sub(r"^blocks\.(\d+)", lambda found: f"blocks.{int(found[1]) + shared}", name): tensor
            for name, tensor in branch.state_dict().items()
        }
        whole.load_state_dict(trunk | renumbered)
    features, frames = some_features(BINS, [40, 33, 9, 48], 48)

    logits = ensemble(features, frames)
    expected = apart(features, frames)
    torch.testing.assert_close(logits, expected)
    logits.square().sum().backward()
    expected.square().sum().backward()
    for name, parameter in ensemble.trunk.named_parameters():  # it learns from all of them
        told = sum(whole.get_parameter(name).grad for whole in apart.members)
        torch.testing.assert_close(parameter.grad, told, rtol=1e-3, atol=1e-5)


def test_one_network_shares_with_nobody_and_no_more_stages_are_shared_than_there_are():
    names = build(Cnn2dConfig(shared_stages=2), BINS, CLASSES).state_dict().keys()
    assert names == build(Cnn2dConfig(), BINS, CLASSES).state_dict().keys()
    with pytest.raises(ValueError, match="4 shared stages, but there are 3"):
        Cnn2dConfig(ensemble_size=2, shared_stages=4)


def test_a_relaxed_network_hears_a_mixture_of_the_clip_and_its_rows_normalised():
    features, frames = some_features(4, [30, 12], 30)
    features = 3 * features + 2 * (features != 0)
    heard = RelaxedFreqNorm(_Echo(), 0.25)(features, frames)
    rows = features[1, :, :12]
    scaled = (rows - rows.mean(-1, keepdim=True)) / (rows.var(-1, correction=0, keepdim=True) + 1e-3).sqrt()
    torch.testing.assert_close(heard[1, :, :12], 0.75 * rows + 0.25 * scaled)
    assert not heard[1, :, 12:].any()


class _Echo(torch.nn.Module):
    def forward(self, features: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
        return features


def test_a_relu_within_a_mask_has_the_gradients_of_one_behind_it():
    torch.manual_seed(0)
    x, norm, frames = torch.randn(3, 4, 6, 9), torch.nn.BatchNorm2d(4), torch.tensor([9, 5, 1])
    torch.nn.init.normal_(norm.bias)
    ways = []
    for way in (relu_within, lambda x, mask: torch.relu(x * mask)):
        inputs = x.clone().requires_grad_()
        result = way(norm(inputs), time_mask(frames, x))
        ways.append([result, *torch.autograd.grad(result.square().sum(), [inputs, *norm.parameters()])])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*ways, strict=True))
