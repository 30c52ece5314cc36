"""Emotion models of the Hugging Face hub as recognizers: `Predictor.load("superb/wav2vec2-base-superb-er")`."""

from pathlib import Path
from typing import Any

import torch

from serx.config.loader import Config, from_tree
from serx.data.labels import normalize_emotion
from serx.models.encoders import Encoder, resolve_encoder
from serx.models.encoders.loading import HUB_ID, SETTINGS, refused
from serx.models.published import read_published_classifier
from serx.recognizer import Dimension, Recognizer

PUBLISHED = "published"  # the key of the metadata that names the source of a published model


def is_published(path: str) -> bool:
    """Whether a path names a folder of transformers or an id on the hub, perhaps with `@REVISION`, and no checkpoint.

    >>> is_published("superb/wav2vec2-base-superb-er@refs/pr/2"), is_published("runs/best.safetensors")
    (True, False)
    """
    source = path.partition("@")[0]
    if Path(path).exists():
        return (Path(path) / SETTINGS[0]).is_file()
    return HUB_ID.fullmatch(source) is not None and Path(source).suffix != ".safetensors"


def load_published(path: str) -> tuple[Recognizer, Config, dict[str, Any]]:
    """The recognizer of a published model, a configuration, and metadata as a checkpoint has them.

    Values of dimensions are taken as they are: from 0 to 1, as far as their model keeps to its ratings.

    Args:
        path: a folder, or an id on the hub, perhaps with `@` and a branch, tag or commit.

    Raises:
        ConfigError: it cannot be found or read, or has no head for emotions that serx can read.
    """
    source, _, revision = (path, "", "") if Path(path).is_dir() else path.partition("@")
    found = resolve_encoder(source, revision or None)
    model = read_published_classifier(found)
    labels = tuple(normalize_emotion(label) for label in model.labels)
    if len(set(labels)) < len(labels):
        raise refused(source, f"two of its classes are the same emotion: {', '.join(model.labels)}")
    dimensions = tuple(Dimension(name, 0.0, 1.0) for name in model.dimensions)
    learned = {"tasks": ("dimensions",), "dimensions": model.dimensions} if dimensions else {"labels": "shared"}
    config = from_tree(
        {
            "data": {"root": "-", "sample_rate": Encoder.sample_rate, **learned},
            "features": {"stack": ("waveform",), "normalize": "none"},
            "model": model.config,
        },
        source=path,
    )
    recognizer = Recognizer(config.features, config.model, labels, config.data.sample_rate, dimensions=dimensions)
    recognizer.backbone.members[0].load_state_dict(model.tensors)
    parts: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    metadata = {
        PUBLISHED: f"{source} at {found.revision}",
        "protocol": f"published model {source}, whose training speakers are unknown",
        "speaker_independent": False,
        "speakers": parts,
        "digests": parts,
        "environment": {"torch": torch.__version__},
        "progress": {"epoch": None},
    }
    return recognizer, config, metadata
