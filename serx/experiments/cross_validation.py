"""Cross-validation: every fold an ordinary run in a process of its own, whatever is finished left alone."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serx.config.loader import Config, dump
from serx.data.dataset import load_dataset, split_dataset
from serx.device import choose_device
from serx.errors import ConfigError
from serx.evaluation.pooling import complete_seeds, write_cross_validation
from serx.evaluation.report import write_files
from serx.evaluation.stamps import named
from serx.experiments.fold_runs import LOG, FoldRuns, Workers, run_folds
from serx.experiments.folds import TEST, Fold, plan_folds, read_fold
from serx.training.console import echo
from serx.training.run_folder import BEST, lock_run_folder


@dataclass(frozen=True)
class CrossValidationResult:
    """What came of a cross-validation: the content of its JSON where a fold is finished, and the exit code."""

    summary: dict[str, Any] | None
    exit_code: int


def cross_validate(
    config: Config, out: Path, seeds: Sequence[int], place: Workers, only: Sequence[int] = ()
) -> CrossValidationResult:
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
    with lock_run_folder(out, "--out"):
        return _cross_validate(config, out, seeds, place, only)


def _cross_validate(
    config: Config, out: Path, seeds: Sequence[int], place: Workers, only: Sequence[int]
) -> CrossValidationResult:
    dataset = load_dataset(config.data)  # also decodes, once, what every process will read
    planned, skipped = plan_folds(config, dataset, out, seeds, only)
    folds = [fold for fold in planned if fold.asked]
    done = [fold for fold in folds if fold.state == "finished"]
    for note in [*dataset.notes, *(f"skipped: {told}" for told in skipped)]:
        echo(f"note: {note}")
    echo(f"{len(folds)} runs of {config.data.protocol}: {len(done)} finished, {len(folds) - len(done)} to do, in {out}")
    write_files(out, {"config.yaml": dump(config).encode()})
    to_do = [fold for fold in folds if fold.state != "finished"]
    if to_do:
        split_dataset(dataset, to_do[0].config.data)  # keeps what every process will look for
    fold_runs = run_folds(to_do, lambda fold, slot: fold_commands(fold, out, place, slot), TEST, place)
    beside = [fold for fold in planned if not fold.asked]
    done += [*fold_runs.done, *(fold for fold in beside if fold.state == "finished")]
    missing = [*fold_runs.missing, *(fold for fold in beside if fold.state != "finished")]
    ended = conclude(
        out, TEST, done, missing, fold_runs, {"skipped": skipped, "config": config.model_dump(mode="json")}
    )
    if fold_runs.stopped is not None:
        echo(f"stopped with {len(fold_runs.missing)} of {len(folds)} runs to do; the same command goes on")
    return ended


def conclude(
    out: Path,
    evaluation: str,
    done: Sequence[Fold],
    missing: Sequence[Fold],
    fold_runs: FoldRuns,
    extra: dict[str, Any],
) -> CrossValidationResult:
    """Writes into `out` what the folds that are done come to, by their evaluations of this name, and what is not."""
    told = [
        f"{fold.name} (exit code {fold_runs.failed[fold.name]}; see {fold.folder / LOG})"
        for fold in fold_runs.missing
        if fold.name in fold_runs.failed
    ]
    in_order = sorted(done, key=lambda fold: (fold.seed, fold.number))
    tested, uneven = complete_seeds([read_fold(fold, evaluation) for fold in in_order])
    known = {"failed": told, "missing": _by_seed(missing), "uncounted": uneven, "complete": not missing}
    summary = write_cross_validation(out, tested, {**extra, **known}) if tested else None
    if told and fold_runs.stopped is None:
        echo(f"failed: {'; '.join(told)}; the same command tries again")
    return CrossValidationResult(summary, fold_runs.exit_code)


def fold_commands(fold: Fold, out: Path, place: Workers, slot: int) -> list[list[str]]:
    """Trains a fold, or goes on with it, then evaluates it: the scripts that a user would call."""
    train = train_command(fold, out / "config.yaml", {"data.fold": fold.number}, place, slot)
    return [train, evaluate_command(fold, TEST, place, slot)]


def train_command(fold: Fold, config: Path, changes: Mapping[str, Any], place: Workers, slot: int) -> list[str]:
    """Trains a fold by the configuration in a file with these changes, or goes on with it."""
    overrides = {
        **changes,
        "train.seed": fold.seed,
        "train.threads": place.threads(fold.config),
        "train.device": place.device(slot, fold.config),
        "train.output": str(fold.folder),
    }
    settings = [f"{key}={json.dumps(value)}" for key, value in overrides.items()]  # JSON is YAML
    resume = ["--resume"] if fold.state == "begun" else []
    return [sys.executable, str(place.scripts / "train.py"), "--config", str(config), *resume, *settings]


def evaluate_command(fold: Fold, evaluation: str, place: Workers, slot: int, part: str = "test") -> list[str]:
    """Evaluates what a fold has learned on a part of its clips, into this folder within its own."""
    script, device = str(place.scripts / "evaluate.py"), place.device(slot, fold.config)
    best, out = str(fold.folder / BEST), str(fold.folder / evaluation)
    return [sys.executable, script, "--checkpoint", best, "--out", out, "--part", part, "--device", device]


def _by_seed(folds: Sequence[Fold]) -> list[str]:
    """`seed 0, folds 1-3` of each seed."""
    return [
        f"seed {seed}, {named(sorted(fold.number for fold in folds if fold.seed == seed))}"
        for seed in sorted({fold.seed for fold in folds})
    ]
