"""A sweep: settings of a recipe compared on validation speakers, so that the test speakers stay unused.

The test speakers are those of the configuration's own fold. All other speakers are divided into groups. Every setting
is trained once for each group, which validates while the other groups train. So each of these speakers is predicted
once by a model that was not trained on them, and settings are compared over all of them, speaker by speaker.

A sweep is an Optuna study (`serx.experiments.study`), and a setting is a part of it: one command, which skips what is
done. Nothing that the study holds was computed from a clip of a test speaker.
"""

import hashlib
import itertools
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serx import metrics, plots
from serx.config.loader import Config, dump, load_config
from serx.data.dataset import DataConfig, Dataset, load_dataset, split_dataset
from serx.data.protocols import make_split
from serx.errors import ConfigError, DataError, DiskError, DivergedError, RunInUseError, SerxError
from serx.evaluation import evaluate
from serx.evaluation.pooling import FoldResult
from serx.evaluation.predictions import join
from serx.evaluation.ranking import SettingResult, markdown_ranking, rank
from serx.evaluation.ratings import join_ratings, mean_ccc, score_ratings, speaker_sums
from serx.evaluation.report import write_files
from serx.evaluation.tables import count
from serx.experiments.fold_runs import LOG, Workers, last_line, run_jobs
from serx.experiments.folds import FREE, Fold, read_fold, state_of
from serx.experiments.parts import IN_USE, check_part, is_locked, lock_part, part_log
from serx.experiments.processes import Job
from serx.experiments.space import Choice, Dimension, parse_space
from serx.files import locked, to_json, why_not_written
from serx.seeding import derive
from serx.training.console import echo
from serx.training.resume import flat
from serx.training.run_folder import read_metrics
from serx.training.trainer import fit

if TYPE_CHECKING:
    from serx.experiments.study import Attempt, Method, PartTrial, SweepStudy

AS_IT_IS = "as it is"
VALID = "valid"  # folder of the evaluation, within that of the run
JOURNAL = "study.journal"
DEFAULT_TRIALS = 20  # of a sampler
MAX_FOLDER_NAME = 120
ATTEMPTS = 2  # of one call at a part whose process is killed


@dataclass(frozen=True)
class Setting:
    """A variant of the recipe.

    Attributes:
        overrides: `section.key=value`, over the file's and those for all settings; empty for the recipe as it is.
        config: with all overrides.
    """

    overrides: tuple[str, ...]
    config: Config

    @property
    def name(self) -> str:
        """For messages and tables."""
        return name_of(self.overrides)

    @property
    def folder(self) -> str:
        """A folder name that is the same in every sweep, so that a larger sweep finds the runs of a smaller one."""
        wanted = ",".join(self.overrides) or "as_it_is"
        safe = re.sub(r"[^A-Za-z0-9.,=+-]+", "_", wanted)[:MAX_FOLDER_NAME]
        if safe.replace("_", "") == wanted.replace("_", ""):
            return safe
        # Replaced characters could make two settings equal.
        return f"{safe}-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}"


def name_of(overrides: Sequence[str]) -> str:
    """A setting in messages and tables."""
    return " ".join(overrides) or AS_IT_IS


@dataclass(frozen=True)
class SweepPlan:
    """A sweep as its command line describes it. Every process of the sweep makes the same plan.

    Attributes:
        path: of the configuration.
        overrides: `section.key=value`, for all settings.
        space: what to try.
        out: the folder of all runs and of the result.
        method: `grid` tries every combination, `random` and `tpe` let Optuna choose.
        trials: settings to try besides the recipe as it is; None: all of a grid, `DEFAULT_TRIALS` of a sampler.
        one_at_a_time: a grid that changes one setting at a time: an ablation.
        prune: `median` or `halving` gives up settings between epochs, `wilcoxon` between groups.
        groups: how many speaker groups.
        seeds: of the trainings.
        storage: of the study: the path of a journal file, or the URL of a database; "" is `study.journal` in `out`.
    """

    path: str | Path
    overrides: tuple[str, ...]
    space: tuple[Dimension, ...]
    out: Path
    method: "Method" = "grid"
    trials: int | None = None
    one_at_a_time: bool = False
    prune: tuple[str, ...] = ()
    groups: int = 3
    seeds: tuple[int, ...] = (0,)
    storage: str = ""
    settings: tuple[Setting, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.trials is not None and self.trials < 1:
            raise ConfigError(f"--trials {self.trials}: try at least one setting")
        if {"median", "halving"} <= set(self.prune):
            raise ConfigError("--prune median halving: both give up settings between epochs; choose one")
        if self.one_at_a_time and self.method != "grid":
            raise ConfigError(f"--one-at-a-time is a grid of its own; leave --search {self.method} out")
        object.__setattr__(self, "settings", tuple(self._planned()))

    def _planned(self) -> Iterator[Setting]:
        """The recipe as it is, and the settings of a grid."""
        recipe = self.setting(())
        yield recipe
        if self.method != "grid":
            for dimension in self.space:
                for override in dimension.overrides:
                    self.setting((override,))  # refuses what the recipe cannot have
            return
        for chosen in combinations(self.space, self.trials, self.one_at_a_time):
            setting = self.setting(chosen)
            if setting.config != recipe.config:
                yield setting

    def setting(self, chosen: Sequence[str]) -> Setting:
        """The recipe with these overrides. Raises ConfigError if it cannot have them."""
        return Setting(tuple(chosen), load_config(self.path, [*self.overrides, *chosen]))

    @property
    def recipe(self) -> Config:
        """The recipe as it is."""
        return self.settings[0].config

    @property
    def parts(self) -> int:
        """How many parts there are: settings, including the recipe as it is, which is part 0."""
        return len(self.settings) if self.method == "grid" else 1 + (self.trials or DEFAULT_TRIALS)

    @property
    def study_name(self) -> str:
        """The same in all processes of the sweep, and another one as soon as anything that decides a result differs."""
        recipe = {key: value for key, value in flat(self.recipe.model_dump(mode="json")).items() if key not in FREE}
        fixed = [self.trials, self.one_at_a_time] if self.method == "grid" else []
        what = [recipe, [repr(dimension) for dimension in self.space], self.method, fixed, sorted(self.prune)]
        text = json.dumps([*what, self.groups, list(self.seeds)], sort_keys=True)
        return f"serx-sweep-{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    @cached_property
    def dataset(self) -> Dataset:
        """The clips of the recipe."""
        return load_dataset(self.recipe.data)

    @cached_property
    def speaker_groups(self) -> "SpeakerGroups":
        """Who validates when."""
        return group_speakers(self.dataset, self.recipe.data, self.groups)

    def study(self) -> "SweepStudy":
        """The study with all parts of this sweep in its queue.

        Raises:
            ConfigError: Optuna is not installed, or the database cannot be used.
            DataError: the journal is damaged.
            DiskError: `out` or the journal cannot be written.
        """
        if find_spec("optuna") is None:
            raise ConfigError("a sweep needs Optuna: pip install 'serx[sweep]'")
        from serx.experiments.study import SweepStudy  # noqa: PLC0415 (an optional package)

        try:
            self.out.mkdir(parents=True, exist_ok=True)
            with locked(self.out / ".study.lock"):
                storage = self.storage or str(self.out / JOURNAL)
                study = SweepStudy(storage, self.study_name, self.method, self.space, self.prune)
                grid = [setting.overrides for setting in self.settings]
                study.enqueue({part: grid[part] if part < len(grid) else None for part in range(self.parts)})
        except OSError as error:
            reason = error.strerror or str(error)
            raise DiskError(f"{self.out}: cannot write here: {reason}; choose another --out") from error
        return study


def plan_sweep(
    path: str | Path, overrides: Sequence[str], tried: Sequence[str], out: Path, **options: Any
) -> SweepPlan:
    """A sweep over the values in `tried`, such as `optim.lr=[1e-3, 3e-3]` or `optim.lr=1e-4..1e-2,log`.

    Args:
        path: of the configuration.
        overrides: `section.key=value`, for all settings.
        tried: see `serx.experiments.space.parse_space`.
        out: the folder of all runs and of the result.
        **options: the other attributes of `SweepPlan`.

    Raises:
        ConfigError: a key that cannot be tried, a text that names no values, or an invalid combination.

    >>> plan = plan_sweep("mlp", ["data.root=corpora/ravdess"], ["optim.lr=[0.0002, 0.0005]"], Path("runs/sweep"))
    >>> [setting.name for setting in plan.settings]
    ['as it is', 'optim.lr=0.0002', 'optim.lr=0.0005']
    """
    return SweepPlan(path, tuple(overrides), tuple(parse_space(tried)), out, **options)


def combinations(space: Sequence[Dimension], trials: int | None, one_at_a_time: bool) -> list[tuple[str, ...]]:
    """The combinations of a grid. The study's queue holds them in this order.

    Optuna's own grid may give one combination to two processes that ask at the same moment; its queue does not.

    Args:
        space: values only.
        trials: a number of combinations to draw at random; the same in each call. Default: all.
        one_at_a_time: changes one setting at a time instead of combining them.

    Raises:
        ConfigError: a range.
    """
    for dimension in space:
        if not isinstance(dimension, Choice):
            raise ConfigError(f"--try {dimension.key}: a grid needs values; give a list, or add --search tpe")
    choices = [dimension.overrides for dimension in space]
    found: list[tuple[str, ...]] = [*itertools.product(*choices)]
    if one_at_a_time:
        found = [(one,) for one in itertools.chain(*choices)]
    if trials is not None:
        found = sorted(found, key=lambda chosen: derive(0, f"sweep {' '.join(chosen)}"))[:trials]
    return found


@dataclass(frozen=True)
class SettingRun(Fold):
    """The training of one setting with one validation group, whose number is `number`."""

    setting: str = ""

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.setting}, seed {self.seed} group {self.number}"


@dataclass(frozen=True)
class SpeakerGroups:
    """The test speakers, who are not used, the groups of all others, and the protocol stamp."""

    test: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    protocol: str


def group_speakers(dataset: Dataset, config: DataConfig, groups: int) -> SpeakerGroups:
    """Divides the speakers outside the test part of the configuration's own fold into groups, even in sex and class.

    Raises:
        ConfigError: test speakers also train under this protocol, or there are fewer speakers than groups.
    """
    targets = dataset.targets.tolist()
    split = make_split(dataset.utterances, targets, config, dataset.digests)
    if not split.speaker_independent:
        raise ConfigError(f"data.protocol: {split.stamp}; a sweep needs speakers apart: add data.protocol=kfold")
    development = sorted({*split.train, *split.valid})
    speakers = len(dataset.speaker_ids(tuple(development)))
    if not 2 <= groups <= speakers:
        raise ConfigError(f"--groups {groups}: {speakers} speakers are outside the test part; give 2 to {speakers}")
    clips, classes = [dataset.utterances[i] for i in development], [targets[i] for i in development]
    kfold = {"protocol": "kfold", "folds": groups, "valid_fraction": 0.0, "test_corpora": ()}
    members = []
    for number in range(groups):
        group = make_split(clips, classes, config.model_copy(update={**kfold, "fold": number})).test
        members.append(tuple(sorted({clips[i].speaker_id for i in group})))
    protocol = f"{speakers} speakers outside the test part of {split.stamp}, in {groups} groups that each validate once"
    return SpeakerGroups(tuple(dataset.speaker_ids(split.test)), tuple(members), protocol)


def plan_runs(setting: Setting, plan: SweepPlan) -> list[SettingRun]:
    """The runs of a setting: group by group, each under every seed.

    Raises:
        ConfigError: a folder holds a run of other settings or clips.
    """
    dataset = load_dataset(setting.config.data)
    by_name = {"protocol": "speakers", "fold": 0, "test_corpora": (), "test_speakers": plan.speaker_groups.test}
    runs = []
    for number, group in enumerate(plan.speaker_groups.groups):
        data = setting.config.data.model_copy(update={**by_name, "valid_speakers": group})
        split = split_dataset(dataset, data, progress=False)
        for seed in plan.seeds:
            folder = plan.out / setting.folder / f"seed-{seed}" / f"group-{number}"
            train = setting.config.train.model_copy(update={"seed": seed, "output": str(folder)})
            config = setting.config.model_copy(update={"data": data, "train": train})
            state = state_of(folder, config, dataset, split, VALID)
            runs.append(SettingRun(seed, number, folder, config, split.stamp, state, setting=setting.name))
    return runs


def run_part(plan: SweepPlan, part: int) -> int:
    """Runs one part: trains a setting on every group and seed that is not finished, and records the result.

    Does nothing if the part is finished. A signal stops the training, which is saved, and the same call continues.

    Returns:
        The exit code: 0, that of the error that the setting ended with, or 128 plus the signal.

    Raises:
        ConfigError: there is no such part; see also `SweepPlan.study`.
        RunInUseError: another process runs it.
    """
    check_part(part, plan.parts)
    with lock_part(plan.out, str(part)):
        study = plan.study()
        trial = study.parts()[part]
        if trial.is_finished:
            echo(f"part {part}: {name_of(trial.overrides or ())}: done before")
            return 0
        attempt = study.claim(part)
        name = name_of(attempt.overrides)
        try:
            setting = plan.setting(attempt.overrides)
            stopped_by = _run_setting(plan, setting, attempt)
        except RunInUseError:
            raise
        except SerxError as error:
            attempt.fail(error)
            echo(f"error: {name}: {error}")
            return error.exit_code
        if stopped_by is not None:
            return 128 + stopped_by
    return 0


def _run_setting(plan: SweepPlan, setting: Setting, attempt: "Attempt") -> int | None:
    """Trains and evaluates what is left of a setting, and records the result; returns the signal that stopped it."""
    results: list[FoldResult] = []
    numbers = {speaker: i for i, speaker in enumerate(itertools.chain(*plan.speaker_groups.groups))}
    runs = plan_runs(setting, plan)
    for number in range(plan.groups):
        own = [run for run in runs if run.number == number]
        for run in own:
            stopped_by = _train(run, attempt)
            if stopped_by is not None:
                return stopped_by
            if attempt.is_pruned:
                attempt.prune()
                echo(f"{setting.name}: given up in {run.name.partition(', ')[2]}")
                return None
        results += [read_fold(run, VALID) for run in own]
        scores = speaker_scores(results[-len(own) :])
        attempt.speakers({numbers[speaker]: score for speaker, score in scores.items()})
        if attempt.is_pruned and number + 1 < plan.groups:
            attempt.prune()
            echo(f"{setting.name}: given up after {number + 1} of {plan.groups} groups")
            return None
    score = pooled_score(results)
    attempt.complete(score)
    of_emotions = results[0].predictions is not None
    echo(f"{setting.name}: validation {f'UAR {100 * score:.1f}' if of_emotions else f'mean CCC {score:.3f}'}")
    return None


def _train(run: SettingRun, attempt: "Attempt") -> int | None:
    """Trains and evaluates a run unless it is finished; returns the signal that stopped it."""
    with attempt.run(f"group {run.number} seed {run.seed}", run.config.train.epochs) as report:

        def on_epoch(line: dict[str, Any]) -> bool:
            return report.epoch(line["epoch"] + 1, line["valid"]["uar" if "uar" in line["valid"] else "ccc"])

        if run.state == "finished":
            for line in read_metrics(run.folder)[0]:
                on_epoch(line)
            attempt.is_pruned = False
            return None
        with _log(run.folder):
            given_up = run.state == "begun" and any(on_epoch(line) for line in read_metrics(run.folder)[0])
            if given_up:
                return None
            result = fit(run.config, run.folder, resume=run.state == "begun", progress=False, on_epoch=on_epoch)
            if result.stopped_by is not None or attempt.is_pruned:
                return result.stopped_by
            if not result.kept:
                raise DivergedError(f"{run.name}: no epoch had a finite score; see {run.folder / LOG}")
            device, cache = run.config.train.device, run.config.data.cache
            evaluation = evaluate(result.checkpoint, part="valid", device=device, progress=False, cache=cache)
            evaluation.write(run.folder / VALID, figures=False)
    return None


@contextmanager
def _log(folder: Path) -> Iterator[None]:
    """Sends what is printed into the log of a run."""
    path = folder / LOG
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log = path.open("a")
    except OSError as error:
        where = f"{path}: cannot write here: {why_not_written(error, path)}"
        raise DiskError(f"{where}, or choose another --out") from error
    with log, redirect_stdout(log), redirect_stderr(log):
        yield


def speaker_scores(results: Sequence[FoldResult]) -> dict[str, float]:
    """The UAR of each speaker over the classes that the speaker has clips of, as a mean over the seeds.

    Of dimensions alone the mean CCC.
    """
    scores: dict[str, list[float]] = defaultdict(list)
    for result in results:
        if result.predictions is None and result.ratings is not None:
            for speaker, sums in speaker_sums([result.ratings]).items():
                scores[speaker].append(float(mean_ccc(sums[0])))
            continue
        known = result.emotions.with_class()
        speakers = np.array(known.speaker_ids)
        right = known.predicted == known.targets
        for speaker in dict.fromkeys(known.speaker_ids):
            own = speakers == speaker
            recalls = [right[own & (known.targets == target)].mean() for target in np.unique(known.targets[own])]
            scores[speaker].append(float(np.mean(recalls)))
    return {speaker: float(np.mean(values)) for speaker, values in scores.items()}


def pooled_score(results: Sequence[FoldResult]) -> float:
    """The UAR over the clips of all groups, or the mean CCC of dimensions alone, as a mean over the seeds."""
    values = []
    for seed in dict.fromkeys(result.seed for result in results):
        own = [result for result in results if result.seed == seed]
        if any(result.predictions is None for result in own):
            ratings = join_ratings([result.ratings for result in own if result.ratings is not None])
            values.append(score_ratings(ratings, resamples=1)["mean"]["ccc"])
            continue
        known = join([result.emotions for result in own]).with_class()
        values.append(metrics.score(known.targets, known.predicted, known.labels).uar)
    return float(np.mean(values))


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
