"""Weights of published encoders: from a file, from the hub, and never with code."""

import os
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import hub

from serx.errors import ConfigError
from serx.models.encoders import BUNDLES, empty_encoder, pretrained_encoder

pytestmark = pytest.mark.usefixtures("small_encoders")


def woken_encoder(bundle: str) -> torch.nn.Module:
    """Random weights large enough that attention, positions and norms all matter."""
    torch.manual_seed(0)
    encoder = empty_encoder(bundle)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder


def test_a_weights_file_of_an_asr_model_lends_its_encoder(tmp_path):
    encoder = woken_encoder("HUBERT_BASE")
    save_file({**encoder.state_dict(), "aux.weight": torch.zeros(29, 16)}, tmp_path / "asr.safetensors")
    loaded = pretrained_encoder("HUBERT_BASE", str(tmp_path / "asr.safetensors")).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in encoder.state_dict().items())


def _refusal(bundle: str, weights: str | None) -> str:
    with pytest.raises(ConfigError) as caught:
        pretrained_encoder(bundle, weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_files_that_are_no_weights_of_the_bundle_are_refused_in_one_line(tmp_path):
    other = woken_encoder("WAVLM_BASE")
    save_file(other.state_dict(), tmp_path / "wavlm.safetensors")
    assert "not the weights of WAV2VEC2_BASE" in _refusal("WAV2VEC2_BASE", str(tmp_path / "wavlm.safetensors"))
    assert "cannot read" in _refusal("WAV2VEC2_BASE", str(tmp_path / "missing.safetensors"))
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "wavlm.safetensors").read_bytes()[:-8])
    assert "cannot read" in _refusal("WAVLM_BASE", str(tmp_path / "cut.safetensors"))


class Payload:
    def __init__(self, trace) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def test_a_pickle_is_not_read_as_a_weights_file(tmp_path):
    for name in ("weights.pth", "weights.safetensors"):
        torch.save({"a": Payload(tmp_path / "trace")}, tmp_path / name)
        _refusal("WAV2VEC2_BASE", str(tmp_path / name))
    assert not (tmp_path / "trace").exists()


@pytest.fixture
def hub_folder(tmp_path, monkeypatch):
    """The hub's cache in a folder of the test, and no net."""
    monkeypatch.setattr(hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(hub, "download_url_to_file", _no_net)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def _no_net(*arguments, **options):
    raise URLError("Name or service not known")


@pytest.mark.parametrize("bundle", ["WAV2VEC2_BASE", "WAVLM_BASE_PLUS"])
def test_the_published_file_is_loaded_from_the_hubs_cache(bundle, hub_folder):
    encoder = woken_encoder(bundle)
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    published = encoder.state_dict()
    for name in [name for name in published if "parametrizations" in name]:  # as torchaudio published them
        place, _, parameter = name.rpartition("conv.")
        published[f"{place}conv.{old[parameter]}"] = published.pop(name)
    torch.save(published, hub_folder / BUNDLES[bundle]._path)
    loaded = pretrained_encoder(bundle, None).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in encoder.state_dict().items())


def test_a_published_file_that_would_run_code_is_refused_unrun(hub_folder, tmp_path):
    torch.save({"a": Payload(tmp_path / "trace")}, hub_folder / BUNDLES["WAV2VEC2_BASE"]._path)
    assert "remove it" in _refusal("WAV2VEC2_BASE", None)
    assert not (tmp_path / "trace").exists()


def test_without_a_net_one_line_says_where_to_put_which_file(hub_folder):
    told = _refusal("WAV2VEC2_BASE", None)
    assert str(hub_folder / "wav2vec2_fairseq_base_ls960.pth") in told
    assert "https://download.pytorch.org" in told and "model.weights" in told
