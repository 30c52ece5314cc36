"""A sweep: settings of a recipe compared on validation speakers, so that the test speakers stay unused.

A sweep is an Optuna study (`serx.experiments.study`), and a setting is a part of it: one command, which skips what is
done. Settings are compared over all validation speakers, speaker by speaker (`serx.experiments.sweep_plan` divides
them). Nothing that the study holds was computed from a clip of a test speaker.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from serx import plots
from serx.config.loader import dump
from serx.errors import DataError, RunInUseError
from serx.evaluation.ranking import SettingResult, markdown_ranking, rank
from serx.evaluation.report import write_files
from serx.evaluation.tables import count
from serx.experiments.fold_runs import Workers, last_line, run_jobs
from serx.experiments.folds import read_fold
from serx.experiments.parts import IN_USE, is_locked, part_log
from serx.experiments.processes import Job
from serx.experiments.sweep_part import VALID, plan_runs, run_part
from serx.experiments.sweep_plan import SweepPlan, name_of
from serx.files import locked, to_json
from serx.training.console import echo

if TYPE_CHECKING:
    from serx.experiments.study import PartTrial, SweepStudy

ATTEMPTS = 2  # of one call at a part whose process is killed


def sweep(
    plan: SweepPlan, workers: Workers, command: Callable[[int, str, int], list[str]]
) -> tuple[dict[str, Any] | None, int]:
    """Runs the parts that are not finished, each in a process, then ranks the settings.

    Any number of machines may call this at the same time with the same plan: no part is run twice.

    Args:
        plan: of `plan_sweep`.
        workers: how many parts at a time, on which devices.
        command: from a part, its device and its CPU threads to the command line that runs it.

    Returns:
        The content of sweep.json, None if no setting is finished, and the exit code: 128 plus the signal that stopped
        the sweep, or that of the first part that failed, else 0.

    Raises:
        ConfigError: see `group_speakers`; no process, a device that does not exist, or a folder with a run of other
            settings.
        DataError: clips cannot be read or split.
        DiskError: `out` cannot be written.

    >>> from pathlib import Path
    >>> from serx.experiments.sweep_plan import plan_sweep
    >>> plan = plan_sweep("mlp", ["data.root=corpora/ravdess"], ["optim.lr=[0.0002, 0.0005]"], Path("runs/sweep"))
    >>> sweep(plan, Workers(processes=0), lambda part, device, threads: [])
    Traceback (most recent call last):
        ...
    serx.errors.ConfigError: --processes 0: give at least one
    """
    workers.check(plan.recipe)
    to_do = prepare(plan)
    codes: dict[int, int] = {}
    threads = workers.threads(plan.recipe)[0]
    started = time.monotonic()

    def on_end(job: Job, code: int, seconds: float) -> None:
        part = int(job.name)
        codes[part] = code if code >= 0 else 128 - code
        line = last_line(job.log, sizes[part])
        if codes[part] == IN_USE:
            echo(f"part {part}: {line.removeprefix('error: ')}")
        elif code:
            echo(f"part {part}: FAILED with exit code {codes[part]}: {line}")
        else:
            rest = (time.monotonic() - started) / len(codes) * (len(to_do) - len(codes))
            eta = f"{int(rest) // 60}:{int(rest) % 60:02d}"
            echo(f"{line}, {seconds / 60:.1f} min   {len(codes)} of {len(to_do)}, ETA {eta}")

    def job(part: int) -> Job:
        return Job(
            str(part),
            lambda slot: [command(part, workers.device(slot, plan.recipe), threads)],
            part_log(plan.out, part),
        )

    sizes: dict[int, int] = {}
    stopped_by, left = None, to_do
    for _ in range(ATTEMPTS):
        if not left or stopped_by is not None:
            break
        jobs = [job(part) for part in left]
        sizes |= {int(job.name): job.log.stat().st_size if job.log.exists() else 0 for job in jobs}
        stopped_by = run_jobs(jobs, workers, plan.recipe, on_end)
        left = abandoned(plan)
        if left and stopped_by is None:
            echo(f"left by processes that were killed: part {', '.join(map(str, left))}")
    ranking, failed = collect(plan)
    if stopped_by is not None:
        missing = sum(part not in codes for part in to_do)
        echo(f"stopped with {missing} of {len(to_do)} settings to do; the same command continues")
        return ranking, 128 + stopped_by
    wrong = [code for _, code in sorted(codes.items()) if code not in (0, IN_USE)]
    return ranking, next(iter(wrong or failed), 0)


def prepare(plan: SweepPlan) -> list[int]:
    """Checks a sweep and says what is to do: the parts that are not finished.

    Settings whose runs are all finished, by an earlier sweep in the same folder, are recorded at once.

    Raises:
        ConfigError: see `group_speakers`, or a folder with a run of other settings.
        DataError: clips cannot be read or split.
        DiskError: `out` cannot be written.
    """
    for note in plan.dataset.notes:
        echo(f"note: {note}")
    study = plan.study()
    to_do = []
    for part, trial in unfinished(plan, study).items():
        runs = plan_runs(plan.setting(trial.overrides), plan) if trial.overrides is not None else []
        if runs and all(run.state == "finished" for run in runs):
            with suppress(RunInUseError):
                run_part(plan, part)
        else:
            to_do.append(part)
    done = f"{plan.parts - len(to_do)} finished, {len(to_do)} to do"
    each = f"{count(plan.groups, 'group')} and {count(len(plan.seeds), 'seed')} each"
    echo(f"{count(plan.parts, 'setting')}, {each}: {done}, in {plan.out}")
    return to_do


def abandoned(plan: SweepPlan) -> list[int]:
    """Parts that are neither finished nor failed and that nobody runs: their processes were killed."""
    parts = unfinished(plan, plan.study())
    return [part for part, trial in parts.items() if trial.state != "fail" and not is_locked(plan.out, str(part))]


def unfinished(plan: SweepPlan, study: "SweepStudy") -> dict[int, "PartTrial"]:
    """The parts of the sweep with something to do."""
    return {n: trial for n, trial in sorted(study.parts().items()) if n < plan.parts and not trial.is_finished}


def collect(plan: SweepPlan) -> tuple[dict[str, Any] | None, list[int]]:
    """Ranks the settings that are finished, and writes sweep.json, sweep.md, sweep.png and best.yaml into `out`.

    Returns:
        The content of sweep.json, None if no setting is finished, and the exit codes of the settings that failed.

    Raises:
        DiskError: `out` cannot be written.
    """
    finished: dict[str, SettingResult] = {}
    missing, failures, pruned, codes = [], [], [], []
    for part, trial in sorted(plan.study().parts().items()):
        if part >= plan.parts:
            continue
        name = f"part {part}" if trial.overrides is None else name_of(trial.overrides)
        if trial.state == "fail":
            codes.append(trial.exit_code)
            failures.append(f"{name} (exit code {trial.exit_code}: {trial.error})")
        if trial.state == "complete" and trial.overrides is not None:
            try:
                results = [read_fold(run, VALID) for run in plan_runs(plan.setting(trial.overrides), plan)]
                finished[name] = SettingResult(name, trial.overrides, results)
                continue
            except DataError as error:
                echo(f"note: {name} is finished in the study, but its runs are not in {plan.out}: {error}")
        if trial.state == "pruned":
            pruned.append(name)
        else:
            missing.append(name)
    for failure in failures:
        echo(f"failed: {failure}; the same command tries again")
    if pruned:
        echo(f"given up early: {'; '.join(dict.fromkeys(pruned))}")
    if not finished:
        return None, codes
    chosen = any(plan.setting(row.overrides).config.train.select != "last" for row in finished.values())
    stamp = plan.speaker_groups.protocol
    protocol = f"{stamp}, and choose their epochs" if chosen else stamp
    ranking = {**rank([*finished.values()], protocol), "missing": missing, "failed": failures, "pruned": pruned}
    best = plan.setting(ranking["settings"][0]["overrides"])
    with locked(plan.out / ".result.lock"):
        write_files(
            plan.out,
            {
                "sweep.png": plots.figure_png(plots.ranking_figure(ranking)),
                "sweep.md": markdown_ranking(ranking).encode(),
                "best.yaml": dump(best.config).encode(),
                "sweep.json": to_json(ranking),
            },
        )
    return ranking, codes
