"""One visit to the folds of a cross-validation: a job for each that has something to do, told of as they end."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from serx.config.loader import Config
from serx.experiments.folds import Fold
from serx.experiments.processes import Job, run_side_by_side
from serx.system import cpu_count
from serx.training.console import echo

LOG = "log.txt"


@dataclass(frozen=True)
class Workers:
    """Where folds are trained and tested.

    Attributes:
        scripts: the folder of train.py and evaluate.py.
        processes: how many folds at a time.
        devices: of the processes in turn, such as cuda:0 and cuda:1; none given: the configuration's.
    """

    scripts: Path
    processes: int = 1
    devices: tuple[str, ...] = ()

    def device(self, slot: int, config: Config) -> str:
        """Of the process in this slot."""
        return self.devices[slot % len(self.devices)] if self.devices else config.train.device

    def threads(self, config: Config) -> int:
        """Of each process: as configured, else its share of the cores."""
        return config.train.threads or max(1, cpu_count() // self.processes)


@dataclass(frozen=True)
class FoldRuns:
    """What came of the jobs.

    Attributes:
        done: the folds whose job went well.
        missing: those that failed or were never begun.
        failed: exit codes by the names of folds.
        stopped: the signal that ended the visit, or None.
    """

    done: list[Fold]
    missing: list[Fold]
    failed: dict[str, int]
    stopped: int | None

    @property
    def exit_code(self) -> int:
        """The signal's, else that of the first fold that failed."""
        return 128 + self.stopped if self.stopped is not None else next(iter(self.failed.values()), 0)


def run_folds(
    folds: Sequence[Fold], commands: Callable[[Fold, int], list[list[str]]], evaluation: str, place: Workers
) -> FoldRuns:
    """Runs the commands of each fold, as many folds at a time as the place has processes.

    Args:
        folds: those with something to do.
        commands: from a fold and the slot that is free to its command lines.
        evaluation: the folder within the fold's that the commands leave their evaluation in.
        place: how many at a time, and where.
    """
    missing = {fold.name: fold for fold in folds}
    done: list[Fold] = []
    failed: dict[str, int] = {}
    begun = time.monotonic()

    def on_end(job: Job, code: int, seconds: float) -> None:
        if code:
            failed[job.name] = code if code > 0 else 128 - code
            echo(f"{job.name}: FAILED with exit code {failed[job.name]}: {_complaint(job.log, logged[job.name])}")
            return
        fold = missing.pop(job.name)
        done.append(fold)
        result = json.loads((fold.folder / evaluation / "evaluation.json").read_text())
        left = (time.monotonic() - begun) / (len(done) + len(failed)) * (len(missing) - len(failed))
        echo(
            f"{job.name}: UAR {100 * result['uar']:.1f}, accuracy {100 * result['accuracy']:.1f}, "
            f"{seconds / 60:.1f} min   {len(done)} of {len(folds)}, ETA {int(left) // 60}:{int(left) % 60:02d}"
        )

    jobs = [Job(fold.name, partial(commands, fold), fold.folder / LOG) for fold in folds]
    logged = {job.name: job.log.stat().st_size if job.log.exists() else 0 for job in jobs}
    threads = place.threads(folds[0].config) if folds else 1
    stopped = run_side_by_side(jobs, place.processes, threads, on_end)
    return FoldRuns(done, list(missing.values()), failed, stopped)


def _complaint(log: Path, start: int) -> str:
    """The last error of what was logged from byte `start` on; without one the last line."""
    written = log.read_bytes()[start:].decode(errors="replace")
    lines = [line for line in written.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error:")]
    return (errors or lines or [f"nothing new in {log}"])[-1]
