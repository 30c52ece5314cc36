"""`load_model`: a checkpoint of serx, or a published model, as a recognizer with all that belongs to it."""

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch

from serx.checkpoint import load_run_checkpoint
from serx.checkpoint.file import Checkpoint
from serx.checkpoint.metadata import check_metadata, dimensions_of
from serx.checkpoint.tensors import fill
from serx.config.loader import Config
from serx.errors import CheckpointError, ConfigError
from serx.files import StrPath
from serx.inference.published import is_published, load_published
from serx.ood import OodDetector
from serx.recognizer import Recognizer
from serx.speaker_model import SpeakerModel

# What older checkpoints hold of speakers describes embeddings, not logits, and is not read.
OF_EMBEDDINGS = re.compile(r"speaker\.(.*\.voters\.[0-9]+\.)?[0-9]+\.(means|prior_clips|share_prior)")


class LoadedModel(NamedTuple):
    """A trained model, the configuration and metadata of its training, and its out-of-distribution detector if any.

    The weights are on the CPU, the speaker models on the device that was asked for.
    """

    recognizer: Recognizer
    config: Config
    metadata: dict[str, Any]
    ood_detector: OodDetector | None


def load_model(path: StrPath, device: torch.device) -> LoadedModel:
    """Rebuilds the recognizer from a checkpoint alone, or opens an emotion model of the Hugging Face hub.

    Args:
        path: `best.safetensors` or `last.safetensors` of a run, or a published model (`load_published`).
        device: of the speaker models.

    Raises:
        CheckpointError: the file is missing, damaged or not a checkpoint of serx.
        ConfigError: a published model cannot be used.
    """
    if is_published(os.fspath(path)):
        return LoadedModel(*load_published(os.fspath(path)), None)
    path = Path(path)
    saved = load_run_checkpoint(path)
    config = check_metadata(path, saved.metadata)
    labels, dimensions = tuple(saved.metadata["labels"]), dimensions_of(saved.metadata)
    try:
        recognizer = Recognizer(config.features, config.model, labels, config.data.sample_rate, dimensions=dimensions)
    except (ConfigError, RuntimeError, ValueError, ArithmeticError, MemoryError) as error:
        raise CheckpointError(f"{path}: config: it cannot be built: {error}".partition("\n")[0]) from error
    fill(recognizer, saved.group("ema") or saved.group("model"), f"{path}: model")
    recognizer.temperature = float(saved.metadata.get("temperature", 1.0))  # `last.safetensors` has none
    try:
        ood_detector = OodDetector.from_tensors(saved.group("ood"), config.data.sample_rate)
        _load_speaker_models(recognizer, saved, device)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    return LoadedModel(recognizer, config, saved.metadata, ood_detector)


def _load_speaker_models(recognizer: Recognizer, saved: Checkpoint, device: torch.device) -> None:
    """Gives the recognizer, and each voter of an ensemble, its own speaker model."""
    names = [name for name in saved.tensors if name.startswith("speaker.")]
    left_over = {name for name in names if not OF_EMBEDDINGS.fullmatch(name)}
    for name, model in recognizer.waveform_models().items():
        group = ".".join(["speaker", *filter(None, [name])])
        own = {key: tensor for key, tensor in saved.group(group).items() if "." not in key}  # others are of voters
        left_over -= {f"{group}.{key}" for key in own}
        speaker_model = SpeakerModel.from_tensors(own, len(recognizer.labels))
        model.speaker_model = None if speaker_model is None else speaker_model.to(device)
    if left_over:
        raise CheckpointError(f"checkpoint: {min(left_over)} is left over")
