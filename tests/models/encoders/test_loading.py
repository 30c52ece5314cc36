"""Encoders from folders and the hub: what is read, what is refused in one line, and that no code is run."""

import json
import os
import shutil
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file

from serx.errors import ConfigError
from serx.models.encoders import load_encoder, resolve_encoder
from tests.conftest import ENCODERS, tiny_encoder

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(encoder_folder, tmp_path) -> Path:
    """A copy of the tiny wav2vec 2.0, to be damaged."""
    return Path(shutil.copytree(encoder_folder("wav2vec2"), tmp_path / "encoder"))


def refusal(source: Path | str, revision: str | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_encoder(resolve_encoder(str(source), revision))
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"model.source: {source}: ")
    return message


def rewrite(folder: Path, change) -> None:
    """Changes the tensors of a folder by a function from names and tensors to the same."""
    save_file(change(load_file(folder / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})


def set_settings(folder: Path, **settings) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


@pytest.mark.parametrize("kind", ENCODERS)
def test_weights_are_those_of_transformers(kind, encoder_folder):
    ours = load_encoder(resolve_encoder(str(encoder_folder(kind)))).state_dict()
    theirs = tiny_encoder(kind)
    theirs = (theirs.encoder if kind == "whisper" else theirs).state_dict()
    assert len(ours) > 40
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.parametrize(
    ("prefix", "more"),
    [("wav2vec2.", "lm_head.weight"), ("wav2vec2.", "quantizer.codevectors"), ("model.wav2vec2.", "projector.bias")],
)
def test_an_encoder_within_a_larger_model_loads_without_its_head(prefix, more, folder):
    expected = load_encoder(resolve_encoder(str(folder))).state_dict()
    rewrite(folder, lambda old: {**{prefix + name: t for name, t in old.items()}, more: torch.zeros(3)})
    loaded = load_encoder(resolve_encoder(str(folder))).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())


def test_weights_in_half_precision_and_with_the_old_names_of_weight_norm_load_as_float32(folder):
    expected = load_encoder(resolve_encoder(str(folder))).state_dict()
    old = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}

    def renamed(name: str) -> str:
        for new, before in old.items():
            name = name.replace(new, before)
        return name

    rewrite(folder, lambda tensors: {renamed(name): tensor.half() for name, tensor in tensors.items()})
    assert any(name.endswith("weight_g") for name in load_file(folder / "model.safetensors"))
    for name, tensor in load_encoder(resolve_encoder(str(folder))).state_dict().items():
        assert torch.equal(tensor, expected[name].half().float()), name


def test_weights_in_several_files_load_and_a_missing_file_is_refused(folder):
    expected = load_encoder(resolve_encoder(str(folder))).state_dict()
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    shards = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, own in shards.items():
        save_file({name: tensors[name] for name in own}, folder / file)
    weight_map = {name: file for file, own in shards.items() for name in own}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    loaded = load_encoder(resolve_encoder(str(folder))).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "half downloaded: model-00002-of-00002.safetensors is missing" in refusal(folder)
    (folder / "model.safetensors.index.json").write_text("{}")
    assert "has no weight_map" in refusal(folder)


def test_missing_left_over_and_misshapen_weights_are_refused_by_name(folder):
    tensors = load_file(folder / "model.safetensors")
    name = "encoder.layers.2.attention.q_proj.weight"
    rewrite(folder, lambda _: {n: t for n, t in tensors.items() if n != name})
    assert f"{name} is missing" in refusal(folder)
    rewrite(folder, lambda _: {**tensors, "encoder.layers.9.layer_norm.weight": torch.zeros(16)})
    assert "encoder.layers.9.layer_norm.weight is left over" in refusal(folder)
    rewrite(folder, lambda _: {**tensors, name: torch.zeros(16, 12)})
    assert f"{name} is (16, 12), but its config.json needs (16, 16)" in refusal(folder)
    rewrite(folder, lambda _: {**tensors, name: torch.full((16, 16), float("nan"))})
    assert f"{name} holds NaN or infinity" in refusal(folder)
    rewrite(folder, lambda _: {**tensors, name: torch.zeros(16, 16, dtype=torch.int8)})
    assert "quantized" in refusal(folder)
    rewrite(folder, lambda _: {"other.weight": torch.zeros(3)})
    assert "not the weights of a wav2vec2 encoder" in refusal(folder)


def test_half_downloaded_damaged_or_absent_files_are_refused(folder):
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    for content in (whole[:-8], whole[:100], b""):
        weights.write_bytes(content)
        assert "model.safetensors is damaged or half downloaded" in refusal(folder)
    weights.unlink()
    assert "there is no model.safetensors" in refusal(folder)
    weights.write_bytes(whole)
    settings = (folder / "config.json").read_text()
    for content, fault in ((settings[:50], "config.json cannot be read"), ("[1]", "config.json holds no settings")):
        (folder / "config.json").write_text(content)
        assert fault in refusal(folder)
    (folder / "config.json").unlink()
    assert "there is no config.json" in refusal(folder)


@pytest.mark.parametrize("weights", ["adapter_model.safetensors", "adapter_model.bin"])
def test_an_adapter_of_peft_without_its_encoder_is_refused(weights, folder):
    (folder / "model.safetensors").rename(folder / weights)
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    assert "an adapter of peft without its encoder; merge them" in refusal(folder)


class Payload:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):
        return os.mkdir, (str(self.trace),)


def test_a_pickle_is_refused_under_any_name_and_runs_nothing(folder, tmp_path):
    for name in ("pytorch_model.bin", "model.safetensors"):
        (folder / "model.safetensors").unlink(missing_ok=True)
        torch.save({"a": Payload(tmp_path / "trace")}, folder / name)
        assert ("only pickled weights" if name.endswith("bin") else "damaged") in refusal(folder)
    assert not (tmp_path / "trace").exists()


def test_code_in_a_repository_is_not_run(folder, tmp_path):
    (folder / "modeling.py").write_text(
        f"open({str(tmp_path / 'trace')!r}, 'w')\nclass Model: pass\nclass Config: pass\n"
    )
    set_settings(folder, auto_map={"AutoModel": "modeling.Model", "AutoConfig": "modeling.Config"})
    load_encoder(resolve_encoder(str(folder)))
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"model_type": "bert"}, "of the kind bert; speech encoders are whisper, wav2vec2"),
        ({"model_type": None}, "without a model_type"),
        ({"model_type": ["wav2vec2"]}, "speech encoders are"),
        ({"add_adapter": True}, "add_adapter: True, which is not supported"),
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"hidden_size": "wide"}, "config.json cannot be used"),
        ({"num_attention_heads": 5}, "config.json cannot be used"),
        ({"num_hidden_layers": 1 << 40}, "num_hidden_layers"),
        ({"num_hidden_layers": 5}, "encoder.layers.4"),
        ({"quantization_config": {"bits": 8}}, "quantized"),
    ],
)
def test_settings_of_another_model_are_refused(settings, fault, folder):
    set_settings(folder, **settings)
    assert fault in refusal(folder)


def test_another_sampling_rate_is_refused(folder):
    (folder / "preprocessor_config.json").write_text('{"sampling_rate": 8000}')
    assert "reads 8000 Hz" in refusal(folder)


@pytest.mark.parametrize("source", ["no/such/folder", "nowhere", "./encoder", "", "a/b/c", "~/encoder"])
def test_what_is_neither_a_folder_nor_an_id_is_refused(source):
    assert "neither a folder nor an id" in refusal(source)


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """The hub's cache in a folder of the test, without a network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def cache_repository(hub: Path, folder: Path, name: str = "models--someone--encoder") -> Path:
    """Puts a folder into the hub's cache as `someone/encoder`, at `COMMIT` of its main branch."""
    (hub / name / "refs").mkdir(parents=True)
    (hub / name / "refs" / "main").write_text(COMMIT)
    return Path(shutil.copytree(folder, hub / name / "snapshots" / COMMIT))


def test_a_repository_in_the_cache_loads_offline_and_its_branch_is_resolved_to_the_commit(hub, encoder_folder):
    cache_repository(hub, encoder_folder("wavlm"))
    for revision in (None, "main", COMMIT):
        found = resolve_encoder("someone/encoder", revision)
        assert found.revision == COMMIT
        assert found.architecture.model_type == "wavlm"
    expected = load_encoder(resolve_encoder(str(encoder_folder("wavlm")))).state_dict()
    loaded = load_encoder(found).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())


def test_a_repository_that_is_not_in_the_cache_is_refused_offline(hub, encoder_folder):
    assert "the hub cannot be reached" in refusal("someone/encoder")
    cache_repository(hub, encoder_folder("wavlm"))
    assert "at revision v2" in refusal("someone/encoder", "v2")


def test_a_half_downloaded_repository_is_refused_offline(hub, folder):
    snapshot = cache_repository(hub, folder)
    (snapshot / "model.safetensors").unlink()
    assert "there is no model.safetensors" in refusal("someone/encoder")
