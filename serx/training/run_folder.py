"""The folder of a run: its name, which process may write into it, and its plain files."""

import json
import math
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from serx.errors import ConfigError, DiskError, RunInUseError
from serx.files import locked, parse_json, read_json, remove_temporaries, why_not_written, write_atomically

LAST, BEST, METRICS = "last.safetensors", "best.safetensors", "metrics.jsonl"
PREVIOUS = "previous.safetensors"  # the save before `last`, in case the disk damages a file
# What evaluate, stress and export write next to the checkpoint of a run, if no other place is named.
REPORTS = (
    "evaluation.json", "predictions.csv", "ratings.csv", "confusion.png", "report.png", "speakers.png",
    "calibration.png", "curves.png", "stress.json", "stress.png", "best.onnx", "last.onnx", "previous.onnx",
)  # fmt: skip
MAX_EPOCHS, MAX_LINE_BYTES, MAX_METRICS_BYTES = 1_000_000, 1 << 18, 1 << 28  # of metrics.jsonl
MAX_FIGURE = 1e30  # plots cannot be scaled further
SHOWN = 5  # line numbers in a warning
LOCK, OWNER = ".lock", ".owner"  # the owner is named in a file of its own: Windows lets no process read a locked file


def choose_run_folder(output: str | None, name: str, resume: bool, overwrite: bool = False) -> Path:
    """The folder of a run.

    Args:
        output: the folder. Without it: the newest run in `checkpoints/<name>` to resume, else
            `checkpoints/<name>/<time>`.
        name: of the recipe.
        resume: a run must be there.
        overwrite: a run may be there.

    Raises:
        ConfigError: there is no run to resume, there is a run that would be overwritten, or the folder is the root of
            the disk or the user's home.

    >>> choose_run_folder("checkpoints/first", "cnn2d", resume=False).name
    'first'
    """
    runs = Path("checkpoints") / name
    if output is not None:
        folder = Path(output)
    elif resume:
        saved = {path.parent: path.stat().st_mtime for file in (PREVIOUS, LAST) for path in runs.glob(f"*/{file}")}
        if not saved:
            raise ConfigError(f"--resume: no run in {runs}; name its folder with train.output=DIR")
        folder = max(saved, key=lambda run: (saved[run], run))
    else:
        folder = _fresh(runs / time.strftime("%Y%m%d-%H%M%S"))
    if folder.resolve() in (Path(folder.resolve().anchor), Path(os.path.expanduser("~")).resolve()):
        raise ConfigError(
            f"train.output: {folder} holds more than a run; name a folder of its own, such as {folder}/run"
        )
    if resume and not holds_run(folder):
        raise ConfigError(f"--resume: {folder / LAST} is not there; leave --resume out to start this run")
    if not resume and not overwrite:
        refuse_to_overwrite(folder)
    return folder


def refuse_to_overwrite(folder: Path) -> None:
    """Checks that a new run in the folder would not write over an earlier one, or over what is left of it.

    Raises:
        ConfigError: it would.
    """
    if holds_run(folder):
        raise ConfigError(
            f"train.output: {folder} already holds a run; add --resume (resume=True in Python) to continue it or "
            "--overwrite (overwrite=True) to delete it, or name another folder"
        )
    # A run that is killed in its first epoch may leave one line and a best.safetensors; it is started again.
    if os.path.exists(folder / BEST) and len(read_metrics(folder)[0]) != 1:
        raise ConfigError(
            f"train.output: {folder} holds {BEST} of an earlier run, whose {LAST} is gone; name another folder, or add "
            "--overwrite (overwrite=True in Python) to delete it"
        )


def _fresh(folder: Path) -> Path:
    """The folder, or one with a number behind its name if it exists: two runs may start in the same second."""
    number, fresh = 1, folder
    while fresh.exists():
        number += 1
        fresh = folder.with_name(f"{folder.name}-{number}")
    return fresh


def holds_run(folder: Path) -> bool:
    """Whether a run has been saved in the folder."""
    return any(os.path.exists(folder / name) for name in (LAST, PREVIOUS))  # False for names that no file can have


def remove_run(folder: Path) -> None:
    """Deletes all that a run and the reports on it wrote into the folder; other files stay.

    Reports in folders directly below, such as those of `serx evaluate --out RUN/emodb`, are deleted too. The caller
    must hold the lock of the folder.
    """
    own = (LAST, PREVIOUS, BEST, METRICS, "config.yaml", "*.damaged", "events.out.tfevents.*", "projector_config.pbtxt")
    for pattern in (*own, *REPORTS):
        for path in folder.glob(pattern):
            path.unlink()
    for inner in {path.parent for path in folder.glob("*/*.json") if path.name in REPORTS and _is_of_run(path, folder)}:
        for name in REPORTS:
            (inner / name).unlink(missing_ok=True)
        if not any(inner.iterdir()):
            inner.rmdir()
    for epoch in {path.parents[1] for path in folder.glob("[0-9]*/*/tensors.tsv")}:  # of TensorBoard's projector
        shutil.rmtree(epoch)


def _is_of_run(report: Path, folder: Path) -> bool:
    """Whether a JSON report is about a checkpoint of the run in a folder, however its path was written."""
    try:
        return Path(read_json(report)["checkpoint"]).absolute().parent.name == folder.absolute().name
    except (OSError, ValueError, KeyError, TypeError):
        return False


@contextmanager
def lock_run_folder(folder: Path, purpose: str = "training", setting: str = "train.output") -> Iterator[None]:
    """Makes the folder, checks that it can be written, and keeps other processes out.

    The operating system frees the lock of a killed process at once.

    Args:
        folder: of a run, a cross-validation or a sweep.
        purpose: what this process does there, such as "cross-validation", for the error that another process gets.
        setting: the setting or flag that names the folder, for error messages.

    Raises:
        DiskError: the folder cannot be made or written.
        RunInUseError: another process holds it; the message names the process and its purpose.
    """
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            TemporaryFile(dir=folder).close()
            held = stack.enter_context(locked(folder / LOCK, wait=False))
            remove_temporaries(folder)
            (folder / OWNER).write_text(f"{os.getpid()} {purpose}")
        except BlockingIOError as error:
            raise RunInUseError(f"{folder}: {_owner(folder)}; wait, or name another folder with {setting}") from error
        except (OSError, ValueError) as error:  # ValueError: a zero byte in its name
            reason = getattr(error, "strerror", None) or error
            raise DiskError(f"{folder}: cannot write here: {reason}; choose another {setting}") from error
        if not held:
            print(f"note: {folder} is on a file system without locks: let no second process write there")
        yield


def _owner(folder: Path) -> str:
    """What the process that holds the lock of the folder does there."""
    try:
        number, _, purpose = (folder / OWNER).read_text(errors="replace")[:200].partition(" ")
    except OSError:
        number, purpose = "", ""
    return f"process {number} is running a {purpose} here" if purpose else "another process uses this folder"


def what_is_saved(folder: Path) -> str:
    """What is left of a run that ended early, and whether to resume it or to start it again.

    >>> what_is_saved(Path("no such folder"))
    'nothing was saved yet: start the run again, without --resume'
    """
    if holds_run(folder):
        return "the checkpoints saved before are whole: continue with --resume"
    return "nothing was saved yet: start the run again, without --resume"


def write(path: Path, content: bytes) -> None:
    """Replaces a file of a run, whole or not at all.

    Raises:
        DiskError: the message names the path and the free bytes, and says how to go on.
    """
    try:
        write_atomically(path, content)
    except OSError as error:
        where = f"{path}: cannot write {len(content)} bytes: {why_not_written(error, path)}"
        raise DiskError(f"{where}; {what_is_saved(path.parent)}") from error


def _score(value: float) -> float:
    if not (math.isnan(value) or 0 <= value <= 1):
        raise ValueError("not between 0 and 1")
    return value


def _figure(value: float) -> float:
    if math.isfinite(value) and abs(value) > MAX_FIGURE:
        raise ValueError("too large")
    return value


def _agreement(value: float) -> float:
    if not (math.isnan(value) or -1 - 1e-9 <= value <= 1 + 1e-9):
        raise ValueError("not between -1 and 1")
    return value


Figure = Annotated[float, AfterValidator(_figure)]  # may be NaN or infinite: the record of a run that diverged
Score = Annotated[float, AfterValidator(_score)]
Agreement = Annotated[float, AfterValidator(_agreement)]


class EpochScores(BaseModel):
    """The scores of one part in a line of `metrics.jsonl`: of emotions, of dimensions, or of both."""

    model_config = ConfigDict(strict=True, extra="allow")
    __pydantic_extra__: dict[str, Figure | list[Figure]]

    loss: Figure
    uar: Score = math.nan
    accuracy: Score = math.nan
    macro_f1: Score = math.nan
    ccc: Agreement = math.nan

    @model_validator(mode="after")
    def _has_scores(self) -> "EpochScores":
        given = self.model_fields_set
        if not ({"uar", "accuracy", "macro_f1"} <= given or ("ccc" in given and not {"uar", "accuracy"} & given)):
            raise ValueError("a score is missing")
        return self


class EpochLine(BaseModel):
    """A line of `metrics.jsonl`; there may be more items, which are numbers."""

    model_config = ConfigDict(strict=True, extra="allow")
    __pydantic_extra__: dict[str, Figure | None]

    epoch: int = Field(ge=0, le=MAX_EPOCHS)
    train: EpochScores
    valid: EpochScores | None
    kept: bool
    protocol: str = Field(max_length=4000)


def read_metrics(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The lines of a run's `metrics.jsonl`, and a warning if some are not what serx writes (`EpochLine`).

    `kept` was called `best` once: such lines are brought up to date.

    Raises:
        DiskError: the file cannot be read.
    """
    path = folder / METRICS
    lines: list[dict[str, Any]] = []
    broken: list[int] = []
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe would block
            raise DiskError(f"{path}: not a regular file; move it away")
        for number, row in _rows(path) if path.exists() else ():
            try:
                line = {"kept" if key == "best" else key: value for key, value in parse_json(row).items()}
                EpochLine.model_validate(line)
            except (ValueError, AttributeError):
                broken.append(number)
            else:
                lines.append(line)
    except OSError as error:
        raise DiskError(f"{path}: cannot read: {error.strerror}; move it away") from error
    if not broken:
        return lines, []
    more = f" and {len(broken) - SHOWN} more" if len(broken) > SHOWN else ""
    numbers = ", ".join(map(str, broken[:SHOWN]))
    return lines, [f"{path}: line {numbers}{more}: not what serx writes, so it is left out"]


def _rows(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, and their numbers from 1. Of a line that is too long only the beginning."""
    size = 0
    with path.open("rb") as file:
        for number in range(1, MAX_EPOCHS):
            row = rest = file.readline(MAX_LINE_BYTES)
            while rest and not rest.endswith(b"\n"):
                rest = file.readline(MAX_LINE_BYTES)
            if not row:
                return
            size += len(row)
            if row.strip():
                yield number, row if size <= MAX_METRICS_BYTES else b""


class Metrics:
    """`metrics.jsonl`, one object per epoch: the record of the run. TensorBoard shows the same.

    Attributes:
        lines: of the finished epochs.
        warnings: about lines that cannot be read. The file that has them is kept as `metrics.damaged`.
    """

    def __init__(self, folder: Path, epochs_done: int) -> None:
        """Keeps the lines of finished epochs and deletes later ones, which a resumed run repeats."""
        self._path = folder / METRICS
        read, self.warnings = read_metrics(folder)
        self.lines = [line for line in read if line["epoch"] < epochs_done]
        if self.warnings and epochs_done:
            damaged = self._path.with_suffix(".damaged")
            os.replace(self._path, damaged)
            self.warnings = [f"{warning}; the file as it was is {damaged}" for warning in self.warnings]
        self._write()

    def append(self, line: dict[str, Any]) -> None:
        """Adds the line of an epoch."""
        self.lines.append(line)
        self._write()

    def _write(self) -> None:
        write(self._path, "".join(json.dumps(line) + "\n" for line in self.lines).encode())
