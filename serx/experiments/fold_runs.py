"""Trains and evaluates folds in parallel: one `serx train` and one `serx evaluate` process for each fold to do."""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from serx.config.loader import Config
from serx.device import choose_device, default_threads
from serx.errors import ConfigError
from serx.experiments.folds import Fold
from serx.experiments.processes import Job, run_in_parallel
from serx.files import read_json
from serx.system import threads_of_user
from serx.training.console import echo
from serx.training.run_folder import BEST

LOG = "log.txt"
SERX = (sys.executable, "-m", "serx")


@dataclass(frozen=True)
class Workers:
    """The processes that train and evaluate folds.

    Attributes:
        processes: how many folds at a time.
        devices: such as cuda:0 and cuda:1, assigned to the processes in rotation; default: that of the configuration.

    >>> Workers(processes=4, devices=("cuda:0", "cuda:1")).processes
    4
    """

    processes: int = 1
    devices: tuple[str, ...] = ()

    def check(self, config: Config) -> None:
        """Refuses what cannot run.

        Raises:
            ConfigError: no process, or a device that is not there.
        """
        if self.processes < 1:
            raise ConfigError(f"--processes {self.processes}: give at least one")
        for device in self.devices or (config.train.device,):
            choose_device(device, "--devices" if self.devices else "train.device")

    def device(self, slot: int, config: Config) -> str:
        """The device of the process in this slot."""
        return self.devices[slot % len(self.devices)] if self.devices else config.train.device

    def threads(self, config: Config) -> tuple[int, str]:
        """CPU threads of each process, and why: as the recipe or an environment variable says, else an equal share."""
        if config.train.threads is not None:
            return config.train.threads, "train.threads"
        asked = threads_of_user()
        if asked is not None:
            return asked
        count, why = default_threads()
        return max(1, count // self.processes), f"{why}: {count}"


@dataclass(frozen=True)
class FoldRuns:
    """The outcome of `run_folds`.

    Attributes:
        done: folds whose commands all succeeded.
        missing: folds that failed or never started.
        failed: exit code of each fold that failed, by its name.
        stopped_by: the signal that stopped the runs, or None.
    """

    done: list[Fold]
    missing: list[Fold]
    failed: dict[str, int]
    stopped_by: int | None

    @property
    def exit_code(self) -> int:
        """128 plus the signal, else the code of the first fold that failed, else 0."""
        return 128 + self.stopped_by if self.stopped_by is not None else next(iter(self.failed.values()), 0)

    def failures(self) -> list[str]:
        """A line on each fold that failed, with its log."""
        return [
            f"{fold.name} (exit code {self.failed[fold.name]}; see {fold.folder / LOG})"
            for fold in self.missing
            if fold.name in self.failed
        ]


def _scores(result: Mapping[str, Any]) -> str:
    """The scores of an evaluation.json, in a few words."""
    words = [f"UAR {100 * result['uar']:.1f}, accuracy {100 * result['accuracy']:.1f}"] if "uar" in result else []
    if "dimensions" in result:
        words.append(f"CCC {result['dimensions']['mean']['ccc']:.3f}")
    return ", ".join(words)


def run_folds(
    folds: Sequence[Fold], commands: Callable[[Fold, int], list[list[str]]], evaluation: str, workers: Workers
) -> FoldRuns:
    """Runs the commands of each fold, and prints a line as each fold ends.

    Args:
        folds: those to do.
        commands: from a fold and the free slot to its command lines.
        evaluation: the folder within the fold's that the commands write their evaluation into.
        workers: how many folds at a time, on which devices.
    """
    missing = {fold.name: fold for fold in folds}
    done: list[Fold] = []
    failed: dict[str, int] = {}
    started = time.monotonic()

    def on_end(job: Job, code: int, seconds: float) -> None:
        if code:
            failed[job.name] = code if code > 0 else 128 - code
            error = last_line(job.log, log_sizes[job.name])
            echo(f"{job.name}: FAILED with exit code {failed[job.name]}: {error}")
            return
        fold = missing.pop(job.name)
        done.append(fold)
        result = read_json(fold.folder / evaluation / "evaluation.json")
        left = (time.monotonic() - started) / (len(done) + len(failed)) * (len(missing) - len(failed))
        echo(
            f"{job.name}: {_scores(result)}, "
            f"{seconds / 60:.1f} min   {len(done)} of {len(folds)}, ETA {int(left) // 60}:{int(left) % 60:02d}"
        )

    jobs = [Job(fold.name, partial(commands, fold), fold.folder / LOG) for fold in folds]
    log_sizes = {job.name: job.log.stat().st_size if job.log.exists() else 0 for job in jobs}
    stopped_by = run_jobs(jobs, workers, folds[0].config, on_end) if folds else None
    return FoldRuns(done, list(missing.values()), failed, stopped_by)


def run_jobs(
    jobs: Sequence[Job], workers: Workers, config: Config, on_end: Callable[[Job, int, float], None]
) -> int | None:
    """Runs the jobs, as many at a time as there are workers; see `run_in_parallel`."""
    threads, why = workers.threads(config)
    echo(f"processes: {min(workers.processes, len(jobs))} at a time, CPU threads of each: {threads} ({why})")
    return run_in_parallel(jobs, workers.processes, threads, on_end)


def train_command(fold: Fold, config: Path, changes: Mapping[str, Any], workers: Workers, slot: int) -> list[str]:
    """The command line that trains a fold, or resumes its training.

    Args:
        fold: to train.
        config: the YAML file of the configuration.
        changes: `section.key` -> value, over those of the file.
        workers, slot: where the process runs.
    """
    overrides = {
        **changes,
        "train.seed": fold.seed,
        "train.threads": workers.threads(fold.config)[0],
        "train.device": workers.device(slot, fold.config),
        "train.output": str(fold.folder),
    }
    settings = [f"{key}={json.dumps(value)}" for key, value in overrides.items()]  # JSON is YAML
    resume = ["--resume"] if fold.state == "begun" else []
    return [*SERX, "train", "--config", str(config), *resume, *settings]


def evaluate_command(fold: Fold, evaluation: str, workers: Workers, slot: int, part: str = "test") -> list[str]:
    """The command line that evaluates the best checkpoint of a fold on a part of its clips.

    Args:
        fold: to evaluate.
        evaluation: the folder within the fold's that the evaluation is written into.
        workers, slot: where the process runs.
        part: `test` or `valid`.
    """
    best, out, device = str(fold.folder / BEST), str(fold.folder / evaluation), workers.device(slot, fold.config)
    cache = ["--cache", fold.config.data.cache] if fold.config.data.cache else []
    return [*SERX, "evaluate", "--checkpoint", best, "--out", out, "--part", part, *cache, "--device", device]


def last_line(log: Path, start: int) -> str:
    """The last error in what a job logged from byte `start` on; without any, the last line."""
    text = log.read_bytes()[start:].decode(errors="replace")
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error:")]
    return (errors or lines or [f"nothing new in {log}"])[-1]
