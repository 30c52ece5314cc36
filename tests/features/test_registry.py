"""User-defined features: registered by name, used in a configuration, and checked like the shipped ones."""

import pytest
import torch

from serx.config.loader import load_config
from serx.errors import CheckpointError, ConfigError
from serx.features import FeaturesConfig, FeatureStack, Views, feature_names, register_feature
from serx.features.registry import _FEATURES
from serx.inference.predictor import Predictor
from serx.recognizer import Recognizer
from serx.testing import check_feature
from tests.conftest import RATE, batched


@pytest.fixture(autouse=True)
def _restored_registry(monkeypatch):
    """Features that a test registers are gone after it."""
    names = dict(_FEATURES)
    yield
    _FEATURES.clear()
    _FEATURES.update(names)


def register_band_levels() -> None:
    @register_feature("band_levels", rows=3)
    def band_levels(views: Views) -> torch.Tensor:
        return torch.stack([band.mean(-1) for band in views.decibels.chunk(3, dim=-1)], dim=-1)


def test_a_registered_feature_is_stacked_next_to_shipped_ones(clips):
    register_band_levels()
    config = FeaturesConfig(stack=("rms", "band_levels"), n_mels=63, deltas=1)
    waveform, lengths = batched(clips)
    features, frames = FeatureStack(config, RATE)(waveform, lengths)
    assert config.bins == features.shape[1] == 2 * (1 + 3)
    decibels, _ = FeatureStack(FeaturesConfig(n_mels=63), RATE)(waveform, lengths)
    expected = torch.stack([decibels[:, start : start + 21].mean(1) for start in (0, 21, 42)], dim=1)
    for clip, count in enumerate(frames.tolist()):
        torch.testing.assert_close(features[clip, 1:4, :count], expected[clip, :, :count])


def test_the_number_of_rows_may_depend_on_the_config():
    register_feature("first_half", rows=lambda config: config.n_mels // 2)(
        lambda views: views.mel[..., : views.config.n_mels // 2]
    )
    config = FeaturesConfig(stack=("first_half",), n_mels=40)
    assert config.bins == 20
    assert FeatureStack(config, RATE)(torch.zeros(1, 4000))[0].shape == (1, 20, 16)


def test_a_registered_feature_can_be_named_in_a_configuration_file(tmp_path):
    register_band_levels()
    path = tmp_path / "own.yaml"
    path.write_text(
        "data: {root: corpus}\nfeatures: {stack: [logmel, band_levels], n_mels: 24}\nmodel: {kind: cnn1d}\n"
    )
    config = load_config(path)
    recognizer = Recognizer(config.features, config.model, ("calm", "angry"), RATE).eval()
    assert config.features.bins == 27
    assert recognizer(torch.zeros(2, 8000), torch.tensor([8000, 3000])).shape == (2, 2)


def test_a_registered_feature_is_independent_of_padding_and_other_clips():
    register_band_levels()
    check_feature(FeatureStack(FeaturesConfig(stack=("band_levels",), deltas=2), RATE))
    check_feature(FeatureStack(FeaturesConfig(stack=("band_levels",), statistics=("mean", "std")), RATE))


@pytest.mark.parametrize(
    ("compute", "cause"),
    [
        (lambda views: views.power.amax(-1, keepdim=True) / views.power.amax(), "neighbors"),
        (lambda views: views.decibels[..., :1] - views.decibels[..., :1].mean(1, keepdim=True), "padding"),
    ],
    ids=["maximum of the batch", "mean over padding"],
)
def test_the_check_finds_a_feature_that_depends_on_other_clips_or_on_padding(compute, cause):
    register_feature("dependent", rows=1)(compute)
    with pytest.raises(AssertionError, match=cause):
        check_feature(FeatureStack(FeaturesConfig(stack=("dependent",)), RATE))


def test_features_beyond_a_clips_frames_are_masked():
    register_feature("ones", rows=1)(lambda views: torch.ones_like(views.power[..., :1]))
    features, frames = FeatureStack(FeaturesConfig(stack=("ones",)), RATE)(
        torch.zeros(2, 8000), torch.tensor([8000, 10])
    )
    assert features.sum((1, 2)).tolist() == frames.tolist() == [32, 1]


def test_gradients_flow_through_a_registered_feature():
    register_band_levels()
    waveform = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0), requires_grad=True)
    FeatureStack(FeaturesConfig(stack=("band_levels",)), RATE)(waveform)[0].sum().backward()
    assert waveform.grad is not None and waveform.grad.abs().sum() > 0


def test_an_unknown_feature_is_an_error_that_names_known_ones_and_the_import_option(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text("data: {root: corpus}\nfeatures:\n  stack: [logmel, jitter]\nmodel: {kind: cnn1d}\n")
    with pytest.raises(ConfigError) as error:
        load_config(path)
    message = str(error.value)
    assert message.startswith(f"{path}:3: features.stack.1: unknown feature 'jitter'")
    assert all(name in message for name in (*feature_names(), "waveform"))
    assert "--import MODULE" in message


def test_a_checkpoint_with_an_unknown_feature_is_an_error_that_names_the_import_option(trained):
    register_band_levels()
    path = trained("features.stack=[logmel, band_levels]", "train.epochs=1")
    assert Predictor.load(path, torch.device("cpu")).recognizer.features.config.stack == ("logmel", "band_levels")
    del _FEATURES["band_levels"]  # as in a process that does not import the module
    with pytest.raises(CheckpointError, match="unknown feature 'band_levels'.*--import MODULE"):
        Predictor.load(path, torch.device("cpu"))


def test_a_misspelled_feature_is_an_error_that_suggests_the_right_name():
    with pytest.raises(ValueError, match="unknown feature 'centriod'; did you mean centroid"):
        FeaturesConfig(stack=("centriod",))


def test_a_feature_of_the_wrong_shape_is_an_error_that_names_its_function():
    @register_feature("flat", rows=2)
    def flat(views: Views) -> torch.Tensor:
        return views.power.sum(-1)

    with pytest.raises(
        ConfigError, match=r"feature 'flat': .*flat returns shape \(1, 16\); .* \(1, 16, 2\) is expected"
    ):
        FeatureStack(FeaturesConfig(stack=("flat",)), RATE)(torch.zeros(1, 4000))


def test_a_feature_is_cast_to_float32():
    register_feature("double", rows=1)(lambda views: views.power[..., :1].double())
    features, _ = FeatureStack(FeaturesConfig(stack=("rms", "double")), RATE)(torch.zeros(1, 4000))
    assert features.dtype == torch.float32


def test_a_name_that_is_taken_by_another_function_is_an_error():
    register_band_levels()
    register_band_levels()  # the same function again, as when its module is reloaded
    with pytest.raises(ValueError, match="feature 'band_levels' is tests.features.test_registry.*another name"):
        register_feature("band_levels", rows=1)(lambda views: views.centroid)
    with pytest.raises(ValueError, match="feature 'rms' is serx"):
        register_feature("rms", rows=1)(lambda views: views.centroid)


def test_unusable_names_and_rows_are_errors():
    for name in ("waveform", "my feature", ""):
        with pytest.raises(ValueError, match="not usable"):
            register_feature(name, rows=1)
    with pytest.raises(ValueError, match="rows is 0"):
        register_feature("empty", rows=0)
