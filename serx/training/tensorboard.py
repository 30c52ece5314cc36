"""TensorBoard: the curves, matrices, sounds and texts of a run. A view of `metrics.jsonl`, never the record itself."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
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
from serx.training.state import Run

SOUNDS, MISTAKES = 4, 8


LEAST = 1e-6  # of a probability whose logarithm places a point


COLUMNS = ("emotion", "told", "speaker", "sex", "corpus", "file")


@dataclass(frozen=True)
class ShownClip:
    """A clip `sound (T,)`, the `picture (F, N)` that the network hears, and what is to be said of it."""

    sound: Tensor
    picture: Tensor
    name: str


@dataclass(frozen=True)
class Closing:
    """Of the validation clips: `probabilities (n, C)`, `targets (n,)`, `COLUMNS` of each, and the worst mistakes."""

    probabilities: np.ndarray
    targets: np.ndarray
    rows: list[list[str]]
    mistakes: list[ShownClip]

    @property
    def points(self) -> np.ndarray:
        """`(n, C)` float32 log-probabilities."""
        return np.log(self.probabilities.clip(min=LEAST)).astype(np.float32)


@torch.no_grad()
def augmented_clips(run: Run, source: BatchSource, dataset: Dataset, part: TrainingClips) -> list[ShownClip]:
    """A training clip of each of the first emotions, augmented."""
    _, first = np.unique(part.targets, return_index=True)
    chosen = part.clips[first[:SOUNDS]]
    clips = torch.from_numpy(chosen).to(run.device)
    waveform, lengths = augmented_waveform(run, *source.batch(chosen), clips)
    features, frames = augmented_features(run, waveform, lengths, clips)
    return [
        ShownClip(sound[:length], picture[:, :count], f"{u.path.stem} ({u.emotion})")
        for sound, length, picture, count, u in zip(
            waveform, lengths.tolist(), features, frames.tolist(), (dataset.utterances[i] for i in chosen), strict=True
        )
    ]


def close(run: Run, best: Path, source: BatchSource, dataset: Dataset, clips: np.ndarray) -> Closing:
    """What the checkpoint `best` of this run says of `clips (n,)`.

    Raises:
        CheckpointError: the file is damaged.
    """
    saved = checkpoint.load(best)
    recognizer = deepcopy(run.evaluated)
    fill(recognizer, saved.group("model"), f"{best}: model")
    recognizer.temperature = saved.metadata["temperature"]
    probabilities = classify(recognizer, source, clips, dataset.audio_cache.lengths[clips])
    targets, guesses = dataset.targets[clips], probabilities.argmax(1)
    chosen = [dataset.utterances[i] for i in clips]
    rows = [
        [u.emotion, dataset.labels[guess], u.speaker_id, u.sex or "unknown", u.corpus, u.path.name]
        for u, guess in zip(chosen, guesses, strict=True)
    ]
    wrong = np.flatnonzero(guesses != targets)
    worst = wrong[np.argsort(-probabilities[wrong].max(1), kind="stable")][:MISTAKES]
    mistakes = [_mistake(recognizer, source, clips[i], rows[i], float(probabilities[i].max())) for i in worst]
    return Closing(probabilities, targets, [_printable(row) for row in rows], mistakes)


@torch.no_grad()
def _mistake(
    recognizer: Recognizer, source: BatchSource, clip: int, row: list[str], min_confidence: float
) -> ShownClip:
    waveform, lengths = source.batch([clip])
    features, frames = recognizer.features(waveform, lengths)
    picture = recognizer.normalizer(features, frames)[0, :, : int(frames[0])]
    emotion, told, *_, file = row
    return ShownClip(
        waveform[0, : int(lengths[0])], picture, f"{file}: {emotion}, told {told} {100 * min_confidence:.0f} %"
    )


def _printable(row: list[str]) -> list[str]:
    """File names need not be text, nor one line of a table."""
    return [" ".join(cell.encode(errors="backslashreplace").decode().split()) for cell in row]


Method = TypeVar("Method", bound=Callable[..., None])


def _never_fatal(method: Method) -> Method:
    """A fault in the view (a full disk, mostly) is told once and ends the view, not the training."""

    @wraps(method)
    def guarded(self: "TensorBoardWriter", *arguments: Any) -> None:
        if self.failed:
            return
        try:
            method(self, *arguments)
        except Exception as error:  # whatever TensorBoard, matplotlib or the disk may raise
            self.failed = True
            echo(f"warning: TensorBoard stops here ({type(error).__name__}: {error}); {METRICS} has every figure")

    return cast(Method, guarded)


class TensorBoardWriter:
    """Writes event files into the run folder; steps are epochs, counted from 1."""

    def __init__(self, folder: Path, epochs_done: int) -> None:
        """Starts writing; events a killed run left after `epochs_done` are purged."""
        self.failed = False
        self._open(folder, epochs_done)

    @_never_fatal
    def _open(self, folder: Path, epochs_done: int) -> None:
        self._writer = SummaryWriter(str(folder), purge_step=epochs_done + 1 if epochs_done else None)

    @_never_fatal
    def start(self, config: Config, protocol: str, notes: list[str]) -> None:
        """The texts: configuration, protocol stamp and what the data had to say."""
        self._writer.add_text("config", f"```yaml\n{dump(config)}```")
        self._writer.add_text("protocol", protocol)
        told = "\n\n".join(notes).encode(errors="backslashreplace").decode()  # file names need not be text
        self._writer.add_text("data", told or "nothing set aside")

    @_never_fatal
    def epoch(self, line: dict[str, Any], labels: tuple[str, ...]) -> None:
        """The curves of one line of `metrics.jsonl`."""
        step = line["epoch"] + 1
        for part in ("train", "valid"):
            for name, value in (line[part] or {}).items():  # nobody may validate
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
        """A picture of the validation speakers' confusion matrix."""
        picture = figure_array(confusion_figure(confusion, labels, title))
        self._writer.add_image("valid/confusion", picture, epoch + 1, dataformats="HWC")

    @_never_fatal
    def clips(self, make: Callable[[], list[ShownClip]], sample_rate: int) -> None:
        """Augmented clips to listen to, and the features that the model is given of them."""
        for i, shown in enumerate(make()):
            self._clip(f"augmented/{i}", shown, sample_rate, 1)

    def _clip(self, tag: str, shown: ShownClip, sample_rate: int, step: int) -> None:
        loudest = shown.sound.abs().max().clamp(min=1.0)
        self._writer.add_audio(tag, (shown.sound / loudest)[None].cpu(), step, sample_rate)
        self._writer.add_image(tag, picture(shown, sample_rate), step, dataformats="HWC")

    @_never_fatal
    def closing(self, make: Callable[[], Closing], labels: tuple[str, ...], sample_rate: int, epoch: int) -> None:
        """The best epoch's mistakes, precision-recall curves and points, made only now: a fault in it is the view's."""
        told = make()
        for i, wrong in enumerate(told.mistakes):
            self._clip(f"mistakes/{i}", wrong, sample_rate, epoch + 1)
        for number, label in enumerate(labels):
            truth = told.targets == number
            if truth.any():
                self._writer.add_pr_curve(f"precision_recall/{label}", truth, told.probabilities[:, number], epoch + 1)
        self._writer.add_embedding(told.points, told.rows, global_step=epoch + 1, tag="valid", metadata_header=COLUMNS)

    @_never_fatal
    def finish(self, config: Config, best: dict[str, Any]) -> None:
        """The hparams row of the run: what was chosen, and the selected epoch's scores, validation's if any."""
        chosen = {
            key: value if isinstance(value, int | float | str | bool) else str(value)
            for section in ("data", "features", "model", "optim", "train")
            for key, value in _flat(section, config.model_dump(mode="json")[section])
        }
        part = "valid" if best["valid"] else "train"
        scores = {f"hparam/{part}_{name}": best[part][name] for name in ("uar", "accuracy", "macro_f1", "loss")}
        # add_hparams would open a second event file in a folder of its own; these are its three records, here
        for record in hparams(chosen, scores):
            self._writer._get_file_writer().add_summary(record)
        for name, value in scores.items():
            self._writer.add_scalar(name, value, best["epoch"] + 1)

    @_never_fatal
    def close(self) -> None:
        """Writes what is buffered."""
        self._writer.close()


def picture(shown: ShownClip, sample_rate: int) -> np.ndarray:
    """The clip as the network hears it: pixels (H, W, 3) uint8."""
    return figure_array(spectrogram_figure(shown.picture.cpu().numpy(), shown.name, len(shown.sound) / sample_rate))


def _flat(prefix: str, values: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(f"{prefix}.{key}", value) for key, value in values.items() if value is not None]
