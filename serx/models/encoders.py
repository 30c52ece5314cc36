"""torchaudio's wav2vec 2.0, HuBERT and WavLM encoders by the name of their bundle, and their published weights.

A weights file that you name is safetensors, which holds only tensors. torchaudio publishes pickles. Such a file is read
only where no other is named, with torch's weights-only reader, which makes tensors and calls nothing.
"""

import pickle
from pathlib import Path

import torchaudio
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, hub
from torchaudio.models import Wav2Vec2Model, wav2vec2_model, wavlm_model
from torchaudio.pipelines import Wav2Vec2Bundle

from serx.errors import ConfigError

BUNDLES: dict[str, Wav2Vec2Bundle] = {
    name: bundle for name, bundle in vars(torchaudio.pipelines).items() if isinstance(bundle, Wav2Vec2Bundle)
}
PUBLISHED = "https://download.pytorch.org/torchaudio/models/"


def empty_encoder(bundle: str) -> Wav2Vec2Model:
    """The bundle's architecture with random weights, without the output layer of a speech recognizer."""
    make = {"Wav2Vec2": wav2vec2_model, "WavLM": wavlm_model}[BUNDLES[bundle]._model_type]
    return make(**{**BUNDLES[bundle]._params, "aux_num_out": None})


def pretrained_encoder(bundle: str, weights: str | None) -> Wav2Vec2Model:
    """The bundle's architecture with the weights of a safetensors file, or with torchaudio's if `weights` is None.

    Raises:
        ConfigError: the file is missing, damaged or belongs to another model, or the published one cannot be fetched.
    """
    encoder = empty_encoder(bundle)
    tensors = _read_published(bundle) if weights is None else _read_safetensors(Path(weights))
    try:
        encoder.load_state_dict({name: t for name, t in tensors.items() if not name.startswith("aux.")})
    except RuntimeError as error:  # torch lists every name and shape: the first is enough
        detail = str(error).split("\n\t", 1)[-1].splitlines()[0]
        raise ConfigError(f"model.weights: {weights or 'torchaudio'}: not the weights of {bundle}: {detail}") from error
    return encoder


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".safetensors":
        raise ConfigError(
            f"model.weights: {path} is not a .safetensors file; convert a state_dict with "
            "safetensors.torch.save_file(state_dict, path)"
        )
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"model.weights: {path}: cannot read these weights: {error}") from error


def _read_published(bundle: str) -> dict[str, Tensor]:
    """torchaudio's weights, from torch.hub's cache or the network."""
    name = BUNDLES[bundle]._path
    url = name if name.startswith("https") else PUBLISHED + name
    cached = Path(hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    try:
        return hub.load_state_dict_from_url(url, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ConfigError(
            f"model.bundle: {bundle}: cannot fetch {url} ({error}); put that file at {cached}, or set model.weights to "
            "a .safetensors file"
        ) from error
    except (pickle.UnpicklingError, EOFError, RuntimeError) as error:
        raise ConfigError(
            f"model.bundle: {bundle}: {cached} is damaged or holds more than weights; remove it"
        ) from error
