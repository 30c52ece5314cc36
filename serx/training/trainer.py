"""`fit` and `Trainer`: a run from its first epoch to its last. Each epoch trains, validates, records and saves."""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from serx import checkpoint
from serx.checkpoint.metadata import metadata_fault, unsigned_metadata
from serx.config import Config, dump, notes
from serx.data.batches import BatchSource, make_batch_source
from serx.data.dataset import Dataset, load_dataset, split_dataset
from serx.data.splits.protocols import Split
from serx.device import choose_device, configure_torch
from serx.errors import CheckpointError, ConfigError, DataError, DiskError, DivergedError, explaining_out_of_memory
from serx.files import as_path
from serx.metrics import score_from_confusion
from serx.models.classical import ClassicalConfig
from serx.models.linear_probe import LinearProbeConfig
from serx.ood import OodDetector
from serx.terminal import ProgressBar
from serx.training.classical import ClassicalTraining
from serx.training.console import echo, epoch_line, print_run_header
from serx.training.distributed import World, explain_lost_process, join_world
from serx.training.epoch import GradientTraining, TrainingMethod
from serx.training.init_from import stamped
from serx.training.linear_probe import LinearProbeTraining
from serx.training.loggers import check_loggers, make_loggers
from serx.training.memory import check_memory, explain_out_of_memory
from serx.training.new_run import new_state
from serx.training.resume import resumed_state, why_not_longer
from serx.training.run_folder import (
    BEST,
    LAST,
    PREVIOUS,
    Metrics,
    choose_run_folder,
    holds_run,
    lock_run_folder,
    refuse_to_overwrite,
    remove_run,
    what_is_saved,
    write,
)
from serx.training.run_logger import epoch_scalars
from serx.training.sampling import Step
from serx.training.signals import catch_signals
from serx.training.speaker_statistics import fit_speaker_model
from serx.training.state import TrainingState, run_metadata
from serx.training.tensorboard import augmented_clips, validation_view
from serx.training.training_clips import collect_training_clips
from serx.training.validation import Validation, concordance, scalars, select, validate

MAX_BAD_STEPS = 10  # this many non-finite steps in a row end a run
CHECK_EVERY = 25  # steps between two checks, for which the host waits for the device
OnEpoch = Callable[[dict[str, Any]], bool]


@dataclass(frozen=True)
class TrainingResult:
    """How a run ended.

    Attributes:
        folder: the run folder.
        kept: the line of `metrics.jsonl` of the epoch in `best.safetensors` (`train.select`); empty if no epoch had
            finite scores.
        stopped_by: the number of the signal that stopped the run, or None.

    >>> TrainingResult(Path("checkpoints/cnn2d"), {"epoch": 3}, None).checkpoint.name
    'best.safetensors'
    """

    folder: Path
    kept: dict[str, Any]
    stopped_by: int | None

    @property
    def checkpoint(self) -> Path:
        """The checkpoint of the kept epoch. There is none if `kept` is empty."""
        return self.folder / BEST


@explaining_out_of_memory("lower data.max_seconds or train.batch_size, or leave files out of data.root")
def fit(
    config: Config,
    folder: str | Path | None = None,
    resume: bool = False,
    progress: bool = True,
    overwrite: bool = False,
    on_epoch: OnEpoch | None = None,
) -> TrainingResult:
    """Trains a model: what `serx.fit` does, whose arguments and errors it has.

    >>> from serx.config.loader import Config
    >>> fit(Config(data={"root": "recordings"}, model={"kind": "mlp"}), "no such run", resume=True)
    Traceback (most recent call last):
    serx.errors.ConfigError: ...no such run/last.safetensors is not there...
    """
    _check_arguments(config, resume, overwrite, on_epoch)
    output = config.train.output if folder is None else str(as_path(folder, "folder"))
    world = join_world()  # of one process, unless torchrun started several
    progress = progress and world.is_first
    with ExitStack() as stack:
        stack.enter_context(world.quiet())
        stack.enter_context(explain_lost_process())
        world.from_first(partial(check_one_process, config, world))
        run_folder = world.from_first(lambda: choose_run_folder(output, config.model.kind, resume, overwrite))
        device = world.from_each(lambda: choose_device(world.device(config.train.device)))
        configure_torch(config.train.threads, config.train.deterministic)
        world.from_first(lambda: check_loggers(config.train.loggers))
        if not resume:
            # what it cannot find is reported before anything is read or written
            world.after_first(config.model.resolved)
        world.from_first(lambda: _take_run_folder(stack, run_folder, resume, overwrite))
        dataset = world.after_first(lambda: load_dataset(config.data, progress=progress))
        split = world.after_first(lambda: split_dataset(dataset, config.data, progress))
        with explain_out_of_memory(config, device, dataset.audio_cache.lengths):
            check_memory(config, dataset, split, device)
            source = make_batch_source(dataset.audio_cache, device, config.data.placement)

            def make_state() -> TrainingState:
                if resume:
                    return resumed_state(config, dataset, split, device, run_folder)
                return new_state(config, dataset, split, source, device, progress)

            state = world.after_first(make_state)
            state.join(world)
            stamp = stamped(split, state.sources)
            trainer = world.after_first(lambda: Trainer(state, dataset, stamp, source, run_folder, progress, on_epoch))
            return trainer.run()


def _check_arguments(config: object, resume: object, overwrite: object, on_epoch: object) -> None:
    """Raises ConfigError for arguments of `fit` that are of another type or contradict each other."""
    if not isinstance(config, Config):
        raise ConfigError(f'config: expected what load_config("cnn2d") returns, got {type(config).__name__}')
    for name, value in (("resume", resume), ("overwrite", overwrite)):
        if not isinstance(value, bool):
            raise ConfigError(f"{name}: expected True or False, got {value!r:.100}; folder names the run")
    if resume and overwrite:
        raise ConfigError("resume and overwrite: a run is continued or deleted; set one of them")
    if on_epoch is not None and not callable(on_epoch):
        raise ConfigError(f"on_epoch: expected a function, got {type(on_epoch).__name__}")


def check_one_process(config: Config, world: World) -> None:
    """Refuses several processes where the loss is a score of whole batches.

    Raises:
        ConfigError: `data.tasks` has dimensions, and torchrun started several processes.
    """
    if world.joined and "dimensions" in config.data.tasks:
        raise ConfigError(
            "data.tasks has dimensions, whose loss is the concordance over a batch, and several processes share a "
            "batch; train in one process, without torchrun"
        )


def _take_run_folder(stack: ExitStack, run_folder: Path, resume: bool, overwrite: bool) -> None:
    """Locks the run folder until `stack` ends, and makes it ready for a new run or for the next part of an old one."""
    stack.enter_context(lock_run_folder(run_folder))
    if overwrite and not resume:
        remove_run(run_folder)
    elif not resume:  # another process may have finished a run here since the folder was chosen
        refuse_to_overwrite(run_folder)
        (run_folder / BEST).unlink(missing_ok=True)  # of a run that was killed in its first epoch


class Trainer:
    """The loop over epochs. It trains on the split that it is given; `fit` checks the split for leaks first.

    `world` is all processes of the run: one, unless torchrun started several. `world.from_first(f)` calls `f` in the
    first process, which alone validates, writes and prints, and returns the result in all of them.
    """

    def __init__(
        self,
        state: TrainingState,
        dataset: Dataset,
        split: Split,
        source: BatchSource,
        folder: Path,
        progress: bool = True,
        on_epoch: OnEpoch | None = None,
    ) -> None:
        """`folder` must be locked by this process; `progress` shows a bar; `on_epoch` as for `fit`."""
        self._on_epoch = on_epoch
        self.state, self.dataset, self.split, self.source, self.folder = state, dataset, split, source, folder
        if fault := metadata_fault(unsigned_metadata(run_metadata(state, dataset, split))):
            if fault.startswith("config"):
                raise ConfigError(f"a checkpoint cannot hold this run: {fault}; shorten the lists of the configuration")
            raise DataError(f"a checkpoint cannot hold this run: {fault}; rename it in the data")
        self._progress = progress
        lengths = dataset.audio_cache.lengths[[*split.train, *split.valid]]
        state.use_cache(dataset.audio_cache.folder.parent / "encoders", lengths)
        self.training = collect_training_clips(state, dataset, split, source, progress)
        speaker_ids = dataset.utterances.speaker_ids_of(split.train)
        self.method: TrainingMethod = (
            LinearProbeTraining(state, self.training, speaker_ids)
            if isinstance(state.config.model, LinearProbeConfig)
            else ClassicalTraining(state, self.training, source, speaker_ids)
            if isinstance(state.config.model, ClassicalConfig)
            else GradientTraining(state, self.training, source)
        )
        if not state.progress.begun and state.world.is_first:
            state.ood_detector = OodDetector.fit_clips(
                source.batch, np.asarray(split.train), speaker_ids, state.config.data.sample_rate
            )
        if state.world.is_first:
            self.metrics = Metrics(folder, state.progress.epoch)
            for warning in self.metrics.warnings:
                echo(f"warning: {warning}")
            self.loggers = make_loggers(state.config.train.loggers, folder, state.progress.epoch)
        self._kept_probabilities: np.ndarray | None = None  # of the validation clips, at temperature 1
        self._first_epoch, self._began = state.progress.epoch, time.monotonic()

    def run(self) -> TrainingResult:
        """Runs the remaining epochs. Ends early if patience runs out, `on_epoch` returns True, or a signal comes."""
        state, method, world = self.state, self.method, self.state.world
        world.from_first(self._announce)
        if state.progress.epoch >= state.epochs or self._out_of_patience():
            echo(f"note: nothing is left to train: {self._why_finished()}")
        stopped_by, ended = 0, False
        with catch_signals(alone=not world.joined, announce=world.is_first) as signals:

            def stop_signal() -> int:
                """The number of the signal that has come to any process; 0 for none."""
                return world.largest(signals[0] if signals else 0)

            while state.progress.epoch < state.epochs and not self._out_of_patience():
                stopped_by = stop_signal()
                if stopped_by:
                    break
                steps = method.plan()
                self._begin_epoch(len(steps))
                began = time.monotonic()
                with self._progress_bar() as bar:
                    method.run(steps, self._after_step(steps, bar, stop_signal))
                world.collect(state.sums.of_clips())
                if state.progress.step < len(steps):  # a signal came within the epoch
                    world.from_first(self._save_last)
                    stopped_by = stop_signal()
                    break
                clips_per_second = len(self.training.clips) / (time.monotonic() - began)
                line, valid = world.from_first(partial(self._finished_epoch, clips_per_second))
                line["kept"] = select(state.progress, line, state.config.train, state.config.optim)
                state.progress.epoch, state.progress.step = state.progress.epoch + 1, 0
                world.from_first(partial(self._record, line, valid))
                ended = world.from_first(partial(self._is_ended, line))
                if ended:
                    break
            else:
                stopped_by = stop_signal()
        return self._finish(stopped_by, ended)

    def _begin_epoch(self, steps: int) -> None:
        """Sets the sums of a new epoch to zero. Those of a resumed one are in the checkpoint, and must fit it.

        Raises:
            CheckpointError: they do not.
        """
        state = self.state
        if state.progress.step == 0:
            state.sums = state.new_sums(steps)
        elif not state.progress.step <= steps == len(state.sums.finite):
            raise CheckpointError(
                f"{self.folder / LAST}: progress.step {state.progress.step} or epoch.finite does not fit an "
                f"epoch of {steps} steps; use another checkpoint"
            )

    def _finished_epoch(self, clips_per_second: float) -> tuple[dict[str, Any], Validation | None]:
        """Validates; returns the line of `metrics.jsonl` of the epoch, without `kept`, and the validation."""
        valid, weight = None, self.state.config.train.dimension_weight
        if self.split.valid:
            valid = validate(self.state.evaluated, self.source, self.dataset, self.split.valid, weight)
        return self._line(valid, clips_per_second), valid

    def _record(self, line: dict[str, Any], valid: Validation | None) -> None:
        """Writes and prints a finished epoch, and saves the run."""
        self.metrics.append(line)
        self._log_epoch(line)
        if line["kept"]:
            self._save_best(line, valid)
        self._save_last()
        echo(epoch_line(line, self.state.config.train.select, self.state.epochs, self._seconds_left()))

    def _announce(self) -> None:
        """Writes config.yaml, prints who and what is trained, and starts the loggers."""
        state, config = self.state, self.state.config
        write(self.folder / "config.yaml", f"# protocol: {self.split.stamp}\n{dump(config)}".encode())
        print_run_header(state, self.dataset, self.split, self.folder)
        remarks = [*notes(config), *self.dataset.notes, *self.split.notes]
        self.loggers.start(config, self.split.stamp, remarks, self.dataset.labels)
        for line in self.metrics.lines:
            self.loggers.past_epoch(epoch_scalars(line, {}, self.dataset.labels), line["epoch"], self._examples(line))
        if not state.progress.begun:
            examples = partial(augmented_clips, state, self.source, self.dataset, self.training)
            self.loggers.clips(examples, config.data.sample_rate)

    def _line(self, valid: Validation | None, clips_per_second: float) -> dict[str, Any]:
        """The finished epoch as a line of `metrics.jsonl`; `kept` is still to be added."""
        state, sums = self.state, self.state.sums
        steps_taken = int(sums.finite.sum())
        scores = scalars(score_from_confusion(sums.confusion.cpu().numpy())) if self.dataset.labels else {}
        scores |= concordance(self.dataset.dimensions, sums.ratings.cpu().numpy())
        return {
            "epoch": state.progress.epoch,
            "train": {"loss": float(sums.loss / sums.clips.clamp(min=1)), **scores},
            "valid": valid.scores if valid else None,
            "temperature": valid.temperature if valid else state.config.train.temperature,
            **self.method.settings(),
            "grad_norm": float(sums.grad_norm) / max(1, steps_taken),
            "skipped_steps": len(sums.finite) - steps_taken,
            "clips_per_second": clips_per_second,
            "protocol": self.split.stamp,
        }

    def _save_best(self, line: dict[str, Any], valid: Validation | None) -> None:
        self._kept_probabilities = None if valid is None else valid.probabilities
        metadata = run_metadata(self.state, self.dataset, self.split) | {"temperature": line["temperature"]}
        self._save(BEST, self.state.best_state_dict(), metadata)
        if valid is not None and self.dataset.labels:
            title = self._validation_title(line["epoch"])
            self.loggers.confusion(valid.confusion, self.dataset.labels, title, line["epoch"])

    def _validation_title(self, epoch: int) -> str:
        return f"validation, epoch {epoch + 1}: {self.split.stamp}"

    def _log_epoch(self, line: dict[str, Any]) -> None:
        """Hands the finished epoch to the loggers, with the scores of the epoch that is kept so far."""
        scalars = epoch_scalars(line, self._kept_line(), self.dataset.labels)
        if self.state.device.type == "cuda":
            scalars["loop/gpu_memory_gb"] = torch.cuda.max_memory_allocated(self.state.device) / 1e9
        self.loggers.epoch(scalars, line["epoch"], self._examples(line))

    def _examples(self, line: dict[str, Any]) -> int:
        """The training clips seen until the end of an epoch."""
        return (line["epoch"] + 1) * len(self.training.clips)

    def _kept_line(self) -> dict[str, Any]:
        """The line of the epoch in `best.safetensors`; empty if there is none."""
        return next((line for line in self.metrics.lines if line["epoch"] == self.state.progress.best_epoch), {})

    def _save_last(self) -> None:
        metadata = run_metadata(self.state, self.dataset, self.split)
        self._save(LAST, self.state.state_dict(), metadata, keep=self.folder / PREVIOUS)

    def _save(
        self, name: str, tensors: dict[str, torch.Tensor], metadata: dict[str, Any], keep: Path | None = None
    ) -> None:
        try:
            checkpoint.save(self.folder / name, tensors, metadata, keep)
        except DiskError as error:
            raise DiskError(f"{error}; {what_is_saved(self.folder)}") from error
        except CheckpointError as error:  # weights can overflow in a step whose gradients were finite
            raise DivergedError(
                f"{error}: training diverged; lower optim.lr, or set train.precision=fp32{self._saved_before()}"
            ) from error

    def _is_ended(self, line: dict[str, Any]) -> bool:
        """Whether `on_epoch` ends the training after the epoch of this line."""
        return self._on_epoch is not None and bool(self._on_epoch(line))

    def _finish(self, stopped_by: int, ended: bool) -> TrainingResult:
        """The result; unless the run ended before its last epoch, the loggers get the kept epoch's predictions."""
        kept = self.state.world.from_first(partial(self._finished_run, bool(stopped_by) or ended))
        return TrainingResult(self.folder, kept, stopped_by or None)

    def _finished_run(self, ended: bool) -> dict[str, Any]:
        """Completes the run folder, unless the run ended early; returns the line of the kept epoch."""
        state, config, labels = self.state, self.state.config, self.dataset.labels
        kept = self._kept_line()
        if kept and not ended:
            if not self.dataset.dimensions:
                self._add_speaker_model()
            if self.split.valid and self.dataset.labels:
                clips = np.asarray(self.split.valid)
                arguments = state, self.folder / BEST, self.source, self.dataset, clips, self._kept_probabilities
                view = partial(validation_view, *arguments)
                title = self._validation_title(kept["epoch"])
                self.loggers.validation(view, labels, title, config.data.sample_rate, kept["epoch"])
            self.loggers.finish(config, kept)
        self.loggers.close()
        return kept

    def _add_speaker_model(self) -> None:
        """Adds to the kept checkpoint what speaker adaptation needs (`SpeakerModel`)."""
        best = self.folder / BEST
        clips = np.unique(self.training.clips)
        model = fit_speaker_model(self.state, clips, self.dataset, self.source, best)
        if model is not None:
            saved = checkpoint.load(best)
            tensors = saved.tensors | {f"speaker.{name}": tensor for name, tensor in model.tensors().items()}
            metadata = {name: value for name, value in saved.metadata.items() if name not in ("format", "sha256")}
            self._save(BEST, tensors, metadata)

    def _why_finished(self) -> str:
        done, train = self.state.progress.epoch, self.state.config.train
        if done < self.state.epochs:
            return f"train.patience={train.patience} stopped it after {done} epochs; a larger patience continues"
        reason = why_not_longer(self.state.config.model_dump(mode="json"))
        longer = "a larger train.epochs continues" if reason is None else f"it cannot be made longer: {reason}"
        return f"all {done} epochs are done; {longer}"

    def _out_of_patience(self) -> bool:
        patience = self.state.config.train.patience
        return patience is not None and self.state.progress.epochs_since_best >= patience

    def _seconds_left(self) -> float:
        epochs_done = self.state.progress.epoch - self._first_epoch
        return (time.monotonic() - self._began) / epochs_done * (self.state.epochs - self.state.progress.epoch)

    def _progress_bar(self) -> ProgressBar:
        label = f"epoch {self.state.progress.epoch + 1}"
        return ProgressBar(label, len(self.training.clips), "clips", self._progress)

    def _after_step(self, steps: list[Step], bar: ProgressBar, stop_signal: Callable[[], int]) -> Callable[[], bool]:
        """A function to call after each step: moves the bar, checks for divergence, and says whether to stop."""

        def after_step() -> bool:
            done = self.state.progress.step
            bar.update(sum(len(batch) for batch in steps[done - 1]))
            if done % CHECK_EVERY == 0 or done == len(steps):
                self._check_divergence(steps[:done])
            return stop_signal() > 0

        return after_step

    def _check_divergence(self, steps: list[Step]) -> None:
        """Raises if the latest steps were all non-finite. The host waits for the device here."""
        finite = self.state.sums.finite[: len(steps)].cpu().numpy()
        bad = len(steps) - 1 - max(np.flatnonzero(finite), default=-1)
        if bad >= min(MAX_BAD_STEPS, len(self.state.sums.finite)):
            positions = np.concatenate([batch for step in steps[-bad:] for batch in step])
            if not self.state.world.is_first:  # which says it
                raise SystemExit(DivergedError.exit_code)
            names = [self.dataset.utterances[i].segment.name for i in self.training.clips[positions[:5]]]
            raise DivergedError(
                f"{bad} steps in a row gave non-finite gradients (clips {', '.join(names)}, ...); "
                f"lower optim.lr, or set train.precision=fp32{self._saved_before()}"
            )

    def _saved_before(self) -> str:
        return "; the checkpoints saved before are whole" if holds_run(self.folder) else ""
