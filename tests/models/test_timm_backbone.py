"""`TimmBackbone`: pretrained weights from files, and errors that name what to change."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from serx.errors import ConfigError
from serx.models import TimmConfig, build_model
from tests.models.test_models import BINS, CLASSES


def test_a_misspelled_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="resnet"):
        TimmConfig(name="resnt18")


@pytest.mark.parametrize(("name", "frames"), [("inception_v3", 64), ("hrnet_w18_small", 96), ("coat_tiny", 48)])
def test_a_network_that_cannot_read_the_image_is_refused_with_sizes_that_fit(name, frames):
    with pytest.raises(ConfigError, match=rf"{name} cannot read images of {BINS} rows and {frames} frames") as caught:
        build_model(TimmConfig(name=name, frames=frames), BINS, CLASSES)
    assert "multiples of 32 and 96 or more" in str(caught.value) and "\n" not in str(caught.value)
    build_model(TimmConfig(name=name, frames=96), 96, CLASSES)


def test_the_trial_forward_changes_no_weight_and_draws_no_random_number():
    torch.manual_seed(0)
    built = build_model(TimmConfig(name="resnet10t", dropout=0.5), BINS, CLASSES).members[0]
    state = torch.get_rng_state()
    torch.manual_seed(0)
    plain = timm.create_model("resnet10t", in_chans=1, num_classes=CLASSES, drop_rate=0.5)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(tensor, plain.state_dict()[name]) for name, tensor in built.net.state_dict().items())
    assert all(module.training for module in built.modules())


def test_pretrained_weights_come_from_a_file_and_are_summed_over_colors(tmp_path):
    published = timm.create_model("resnet10t", num_classes=1000).state_dict()
    save_file(published, tmp_path / "resnet10t.safetensors")
    config = TimmConfig(name="resnet10t", pretrained=True, weights=str(tmp_path / "resnet10t.safetensors"))
    loaded = build_model(config, BINS, CLASSES, pretrained=True).members[0].net.state_dict()
    assert torch.equal(loaded["layer1.0.conv1.weight"], published["layer1.0.conv1.weight"])
    torch.testing.assert_close(loaded["conv1.0.weight"], published["conv1.0.weight"].sum(1, keepdim=True))
    assert loaded["fc.weight"].shape[0] == CLASSES


@pytest.mark.parametrize("content", [None, b"x" * 100], ids=["missing", "damaged"])
def test_unreadable_weights_are_a_one_line_error_for_training_only(content, tmp_path):
    path = tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(content)
    config = TimmConfig(name="resnet10t", pretrained=True, weights=str(path))
    with pytest.raises(ConfigError, match=r"w\.safetensors") as caught:
        build_model(config, BINS, CLASSES, pretrained=True)
    assert "\n" not in str(caught.value)
    build_model(config, BINS, CLASSES, pretrained=False)  # as a checkpoint does, which holds the weights


def test_a_weights_file_that_may_be_a_pickle_is_refused():
    with pytest.raises(ValueError, match="safetensors"):
        TimmConfig(name="resnet10t", pretrained=True, weights="resnet10t.pth")
