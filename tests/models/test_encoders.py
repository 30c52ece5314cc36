"""Weights of published encoders: from a file or from torch.hub, and never with code."""

import os
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torch import hub

from serx.errors import ConfigError
from serx.models.encoders import BUNDLES, empty_encoder, pretrained_encoder

pytestmark = pytest.mark.usefixtures("small_encoders")


def random_encoder(bundle: str) -> torch.nn.Module:
    """An encoder of random weights, so large that attention, positions and norms all change the result."""
    torch.manual_seed(0)
    encoder = empty_encoder(bundle)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder


def test_weights_of_a_speech_recognizer_load_without_its_output_layer(tmp_path):
    encoder = random_encoder("HUBERT_BASE")
    save_file({**encoder.state_dict(), "aux.weight": torch.zeros(29, 16)}, tmp_path / "asr.safetensors")
    loaded = pretrained_encoder("HUBERT_BASE", str(tmp_path / "asr.safetensors")).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in encoder.state_dict().items())


def refusal(bundle: str, weights: str | None) -> str:
    with pytest.raises(ConfigError) as caught:
        pretrained_encoder(bundle, weights)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_damaged_or_foreign_weights_are_refused_in_one_line(tmp_path):
    other = random_encoder("WAVLM_BASE")
    save_file(other.state_dict(), tmp_path / "wavlm.safetensors")
    assert "not the weights of WAV2VEC2_BASE" in refusal("WAV2VEC2_BASE", str(tmp_path / "wavlm.safetensors"))
    assert "cannot read" in refusal("WAV2VEC2_BASE", str(tmp_path / "missing.safetensors"))
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "wavlm.safetensors").read_bytes()[:-8])
    assert "cannot read" in refusal("WAVLM_BASE", str(tmp_path / "cut.safetensors"))


class Payload:
    def __init__(self, trace) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def test_a_pickle_is_refused_as_a_weights_file_and_runs_nothing(tmp_path):
    for name in ("weights.pth", "weights.safetensors"):
        torch.save({"a": Payload(tmp_path / "trace")}, tmp_path / name)
        refusal("WAV2VEC2_BASE", str(tmp_path / name))
    assert not (tmp_path / "trace").exists()


@pytest.fixture
def hub_folder(tmp_path, monkeypatch):
    """torch.hub's cache in a folder of the test, without a network."""
    monkeypatch.setattr(hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(hub, "download_url_to_file", _no_network)
    (tmp_path / "checkpoints").mkdir()
    return tmp_path / "checkpoints"


def _no_network(*arguments, **options):
    raise URLError("Name or service not known")


@pytest.mark.parametrize("bundle", ["WAV2VEC2_BASE", "WAVLM_BASE_PLUS"])
def test_a_published_file_is_loaded_from_the_cache_of_torch_hub(bundle, hub_folder):
    encoder = random_encoder(bundle)
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    published = encoder.state_dict()
    for name in [name for name in published if "parametrizations" in name]:  # as torchaudio published them
        prefix, _, parameter = name.rpartition("conv.")
        published[f"{prefix}conv.{old[parameter]}"] = published.pop(name)
    torch.save(published, hub_folder / BUNDLES[bundle]._path)
    loaded = pretrained_encoder(bundle, None).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in encoder.state_dict().items())


def test_a_published_file_that_would_run_code_is_refused_and_runs_nothing(hub_folder, tmp_path):
    torch.save({"a": Payload(tmp_path / "trace")}, hub_folder / BUNDLES["WAV2VEC2_BASE"]._path)
    assert "remove it" in refusal("WAV2VEC2_BASE", None)
    assert not (tmp_path / "trace").exists()


def test_without_a_network_the_error_says_which_file_to_put_where(hub_folder):
    message = refusal("WAV2VEC2_BASE", None)
    assert str(hub_folder / "wav2vec2_fairseq_base_ls960.pth") in message
    assert "https://download.pytorch.org" in message and "model.weights" in message
