"""TensorBoard: the curves, matrices, sounds and texts of a run. A view of `metrics.jsonl`, never the record itself."""

import re
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import wraps
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer import event_file_writer
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from serx import checkpoint
from serx.checkpoint.tensors import fill
from serx.config.loader import Config, dump
from serx.data.batches import BatchSource
from serx.data.dataset import Dataset
from serx.inference.classify import classify
from serx.plots.pixels import confusion_pixels, png, spectrogram_pixels
from serx.recognizer import Recognizer
from serx.training.epoch import augmented_features, augmented_waveform
from serx.training.run_logger import RunLogger, ShownClip, kept_tags, never_fatal
from serx.training.sampling import TrainingClips
from serx.training.state import TrainingState

SOUNDS, MISTAKES = 4, 4  # clips shown before and after training
RGB = 3  # TensorBoard's number of that color space
MIN_PROBABILITY = 1e-6  # floor of the probabilities whose logarithms are the projector's coordinates
COLUMNS = ("emotion", "prediction", "speaker", "sex", "corpus", "file")


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
    state: TrainingState,
    best: Path,
    source: BatchSource,
    dataset: Dataset,
    clips: np.ndarray,
    unscaled: np.ndarray | None = None,
) -> ValidationView:
    """The predictions of the checkpoint `best` of this run for those of the validation `clips (m,)` that have a class.

    Args:
        state: of the run.
        best: the checkpoint of the kept epoch.
        source: holds the audio.
        dataset: of the run.
        clips: the validation clips.
        unscaled: `(m, C)`, their probabilities at temperature 1 if this process has validated the kept epoch; None
            predicts them again.

    Raises:
        CheckpointError: the file is damaged.
    """
    saved = checkpoint.load_run_checkpoint(best)
    recognizer = deepcopy(state.evaluated)
    fill(recognizer, saved.group("model"), f"{best}: model")
    recognizer.temperature = saved.metadata["temperature"]
    known = dataset.has_class[clips]
    clips = clips[known]
    if unscaled is None:
        probabilities = classify(recognizer, source, clips, dataset.audio_cache.lengths[clips])
    else:
        powers = unscaled[known] ** (1 / recognizer.temperature)  # the softmax of the scaled logits
        probabilities = powers / powers.sum(1, keepdims=True)
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


class TensorBoardWriter(RunLogger):
    """Writes event files into the run folder; steps are epochs, counted from 1, or training clips (`examples/...`)."""

    name = "TensorBoard"

    def __init__(self, folder: Path, epochs_done: int) -> None:
        """Starts writing. Events that a killed run wrote after `epochs_done` are removed."""
        self._folder = folder
        self._confusion_epoch = 0  # of the last picture, counted from 1
        self._open(folder, epochs_done)

    @never_fatal
    def _open(self, folder: Path, epochs_done: int) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=epochs_done + 1 if epochs_done else None)

    @never_fatal
    def start(self, config: Config, protocol: str, notes: Sequence[str], labels: tuple[str, ...]) -> None:
        """Writes the charts of the tab Custom Scalars; configuration, protocol and notes on the data as texts."""
        self._writer.add_custom_scalars(custom_charts(labels))
        self._writer.add_text("config", f"```yaml\n{dump(config)}```")
        self._writer.add_text("protocol", protocol)
        text = "\n\n".join(notes).encode(errors="backslashreplace").decode()  # file names need not be text
        self._writer.add_text("data", text or "nothing skipped")

    @never_fatal
    def epoch(self, scalars: dict[str, float], epoch: int, examples: int) -> None:
        """Writes the points of the curves."""
        for tag, value in scalars.items():
            self._writer.add_scalar(tag, value, epoch + 1)
        self._by_examples(scalars, examples)
        self._writer.flush()

    @never_fatal
    def past_epoch(self, scalars: dict[str, float], epoch: int, examples: int) -> None:
        """Writes the points over training clips again: opening the file has removed every step above the epoch's."""
        self._by_examples(scalars, examples)

    def _by_examples(self, scalars: dict[str, float], examples: int) -> None:
        for part, name in product(("train", "valid"), ("uar", "ccc", "loss")):
            if f"{part}/{name}" in scalars:
                self._writer.add_scalar(f"examples/{part}_{name}", scalars[f"{part}/{name}"], examples)

    @never_fatal
    def confusion(self, confusion: np.ndarray, labels: tuple[str, ...], title: str, epoch: int) -> None:
        """Writes a figure of the validation confusion matrix; after the first, none before four times the epochs."""
        if epoch + 1 >= 4 * self._confusion_epoch:
            self._draw_confusion(confusion, labels, title, epoch)

    def _draw_confusion(self, confusion: np.ndarray, labels: tuple[str, ...], title: str, epoch: int) -> None:
        self._image("valid/confusion", confusion_pixels(confusion, labels, title), epoch + 1)
        self._confusion_epoch = epoch + 1

    @never_fatal
    def clips(self, make: Callable[[], list[ShownClip]], sample_rate: int) -> None:
        """Writes augmented clips to listen to, and the features that the network receives."""
        for i, clip in enumerate(make()):
            self._clip(f"augmented/{i}", clip, sample_rate, 1)

    def _clip(self, tag: str, clip: ShownClip, sample_rate: int, step: int) -> None:
        peak = clip.sound.abs().max().clamp(min=1.0)
        self._writer.add_audio(tag, (clip.sound / peak)[None].cpu(), step, sample_rate)
        self._image(tag, picture(clip, sample_rate), step)

    def _image(self, tag: str, pixels: np.ndarray, step: int) -> None:
        """Writes pixels `(H, W, 3)`. `add_image` takes four times as long, mostly to scale them as floats."""
        height, width, _ = pixels.shape
        image = Summary.Image(height=height, width=width, colorspace=RGB, encoded_image_string=png(pixels))
        self._writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=tag, image=image)]), step)

    @never_fatal
    def validation(
        self, make: Callable[[], ValidationView], labels: tuple[str, ...], title: str, sample_rate: int, epoch: int
    ) -> None:
        """Writes the kept epoch's confusion matrix, mistakes, precision-recall curves and projector.

        `make` is called here, so that an error in it ends the view only.
        """
        view = make()
        if self._confusion_epoch != epoch + 1:
            matrix = np.zeros((len(labels), len(labels)), int)
            np.add.at(matrix, (view.targets, view.probabilities.argmax(1)), 1)
            self._draw_confusion(matrix, labels, title, epoch)
        for i, clip in enumerate(view.mistakes):
            self._clip(f"mistakes/{i}", clip, sample_rate, epoch + 1)
        for number, label in enumerate(labels):
            truth = view.targets == number
            if truth.any():
                self._writer.add_pr_curve(f"precision_recall/{label}", truth, view.probabilities[:, number], epoch + 1)
        shutil.rmtree(self._folder / f"{epoch + 1:05d}" / "valid", ignore_errors=True)  # of the run before a resume
        self._writer.add_embedding(view.points, view.rows, global_step=epoch + 1, tag="valid", metadata_header=COLUMNS)

    @never_fatal
    def finish(self, config: Config, kept: dict[str, Any]) -> None:
        """Writes the hparams row: settings, and as its metrics the curves of the kept epoch's scores."""
        # add_hparams would write a second event file into a subfolder, and a chart with one point for each score
        for record in hparams(settings_of(config), dict.fromkeys(kept_tags(kept), 0.0)):
            self._writer._get_file_writer().add_summary(record)

    @never_fatal
    def close(self) -> None:
        """Writes the buffer to disk."""
        self._writer.flush()  # raises what the writing thread met last
        self._writer.close()


def picture(clip: ShownClip, sample_rate: int) -> np.ndarray:
    """The network's input for the clip: pixels `(H, W, 3)` uint8."""
    return spectrogram_pixels(clip.picture.cpu().numpy(), clip.title, len(clip.sound) / sample_rate)


def custom_charts(labels: Sequence[str]) -> dict[str, dict[str, list[Any]]]:
    """The charts of the tab Custom Scalars: title -> chart -> ["Multiline", tags as regular expressions].

    >>> custom_charts(("happy", "sad"))["Scores"]["loss"]
    ['Multiline', ['train/loss', 'valid/loss']]
    """
    recalls = [f"valid_recall/{re.escape(label)}" for label in labels]
    of_labels = {"validation recall of each emotion": ["Multiline", recalls]} if labels else {}
    shown = (("UAR", "uar") if labels else ("mean CCC", "ccc"), ("loss", "loss"))
    both = {name: ["Multiline", [f"train/{tag}", f"valid/{tag}"]] for name, tag in shown}
    by_examples = {
        f"{name}, by training clips": ["Multiline", [f"examples/train_{tag}", f"examples/valid_{tag}"]]
        for name, tag in shown
    }
    return {
        "Scores": {**both, **of_labels, **by_examples},
        "Training": {
            "learning rate": ["Multiline", ["loop/lr"]],
            "clips per second": ["Multiline", ["loop/clips_per_second"]],
            "GPU memory at its peak, GB": ["Multiline", ["loop/gpu_memory_gb"]],
            "norm of the gradient": ["Multiline", ["loop/grad_norm"]],
        },
    }


def settings_of(config: Config) -> dict[str, int | float | str | bool]:
    """The settings of a run by their keys, such as `optim.lr`; those without a value are left out."""
    tree = config.model_dump(mode="json")
    return {
        f"{section}.{key}": value if isinstance(value, int | float | str | bool) else str(value)
        for section in ("data", "features", "model", "optim", "train")
        for key, value in tree[section].items()
        if value is not None
    }
