"""TensorBoard: the curves, matrices, sounds and texts of a run. A view of `metrics.jsonl`, never the record itself."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from tensorboard.summary.writer import event_file_writer
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from serx import checkpoint
from serx.checkpoint import fill
from serx.config.loader import Config, dump
from serx.data.batches import BatchSource
from serx.data.dataset import Dataset
from serx.inference.classify import classify
from serx.plots.evaluation import confusion_figure
from serx.plots.style import figure_array
from serx.plots.training import spectrogram_figure
from serx.recognizer import Recognizer
from serx.training.console import echo
from serx.training.epoch import augmented_features, augmented_waveform
from serx.training.run_folder import METRICS
from serx.training.sampling import TrainingClips
from serx.training.state import TrainingState

SOUNDS, MISTAKES = 4, 8  # clips shown before and after training
MIN_PROBABILITY = 1e-6  # floor of the probabilities whose logarithms are the projector's coordinates
COLUMNS = ("emotion", "prediction", "speaker", "sex", "corpus", "file")


@dataclass(frozen=True)
class ShownClip:
    """A clip for TensorBoard: `sound (T,)`, the network's input `picture (F, N)`, and a title."""

    sound: Tensor
    picture: Tensor
    title: str


@dataclass(frozen=True)
class ValidationView:
    """The kept epoch on the validation clips.

    Attributes:
        probabilities: `(n, C)`.
        targets: `(n,)` class indices.
        rows: `COLUMNS` of each clip.
        mistakes: the wrong predictions of the highest confidence.
    """

    probabilities: np.ndarray
    targets: np.ndarray
    rows: list[list[str]]
    mistakes: list[ShownClip]

    @property
    def points(self) -> np.ndarray:
        """`(n, C)` float32 log-probabilities, the coordinates in the projector."""
        return np.log(self.probabilities.clip(min=MIN_PROBABILITY)).astype(np.float32)


@torch.no_grad()
def augmented_clips(
    state: TrainingState, source: BatchSource, dataset: Dataset, training: TrainingClips
) -> list[ShownClip]:
    """One augmented training clip of each of the first emotions."""
    _, first = np.unique(training.targets, return_index=True)
    indices = training.clips[first[:SOUNDS]]
    clips = torch.from_numpy(indices).to(state.device)
    waveform, lengths = augmented_waveform(state, *source.batch(indices), clips)
    features, frames = augmented_features(state, waveform, lengths, clips)
    utterances = [dataset.utterances[i] for i in indices]
    return [
        ShownClip(sound[:length], picture[:, :count], f"{u.path.stem}{u.segment.fragment} ({u.emotion})")
        for sound, length, picture, count, u in zip(
            waveform, lengths.tolist(), features, frames.tolist(), utterances, strict=True
        )
    ]


def validation_view(
    state: TrainingState, best: Path, source: BatchSource, dataset: Dataset, clips: np.ndarray
) -> ValidationView:
    """The predictions of the checkpoint `best` of this run for those of the validation `clips (m,)` that have a class.

    Raises:
        CheckpointError: the file is damaged.
    """
    saved = checkpoint.load_run_checkpoint(best)
    recognizer = deepcopy(state.evaluated)
    fill(recognizer, saved.group("model"), f"{best}: model")
    recognizer.temperature = saved.metadata["temperature"]
    clips = clips[~dataset.tied[clips]]
    probabilities = classify(recognizer, source, clips, dataset.audio_cache.lengths[clips])
    targets, predictions = dataset.targets[clips], probabilities.argmax(1)
    utterances = [dataset.utterances[i] for i in clips]
    rows = [
        [u.emotion, dataset.labels[prediction], u.speaker_id, u.sex or "unknown", u.corpus, u.segment.name]
        for u, prediction in zip(utterances, predictions, strict=True)
    ]
    wrong = np.flatnonzero(predictions != targets)
    worst = wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][:MISTAKES]
    mistakes = [_mistake(recognizer, source, clips[i], rows[i], float(probabilities[i].max())) for i in worst]
    return ValidationView(probabilities, targets, [_printable(row) for row in rows], mistakes)


@torch.no_grad()
def _mistake(recognizer: Recognizer, source: BatchSource, clip: int, row: list[str], confidence: float) -> ShownClip:
    waveform, lengths = source.batch([clip])
    features, frames = recognizer.features(waveform, lengths)
    picture = recognizer.normalizer(features, frames)[0, :, : int(frames[0])]
    emotion, prediction, *_, file = row
    title = f"{file}: {emotion}, predicted {prediction} {100 * confidence:.0f} %"
    return ShownClip(waveform[0, : int(lengths[0])], picture, title)


def _printable(row: list[str]) -> list[str]:
    """The cells as one line of text each: a file name may hold line breaks, or bytes that are no text."""
    return [" ".join(cell.encode(errors="backslashreplace").decode().split()) for cell in row]


def _record_errors_only(thread: Any) -> None:
    """Lets TensorBoard's writing thread end without a traceback when the disk is full.

    It keeps the error, which the next call of the writer raises in the thread of the training.
    """
    run = thread.run

    @wraps(run)
    def run_without_traceback(self: Any) -> None:
        with suppress(Exception):
            run(self)

    thread.run = run_without_traceback


if hasattr(event_file_writer, "_AsyncWriterThread"):
    _record_errors_only(event_file_writer._AsyncWriterThread)

Method = TypeVar("Method", bound=Callable[..., None])


def _never_fatal(method: Method) -> Method:
    """An error in the view (mostly a full disk) is printed once and ends the view, not the training."""

    @wraps(method)
    def guarded(self: "TensorBoardWriter", *arguments: Any) -> None:
        if self.failed:
            return
        try:
            method(self, *arguments)
        except Exception as error:  # whatever TensorBoard, matplotlib or the disk may raise
            self.failed = True
            echo(f"warning: TensorBoard stops here ({type(error).__name__}: {error}); {METRICS} has all figures")

    return cast(Method, guarded)


class TensorBoardWriter:
    """Writes event files into the run folder; steps are epochs, counted from 1."""

    def __init__(self, folder: Path, epochs_done: int) -> None:
        """Starts writing. Events that a killed run wrote after `epochs_done` are removed."""
        self.failed, self._folder = False, folder
        self._open(folder, epochs_done)

    @_never_fatal
    def _open(self, folder: Path, epochs_done: int) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=epochs_done + 1 if epochs_done else None)

    @_never_fatal
    def start(self, config: Config, protocol: str, notes: list[str]) -> None:
        """Writes the configuration, the protocol stamp and the notes on the data as texts."""
        self._writer.add_text("config", f"```yaml\n{dump(config)}```")
        self._writer.add_text("protocol", protocol)
        text = "\n\n".join(notes).encode(errors="backslashreplace").decode()  # file names need not be text
        self._writer.add_text("data", text or "nothing skipped")

    @_never_fatal
    def epoch(self, line: dict[str, Any], labels: tuple[str, ...]) -> None:
        """Writes one line of `metrics.jsonl` as points of the curves."""
        step = line["epoch"] + 1
        for part in ("train", "valid"):
            for name, value in (line[part] or {}).items():  # there may be no validation
                if name == "recall":
                    for label, recall in zip(labels, value, strict=True):
                        self._writer.add_scalar(f"{part}_recall/{label}", recall, step)
                else:
                    self._writer.add_scalar(f"{part}/{name}", value, step)
        for name in ("lr", "grad_norm", "clips_per_second", "skipped_steps", "c"):
            if name in line:
                self._writer.add_scalar(f"loop/{name}", line[name], step)
        self._writer.flush()

    @_never_fatal
    def confusion(self, confusion: np.ndarray, labels: tuple[str, ...], title: str, epoch: int) -> None:
        """Writes a figure of the validation confusion matrix."""
        picture = figure_array(confusion_figure(confusion, labels, title))
        self._writer.add_image("valid/confusion", picture, epoch + 1, dataformats="HWC")

    @_never_fatal
    def clips(self, make: Callable[[], list[ShownClip]], sample_rate: int) -> None:
        """Writes augmented clips to listen to, and the features that the network receives."""
        for i, clip in enumerate(make()):
            self._clip(f"augmented/{i}", clip, sample_rate, 1)

    def _clip(self, tag: str, clip: ShownClip, sample_rate: int, step: int) -> None:
        peak = clip.sound.abs().max().clamp(min=1.0)
        self._writer.add_audio(tag, (clip.sound / peak)[None].cpu(), step, sample_rate)
        self._writer.add_image(tag, picture(clip, sample_rate), step, dataformats="HWC")

    @_never_fatal
    def validation(
        self, make: Callable[[], ValidationView], labels: tuple[str, ...], sample_rate: int, epoch: int
    ) -> None:
        """Writes the kept epoch's mistakes, precision-recall curves and projector.

        `make` is called here, so that an error in it ends the view only.
        """
        view = make()
        for i, clip in enumerate(view.mistakes):
            self._clip(f"mistakes/{i}", clip, sample_rate, epoch + 1)
        for number, label in enumerate(labels):
            truth = view.targets == number
            if truth.any():
                self._writer.add_pr_curve(f"precision_recall/{label}", truth, view.probabilities[:, number], epoch + 1)
        shutil.rmtree(self._folder / f"{epoch + 1:05d}" / "valid", ignore_errors=True)  # of the run before a resume
        self._writer.add_embedding(view.points, view.rows, global_step=epoch + 1, tag="valid", metadata_header=COLUMNS)

    @_never_fatal
    def finish(self, config: Config, kept: dict[str, Any]) -> None:
        """Writes the hparams row: settings, and scores of the kept epoch on validation, else on training clips."""
        settings = {
            key: value if isinstance(value, int | float | str | bool) else str(value)
            for section in ("data", "features", "model", "optim", "train")
            for key, value in _flat(section, config.model_dump(mode="json")[section])
        }
        part = "valid" if kept["valid"] else "train"
        scores = {f"hparam/{part}_{name}": kept[part][name] for name in ("uar", "accuracy", "macro_f1", "loss")}
        # add_hparams would write a second event file into a subfolder; these are its three records
        for record in hparams(settings, scores):
            self._writer._get_file_writer().add_summary(record)
        for name, value in scores.items():
            self._writer.add_scalar(name, value, kept["epoch"] + 1)

    @_never_fatal
    def close(self) -> None:
        """Writes the buffer to disk."""
        self._writer.flush()  # raises what the writing thread met last
        self._writer.close()


def picture(clip: ShownClip, sample_rate: int) -> np.ndarray:
    """The network's input for the clip: pixels `(H, W, 3)` uint8."""
    return figure_array(spectrogram_figure(clip.picture.cpu().numpy(), clip.title, len(clip.sound) / sample_rate))


def _flat(prefix: str, values: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(f"{prefix}.{key}", value) for key, value in values.items() if value is not None]
