"""Predictors with random weights and a speaker model: they need no training, and still tell clips apart."""

from typing import Any

import torch

from serx.config.loader import from_tree
from serx.inference.predictor import Predictor
from serx.recognizer import Dimension, Recognizer
from serx.speaker_model import SpeakerModel
from tests.conftest import RATE, speechlike

LABELS = ("angry", "happy", "sad")
SMALL = {"kind": "cnn1d", "stem": 8, "widths": (8, 8, 8)}


def untrained_predictor(
    model: dict[str, Any] = SMALL,
    features: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    min_confidence: float = 0.0,
) -> Predictor:
    """A predictor of these sections of a configuration."""
    tree = {"data": {"root": "nowhere", **(data or {})}, "features": features or {}, "model": model}
    config = from_tree(tree, source="test")
    torch.manual_seed(0)
    recognizer = Recognizer(config.features, config.model, LABELS, config.data.sample_rate).eval()
    for parameter in recognizer.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    for name, buffer in recognizer.backbone.named_buffers():
        if model["kind"] == "classical" and name.endswith("weight"):
            buffer.normal_()
    clip = torch.from_numpy(speechlike(1, 200, 3))[None]
    with torch.no_grad():  # logits of raw features are large; probabilities of 0 and 1 would hide differences
        recognizer.temperature = float(recognizer(clip, torch.tensor([clip.shape[1]])).abs().max())
    means = recognizer.temperature * (torch.eye(len(LABELS)) - 1 / len(LABELS))
    recognizer.speaker_model = SpeakerModel(means, prior_clips=torch.full((len(LABELS),), 0.5))
    return Predictor(recognizer, config, min_confidence=min_confidence)


RATED = (Dimension("arousal", 1.0, 7.0), Dimension("valence", -1.0, 1.0))


def rated_predictor(labels=(), dimensions=RATED, model=SMALL) -> Predictor:
    """A predictor of dimensions, and of emotions if there are labels, with random weights."""
    config = from_tree({"data": {"root": "nowhere"}, "model": model}, source="test")
    torch.manual_seed(0)
    recognizer = Recognizer(config.features, config.model, labels, RATE, dimensions=dimensions).eval()
    for parameter in recognizer.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return Predictor(recognizer, config)
