"""Every shipped kind of network: padding and other clips, gradients, half precision, and the last frame."""

import pytest
import torch

from serx.models import Cnn1dConfig, Cnn2dConfig, MlpConfig, SequentialConfig, TimmConfig, build_model
from serx.testing import check_model, wake_norms

BINS, CLASSES = 40, 5
CONFIGS = {
    "cnn1d": Cnn1dConfig(stem=16, widths=(16, 24, 24)),
    "cnn2d": Cnn2dConfig(stem=8, widths=(8, 12, 16), embedding=24),
    "crnn": Cnn2dConfig(stem=8, widths=(8, 12, 16), embedding=24, gru=12),
    "mlp": MlpConfig(widths=(16, 24)),
    "sequential over time": SequentialConfig(widths=(12, 16), dense=(20,)),
    "sequential of flat frames": SequentialConfig(
        frames=50, widths=(6, 8, 8), pools=((5, 2), (4, 4), (1, 1)), dense=(20,)
    ),
    "ensemble": Cnn1dConfig(stem=8, widths=(8, 12, 12), ensemble_size=3),
    "ensemble with shared stages": Cnn2dConfig(
        stem=8, widths=(8, 12, 16), embedding=24, ensemble_size=3, shared_stages=2
    ),
    "relaxed norm": Cnn2dConfig(stem=8, widths=(8, 12, 16), embedding=24, relaxed_freq_norm=0.5),
    "timm convolutions": TimmConfig(name="resnet10t", frames=48),
    "timm transformer": TimmConfig(name="vit_tiny_patch16_224", frames=48),
}
SINGLE = ["cnn1d", "cnn2d", "crnn", "mlp", "sequential over time", "sequential of flat frames"]


def bins_of(name: str) -> int:
    return 48 if name == "timm transformer" else BINS  # a multiple of its patches


def trained_like(name: str) -> torch.nn.Module:
    """A model with random weights whose norm layers have the biases and statistics of a trained one."""
    torch.manual_seed(0)
    model = build_model(CONFIGS[name], bins_of(name), CLASSES)
    wake_norms(model)
    return model


def random_features(bins: int, frames: list[int], width: int) -> tuple[torch.Tensor, torch.Tensor]:
    counts = torch.tensor(frames)
    features = torch.randn(len(frames), bins, width, generator=torch.Generator().manual_seed(1))
    return features * (torch.arange(width) < counts[:, None])[:, None], counts


@pytest.mark.parametrize("name", CONFIGS)
def test_logits_do_not_depend_on_padding_or_on_other_clips_in_the_batch(name):
    check_model(CONFIGS[name], bins_of(name), CLASSES)


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_returns_one_row_a_clip_in_training_and_in_evaluation(name):
    features, frames = random_features(bins_of(name), [40, 33, 9, 48], 48)
    model = trained_like(name)
    for mode in (True, False):
        model.train(mode)
        assert model(features, frames).shape == (4, CLASSES)
        assert model.member_logits(features, frames).shape == (4, CONFIGS[name].ensemble_size, CLASSES)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_gets_a_finite_gradient(name):
    model = trained_like(name).train()
    features, frames = random_features(bins_of(name), [40, 33, 9, 48], 48)
    model.member_logits(features, frames).log_softmax(-1)[..., :2].sum().backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name


@pytest.mark.parametrize("name", SINGLE)
def test_half_precision_changes_probabilities_by_less_than_five_percent(name):
    model = trained_like(name).eval()
    features, frames = random_features(BINS, [61, 17, 100], 100)
    with torch.inference_mode():
        exact = model(features, frames).softmax(-1)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model(features, frames).float().softmax(-1)
    assert (exact - rounded).abs().max() < 0.05


@pytest.mark.parametrize("name", SINGLE)
def test_the_last_valid_frame_reaches_the_logits(name):
    model = trained_like(name).eval()
    features, frames = random_features(BINS, [50], 50)
    changed = features.clone()
    changed[0, :, 49] += 3.0
    assert (model(features, frames) - model(changed, frames)).abs().max() > 1e-4


def test_an_mlp_reads_a_vector_as_it_is_and_a_sequence_by_its_mean():
    model = trained_like("mlp").eval()
    features, frames = random_features(BINS, [7, 20], 20)
    mean = features.sum(-1, keepdim=True) / frames[:, None, None]
    torch.testing.assert_close(model(features, frames), model(mean, torch.ones_like(frames)))
    torch.testing.assert_close(model(mean, torch.ones_like(frames)), model.members[0].net(mean[..., 0]))
