"""Pretrained encoders from a folder or from the Hugging Face hub, in the layout of transformers.

Only `config.json`, `preprocessor_config.json` and safetensors are read: no pickle is opened and no code of a repository
is run. A revision is resolved to a commit, or to the sha256 of a folder's weights, so that a run can name what it used.
Every weight of the encoder must be in the file with its shape, and no other; heads outside the encoder are not read.
`HF_HUB_OFFLINE=1` uses what the hub's cache holds.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from serx.errors import ConfigError
from serx.models.encoders.architecture import Architecture, Wav2Vec2Architecture, WhisperArchitecture
from serx.models.encoders.layers import PLAIN, Encoder, EncoderOptions
from serx.models.encoders.wav2vec2 import Wav2Vec2Encoder
from serx.models.encoders.whisper import WhisperEncoder

FAMILIES = ("whisper", "wav2vec2", "hubert", "wavlm", "data2vec-audio")
SETTINGS = ("config.json", "preprocessor_config.json", "processor_config.json")
WEIGHTS, INDEX, SHARDS = "model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors"
ADAPTER = "adapter_config.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
MAX_SETTINGS_BYTES = 4 << 20
# The end of the name of a weight that every encoder of the family has; what precedes it is the encoder's prefix.
_ANCHORS = {"whisper": "conv1.weight"}
_ANCHOR = "feature_projection.projection.weight"
# Settings that change what a model computes, and their values in the models that are built here.
_UNSUPPORTED = {"add_adapter": False, "adapter_attn_dim": None, "conv_pos_batch_norm": False}
# transformers builds data2vec-audio in this way, whatever its configuration says.
_DATA2VEC = {"feat_extract_norm": "layer", "do_stable_layer_norm": False}


class EncoderSource(NamedTuple):
    """Where an encoder comes from, and what it is.

    Attributes:
        source: the folder, or the id on the hub.
        revision: the commit on the hub, or `sha256:` and the digest of a folder's weights.
        architecture: all that is needed to build it.
        settings: its `config.json`.
        folder: holds the files on this machine; the weights of an encoder of the hub may still have to be fetched.
    """

    source: str
    revision: str
    architecture: Architecture
    settings: dict[str, Any]
    folder: Path


def resolve_encoder(source: str, revision: str | None = None) -> EncoderSource:
    """Finds an encoder and reads its settings. The weights of an encoder of the hub are not fetched yet.

    Args:
        source: a folder, or an id on the hub such as `openai/whisper-base`.
        revision: a branch, tag or commit on the hub; or `sha256:...`, which the weights of a folder must have.

    Raises:
        ConfigError: there is no such encoder, it is of another kind, its files are damaged or incomplete, or the hub
            cannot be reached.
    """
    if source and Path(source).is_dir():
        folder, found = Path(source), digest(source, weight_files(source, Path(source)))
        if revision is not None and revision != found:
            raise refused(
                source, f"its weights have {found}, but model.revision is {revision}; use those, or leave it out"
            )
    elif HUB_ID.fullmatch(source) and not Path(source).exists():
        folder = _fetch(source, revision, SETTINGS)
        found = folder.name
    else:
        raise refused(source, "neither a folder nor an id on the Hugging Face hub, such as openai/whisper-base")
    settings = _read_json(source, folder / SETTINGS[0])
    return EncoderSource(
        source, found, _architecture(source, settings, _feature_settings(source, folder)), settings, folder
    )


def build_encoder(architecture: Architecture, options: EncoderOptions = PLAIN) -> Encoder:
    """An encoder with random weights."""
    if isinstance(architecture, WhisperArchitecture):
        return WhisperEncoder(architecture, options)
    return Wav2Vec2Encoder(architecture, options)


def load_encoder(found: EncoderSource, options: EncoderOptions = PLAIN) -> Encoder:
    """An encoder with its published weights, as float32 whatever type they are stored in.

    Raises:
        ConfigError: the weights are missing, pickled, damaged, or not those of its `config.json`.
    """
    encoder = build_encoder(found.architecture, options)
    fill_encoder(encoder, found, fetched_weights(found))
    return encoder


def fetched_weights(found: EncoderSource) -> list[Path]:
    """The files of an encoder's weights, fetched from the hub where they are not on this machine yet."""
    folder = found.folder
    if not Path(found.source).is_dir():
        folder = _fetch(found.source, found.revision, (WEIGHTS, INDEX, SHARDS))
    return weight_files(found.source, folder)


def fill_encoder(encoder: Encoder, found: EncoderSource, paths: Iterable[Path]) -> dict[str, Path]:
    """Copies the weights of an encoder into it; returns the names of the other tensors, such as a head's, by file.

    Raises:
        ConfigError: a weight is missing, left over, damaged or of another shape.
    """
    names = [(path, name) for path in paths for name in tensor_names(found.source, path)]
    anchor = _ANCHORS.get(found.architecture.model_type, _ANCHOR)
    prefixes = sorted({name.removesuffix(anchor) for _, name in names if name.endswith(anchor)}, key=len)
    if not prefixes:
        raise refused(
            found.source, f"these are not the weights of a {found.architecture.model_type} encoder: no {anchor}"
        )
    prefix, expected = prefixes[0], encoder.state_dict()
    own = [(path, name) for path, name in names if name.startswith(prefix)]
    tensors = dict(read_tensors(found.source, own, lambda name: _today(name.removeprefix(prefix))))
    for name in ("masked_spec_embed",):  # models that were trained without masks have none
        if name in expected:
            tensors.setdefault(name, expected[name])
    for name in sorted(expected.keys() ^ tensors.keys()):
        fault = "is missing" if name in expected else "is left over"
        raise refused(found.source, f"these are not the weights of its config.json: {prefix}{name} {fault}")
    for name, tensor in expected.items():
        if tensors[name].shape != tensor.shape:
            shapes = f"is {tuple(tensors[name].shape)}, but its config.json needs {tuple(tensor.shape)}"
            raise refused(found.source, f"{prefix}{name} {shapes}")
    encoder.load_state_dict(tensors)
    return {name: path for path, name in names if not name.startswith(prefix)}


def weight_files(source: str, folder: Path) -> list[Path]:
    """The safetensors files of a folder: one, or all that its index names.

    Raises:
        ConfigError: there are none, or one is missing.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        shards = _read_json(source, folder / INDEX).get("weight_map")
        if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
            raise refused(source, f"{INDEX} has no weight_map; fetch the files again")
        paths = [folder / Path(name).name for name in sorted(set(shards.values()))]
        for path in paths:
            if not path.is_file():
                raise refused(source, f"half downloaded: {path.name} is missing; fetch the files again")
        return paths
    if (folder / ADAPTER).is_file():
        raise refused(
            source,
            "an adapter of peft without its encoder; merge them (merge_and_unload), then call save_pretrained",
        )
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        raise _only_pickles(source, pickles[0])
    raise refused(source, f"there is no {WEIGHTS} in {folder}; fetch the files again")


def tensor_names(source: str, path: Path) -> list[str]:
    """The names of the tensors in a safetensors file."""
    with _opened(source, path) as file:
        return list(file.keys())


def read_tensors(
    source: str, names: Iterable[tuple[Path, str]], rename: Callable[[str], str] = str
) -> Iterator[tuple[str, Tensor]]:
    """The named tensors of safetensors files as float32, under their new names.

    Raises:
        ConfigError: a file is damaged, holds quantized weights, or NaN or infinity.
    """
    by_path: dict[Path, list[str]] = {}
    for path, name in names:
        by_path.setdefault(path, []).append(name)
    for path, wanted in by_path.items():
        with _opened(source, path) as file:
            for name in wanted:
                tensor = file.get_tensor(name)
                if tensor.dtype not in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
                    raise refused(source, f"{name} is {tensor.dtype}; quantized weights are not supported")
                tensor = tensor.float()
                if not tensor.isfinite().all():
                    raise refused(source, f"{path.name}: {name} holds NaN or infinity; fetch the files again")
                yield rename(name), tensor


def digest(source: str, paths: Iterable[Path]) -> str:
    """`sha256:` and the digest of the contents of files."""
    total = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    total.update(block)
        except OSError as error:
            raise refused(source, f"{path}: cannot be read: {error.strerror}") from error
    return f"sha256:{total.hexdigest()}"


def refused(source: str, reason: str) -> ConfigError:
    """The error of a source that cannot be used."""
    return ConfigError(f"model.source: {source}: {reason}")


def _today(name: str) -> str:
    """The name of a weight where older versions of torch normalized it in another way."""
    name = name.replace("conv.weight_g", "conv.parametrizations.weight.original0")
    return name.replace("conv.weight_v", "conv.parametrizations.weight.original1")


def _fetch(source: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    """The folder of a commit in the hub's cache, with the files of these patterns; its name is the commit."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise _without_library(source) from error
    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=list(patterns)))
    except GatedRepoError as error:
        raise refused(
            source, "its owner grants access on request; ask on its page, then run `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise refused(source, "neither a folder nor a public repository of the Hugging Face hub") from error
    except RevisionNotFoundError as error:
        raise refused(
            source, f"it has no revision {revision}; leave model.revision out, or see its Files page"
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        at = f" at revision {revision}" if revision else ""
        raise refused(
            source,
            f"no such folder, not in the cache of the hub{at}, and the hub cannot be reached ({type(error).__name__}); "
            "connect once, or give a folder with its config.json and model.safetensors",
        ) from error


def _feature_settings(source: str, folder: Path) -> dict[str, Any]:
    """`preprocessor_config.json`, or that part of `processor_config.json`; empty without them."""
    _, features, processor = SETTINGS
    if (folder / features).is_file():
        return _read_json(source, folder / features)
    if (folder / processor).is_file():
        found = _read_json(source, folder / processor).get("feature_extractor", {})
        return found if isinstance(found, dict) else {}
    return {}


def _architecture(source: str, settings: dict[str, Any], features: dict[str, Any]) -> Architecture:
    """The architecture that a `config.json` describes, with transformers' defaults where it says nothing."""
    model_type = settings.get("model_type")
    if model_type not in FAMILIES:
        kind = f"of the kind {model_type}" if model_type else "without a model_type"
        raise refused(source, f"its config.json is {kind}; speech encoders are {', '.join(FAMILIES)}")
    if features.get("sampling_rate", Encoder.sample_rate) != Encoder.sample_rate:
        raise refused(source, f"it reads {features['sampling_rate']} Hz; only encoders of 16000 Hz are supported")
    if "quantization_config" in settings:
        raise refused(source, "its weights are quantized; name the original model")
    try:
        from transformers import CONFIG_MAPPING
    except ImportError as error:
        raise _without_library(source) from error
    try:
        full = CONFIG_MAPPING[model_type].from_dict(settings).to_dict()
    except Exception as error:  # transformers checks values in many ways
        raise refused(source, f"its config.json cannot be used: {_first_line(error)}") from error
    for name, value in _UNSUPPORTED.items():
        if full.get(name, value) != value:
            raise refused(source, f"its config.json has {name}: {full[name]}, which is not supported")
    if model_type == "data2vec-audio":
        full |= _DATA2VEC
    built: type[WhisperArchitecture | Wav2Vec2Architecture] = Wav2Vec2Architecture
    if model_type == "whisper":
        built = WhisperArchitecture
    else:
        full["do_normalize"] = bool(features.get("do_normalize", True))
    try:
        return built.model_validate({name: full[name] for name in built.model_fields if name in full})
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"])) or "it"
        raise refused(source, f"its config.json cannot be used: {where}: {fault['msg']}") from error


def _read_json(source: str, path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_SETTINGS_BYTES:
            raise refused(source, f"{path.name} is larger than settings are; fetch the files again")
        content = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise refused(source, f"there is no {path.name}; give the folder or repository of a speech encoder") from error
    except (OSError, ValueError, RecursionError) as error:
        raise refused(source, f"{path.name} cannot be read ({_first_line(error)}); fetch the files again") from error
    if not isinstance(content, dict):
        raise refused(source, f"{path.name} holds no settings; fetch the files again")
    return content


@contextmanager
def _opened(source: str, path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        fault = f"{path.name} is damaged or half downloaded ({_first_line(error)})"
        raise refused(source, f"{fault}; fetch the files again") from error


def _only_pickles(source: str, name: str) -> ConfigError:
    return refused(
        source,
        f"has only pickled weights ({name}), which serx never opens; name a revision that has {WEIGHTS} (often "
        "refs/pr/N, see the pull requests of the repository), or convert it with transformers' save_pretrained",
    )


def _without_library(source: str) -> ConfigError:
    return refused(source, "reading pretrained encoders needs transformers; run pip install 'serx[encoders]'")


def _first_line(error: Exception) -> str:
    """The class of an error and the first line of its message."""
    return "".join([type(error).__name__, *(f": {line}" for line in str(error).splitlines()[:1])])
