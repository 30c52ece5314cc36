"""TensorBoard: the curves, matrices, sounds and texts of a run. A view of `metrics.jsonl`, never the record itself."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from serx.config import Config, dump
from serx.scoring.pictures import confusion_figure, figure_array, spectrogram_figure
from serx.training.folder import METRICS
from serx.training.narration import say
from serx.training.showing import COLUMNS, Closing, Shown

Method = TypeVar("Method", bound=Callable[..., None])


def _never_fatal(method: Method) -> Method:
    """A fault in the view (a full disk, mostly) is told once and ends the view, not the training."""

    @wraps(method)
    def guarded(self: "Board", *arguments: Any) -> None:
        if self.failed:
            return
        try:
            method(self, *arguments)
        except Exception as error:  # whatever TensorBoard, matplotlib or the disk may raise
            self.failed = True
            say(f"warning: TensorBoard stops here ({type(error).__name__}: {error}); {METRICS} has every figure")

    return cast(Method, guarded)


class Board:
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
    def clips(self, make: Callable[[], list[Shown]], sample_rate: int) -> None:
        """Augmented clips to listen to, and the features that the model is given of them."""
        for i, shown in enumerate(make()):
            self._clip(f"augmented/{i}", shown, sample_rate, 1)

    def _clip(self, tag: str, shown: Shown, sample_rate: int, step: int) -> None:
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


def picture(shown: Shown, sample_rate: int) -> np.ndarray:
    """The clip as the network hears it: pixels (H, W, 3) uint8."""
    return figure_array(spectrogram_figure(shown.picture.cpu().numpy(), shown.name, len(shown.sound) / sample_rate))


def _flat(prefix: str, values: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(f"{prefix}.{key}", value) for key, value in values.items() if value is not None]
