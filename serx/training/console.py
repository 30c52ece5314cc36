"""What a run says on the terminal: who is in it, and one line an epoch."""

from contextlib import suppress
from pathlib import Path
from typing import Any

from torch.nn import Module

from serx.data.dataset import Dataset
from serx.data.protocols import Split
from serx.training.state import Run


def echo(text: str) -> None:
    """Prints a line; a terminal that has gone away or a full disk under a log file stops no training."""
    with suppress(OSError):
        print(text, flush=True)


def print_run_header(run: Run, dataset: Dataset, split: Split, folder: Path) -> None:
    """Protocol, clips and speakers of each part, model, device and where the run is kept."""
    parts = (("train", split.train), ("valid", split.valid), ("test", split.test))
    sizes = ", ".join(f"{len(clips)} {name} ({len(dataset.speaker_ids(clips))} speakers)" for name, clips in parts)
    for note in [*dataset.notes, *split.notes]:
        echo(f"note: {note}")
    echo(f"protocol: {split.stamp}")
    echo(f"clips: {sizes}")
    echo(f"classes: {', '.join(dataset.labels)}")
    precision = str(run.dtype).removeprefix("torch.")
    echo(f"model: {run.config.model.kind}, {_size(run.recognizer)}, on {run.device} in {precision}")
    echo(f"run: {folder}   (curves: tensorboard --logdir {folder})")


def _size(module: Module) -> str:
    """Its parameters; where some are frozen, how many are not."""
    learned, held = (
        sum(p.numel() for p in module.parameters() if p.requires_grad is wanted) for wanted in (True, False)
    )
    if held:
        return f"{learned / 1e6:.2f} M trainable parameters of {(learned + held) / 1e6:.2f} M"
    return f"{learned / 1e6:.2f} M parameters"


def epoch_line(line: dict[str, Any], epochs: int, seconds_left: float) -> str:
    """One line of `metrics.jsonl` for people; a star marks the best epoch so far."""
    train, valid, star = line["train"], line["valid"], "*" if line["best"] else " "
    validated = f"  valid loss {valid['loss']:.3f} uar {100 * valid['uar']:4.1f} {star}" if valid else ""
    tried = f"c {line['c']:g}" if "c" in line else f"lr {line['lr']:.1e}"
    return (
        f"epoch {line['epoch'] + 1:>3}/{epochs}"
        f"  train loss {train['loss']:.3f} uar {100 * train['uar']:4.1f}"
        f"{validated}  {tried}  {line['clips_per_second']:.0f} clips/s"
        f"  ETA {int(seconds_left) // 60}:{int(seconds_left) % 60:02d}"
    )
