"""`serx.testing`: a model that lets padding or other clips in fails the check with a clear sentence."""

import pytest
import torch
from torch import Tensor, nn

from serx.features.stack import FeaturesConfig, FeatureStack
from serx.models import MlpConfig, time_mask
from serx.models.layers import AttentiveStatistics, ResidualBlock
from serx.testing import check_feature, check_model

BINS, CLASSES = 64, 4


class MaskedMean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(BINS, CLASSES)

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        return self.linear((features * time_mask(frames, features)).sum(-1) / frames[:, None])


class MeanOverPadding(MaskedMean):
    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        return self.linear(features.mean(-1))


class ScaledByTheBatch(MaskedMean):
    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        return super().forward(features / features.abs().amax(), frames)


class NormOverPadding(MaskedMean):
    """Divides by the right number of frames, but its batch norm has turned the padding into something else than 0."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(BINS)

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        return self.linear(self.norm(features).sum(-1) / frames[:, None])


class MaskedConvolutions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block, self.pool = ResidualBlock(BINS, 16, (2,)), AttentiveStatistics(16)
        self.linear = nn.Linear(32, CLASSES)

    def forward(self, features: Tensor, frames: Tensor) -> Tensor:
        return self.linear(self.pool(*self.block(features, frames)))


@pytest.mark.parametrize("model", [MaskedMean, MaskedConvolutions])
def test_a_masked_model_passes(model):
    check_model(model())


@pytest.mark.parametrize("model", [MeanOverPadding, NormOverPadding])
def test_a_model_that_averages_over_padding_fails_by_its_padding(model):
    message = rf"{model.__name__}: the logits of a clip of 61 frames changed by [\d.e-]+ when 69 zeros were appended"
    with pytest.raises(AssertionError, match=message) as caught:
        check_model(model())
    assert "depends on its padding" in str(caught.value) and "\n" not in str(caught.value)


def test_a_model_with_a_maximum_over_the_batch_fails_by_its_neighbors():
    with pytest.raises(AssertionError, match=r"changed by [\d.e-]+ when other clips were in the batch.*neighbors"):
        check_model(ScaledByTheBatch())


def test_logits_of_another_shape_fail():
    with pytest.raises(AssertionError, match=r"shape \(5, 4\); \(5, 7\) is expected"):
        check_model(MaskedMean(), classes=7)


def test_logits_that_ignore_the_features_fail():
    model = MaskedMean()
    nn.init.zeros_(model.linear.weight)
    with pytest.raises(AssertionError, match="nothing can be checked"):
        check_model(model)


def test_the_check_changes_neither_the_model_nor_the_random_state():
    model, state = NormOverPadding().train(), torch.get_rng_state()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(AssertionError):
        check_model(model)
    assert model.training and torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_config_is_checked_as_the_model_that_it_builds():
    check_model(MlpConfig(widths=(16,)), bins=20, classes=3)
    with pytest.raises(AssertionError, match="MlpConfig"):
        check_model(MlpConfig(widths=(16,)), bins=20, classes=3, tolerance=-1.0)


class BatchMaximum(FeatureStack):
    """Levels relative to the loudest clip of the batch, as torchaudio's `top_db` has them."""

    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        features, frames = super().forward(waveform, lengths)
        mask = time_mask(frames, features)
        return (features - features.masked_fill(mask == 0, -torch.inf).amax()) * mask, frames


class FramesOfTheBatch(FeatureStack):
    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        features, frames = super().forward(waveform, lengths)
        return features, torch.full_like(frames, features.shape[-1])


class Unmasked(FeatureStack):
    def forward(self, waveform: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        features, frames = super().forward(waveform, lengths)
        return features + 1.0, frames


@pytest.mark.parametrize(
    ("feature", "message"),
    [(BatchMaximum, "depends on its neighbors"), (FramesOfTheBatch, "compute frames from lengths"), (Unmasked, "mask")],
)
def test_a_feature_that_depends_on_its_batch_fails(feature, message):
    with pytest.raises(AssertionError, match=message):
        check_feature(feature(FeaturesConfig(), 16_000))


@pytest.mark.parametrize("feature", ["pitch", FeaturesConfig(stack=("logmel", "zcr"), deltas=1)], ids=str)
def test_a_feature_that_is_masked_passes_by_name_by_config_and_as_a_module(feature):
    check_feature(feature)
    if isinstance(feature, FeaturesConfig):
        check_feature(FeatureStack(feature, 16_000))
