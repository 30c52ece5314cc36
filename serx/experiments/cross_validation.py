"""Cross-validation: every fold an ordinary run in a process of its own, whatever is finished left alone."""

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serx.config import Config, dump
from serx.data.dataset import load_dataset, split_dataset
from serx.errors import ConfigError
from serx.evaluation.cross_validation import write_cross_validation
from serx.evaluation.report import write_files
from serx.experiments.folds import TEST, Fold, plan_folds, read_fold
from serx.experiments.processes import Job, run_side_by_side
from serx.training.device import choose_device
from serx.training.folder import BEST
from serx.training.narration import say

LOG = "log.txt"


@dataclass(frozen=True)
class Workplace:
    """Where folds are trained.

    Attributes:
        scripts: the folder of train.py and evaluate.py.
        processes: how many folds at a time.
        devices: of the processes in turn, such as cuda:0 and cuda:1; none given: the configuration's.
    """

    scripts: Path
    processes: int = 1
    devices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ended:
    """What came of a cross-validation: the content of its JSON where a fold is finished, and the exit code."""

    summary: dict[str, Any] | None
    exit_code: int


def cross_validate(
    config: Config, out: Path, seeds: Sequence[int], place: Workplace, only: Sequence[int] = ()
) -> Ended:
    """Trains and evaluates each fold (or `only` those) that is not finished, then writes what they say into `out`.

    Raises:
        ConfigError: no process, a fold or device that is not there, or a folder with a fold of other settings or clips.
        DataError: no fold can be made of the data.
        DiskError: `out` cannot be written.
    """
    if place.processes < 1:
        raise ConfigError(f"--processes {place.processes}: give at least one")
    for device in place.devices or (config.train.device,):
        choose_device(device)
    dataset = load_dataset(config.data)  # also decodes, once, what every process will read
    folds, skipped = plan_folds(config, dataset, out, seeds, only)
    done = [fold for fold in folds if fold.state == "finished"]
    for note in [*dataset.notes, *(f"skipped: {told}" for told in skipped)]:
        say(f"note: {note}")
    say(f"{len(folds)} runs of {config.data.protocol}: {len(done)} finished, {len(folds) - len(done)} to do, in {out}")
    write_files(out, {"config.yaml": dump(config).encode()})
    missing = {fold.name: fold for fold in folds if fold.state != "finished"}
    failed: dict[str, int] = {}
    begun, total = time.monotonic(), len(missing)
    if missing:
        split_dataset(dataset, next(iter(missing.values())).config.data)  # keeps what every process will look for

    def on_end(job: Job, code: int, seconds: float) -> None:
        fold = missing[job.name]
        if code:
            failed[job.name] = code if code > 0 else 128 - code
            say(f"{job.name}: FAILED with exit code {failed[job.name]}: {_last_line(job.log)}")
            return
        del missing[job.name]
        done.append(fold)
        result = json.loads((fold.folder / TEST / "evaluation.json").read_text())
        ended = total - len(missing)
        left = (time.monotonic() - begun) / (ended + len(failed)) * (len(missing) - len(failed))
        say(
            f"{job.name}: UAR {100 * result['uar']:.1f}, accuracy {100 * result['accuracy']:.1f}, "
            f"{seconds / 60:.1f} min   {ended} of {total}, ETA {int(left) // 60}:{int(left) % 60:02d}"
        )

    jobs = [fold_job(fold, out, place) for fold in missing.values()]
    stopped = run_side_by_side(jobs, place.processes, _threads(config, place), on_end)
    told = [f"{name} (exit code {code}; see {missing[name].folder / LOG})" for name, code in failed.items()]
    extra = {"skipped": skipped, "failed": told, "complete": not missing, "config": config.model_dump(mode="json")}
    tested = [read_fold(fold) for fold in sorted(done, key=lambda fold: (fold.seed, fold.number))]
    summary = write_cross_validation(out, tested, extra) if tested else None
    if stopped is not None:
        say(f"stopped with {len(missing)} of {len(folds)} runs to do; the same command goes on")
    elif told:
        say(f"failed: {'; '.join(told)}; the same command tries again")
    return Ended(summary, 128 + stopped if stopped is not None else next(iter(failed.values()), 0))


def _threads(config: Config, place: Workplace) -> int:
    """Of each process: as configured, else its share of the cores."""
    return config.train.threads or max(1, len(os.sched_getaffinity(0)) // place.processes)


def fold_job(fold: Fold, out: Path, place: Workplace) -> Job:
    """Trains a fold, or goes on with it, then evaluates it: the scripts that a user would call."""

    def commands(slot: int) -> list[list[str]]:
        device = place.devices[slot % len(place.devices)] if place.devices else fold.config.train.device
        overrides = {
            "data.fold": fold.number,
            "train.seed": fold.seed,
            "train.threads": _threads(fold.config, place),
            "train.device": device,
            "train.output": str(fold.folder),
        }
        settings = [f"{key}={json.dumps(value)}" for key, value in overrides.items()]  # JSON is YAML
        resume = ["--resume"] if fold.state == "begun" else []
        train = [
            sys.executable,
            str(place.scripts / "train.py"),
            "--config",
            str(out / "config.yaml"),
            *resume,
            *settings,
        ]
        best, test = fold.folder / BEST, fold.folder / TEST
        evaluate = ["--checkpoint", str(best), "--out", str(test), "--device", device]
        return [train, [sys.executable, str(place.scripts / "evaluate.py"), *evaluate]]

    return Job(fold.name, commands, fold.folder / LOG)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"{log} is empty"
