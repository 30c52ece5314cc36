"""Cross-validation: every fold is an ordinary run in its own process; finished folds are kept.

With speaker adaptation, the checkpoints of the finished folds are evaluated a second time, adapted to each test
speaker. Nothing is trained again, so the two sets of scores differ only in the adaptation.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serx.config import Config, dump, notes
from serx.data.dataset import load_dataset, split_dataset
from serx.data.ratings import check_emotions_only
from serx.errors import ConfigError, DataError, RunInUseError
from serx.evaluation.cross_validation_report import write_cross_validation
from serx.evaluation.pooling import complete_seeds
from serx.evaluation.report import write_files
from serx.evaluation.stamps import fold_names
from serx.experiments.fold_runs import FoldRuns, Workers, evaluate_command, run_folds, train_command
from serx.experiments.folds import TEST, Fold, plan_folds, read_fold
from serx.experiments.parts import lock_part
from serx.training.console import echo
from serx.training.run_folder import BEST, lock_run_folder

ADAPTED = "adapted"  # folder of the adapted evaluations, within that of each fold and within `out`


@dataclass(frozen=True)
class CrossValidationResult:
    """The content of cross_validation.json, None if no fold is finished, and the exit code."""

    summary: dict[str, Any] | None
    exit_code: int


def cross_validate(
    config: Config,
    out: Path,
    seeds: Sequence[int],
    workers: Workers,
    only: Sequence[int] = (),
    run: bool = True,
) -> CrossValidationResult:
    """Trains and evaluates the folds that are not finished, then pools all finished folds.

    Seeds of earlier calls in `out` are pooled too, if they have as many finished folds. A fold that another process
    runs as a part (`run_part`) is left to it.

    Args:
        config: the recipe; `data.fold` and `train.seed` are replaced.
        out: the folder of all runs and of the result.
        seeds: of the trainings.
        workers: how many folds at a time, on which devices.
        only: numbers of the requested folds; default: all.
        run: False only pools what is finished.

    Raises:
        ConfigError: no process, a fold or device that does not exist, or a folder with a fold of other settings or
            clips.
        DataError: no fold can be made of the data.
        DiskError: `out` cannot be written.
        RunInUseError: another cross-validation runs there.

    >>> from serx.config import load_config
    >>> recipe = load_config("mlp", "data.root=corpora/ravdess", "data.protocol=loso")
    >>> cross_validate(recipe, Path("runs/loso"), seeds=[0], workers=Workers(processes=0))
    Traceback (most recent call last):
        ...
    serx.errors.ConfigError: --processes 0: give at least one
    """
    workers.check(config)
    with lock_run_folder(out, "cross-validation", "--out"):
        return _cross_validate(config, out, seeds, workers, only, run)


def _cross_validate(
    config: Config, out: Path, seeds: Sequence[int], workers: Workers, only: Sequence[int], run: bool
) -> CrossValidationResult:
    dataset = load_dataset(config.data)  # also decodes the audio once for all processes
    planned, skipped = plan_folds(config, dataset, out, seeds, only)
    folds = [fold for fold in planned if fold.requested]
    done = [fold for fold in folds if fold.state == "finished"]
    for note in [*notes(config), *dataset.notes, *(f"skipped: {reason}" for reason in skipped)]:
        echo(f"note: {note}")
    echo(f"{len(folds)} runs of {config.data.protocol}: {len(done)} finished, {len(folds) - len(done)} to do, in {out}")
    write_files(out, {"config.yaml": dump(config).encode()})
    to_do = [fold for fold in folds if fold.state != "finished"]
    if to_do and run:
        split_dataset(dataset, to_do[0].config.data)  # caches the search for copies for all processes
    with ExitStack() as stack:
        own = [fold for fold in to_do if run and _is_free(stack, out, fold)]
        runs = run_folds(own, lambda fold, slot: fold_commands(fold, out, workers, slot), TEST, workers)
    runs.missing.extend(fold for fold in to_do if fold not in own)
    earlier = [fold for fold in planned if not fold.requested]
    done += [*runs.done, *(fold for fold in earlier if fold.state == "finished")]
    missing = [*runs.missing, *(fold for fold in earlier if fold.state != "finished")]
    extra = {"skipped": skipped, "config": config.model_dump(mode="json")}
    result = _write_result(out, TEST, done, missing, runs, extra)
    if runs.stopped_by is not None:
        echo(f"stopped with {len(runs.missing)} of {len(folds)} runs to do; the same command continues")
    return result


def _is_free(stack: ExitStack, out: Path, fold: Fold) -> bool:
    """Locks the part of a fold until `stack` ends; False, and a line, if another process runs it."""
    try:
        stack.enter_context(lock_part(out, part_name(fold)))
    except RunInUseError as error:
        echo(f"note: {error}")
        return False
    return True


def part_name(fold: Fold) -> str:
    """The name of the part that trains and evaluates a fold."""
    return f"seed-{fold.seed}-fold-{fold.number}"


def list_parts(config: Config, out: Path, seeds: Sequence[int], only: Sequence[int] = ()) -> list[Fold]:
    """The requested folds, of which each is a part that any process may run; arguments as for `cross_validate`."""
    planned, _ = plan_folds(config, load_dataset(config.data), out, seeds, only)
    return [fold for fold in planned if fold.requested]


def run_part(config: Config, out: Path, seed: int, number: int, workers: Workers, adapt: bool = False) -> int:
    """Trains and evaluates one fold, and with `adapt` evaluates it adapted as well; does nothing if that is done.

    Returns:
        The exit code.

    Raises:
        RunInUseError: another process runs this fold; other errors as for `cross_validate`.
    """
    workers.check(config)
    [fold] = list_parts(config, out, [seed], [number])
    with lock_part(out, part_name(fold)):
        [fold] = list_parts(config, out, [seed], [number])  # as the process before has left it
        write_files(out, {"config.yaml": dump(config).encode()})
        commands = [] if fold.state == "finished" else fold_commands(fold, out, workers, 0)
        if adapt and (commands or not _is_adapted(fold)):
            commands.append(adapted_command(fold, workers, 0))
        if not commands:
            echo(f"{fold.name}: done before")
            return 0
        return run_folds([fold], lambda *_: commands, TEST, workers).exit_code


def fold_commands(fold: Fold, out: Path, workers: Workers, slot: int) -> list[list[str]]:
    """The command lines that train and evaluate a fold."""
    train = train_command(fold, out / "config.yaml", {"data.fold": fold.number}, workers, slot)
    return [train, evaluate_command(fold, TEST, workers, slot)]


def baseline_config(config: Config, baseline: Config) -> Config:
    """The baseline with the data, seed and device of `config`; it learns the emotions alone.

    If `config` has no validation, the baseline keeps its own share of validation clips, which it chooses its settings
    by.
    """
    share = config.data.valid_fraction or baseline.data.valid_fraction
    tasks = {"tasks": ("emotions",), "dimensions": ()}  # a classical model learns no others
    data = config.data.model_copy(update={"valid_fraction": share, **tasks})
    machine = {name: getattr(config.train, name) for name in ("seed", "device", "threads")}
    return baseline.model_copy(update={"data": data, "train": baseline.train.model_copy(update=machine)})


def check_can_adapt(config: Config) -> None:
    """Checks before any training that `adapt_folds` will work.

    Raises:
        ConfigError: the recipe adapts to each speaker anyway, or predicts dimensions.
    """
    check_emotions_only(config.data.tasks, "--adapt")
    _check_not_adapted(config)


def _check_not_adapted(config: Config) -> None:
    if config.model.adapt:
        raise ConfigError(
            "--adapt: with model.adapt every fold is adapted already, and its report has the scores without adaptation"
        )


def adapt_folds(config: Config, out: Path, workers: Workers, run: bool = True) -> CrossValidationResult:
    """Evaluates every finished fold in `out` adapted to each speaker; the result goes into `out/adapted`.

    With `run=False` it only pools what is evaluated.

    Raises:
        ConfigError: `out` holds folds of other settings or clips, or the recipe adapts anyway.
        DiskError: `out` cannot be written.
        RunInUseError: a cross-validation runs there.
    """
    _check_not_adapted(config)
    with lock_run_folder(out, "cross-validation", "--out"):
        planned, _ = plan_folds(config, load_dataset(config.data), out, seeds=())
        finished = [fold for fold in planned if fold.state == "finished"]
        done = [fold for fold in finished if _is_adapted(fold)]
        to_do = [fold for fold in finished if fold not in done]
        echo(f"speaker adaptation: {len(finished)} folds, {len(done)} finished, {len(to_do)} to do, in {out}")

        runs = run_folds(
            to_do if run else [], lambda fold, slot: [adapted_command(fold, workers, slot)], ADAPTED, workers
        )
        missing = [*(runs.missing if run else to_do), *(fold for fold in planned if fold.state != "finished")]
        extra = {"config": config.model_dump(mode="json")}
        return _write_result(out / ADAPTED, ADAPTED, [*done, *runs.done], missing, runs, extra)


def adapted_command(fold: Fold, workers: Workers, slot: int) -> list[str]:
    """The command line that evaluates a fold adapted to each test speaker."""
    return [*evaluate_command(fold, ADAPTED, workers, slot), "--adapt"]


def _is_adapted(fold: Fold) -> bool:
    """Whether the adapted evaluation is complete and not older than the checkpoint."""
    try:
        read_fold(fold, ADAPTED)
        evaluated = (fold.folder / ADAPTED / "evaluation.json").stat().st_mtime
        return evaluated >= (fold.folder / BEST).stat().st_mtime
    except (DataError, OSError):
        return False


def _write_result(
    out: Path, evaluation: str, done: Sequence[Fold], missing: Sequence[Fold], runs: FoldRuns, extra: dict[str, Any]
) -> CrossValidationResult:
    """Pools the folds that are done, by their evaluations of this name, and writes the result into `out`."""
    failures = runs.failures()
    ordered = sorted(done, key=lambda fold: (fold.seed, fold.number))
    results, incomplete = complete_seeds([read_fold(fold, evaluation) for fold in ordered])
    state = {
        "failed": failures,
        "missing": _folds_by_seed(missing),
        "incomplete_seeds": incomplete,
        "complete": not missing,
    }
    summary = write_cross_validation(out, results, {**extra, **state}) if results else None
    if failures and runs.stopped_by is None:
        echo(f"failed: {'; '.join(failures)}; the same command tries again")
    return CrossValidationResult(summary, runs.exit_code)


def _folds_by_seed(folds: Sequence[Fold]) -> list[str]:
    """For each seed, a text such as `seed 0, folds 1-3`."""
    return [
        f"seed {seed}, {fold_names(sorted(fold.number for fold in folds if fold.seed == seed))}"
        for seed in sorted({fold.seed for fold in folds})
    ]
