"""`TrainingState`: all that changes while a run trains, how it is stored in a checkpoint, and how it is restored."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from serx.augment.recordings import load_recordings
from serx.checkpoint import Checkpoint
from serx.checkpoint.tensors import fill
from serx.config import Config
from serx.data.audio.decoding import read_folder
from serx.data.dataset import Dataset
from serx.data.splits.protocols import Split
from serx.device import autocast_dtype, compiled, environment
from serx.errors import CheckpointError, ConfigError, DiskError
from serx.files import free_bytes
from serx.models.frame_cache import frame_bytes
from serx.models.speech_encoder import SpeechEncoder
from serx.ood import OodDetector
from serx.recognizer import Dimension, Recognizer
from serx.terminal import printable
from serx.training.console import echo
from serx.training.distributed import World, average_gradients, share_gradients, without_sync
from serx.training.epoch_sums import EpochSums
from serx.training.init_from import SOURCES, Source, sources_of
from serx.training.optim import AveragedWeights, LossScaler, Moments, make_optimizer


class Stateful(Protocol):
    """A part of a run that a checkpoint stores. `load_state_dict` copies what `state_dict` returned back into place.

    A tensor that is missing or does not fit is a CheckpointError that names it.
    """

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, tensors: dict[str, Tensor], /) -> None: ...


@dataclass
class Progress:
    """How far a run has come. All randomness follows from this and the seed; there is no other random state.

    Attributes:
        epoch: epochs done.
        step: steps done in the current epoch.
        best: the score by which `train.select` kept an epoch; higher is better. Of `last` it is the epoch's index.
        best_epoch: the index of the epoch that was kept.
        epochs_since_best: what `train.patience` counts.
        plateau_scale: the factor of the learning rate of `optim.schedule: plateau`.
        epochs_on_plateau: what `optim.plateau_patience` counts.
    """

    epoch: int = 0
    step: int = 0
    best: float | None = None
    best_epoch: int | None = None
    epochs_since_best: int = 0
    plateau_scale: float = 1.0
    epochs_on_plateau: int = 0

    @property
    def begun(self) -> bool:
        """Whether a step has been taken."""
        return self.epoch + self.step > 0

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> "Progress":
        """The progress of a checkpoint's metadata.

        Raises:
            CheckpointError: an item is missing, unknown, or not a number of its kind; names it.

        >>> Progress.from_json({**asdict(Progress()), "epoch": 3}).epoch
        3
        """
        for name in saved.keys() ^ asdict(cls()).keys():
            raise CheckpointError(f"checkpoint: progress.{name} is {'left over' if name in saved else 'missing'}")
        for name, value in saved.items():
            is_count = type(value) is int and value >= 0
            is_real = type(value) in (int, float) and math.isfinite(value)
            is_none = value is None and name in ("best", "best_epoch")
            if not (is_none or (is_real if name in ("best", "plateau_scale") else is_count)):
                raise CheckpointError(f"checkpoint: progress.{name} is {value!r}, which serx never writes")
        return cls(**saved)


class _Weights:
    """The tensors of a recognizer, for checkpoints."""

    def __init__(self, recognizer: Recognizer, part: str) -> None:
        self._recognizer, self._part = recognizer, part

    def state_dict(self) -> dict[str, Tensor]:
        return self._recognizer.state_dict()

    def load_state_dict(self, tensors: dict[str, Tensor], /) -> None:
        fill(self._recognizer, tensors, self._part)


class TrainingState:
    """All that changes while a run trains, on the device of one process.

    Attributes:
        recognizer: the network that is trained, with its features and normalizer.
        member_logits: the backbone's method of that name, compiled if `train.compile` says so.
        head_logits: the backbone's method of that name, for what its constant part has computed.
        world: the processes that train together (`share_gradients`); by default only this one.
        average: the average of the weights, if `train.ema_decay` is not 0.
        ood_detector: fitted on the training clips; None if they have too few speakers.
        progress: epochs and steps done, and the best epoch.
        sources: the checkpoints whose weights the run began with (`sources_of`).
        sums: of the current epoch.
        waveform_transforms: those of `augment.waveform`, with their recordings loaded.
        dtype: what the backbone computes in.
    """

    def __init__(
        self,
        config: Config,
        labels: tuple[str, ...],
        device: torch.device,
        pretrained: bool,
        dimensions: tuple[Dimension, ...] = (),
    ) -> None:
        """Makes new weights from `train.seed`; `pretrained` loads published ones where the recipe asks for them."""
        if pretrained:
            config = config.model_copy(update={"model": config.model.resolved()})
        self.config, self.device = config, device
        torch.manual_seed(config.train.seed)
        recognizer = Recognizer(config.features, config.model, labels, config.data.sample_rate, pretrained, dimensions)
        self.recognizer = recognizer.to(device)
        self.waveform_transforms = load_recordings(
            config.augment.waveform, lambda folder: read_folder(folder, config.data.sample_rate), device
        )
        logits: Callable[..., Tensor] = recognizer.backbone.member_logits
        self.member_logits = compiled(logits, config.train.compile)
        self.head_logits: Callable[..., Tensor] = recognizer.backbone.head_logits
        self.world = World()
        self._shared: DistributedDataParallel | None = None
        self.average: AveragedWeights[Recognizer] | None = None
        self.optimizer = make_optimizer(self.recognizer, config.optim)
        self.dtype = autocast_dtype(config.train.precision, device, recognizer.backbone)
        self.scaler = LossScaler(device, self.dtype)
        self.ood_detector: OodDetector | None = None
        self.progress = Progress()
        self.sources: list[Source] = []
        self.sums = self.new_sums()

    def new_sums(self, steps: int = 0) -> EpochSums:
        """Zeros, for an epoch of so many steps."""
        return EpochSums(len(self.recognizer.labels), self.device, steps, len(self.recognizer.dimensions))

    def use_cache(self, folder: Path, lengths: np.ndarray) -> None:
        """Keeps in `folder` what a frozen encoder computes from each clip (`Recognizer.use_cache`, `use_frame_cache`).

        Args:
            folder: may be absent.
            lengths: `(n,)` samples of the clips that training and validation read.

        Raises:
            DiskError: the frames of these clips would not fit the disk.
        """
        for recognizer in {self.recognizer, self.evaluated}:
            recognizer.use_cache(folder)
            recognizer.use_frame_cache(folder)
        caches = [m.frame_cache for m in self.recognizer.modules() if isinstance(m, SpeechEncoder) and m.frame_cache]
        for cache in caches:
            needed, path = frame_bytes(cache.encoder, lengths), cache.cache.path
            missing = needed - (path.stat().st_size if path.exists() else 0)
            free = free_bytes(folder)
            if missing > free:
                raise DiskError(
                    f"{folder}: the frames of {len(lengths)} clips take {needed / 1e6:.1f} MB, and {free / 1e6:.1f} MB "
                    "are free; name another folder in data.cache, or set model.cache_frames=false"
                )
            size = f"{needed / 1e6:.1f} MB for {len(lengths)} clips"
            echo(f"the encoder's frames, {size}, are kept in {printable(folder)}")

    def start_average(self) -> None:
        """Starts the average of the weights. The normalizer must have been fitted."""
        if self.config.train.ema_decay > 0:
            self.average = AveragedWeights(self.recognizer, self.config.train.ema_decay)

    def join(self, world: World) -> None:
        """Trains together with other processes from now on; all of them call this with the same state.

        Raises:
            ConfigError: the model cannot be trained in several processes.
        """
        if not world.joined:
            return
        if self.config.model.fits is not None:
            raise ConfigError(f"model.kind {self.config.model.kind} is fitted in one process: leave torchrun out")
        if self.recognizer.dimensions:
            raise ConfigError(
                "dimensions such as arousal are trained in one process, since their loss compares all clips of a "
                "batch: leave torchrun out"
            )
        backbone = self.recognizer.backbone
        self._shared = share_gradients(world, backbone, self.member_logits, self.device)
        self.member_logits = partial(self._shared, encoded=False)
        self.head_logits = partial(self._shared, encoded=True)
        self.world = world
        if not world.is_first:  # the sums of the stored part of an epoch count once
            self.sums.clear()

    def exchanging_gradients(self, last: bool) -> AbstractContextManager:
        """The context of a forward and backward pass: after the `last` one of a step all processes have the mean."""
        return without_sync(self._shared, last)

    def average_other_gradients(self) -> None:
        """Averages the gradients of what is trained outside of the backbone: the filters of the features."""
        if self.world.joined:
            inside = set(self.recognizer.backbone.parameters())
            average_gradients([p for p in self.recognizer.parameters() if p.requires_grad and p not in inside])

    @property
    def epochs(self) -> int:
        """Epochs of the whole run. A model that is fitted has at most one for each fit."""
        fits, epochs = self.config.model.fits, self.config.train.epochs
        return epochs if fits is None else min(epochs, fits)

    @property
    def evaluated(self) -> Recognizer:
        """The recognizer that is validated and predicts: with the averaged weights if there are any."""
        return self.average.module if self.average is not None else self.recognizer

    def autocast(self) -> AbstractContextManager:
        """Half precision around the backbone, if configured."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def parts(self) -> dict[str, Stateful]:
        """What a checkpoint stores, by the first part of the tensors' names."""
        parts: dict[str, Stateful] = {
            "model": _Weights(self.recognizer, "model"),
            "optimizer": Moments(self.optimizer, self.recognizer),
            "scaler": self.scaler,
            "epoch": self.sums,
        }
        return parts if self.average is None else {**parts, "ema": _Weights(self.average.module, "ema")}

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors of the run, as `last.safetensors` stores them."""
        return _named(self.parts()) | self._ood_tensors()

    def best_state_dict(self) -> dict[str, Tensor]:
        """The tensors needed to predict, as `best.safetensors` stores them."""
        return _named({"model": _Weights(self.evaluated, "model")}) | self._ood_tensors()

    def load_state_dict(self, saved: Checkpoint) -> None:
        """Restores a run from a checkpoint that `state_dict` filled.

        Raises:
            CheckpointError: a tensor or an item of the progress is missing or does not fit; names it.
        """
        progress = Progress.from_json(saved.metadata["progress"])
        for name, part in self.parts().items():
            part.load_state_dict(saved.group(name))
        self.sources = sources_of(saved.metadata)
        self.ood_detector = OodDetector.from_tensors(saved.group("ood"), self.config.data.sample_rate)
        self.progress = progress

    def _ood_tensors(self) -> dict[str, Tensor]:
        tensors = self.ood_detector.tensors() if self.ood_detector is not None else {}
        return {f"ood.{name}": tensor for name, tensor in tensors.items()}


def _named(parts: dict[str, Stateful]) -> dict[str, Tensor]:
    return {f"{part}.{name}": t for part, state in parts.items() for name, t in state.state_dict().items()}


def run_metadata(state: TrainingState, dataset: Dataset, split: Split) -> dict[str, Any]:
    """The metadata of a checkpoint: enough to rebuild its recognizer and to judge its results."""
    parts = {"train": split.train, "valid": split.valid, "test": split.test}
    return {
        "progress": asdict(state.progress),
        "config": state.config.model_dump(mode="json"),
        "labels": list(dataset.labels),
        "dimensions": [d._asdict() for d in state.recognizer.dimensions],
        "protocol": split.stamp,
        "speaker_independent": split.speaker_independent,
        "speakers": {name: dataset.speaker_ids(part) for name, part in parts.items()},
        "digests": {name: sorted(dataset.digests[i] for i in part) for name, part in parts.items()},
        "duplicates": list(dataset.duplicates),
        "environment": environment(state.device, state.dtype)
        | ({"processes": state.world.size} if state.world.joined else {}),
        SOURCES: state.sources,
    }
