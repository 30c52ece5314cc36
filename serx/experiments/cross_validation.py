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
from serx.evaluation.cross_validation import even_seeds, write_cross_validation
from serx.evaluation.report import write_files
from serx.evaluation.stamps import named
from serx.experiments.folds import TEST, Fold, plan_folds, read_fold
from serx.experiments.processes import Job, run_side_by_side
from serx.training.device import choose_device
from serx.training.folder import BEST, hold
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
    """Trains and evaluates each fold (or `only` those) that is not finished, then writes what `out` holds into it.

    All seeds there with the most finished folds are pooled, whichever visit they are from.

    Raises:
        ConfigError: no process, a fold or device that is not there, or a folder with a fold of other settings or clips.
        DataError: no fold can be made of the data.
        DiskError: `out` cannot be written.
        RunInUseError: another cross-validation is at work there.
    """
    if place.processes < 1:
        raise ConfigError(f"--processes {place.processes}: give at least one")
    for device in place.devices or (config.train.device,):
        choose_device(device, "--devices" if place.devices else "train.device")
    with hold(out, "--out"):
        return _cross_validate(config, out, seeds, place, only)


def _cross_validate(config: Config, out: Path, seeds: Sequence[int], place: Workplace, only: Sequence[int]) -> Ended:
    dataset = load_dataset(config.data)  # also decodes, once, what every process will read
    planned, skipped = plan_folds(config, dataset, out, seeds, only)
    folds = [fold for fold in planned if fold.asked]
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
            say(f"{job.name}: FAILED with exit code {failed[job.name]}: {_complaint(job.log, logged[job.name])}")
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
    logged = {job.name: job.log.stat().st_size if job.log.exists() else 0 for job in jobs}
    stopped = run_side_by_side(jobs, place.processes, _threads(config, place), on_end)
    told = [f"{name} (exit code {code}; see {missing[name].folder / LOG})" for name, code in failed.items()]
    beside = [fold for fold in planned if not fold.asked]
    done += [fold for fold in beside if fold.state == "finished"]
    to_do = [*missing.values(), *(fold for fold in beside if fold.state != "finished")]
    tested, uneven = even_seeds([read_fold(fold) for fold in sorted(done, key=lambda fold: (fold.seed, fold.number))])
    extra = {
        "skipped": skipped,
        "failed": told,
        "missing": _by_seed(to_do),
        "uncounted": uneven,
        "complete": not to_do,
        "config": config.model_dump(mode="json"),
    }
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


def _by_seed(folds: Sequence[Fold]) -> list[str]:
    """`seed 0, folds 1-3` of each seed."""
    return [
        f"seed {seed}, {named(sorted(fold.number for fold in folds if fold.seed == seed))}"
        for seed in sorted({fold.seed for fold in folds})
    ]


def _complaint(log: Path, start: int) -> str:
    """The last error of what was logged from byte `start` on; without one the last line."""
    written = log.read_bytes()[start:].decode(errors="replace")
    lines = [line for line in written.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error:")]
    return (errors or lines or [f"nothing new in {log}"])[-1]
