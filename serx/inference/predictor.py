"""`Predictor`: a checkpoint and nothing else, from audio files to emotions."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from serx import checkpoint
from serx.checkpoint import fill
from serx.config.loader import Config, from_tree, tuples
from serx.data.audio import AudioError, audio_duration, decode, prepare_clip, read_blocks
from serx.errors import CheckpointError, ConfigError
from serx.inference.adaptation import adapted
from serx.inference.segmentation import MOST_SECONDS, RATE, utterances
from serx.models.backbone import build_model
from serx.ood import OodDetector
from serx.recognizer import Recognizer

BATCH = 16
UNSURE = "unsure"  # told in the place of an emotion


def verdict(probabilities: dict[str, float], min_confidence: float = 0.0) -> str:
    """The most probable emotion, or `unsure` where its probability is below `sure`."""
    label = max(probabilities, key=probabilities.__getitem__)
    return label if probabilities[label] >= min_confidence else UNSURE


@dataclass(frozen=True)
class Prediction:
    """What the model heard in one file: probabilities by label, or why the file could not be used."""

    path: Path
    probabilities: dict[str, float] | None
    refused: str | None = None
    unlike: str | None = None  # in what the recording is unlike those of training, where it is

    @property
    def label(self) -> str | None:
        """The most probable emotion."""
        return self.told()

    def told(self, min_confidence: float = 0.0) -> str | None:
        """`verdict` on the file; None where it could not be used."""
        return verdict(self.probabilities, min_confidence) if self.probabilities else None


class Predictor:
    """The recognizer of a checkpoint, with the way it wants its audio decoded.

    Attributes:
        facts: the checkpoint's own account: labels, protocol, speakers, environment.
    """

    def __init__(self, path: str | Path, device: torch.device) -> None:
        """Rebuilds the recognizer from the file alone.

        Raises:
            CheckpointError: the file is damaged or not a checkpoint of serx.
        """
        saved = checkpoint.load_run_checkpoint(path)
        self.metadata: dict[str, Any] = saved.metadata
        try:
            self.config: Config = from_tree(tuples(saved.metadata["config"]), source=f"{path}, its configuration")
            self.labels = tuple(saved.metadata["labels"])
        except (KeyError, TypeError, AttributeError, RecursionError, ConfigError) as error:
            raise CheckpointError(f"{path}: not readable by this version of serx: {error}") from error
        self.device = device
        config = self.config
        weights = saved.group("ema") or saved.group("model")
        try:
            _refuse_giants(path, config, len(self.labels), weights)
            recognizer = Recognizer(config.features, config.model, self.labels, config.data.sample_rate)
        except (ConfigError, RuntimeError, ValueError, ArithmeticError, MemoryError) as error:
            raise CheckpointError(f"{path}: its configuration cannot be built: {error}".partition("\n")[0]) from error
        fill(recognizer, weights, f"{path}: model")
        self.recognizer = recognizer.to(device).eval()
        self.recognizer.temperature = _temperature(path, saved.metadata)
        self.ood_detector = OodDetector.from_tensors(saved.group("ood"), config.data.sample_rate)

    def predict(self, paths: Sequence[Path], voice: Sequence[torch.Tensor] | None = None) -> list[Prediction]:
        """One prediction a path, in order; a file that cannot be used gets its reason, and the rest go on.

        `voice` are `recordings` of the speaker of all `paths`, of many moods: they enrol the voice (enrolment.py).

        Raises:
            DataError: `voice` is too little to be enrolled by.
            ConfigError: the model cannot enrol a voice.
        """
        if voice is not None:
            with adapted(self.recognizer, voice):
                return self.predict(paths)
        predictions: list[Prediction] = []
        for start in range(0, len(paths), BATCH):
            predictions += self._batch(paths[start : start + BATCH])
        return predictions

    def recordings(self, paths: Sequence[Path]) -> tuple[list[torch.Tensor], dict[Path, str]]:
        """The waveforms `(T,)` of a voice to enrol, and the reasons of the files that cannot be used.

        What is longer than an utterance is cut at its pauses, since the voice is to be heard in clips like those to be
        predicted.
        """
        found: list[np.ndarray] = []
        refused: dict[Path, str] = {}
        for path in paths:
            try:
                clips = self._utterances(path) if audio_duration(path) > MOST_SECONDS else [decode(path, self.config.data)]
            except AudioError as error:
                refused[path] = f"{error.reason}: {error.detail}"
                continue
            if not clips:
                refused[path] = "no speech was found"
            found += clips
        return [torch.from_numpy(clip).to(self.device) for clip in found], refused

    def _utterances(self, path: Path) -> list[np.ndarray]:
        cut = utterances(read_blocks(path, RATE))
        return [prepare_clip(utterance.waveform, RATE, self.config.data) for utterance in cut]

    def _read(self, paths: Sequence[Path]) -> tuple[dict[Path, np.ndarray], dict[Path, str]]:
        heard: dict[Path, np.ndarray] = {}
        refused: dict[Path, str] = {}
        for path in paths:
            try:
                heard[path] = decode(path, self.config.data)
            except AudioError as error:
                refused[path] = f"{error.reason}: {error.detail}"
        return heard, refused

    def _batch(self, paths: Sequence[Path]) -> list[Prediction]:
        heard, refused = self._read(paths)
        rows = self.probabilities(list(heard.values())) if heard else []
        named = dict(zip(heard, rows, strict=True))
        strange = dict(zip(heard, self.unlike(list(heard.values())), strict=True)) if heard else {}
        return [Prediction(path, named.get(path), refused.get(path), strange.get(path)) for path in paths]

    def probabilities(self, waveforms: Sequence[np.ndarray]) -> list[dict[str, float]]:
        """Of each clip `(T,)`, as `decode` or `prepare_clip` of data/audio.py leave it: its emotions' probabilities."""
        batch, lengths = _padded(waveforms)
        rows = self.recognizer.probabilities(batch.to(self.device), lengths.to(self.device)).cpu().tolist()
        return [dict(zip(self.labels, row, strict=True)) for row in rows]

    def unlike(self, waveforms: Sequence[np.ndarray]) -> list[str | None]:
        """Of each such clip: in what its recording is unlike all that the model was trained on, or None.

        None as well where the checkpoint does not know: trained on two speakers or fewer, or by an earlier serx.
        """
        if self.ood_detector is None:
            return [None] * len(waveforms)
        return self.ood_detector.explain(*_padded(waveforms), self.config.data.sample_rate)


def _padded(waveforms: Sequence[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips `(T,)` as one batch `(B, T)`, zero beyond their lengths `(B,)`."""
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    batch = torch.zeros(len(waveforms), int(lengths.max()))
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(waveform)
    return batch, lengths


def _refuse_giants(path: str | Path, config: Config, classes: int, weights: dict[str, torch.Tensor]) -> None:
    """Before any memory is taken: a configuration may ask for a model far larger than the weights beside it."""
    with torch.device("meta"):
        wanted = build_model(config.model, config.features.bins, classes).state_dict()
    for name, tensor in wanted.items():
        found = weights.get(f"backbone.{name}")
        if tensor.numel() > (0 if found is None else found.numel()):  # support vectors: as many as the file has
            shape = "missing" if found is None else str(tuple(found.shape))
            raise CheckpointError(
                f"{path}: backbone.{name} is {shape}, its own configuration wants {tuple(tensor.shape)}"
            )


def _temperature(path: str | Path, metadata: dict[str, Any]) -> float:
    """What `best.safetensors` learned of its confidence from validation speakers; `last.safetensors` says nothing."""
    said = metadata.get("temperature", 1.0)
    if not isinstance(said, float) or not 0.01 < said < 100:  # NaN is not either
        raise CheckpointError(f"{path}: its temperature is {said!r}, not a number near 1; use another checkpoint")
    return said
