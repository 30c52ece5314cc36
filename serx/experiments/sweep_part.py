"""One part of a sweep: a setting trained with every validation group and seed, scored, and recorded in the study."""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from serx import metrics
from serx.data.dataset import load_dataset, split_dataset
from serx.errors import DiskError, DivergedError, RunInUseError, SerxError
from serx.evaluation import evaluate
from serx.evaluation.pooling import FoldResult
from serx.evaluation.predictions import join
from serx.evaluation.ratings import join_ratings, mean_ccc, score_ratings, speaker_sums
from serx.experiments.fold_runs import LOG
from serx.experiments.folds import Fold, read_fold, state_of
from serx.experiments.parts import check_part, lock_part
from serx.experiments.sweep_plan import Setting, SweepPlan, name_of
from serx.files import why_not_written
from serx.training.console import echo
from serx.training.run_folder import read_metrics
from serx.training.trainer import fit

if TYPE_CHECKING:
    from serx.experiments.study import Attempt

VALID = "valid"  # folder of the evaluation, within that of the run


@dataclass(frozen=True)
class SettingRun(Fold):
    """The training of one setting with one validation group, whose number is `number`."""

    setting: str = ""

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.setting}, seed {self.seed} group {self.number}"


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
