"""What a run prints: a header with protocol, clips and model, and one line per epoch."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import Module

from serx.config import notes
from serx.data.dataset import Dataset
from serx.data.splits.protocols import Split
from serx.data.utterance import is_unknown
from serx.device import default_threads
from serx.ood import unknown_reason
from serx.terminal import WIDTH, printable_lines

if TYPE_CHECKING:
    from serx.training.state import TrainingState


def echo(text: str) -> None:
    """Prints a line. A closed terminal or a full disk under a log file does not stop a training."""
    with suppress(OSError):
        print(printable_lines(text), flush=True)


def print_run_header(state: "TrainingState", dataset: Dataset, split: Split, folder: Path) -> None:
    """Prints notes, protocol, clips and speakers of each part, model, device and the run folder."""
    parts = (("train", split.train), ("valid", split.valid), ("test", split.test))
    sizes = ", ".join(f"{len(clips)} {name} ({_speakers(dataset.speaker_ids(clips))})" for name, clips in parts)
    for note in [*notes(state.config), *dataset.notes, *split.notes]:
        echo(f"note: {note}")
    echo(f"protocol: {split.stamp}")
    echo(f"clips: {sizes}")
    if dataset.labels:
        echo(f"classes: {', '.join(dataset.labels)}")
    if ranges := [f"{d.name} ({d.low:g} to {d.high:g})" for d in state.recognizer.dimensions]:
        echo(f"dimensions: {', '.join(ranges)}")
    precision = str(state.dtype).removeprefix("torch.")
    echo(f"model: {state.config.model.kind}, {_size(state.recognizer)}, on {state.device} in {precision}")
    if reason := unknown_reason(len(dataset.speaker_ids(split.train))):
        echo(f"note: whether a recording is out-of-distribution will be {reason}")
    why = default_threads()[1] if state.config.train.threads is None else "train.threads"
    echo(f"CPU threads: {torch.get_num_threads()} ({why})")
    echo(f"run: {folder}   (curves: serx tensorboard {folder})")


def _speakers(speaker_ids: list[str]) -> str:
    return "speakers unknown" if any(map(is_unknown, speaker_ids)) else f"{len(speaker_ids)} speakers"


def _size(module: Module) -> str:
    """The number of parameters in words, and of trainable ones if some are frozen."""
    trainable = sum(p.numel() for p in module.parameters() if p.requires_grad)
    total = sum(p.numel() for p in module.parameters())
    if trainable < total:
        return f"{trainable / 1e6:.2f} M trainable parameters of {total / 1e6:.2f} M"
    return f"{total / 1e6:.2f} M parameters"


def epoch_line(line: dict[str, Any], select: str, epochs: int, seconds_left: float) -> str:
    """A line of `metrics.jsonl` for a terminal: losses, UAR in %, learning rate, clips per second, time left.

    A star marks the best epoch so far, if `train.select` chooses one. What does not fit `WIDTH` columns is left out:
    first the learning rate, then the speed, then the time.
    """
    train, valid, star = line["train"], line["valid"], "*" if line["kept"] and select != "last" else " "
    scores = [f"train loss {train['loss']:.3f}{_score(train)}"]
    scores += [f"valid loss {valid['loss']:.3f}{_score(valid)}{star}"] if valid else []
    setting = f"c {line['c']:g}" if "c" in line else f"lr {line['lr']:.1e}".replace("e-0", "e-")
    rest = [setting, f"{line['clips_per_second']:.0f}/s", f"ETA {_clock(seconds_left)}"]
    number = str(line["epoch"] + 1).rjust(len(str(epochs)))
    while True:
        text = "  ".join([f"epoch {number}/{epochs}", *scores, *rest])
        if len(text) <= WIDTH or not rest:
            return text
        del rest[0]


def _clock(seconds: float) -> str:
    """Minutes and seconds; hours as well from the first one on."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes}:{seconds:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def _score(scores: dict[str, Any]) -> str:
    """UAR in %, and the mean CCC of the dimensions, of those that there are."""
    uar = f" uar {100 * scores['uar']:4.1f}" if "uar" in scores else ""
    return uar + (f" ccc {scores['ccc']:5.3f}" if "ccc" in scores else "")
