"""The run from the first epoch to the last: train, validate, record, keep the best, save, stop."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from serx import checkpoint
from serx.config.loader import Config, dump, wants_validation
from serx.data.batches import BatchSource, make_batch_source
from serx.data.dataset import Dataset, load_dataset, split_dataset
from serx.data.protocols import Split
from serx.device import choose_device, configure_torch, environment
from serx.errors import ConfigError, DataError, DivergedError
from serx.metrics.classification import score_from_confusion
from serx.ood import OodDetector
from serx.training.classical import ClassicalFit
from serx.training.console import echo, epoch_line, print_run_header
from serx.training.epoch import train_epoch, unchanging_vectors
from serx.training.losses import class_weights, logit_offsets
from serx.training.memory import explain_out_of_memory
from serx.training.resume import differences, load_newest
from serx.training.run_folder import BEST, LAST, PREVIOUS, Metrics, lock_run_folder, write
from serx.training.sampling import TrainingClips, plan_epoch
from serx.training.signals import catch_signals
from serx.training.state import EpochSums, Run
from serx.training.tensorboard import TensorBoardWriter, augmented_clips, close
from serx.training.validation import scalars, validate

MAX_BAD_STEPS = 10  # so many non-finite steps in a row end a run
CHECK_EVERY = 25  # steps between the reads for which the host waits
FIT_BATCH = 64


@dataclass(frozen=True)
class Outcome:
    """How a run ended: the best epoch's line of `metrics.jsonl`, and the signal that stopped it, if one did."""

    folder: Path
    best: dict[str, Any]
    stopped_by: int | None


def fit(config: Config, folder: Path, resume: bool = False, progress: bool = True) -> Outcome:
    """Trains `config` into `folder`, or goes on with what is there.

    Raises:
        SerxError: of one of the kinds in errors.py; the folder then holds all that was finished.
    """
    device = choose_device(config.train.device)
    configure_torch(config.train.threads, config.train.deterministic)
    with lock_run_folder(folder):
        dataset = load_dataset(config.data, progress=progress)
        split = split_dataset(dataset, config.data, progress)
        with explain_out_of_memory(config, device, dataset.audio_cache.lengths):
            source = make_batch_source(dataset.audio_cache, device, config.data.placement)
            run = resume_state(config, dataset, split, device, folder) if resume else None
            run = run or start(config, dataset, split, source, device)
            return train(run, dataset, split, source, folder, progress)


def train(
    run: Run, dataset: Dataset, split: Split, source: BatchSource, folder: Path, progress: bool = True
) -> Outcome:
    """All remaining epochs of `run`, on a split as it is: `fit` sees to it that it leaks nothing."""
    return _Loop(run, dataset, split, source, folder, progress).go()


def start(config: Config, dataset: Dataset, split: Split, source: BatchSource, device: torch.device) -> Run:
    """A new run, its normalizer fitted on the training clips.

    Raises:
        ConfigError: something is to be chosen by validation clips, and there are none.
        DataError: too few clips or classes to train on.
    """
    present = len(np.unique(dataset.targets[list(split.train)]))
    if len(split.train) < 2 or present < 2:
        counts = f"{len(split.train)} training clips of {present} classes"
        raise DataError(f"{split.stamp}: {counts}; training needs two clips of two classes")
    for _, fault in wants_validation(config) if not split.valid else ():
        raise ConfigError(fault)
    return fit_normalizer(Run(config, dataset.labels, device, pretrained=True), split, source)


def fit_normalizer(run: Run, split: Split, source: BatchSource) -> Run:
    """Fits the normalizer of a new run on its training clips, and starts the average of its weights."""
    if run.config.features.normalize == "training":
        run.recognizer.normalizer.fit(_plain_features(run, source, np.asarray(split.train)))
    run.start_average()
    return run


def resume_state(config: Config, dataset: Dataset, split: Split, device: torch.device, folder: Path) -> Run:
    """The run last saved in `folder`, when it is the run of this configuration and data.

    Raises:
        CheckpointError, ConfigError: the file is damaged, or the run of other settings or clips.
    """
    saved, warnings = load_newest(folder)
    run = Run(config, dataset.labels, device, pretrained=False)
    run.start_average()
    told = [
        f"note: resumed with a difference: {line}"
        for line in differences(saved.metadata, metadata(run, dataset, split))
    ]
    for line in [*warnings, *told]:
        echo(line)
    run.restore(saved)
    return run


def metadata(run: Run, dataset: Dataset, split: Split) -> dict[str, Any]:
    """What a checkpoint says of itself: enough to rebuild its recognizer and to judge its results."""
    parts = {"train": split.train, "valid": split.valid, "test": split.test}
    return {
        **run.metadata(),
        "config": run.config.model_dump(mode="json"),
        "labels": list(dataset.labels),
        "protocol": split.stamp,
        "speaker_independent": split.speaker_independent,
        "speakers": {name: dataset.speaker_ids(part) for name, part in parts.items()},
        "digests": {name: sorted(dataset.digests[i] for i in part) for name, part in parts.items()},
        "environment": environment(run.device, run.dtype),
    }


def _plain_features(run: Run, source: BatchSource, clips: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
    with torch.inference_mode():
        for batch in np.array_split(clips, -(-len(clips) // FIT_BATCH)):
            yield run.recognizer.features(*source.batch(batch))


class _Loop:
    """The parts of one run that every epoch touches."""

    def __init__(
        self, run: Run, dataset: Dataset, split: Split, source: BatchSource, folder: Path, progress: bool
    ) -> None:
        self.run, self.dataset, self.split, self.source, self.folder = run, dataset, split, source, folder
        self.progress_bar = progress
        clips = np.asarray(split.train)
        targets = dataset.targets[clips]
        corpora = np.unique([dataset.utterances[i].corpus for i in clips], return_inverse=True)[1]
        weights = class_weights(run.config.train.class_weights, targets, len(dataset.labels))
        offsets = logit_offsets(run.config.train, targets, corpora, len(dataset.labels))
        vectors = unchanging_vectors(run, source, clips) if run.progress.epoch < run.epochs else None
        self.part = TrainingClips(clips, targets, weights.to(run.device), vectors, corpora, offsets.to(run.device))
        speaker_ids = [dataset.utterances[i].speaker_id for i in clips]
        classical = run.config.model.kind == "classical"
        self.classical_fit = ClassicalFit(run, self.part, source, speaker_ids) if classical else None
        if run.progress.epoch == run.progress.place == 0:
            run.ood_detector = OodDetector.fit_clips(source.batch, clips, speaker_ids, run.config.data.sample_rate)
        self.metrics = Metrics(folder, run.progress.epoch)
        self.board = TensorBoardWriter(folder, run.progress.epoch)
        self.begun, self.resumed_at = time.monotonic(), run.progress.epoch

    def go(self) -> Outcome:
        """All remaining epochs."""
        run, config = self.run, self.run.config
        write(self.folder / "config.yaml", f"# protocol: {self.split.stamp}\n{dump(config)}".encode())
        print_run_header(run, self.dataset, self.split, self.folder)
        self.board.start(config, self.split.stamp, [*self.dataset.notes, *self.split.notes])
        if run.progress.epoch == run.progress.place == 0:
            some = partial(augmented_clips, run, self.source, self.dataset, self.part)
            self.board.clips(some, config.data.sample_rate)
        with catch_signals() as signals:
            while run.progress.epoch < run.epochs and not self._out_of_patience() and not signals:
                self._epoch(signals)
        best = next((line for line in self.metrics.lines if line["epoch"] == run.progress.best_epoch), {})
        if best and not signals:
            if self.split.valid:
                last = partial(close, run, self.folder / BEST, self.source, self.dataset, np.asarray(self.split.valid))
                self.board.closing(last, self.dataset.labels, config.data.sample_rate, best["epoch"])
            self.board.finish(config, best)
        self.board.close()
        return Outcome(self.folder, best, signals[0] if signals else None)

    def _epoch(self, signals: list[int]) -> None:
        """Trains, scores and records one epoch; or as much of it as a signal allows, then saves."""
        run, clips = self.run, len(self.part.clips)
        steps = [] if self.classical_fit else plan_epoch(self.part, run.config, run.progress.epoch)
        if run.progress.place == 0:
            run.sums = EpochSums(len(self.dataset.labels), run.device, len(steps))
        started = time.monotonic()
        hidden = None if self.progress_bar else True  # None: shown on a terminal only
        label = f"epoch {run.progress.epoch + 1}"
        with tqdm(total=clips, desc=label, unit="clip", leave=False, disable=hidden) as bar:
            if self.classical_fit:
                self.classical_fit.fit()
            else:
                train_epoch(run, self.part, self.source, steps, self._after_step(steps, bar, signals))
        if run.progress.place < len(steps):
            self._save()
            return
        line, confusion = self._score(clips / (time.monotonic() - started))
        self.metrics.append(line)
        self.board.epoch(line, self.dataset.labels)
        if line["best"]:
            told = metadata(run, self.dataset, self.split) | {"temperature": line["temperature"]}
            checkpoint.save(self.folder / BEST, run.evaluated_tensors(), told)
            if confusion is not None:
                title = f"validation, epoch {line['epoch'] + 1}: {self.split.stamp}"
                self.board.confusion(confusion, self.dataset.labels, title, line["epoch"])
        self._save()
        done = run.progress.epoch - self.resumed_at
        left = (time.monotonic() - self.begun) / done * (run.epochs - run.progress.epoch)
        echo(epoch_line(line, run.epochs, left))

    def _score(self, clips_per_second: float) -> tuple[dict[str, Any], np.ndarray | None]:
        """The finished epoch's line and validation confusion, None where nobody validates; moves progress on by one."""
        run, progress, sums = self.run, self.run.progress, self.run.sums
        train, taken = score_from_confusion(sums.confusion.cpu().numpy()), int(sums.finite.sum())
        loss = float(sums.loss / sums.clips.clamp(min=1))
        scores, temperature, confusion = {"loss": -loss}, run.config.train.temperature, None
        valid: dict[str, Any] | None = None
        if self.split.valid:
            valid, temperature, confusion = validate(run.evaluated, self.source, self.dataset, self.split.valid)
            scores = {"uar": valid["uar"], "loss": -valid["loss"]}
        line = {
            "epoch": progress.epoch,
            "train": {"loss": loss, **scalars(train)},
            "valid": valid,
            "temperature": temperature,
            "lr": run.optimizer.param_groups[0]["lr"],
            "grad_norm": float(sums.grad_norm) / max(1, taken),
            "skipped_steps": len(sums.finite) - taken,
            "clips_per_second": clips_per_second,
            "best": self._note_score(scores | {"last": float(progress.epoch)}),
            "protocol": self.split.stamp,
        }
        if self.classical_fit:
            line |= {"lr": 0.0, "c": self.classical_fit.c}
        progress.epoch, progress.place = progress.epoch + 1, 0
        return line, confusion

    def _note_score(self, scores: dict[str, float]) -> bool:
        """Moves best, patience and plateau by an epoch's selection score; a NaN is never the best."""
        progress, optim = self.run.progress, self.run.config.optim
        score = scores[self.run.config.train.select]
        sound = all(math.isfinite(value) for value in scores.values())  # a UAR can be had of NaN probabilities too
        better = sound and (progress.best is None or score > progress.best)
        if better:
            progress.best, progress.best_epoch = score, progress.epoch
        progress.stale = 0 if better else progress.stale + 1
        progress.plateau_stale = 0 if better else progress.plateau_stale + 1
        if progress.plateau_stale >= optim.plateau_patience:
            progress.plateau_scale, progress.plateau_stale = progress.plateau_scale * optim.plateau_factor, 0
        return better

    def _out_of_patience(self) -> bool:
        patience = self.run.config.train.patience
        return patience is not None and self.run.progress.stale >= patience

    def _after_step(self, steps: list[list[np.ndarray]], bar: tqdm, signals: list[int]) -> Callable[[], bool]:
        """What happens between two steps: the bar, the check for divergence, and whether to stop."""

        def after_step() -> bool:
            done = self.run.progress.place
            bar.update(sum(len(batch) for batch in steps[done - 1]))
            if done % CHECK_EVERY == 0 or done == len(steps):
                self._check_divergence(steps[:done])
            return bool(signals)

        return after_step

    def _check_divergence(self, steps: list[list[np.ndarray]]) -> None:
        """Reads the flags of the steps taken (here the host waits for the device) and stops a run that is lost."""
        finite = self.run.sums.finite[: len(steps)].cpu().numpy()
        streak = len(steps) - 1 - max(np.flatnonzero(finite), default=-1)
        if streak >= min(MAX_BAD_STEPS, len(self.run.sums.finite)):
            positions = np.concatenate([batch for step in steps[-streak:] for batch in step])
            names = [self.dataset.utterances[i].path.name for i in self.part.clips[positions[:5]]]
            raise DivergedError(
                f"{streak} steps in a row gave non-finite gradients (clips {', '.join(names)}, ...); the checkpoints "
                "saved before are whole: lower optim.lr, or set train.precision=fp32"
            )

    def _save(self) -> None:
        told = metadata(self.run, self.dataset, self.split)
        checkpoint.save(self.folder / LAST, self.run.tensors(), told, keep=self.folder / PREVIOUS)
