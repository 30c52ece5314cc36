"""The registry: a kind of your own trains from a YAML file and opens from a checkpoint; unknown kinds are named."""

import sys
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from serx import checkpoint
from serx.config.loader import from_tree, load_config
from serx.errors import CheckpointError, ConfigError
from serx.inference.predictor import Predictor
from serx.models import BaseModelConfig, build_model, model_kinds, register_model, registry
from serx.training.run_folder import BEST
from serx.training.trainer import fit

MODULE = """
from typing import Literal

from torch import nn

from serx.models import BaseModelConfig, register_model, time_mask


class AveragingConfig(BaseModelConfig):
    kind: Literal["averaging"] = "averaging"
    width: int = 8


@register_model(AveragingConfig)
class Averaging(nn.Module):
    def __init__(self, config, bins, classes):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(bins, config.width), nn.ReLU(), nn.Linear(config.width, classes))

    def forward(self, features, frames):
        return self.net((features * time_mask(frames, features)).sum(-1) / frames[:, None])
"""


@pytest.fixture
def own_kinds(monkeypatch):
    """Kinds that a test registers are gone after it."""
    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))


@pytest.fixture
def own_module(own_kinds, tmp_path, monkeypatch):
    """A module of the user's own, imported as `--import averaging_model` does."""
    (tmp_path / "averaging_model.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield __import__("averaging_model")
    del sys.modules["averaging_model"]


def own_config(tiny_root, tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(
        f"data: {{root: {tiny_root}, protocol: speakers, test_speakers: [5, 6], valid_speakers: [3, 4]}}\n"
        "features: {n_mels: 24, n_fft: 512}\n"
        "model:\n"
        "  kind: averaging\n"
        "  width: 6\n"
        "  ensemble_size: 2\n"
        "train: {epochs: 1, batch_size: 8, device: cpu, threads: 1}\n"
    )
    return path


@pytest.mark.slow
def test_a_kind_of_your_own_trains_and_its_checkpoint_opens(own_module, tiny_root, tmp_path):
    config = load_config(own_config(tiny_root, tmp_path))
    assert isinstance(config.model, own_module.AveragingConfig)
    fit(config, tmp_path / "run", progress=False)
    predictor = Predictor.load(tmp_path / "run" / BEST, torch.device("cpu"))
    assert [type(member).__name__ for member in predictor.recognizer.backbone.members] == ["Averaging"] * 2
    assert predictor.config == config
    saved = checkpoint.load(tmp_path / "run" / BEST).metadata["config"]["model"]
    assert saved["kind"] == "averaging" and saved["width"] == 6
    assert "averaging_model" not in str(saved)  # a checkpoint names no code


@pytest.mark.slow
def test_a_checkpoint_of_an_unknown_kind_names_the_kind_and_the_option_that_imports_it(
    own_module, tiny_root, tmp_path, monkeypatch
):
    fit(load_config(own_config(tiny_root, tmp_path)), tmp_path / "run", progress=False)
    monkeypatch.delitem(registry._KINDS, "averaging")
    with pytest.raises(CheckpointError, match=r"best\.safetensors.*unknown model kind 'averaging'.*--import MODULE"):
        Predictor.load(tmp_path / "run" / BEST, torch.device("cpu"))


def test_keys_of_your_own_kind_are_checked_with_file_and_line(own_module, tiny_root, tmp_path):
    path = own_config(tiny_root, tmp_path)
    with pytest.raises(ConfigError, match=r"own\.yaml:5: model\.width: .*valid integer"):
        load_config(_replaced(path, "width: 6", "width: six"))
    with pytest.raises(ConfigError, match=r"own\.yaml:5: unknown key model\.widht; did you mean model\.width\?"):
        load_config(_replaced(path, "width: six", "widht: 6"))


def _replaced(path, old, new):
    path.write_text(path.read_text().replace(old, new))
    return path


def test_an_unknown_kind_is_refused_with_line_nearest_kind_and_the_option_that_imports_one(tiny_root, tmp_path):
    path = _replaced(own_config(tiny_root, tmp_path), "kind: averaging", "kind: cnn2")
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:4: model.kind: unknown model kind 'cnn2'; did you mean cnn")
    assert (
        "known kinds are classical, cnn1d, cnn2d, encoder_probe, linear_probe, mlp" in message
        and "--import MODULE" in message
    )


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({}, "model.kind is missing"),
        ({"kind": 3}, "unknown model kind 3"),
        ({"kind": ["cnn2d"]}, "unknown model kind"),
        (3, "model should be keys"),
    ],
)
def test_a_model_section_without_a_kind_is_refused(model, message):
    with pytest.raises(ConfigError, match=message):
        from_tree({"data": {"root": "x"}, "model": model})


def test_two_classes_cannot_share_a_kind(own_kinds):
    class AnotherConfig(BaseModelConfig):
        kind: Literal["cnn2d"] = "cnn2d"

    with pytest.raises(ValueError, match=r"'cnn2d' is serx\.models\.cnn2d\.Cnn2dConfig; give .*AnotherConfig another"):
        register_model(AnotherConfig)(nn.Identity)


def test_a_config_without_a_kind_cannot_register():
    class NamelessConfig(BaseModelConfig):
        width: int = 3

    with pytest.raises(ValueError, match="kind has no default"):
        register_model(NamelessConfig)


def test_a_kind_of_your_own_may_load_pretrained_weights_and_share_layers(own_kinds):
    class DoublingConfig(BaseModelConfig):
        kind: Literal["doubling"] = "doubling"

    class Double(nn.Module):
        def forward(self, features: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
            return 2 * features, frames

    @register_model(DoublingConfig)
    class Doubling(nn.Module):
        def __init__(self, config: DoublingConfig, bins: int, classes: int) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(classes))

        @classmethod
        def from_pretrained(cls, config: DoublingConfig, bins: int, classes: int) -> "Doubling":
            model = cls(config, bins, classes)
            nn.init.constant_(model.scale, 5.0)
            return model

        @classmethod
        def shared_part(cls, config: DoublingConfig, bins: int, pretrained: bool) -> nn.Module | None:
            return Double() if config.ensemble_size > 1 else None

        def forward(self, features: Tensor, frames: Tensor) -> Tensor:
            return features.sum((1, 2))[:, None] * self.scale

    assert model_kinds()["doubling"].module is Doubling
    features, frames = torch.ones(1, 1, 1), torch.tensor([1])
    config = DoublingConfig(ensemble_size=2)
    assert build_model(config, 1, 3).member_logits(features, frames).unique().item() == 2.0
    assert build_model(config, 1, 3, pretrained=True).member_logits(features, frames).unique().item() == 10.0
    assert build_model(DoublingConfig(), 1, 3).member_logits(features, frames).unique().item() == 1.0
