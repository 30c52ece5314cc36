"""The run from the first epoch to the last: train, validate, record, keep the best, save, stop."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from serx.config import Config, dump
from serx.data.corpus import Corpus, place
from serx.data.dataset import Dataset, load_dataset, split_dataset
from serx.data.protocols import Split
from serx.errors import CheckpointError, DataError, DivergedError
from serx.evaluation.classify import classify
from serx.evaluation.metrics import confusion_matrix, from_confusion, nll
from serx.files import write_atomically
from serx.training import checkpoint
from serx.training.device import choose_device, environment, set_up
from serx.training.epoch import TrainingClips, augmented_features, plan_epoch, train_epoch
from serx.training.folder import BEST, LAST, Metrics, hold
from serx.training.resume import differences
from serx.training.run import EpochSums, Run
from serx.training.tracking import SOUNDS, Board

MAX_BAD_STEPS = 10  # so many non-finite steps in a row end a run
CHECK_EVERY = 25  # steps between the reads for which the host waits
EVAL_BATCH = 64


@dataclass(frozen=True)
class Outcome:
    """Where a run ended: its folder, the best epoch's line of `metrics.jsonl`, and the signal that stopped it."""

    folder: Path
    best: dict[str, Any]
    stopped_by: int | None = None


def fit(config: Config, folder: Path, resume: bool = False, progress: bool = True) -> Outcome:
    """Trains `config` into `folder`, or goes on with what is there.

    Raises:
        SerxError: one of its kinds, see errors.py; the run folder then holds all epochs finished so far.
    """
    device = choose_device(config.train.device)
    set_up(config.train.threads, config.train.deterministic)
    with hold(folder):
        dataset = load_dataset(config.data, progress=progress)
        split = split_dataset(dataset, config.data)
        for note in [*dataset.notes, *split.notes]:
            print(f"note: {note}")
        corpus = place(dataset.pack, device, config.data.placement)
        run = start(config, dataset, split, corpus, device, folder / LAST if resume else None)
        return _epochs(run, dataset, split, corpus, folder, progress)


def start(
    config: Config, dataset: Dataset, split: Split, corpus: Corpus, device: torch.device, resume_from: Path | None
) -> Run:
    """A new run with its normaliser fitted on the training clips, or the one saved at `resume_from`."""
    if min(len(split.train), len(split.valid)) == 0 or len(dataset.labels) < 2:
        raise DataError(
            f"{split.stamp}: {len(split.train)} training and {len(split.valid)} validation clips of "
            f"{len(dataset.labels)} classes; training needs some of each and two classes"
        )
    run = Run(config, dataset.labels, device, pretrained=resume_from is None)
    if resume_from is None:
        if config.features.normalize == "training":
            run.recognizer.normalizer.fit(_plain_features(run, corpus, dataset, np.asarray(split.train)))
        run.start_average()
        return run
    saved = checkpoint.load(resume_from)
    for line in differences(saved.facts, facts(run, dataset, split)):
        print(f"note: resumed with a difference: {line}")
    run.start_average()
    run.restore(saved)
    return run


def _plain_features(
    run: Run, corpus: Corpus, dataset: Dataset, clips: np.ndarray
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    with torch.inference_mode():
        for batch in np.array_split(clips, -(-len(clips) // EVAL_BATCH)):
            yield run.recognizer.features(*corpus.batch(batch))


def facts(run: Run, dataset: Dataset, split: Split) -> dict[str, Any]:
    """What a checkpoint says of itself: enough to rebuild its recognizer and to judge its results."""
    parts = {"train": split.train, "valid": split.valid, "test": split.test}
    return {
        **run.facts(),
        "config": run.config.model_dump(mode="json"),
        "labels": list(dataset.labels),
        "protocol": split.stamp,
        "speaker_independent": split.speaker_independent,
        "speakers": {name: dataset.persons(part) for name, part in parts.items()},
        "digests": {name: sorted(dataset.digests[i] for i in part) for name, part in parts.items()},
        "data": dataset.pack.fingerprint,
        "environment": environment(run.device),
    }


def _epochs(
    run: Run, dataset: Dataset, split: Split, corpus: Corpus, folder: Path, progress: bool
) -> Outcome:
    config, labels = run.config, dataset.labels
    clips = np.asarray(split.train)
    part = TrainingClips(clips, dataset.targets[clips], _class_weights(config, dataset.targets[clips], labels, run))
    metrics = Metrics(folder, run.progress.epoch)
    board = Board(folder, run.progress.epoch)
    write_atomically(folder / "config.yaml", dump(config).encode())
    board.start(config, split.stamp, [*dataset.notes, *split.notes])
    _introduce(run, dataset, split, folder)
    begun = time.monotonic()

    def save() -> None:
        checkpoint.save(folder / LAST, run.tensors(), facts(run, dataset, split))

    with _interruptible() as stopped_by:
        while run.progress.epoch < config.train.epochs and not _out_of_patience(run):
            steps = plan_epoch(part, config, run.progress.epoch)
            if run.progress.place == 0:
                run.sums = EpochSums(len(labels), run.device, len(steps))
            if run.progress.epoch == 0 and run.progress.place == 0:
                _show_clips(run, board, corpus, dataset, clips)
                save()
            started = time.monotonic()
            with tqdm(total=len(clips), desc=f"epoch {run.progress.epoch + 1}", unit="clip", leave=False,
                      disable=None if progress else True) as bar:  # fmt: skip
                train_epoch(run, part, corpus, steps, _watch(run, steps, bar, dataset, part, stopped_by))
            if stopped_by and run.progress.place < len(steps):
                save()
                break
            train_seconds = time.monotonic() - started
            line = _finish_epoch(run, dataset, split, corpus, train_seconds, len(clips))
            confusion = line.pop("confusion")
            metrics.append(line)
            board.epoch(line, labels)
            if line["best"]:
                checkpoint.save(folder / BEST, run.evaluated_tensors(), facts(run, dataset, split))
                title = f"validation, epoch {line['epoch'] + 1}, {split.stamp}"
                board.confusion(confusion, labels, title, line["epoch"])
            save()
            print(_tell(line, config.train.epochs, time.monotonic() - begun, len(metrics.lines)), flush=True)
            if stopped_by:
                break
    best = next((line for line in metrics.lines if line["epoch"] == run.progress.best_epoch), None)
    if best is not None and not stopped_by:
        board.finish(config, best)
    board.close()
    return Outcome(folder, best or {}, stopped_by[0] if stopped_by else None)


def _finish_epoch(
    run: Run, dataset: Dataset, split: Split, corpus: Corpus, seconds: float, n_clips: int
) -> dict[str, Any]:
    """Reads the epoch's sums, validates, and moves progress on by one epoch; returns the line to record."""
    config, progress, sums = run.config, run.progress, run.sums
    steps_taken = int(sums.finite.sum())
    train = from_confusion(sums.confusion.cpu().numpy())
    valid = np.asarray(split.valid)
    lengths, targets = dataset.pack.lengths[valid], dataset.targets[valid]
    probabilities = classify(run.evaluated, corpus, valid, lengths, EVAL_BATCH)
    confusion = confusion_matrix(targets, probabilities.argmax(1), len(dataset.labels))
    scores, loss = from_confusion(confusion), nll(targets, probabilities)
    better = _note_score(run, {"uar": scores.uar, "loss": -loss, "last": float(progress.epoch)}[config.train.select])
    line = {
        "epoch": progress.epoch,
        "train": {
            "loss": float(sums.loss / sums.clips.clamp(min=1)), "accuracy": train.accuracy, "uar": train.uar,
            "macro_f1": train.macro_f1,
        },
        "valid": {
            "loss": loss, "accuracy": scores.accuracy, "uar": scores.uar, "macro_f1": scores.macro_f1,
            "weighted_f1": scores.weighted_f1, "recall": scores.recall.tolist(),
        },
        "lr": run.optimizer.param_groups[0]["lr"],
        "grad_norm": float(sums.grad_norm) / max(1, steps_taken),
        "skipped_steps": len(sums.finite) - steps_taken,
        "clips_per_second": n_clips / seconds,
        "best": better,
        "protocol": split.stamp,
        "confusion": confusion,
    }  # fmt: skip
    progress.epoch, progress.place = progress.epoch + 1, 0
    return line


def _note_score(run: Run, score: float) -> bool:
    """Moves best, patience and plateau by one epoch's selection score (higher is better; NaN never is)."""
    progress, optim = run.progress, run.config.optim
    better = math.isfinite(score) and (progress.best is None or score > progress.best)
    if better:
        progress.best, progress.best_epoch = score, progress.epoch
    progress.stale = 0 if better else progress.stale + 1
    progress.plateau_stale = 0 if better else progress.plateau_stale + 1
    if progress.plateau_stale >= optim.plateau_patience:
        progress.plateau_scale, progress.plateau_stale = progress.plateau_scale * optim.plateau_factor, 0
    return better


def _out_of_patience(run: Run) -> bool:
    patience = run.config.train.patience
    return patience is not None and run.progress.stale >= patience


def _watch(
    run: Run, steps: list[list[np.ndarray]], bar: tqdm, dataset: Dataset, part: TrainingClips, stopped_by: list[int]
) -> Callable[[], bool]:
    """What is done between two steps: the bar, the check for divergence, and whether a signal asks to stop."""

    def after_step() -> bool:
        place = run.progress.place
        bar.update(sum(len(batch) for batch in steps[place - 1]))
        if place % CHECK_EVERY == 0 or place == len(steps):
            finite = run.sums.finite[:place].cpu().numpy()  # the one read that waits for the device
            bar.set_postfix(loss=f"{float(run.sums.loss / run.sums.clips.clamp(min=1)):.3f}", refresh=False)
            streak = place - 1 - max(np.flatnonzero(finite), default=-1)
            if streak >= min(MAX_BAD_STEPS, len(steps)):
                batches = [batch for step in steps[place - streak : place] for batch in step]
                names = [dataset.utterances[part.clips[i]].path.name for batch in batches for i in batch][:5]
                raise DivergedError(
                    f"{streak} steps in a row gave non-finite gradients (clips {', '.join(names)}, ...); the last "
                    "checkpoint is whole: try a lower optim.lr, or train.precision=fp32"
                )
        return bool(stopped_by)

    return after_step


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """A list that the first SIGTERM or SIGINT is put into; the second one ends the process at once."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if received:
            raise SystemExit(128 + number)
        received.append(number)
        print(f"\n{signal.Signals(number).name}: finishing this step, then saving (again to stop at once)", flush=True)

    try:
        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: signals are somebody else's
        before = {}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _class_weights(config: Config, targets: np.ndarray, labels: tuple[str, ...], run: Run) -> torch.Tensor:
    """Each class's weight in the loss; `balanced` is scikit-learn's n / (C * count), over classes that occur."""
    weights = np.ones(len(labels), np.float32)
    if config.train.class_weights == "balanced":
        counts = np.bincount(targets, minlength=len(labels))
        weights = np.where(counts > 0, len(targets) / (np.count_nonzero(counts) * np.maximum(counts, 1)), 0.0)
    return torch.as_tensor(weights, dtype=torch.float32, device=run.device)


@torch.no_grad()
def _show_clips(run: Run, board: Board, corpus: Corpus, dataset: Dataset, clips: np.ndarray) -> None:
    """Puts a few augmented training clips on the board, one an emotion."""
    _, first = np.unique(dataset.targets[clips], return_index=True)
    chosen = clips[np.sort(first)[:SOUNDS]]
    ids = torch.from_numpy(chosen).to(run.device)
    from serx.transforms.augment import augment  # noqa: PLC0415

    waveform, lengths = corpus.batch(chosen)
    features, _ = augmented_features(run, waveform, lengths, ids)
    settings = run.config
    heard, _ = augment(
        settings.augment.waveform, waveform, lengths, ids, float(run.recognizer.sample_rate), settings.train.seed, 0
    )
    names = [f"{dataset.utterances[i].path.stem} ({dataset.utterances[i].emotion})" for i in chosen]
    board.clips(heard, features, names, run.recognizer.sample_rate, 0)


def _introduce(run: Run, dataset: Dataset, split: Split, folder: Path) -> None:
    trained = sum(p.numel() for p in run.recognizer.parameters() if p.requires_grad)
    sizes = ", ".join(
        f"{len(part)} {name} ({len(dataset.persons(part))} speakers)"
        for name, part in (("train", split.train), ("valid", split.valid), ("test", split.test))
    )
    print(f"protocol: {split.stamp}")
    print(f"clips: {sizes}; classes: {', '.join(dataset.labels)}")
    print(f"model: {run.config.model.kind}, {trained / 1e6:.2f} M parameters on {run.device}, {run.dtype}")
    print(f"run: {folder}  (curves: tensorboard --logdir {folder.parent})", flush=True)


def _tell(line: dict[str, Any], epochs: int, seconds: float, done: int) -> str:
    train, valid = line["train"], line["valid"]
    left = seconds / max(1, done) * (epochs - done)
    return (
        f"epoch {line['epoch'] + 1:>3}/{epochs}  train loss {train['loss']:.3f} uar {100 * train['uar']:.1f}  "
        f"valid loss {valid['loss']:.3f} uar {100 * valid['uar']:.1f}{' *' if line['best'] else '  '}  "
        f"lr {line['lr']:.1e}  {line['clips_per_second']:.0f} clips/s  ETA {int(left) // 60}:{int(left) % 60:02d}"
    )
