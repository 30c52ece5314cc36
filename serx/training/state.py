"""`TrainingState`: all that changes while a run trains; how it starts, is stored in a checkpoint, and is restored."""

import math
from collections.abc import Callable, Iterator
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
from serx.config import Config, without_validation
from serx.data.audio import read_folder
from serx.data.batches import BatchSource
from serx.data.dataset import Dataset
from serx.data.protocols import Split
from serx.data.read_ahead import reading_ahead
from serx.device import autocast_dtype, compiled, environment
from serx.errors import CheckpointError, ConfigError, DataError, DiskError
from serx.files import free_bytes
from serx.models.encoder_config import EncoderConfig
from serx.models.frame_cache import frame_bytes
from serx.models.speech_encoder import SpeechEncoder
from serx.ood import OodDetector
from serx.recognizer import Dimension, Recognizer
from serx.terminal import printable
from serx.training.console import echo
from serx.training.distributed import World, average_gradients, share_gradients, without_sync
from serx.training.init_from import (
    SOURCES,
    Source,
    check_sources,
    load_initial_weights,
    load_teachers,
    sources_of,
    take_weights,
)
from serx.training.optim import AveragedWeights, LossScaler, Moments, checked, make_optimizer

FIT_BATCH = 64  # clips at a time when the normalizer is fitted


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


class EpochSums:
    """Sums over the clips of the current epoch, kept on the device: loss, confusion, gradient norms, skipped steps.

    With dimensions also those that their CCC follows from (`serx.metrics.regression_sums`).
    """

    NAMES = ("loss", "clips", "grad_norm", "confusion", "finite")

    def __init__(self, classes: int, device: torch.device, steps: int = 0, dimensions: int = 0) -> None:
        zero = torch.zeros((), dtype=torch.float64, device=device)
        self.loss, self.clips, self.grad_norm = zero, zero.clone(), zero.clone()
        self.confusion = torch.zeros(classes, classes, dtype=torch.float64, device=device)  # truth by prediction
        self.finite = torch.ones(steps, dtype=torch.bool, device=device)  # False for a skipped step
        self.ratings = torch.zeros(dimensions, 6, dtype=torch.float64, device=device)

    def add(
        self,
        losses: Tensor,
        member_logits: Tensor,
        targets: Tensor,
        has_class: Tensor | None = None,
        rows: Tensor | None = None,
    ) -> None:
        """Adds a batch. Clips with a non-finite loss count neither in the sum of losses nor in the number of clips.

        Args:
            losses: `(B,)`, summed over the M members; their mean is added. Those of clips with weights are multiplied
                with these.
            member_logits: `(B, M, C)`; the class with the highest mean probability is the prediction.
            targets: `(B,)`.
            has_class: `(B,)` bool, the clips that the confusion counts; None for all.
            rows: `(B,)`, 0 for rows that count nowhere; None if all do.
        """
        members = member_logits.shape[1]
        losses = losses / members
        logits = member_logits[:, 0] if members == 1 else member_logits.softmax(-1).mean(1)
        finite = losses.isfinite() if rows is None else losses.isfinite() & (rows > 0)
        self.loss += torch.where(finite, losses, 0.0).sum()
        self.clips += finite.sum()
        if not logits.shape[1]:
            return
        classes = torch.arange(logits.shape[1], device=logits.device)
        truth = (targets[:, None] == classes).double()
        truth = truth if has_class is None else truth * has_class[:, None]
        truth = truth if rows is None else truth * rows[:, None]
        predicted = (logits.argmax(1)[:, None] == classes).double()
        self.confusion += truth.T @ predicted

    def of_clips(self) -> list[Tensor]:
        """The sums over clips; what is left is about steps, and the same in all processes that train together."""
        sums = [self.loss, self.clips, self.confusion]
        return [*sums, self.ratings] if len(self.ratings) else sums

    def clear(self) -> None:
        """Sets the sums over clips to zero."""
        for total in self.of_clips():
            total.zero_()

    def add_ratings(self, member_values: Tensor, ratings: Tensor) -> None:
        """Adds a batch: values `(B, M, D)`, whose mean over members counts, and ratings `(B, D)`, NaN for none."""
        predicted, truth = member_values.double().mean(1), ratings.double()
        counted = ~truth.isnan() & predicted.isfinite()
        x, y = torch.where(counted, truth, 0.0), torch.where(counted, predicted, 0.0)
        self.ratings += torch.stack([counted.double(), x, y, x * x, y * y, x * y], -1).sum(0)

    def add_step(self, step: int, norm: Tensor, finite: Tensor) -> None:
        """Adds the gradient norm of a step, or marks the step as skipped."""
        self.grad_norm += torch.where(finite, norm, 0.0)
        self.finite[step] = finite

    def state_dict(self) -> dict[str, Tensor]:
        """The sums by their names."""
        names = (*self.NAMES, "ratings") if len(self.ratings) else self.NAMES
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, tensors: dict[str, Tensor], /) -> None:
        """Restores the sums; `finite` has the length of the stored epoch.

        Raises:
            CheckpointError: a tensor is missing or has another shape or type.
        """
        for name, current in self.state_dict().items():
            saved = checked(tensors, name, current, "epoch", any_length=name == "finite")
            if name in ("clips", "grad_norm", "confusion") and bool((saved < 0).any()):
                raise CheckpointError(f"checkpoint: epoch.{name} is negative")
            setattr(self, name, saved.to(current.device))


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


def new_state(
    config: Config, dataset: Dataset, split: Split, source: BatchSource, device: torch.device, progress: bool = True
) -> TrainingState:
    """The state of a new run: with the normalizer fitted on its training clips, or begun from `train.init_from`.

    What is taken from that checkpoint is printed. `progress` shows bars.

    Raises:
        ConfigError: the recipe chooses something by validation clips, and the split has none; or no weight of
            `train.init_from` fits the model.
        CheckpointError: `train.init_from` cannot be read.
        LeakError: its model was trained on validation or test clips of this run.
        DataError: there are too few training clips or classes.
    """
    dimensions = dimension_ranges(dataset, split)
    classes = _trained_classes(dataset, split)
    if len(split.train) < 2 or (dataset.labels and classes < 2):
        counts = f"{len(split.train)} training clips of {classes} classes"
        raise DataError(f"{split.stamp}: {counts}; training needs at least two clips of two classes")
    for name, part in (("training", split.train), ("validation", split.valid)):
        if part and dataset.labels and not dataset.has_class[list(part)].any():
            raise DataError(f"{split.stamp}: no {name} clip has a class, or the votes of all tie; no score counts one")
    for problem in without_validation(config) if not split.valid else ():
        raise ConfigError(problem.message)
    teachers = load_teachers(config.train.teachers)
    initial = None if config.train.init_from is None else load_initial_weights(config.train.init_from)
    sources = [*(initial.sources if initial else []), *teachers]
    notes = check_sources(dataset, split, sources, progress, config.data.cache) if sources else []
    # a published encoder is there in any case: its architecture is needed, and weights that the checkpoint lacks
    pretrained = initial is None or isinstance(config.model, EncoderConfig)
    state = TrainingState(config, dataset.labels, device, pretrained, dimensions)
    state.sources = sources
    if initial is None:
        for note in notes:
            echo(f"note: {note}")
        fit_normalizer(state, split, source)
        return state
    lines, normalizer_taken = take_weights(state.recognizer, initial, state.config)
    for line in [*(f"note: {note}" for note in notes), *lines]:
        echo(line)
    if normalizer_taken:
        state.start_average()
    else:
        fit_normalizer(state, split, source)
    return state


def dimension_ranges(dataset: Dataset, split: Split) -> tuple[Dimension, ...]:
    """The dimensions of the data with the lowest and the highest rating of the training clips.

    Raises:
        DataError: a dimension has no two different ratings in training, or one in validation.
    """
    ranges = []
    for name, column in zip(dataset.dimensions, dataset.ratings.T, strict=True):
        train, valid = column[list(split.train)], column[list(split.valid)]
        found = np.unique(train[~np.isnan(train)])
        if len(found) < 2:
            rated = f"all are rated {found[0]:g}" if len(found) else "none is rated"
            raise DataError(f"{split.stamp}: nothing to learn about {name} from the training clips: {rated}")
        if len(valid) and np.isnan(valid).all():
            raise DataError(f"{split.stamp}: no validation clip has a rating of {name}; take it out of data.dimensions")
        ranges.append(Dimension(name, float(found[0]), float(found[-1])))
    return tuple(ranges)


def _trained_classes(dataset: Dataset, split: Split) -> int:
    """How many classes the training clips have, or votes for them."""
    train, shares = list(split.train), dataset.shares
    return len(np.unique(dataset.targets[train])) if shares is None else int(shares[train].any(0).sum())


def fit_normalizer(state: TrainingState, split: Split, source: BatchSource) -> None:
    """Fits the normalizer of a new run on its training clips, and starts the average of the weights."""
    if state.config.features.normalize == "training":
        state.recognizer.normalizer.fit(_plain_features(state, source, np.asarray(split.train)))
    state.start_average()


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


def _plain_features(state: TrainingState, source: BatchSource, clips: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
    """The features of the clips, without augmentation and normalization."""
    batches = np.array_split(clips, -(-len(clips) // FIT_BATCH))
    with torch.inference_mode(), reading_ahead(source, batches) as ahead:
        for batch in batches:
            yield state.recognizer.features(*ahead.batch(batch))
