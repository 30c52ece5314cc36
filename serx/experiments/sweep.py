"""A sweep: settings tried on validation speakers alone, so that the test speakers stay unheard until one is chosen.

The speakers beside the test part of the configuration's own fold are dealt into groups, and every setting is trained
once for each group, which validates while the others train. So each of them is heard once by a model that never met
them, and settings are compared over all of them, speaker by speaker. The test speakers take no part at all.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serx.config.loader import Config, dump, load
from serx.config.yaml_lines import parse
from serx.data.audio import AudioConfig
from serx.data.dataset import DataConfig, Dataset, load_dataset, split_dataset
from serx.data.protocols import make_split
from serx.device import choose_device
from serx.errors import ConfigError
from serx.evaluation.ranking import SettingResult, markdown_ranking, rank
from serx.evaluation.report import write_files
from serx.experiments.cross_validation import evaluate_command, train_command
from serx.experiments.fold_runs import LOG, FoldRuns, Workers, run_folds
from serx.experiments.folds import FREE, Fold, read_fold, state_of
from serx.plots.experiments import ranking_figure
from serx.plots.style import figure_png
from serx.seeding import derive
from serx.training.console import echo
from serx.training.run_folder import lock_run_folder

AS_IT_IS = "as it is"
VALID = "valid"  # the folder, within that of a run, of its evaluation
LONGEST_NAME = 120


@dataclass(frozen=True)
class Setting:
    """Some settings of a recipe: `overrides` over the file's and the command line's, `config` with all of them."""

    overrides: tuple[str, ...]
    config: Config

    @property
    def name(self) -> str:
        """For people."""
        return " ".join(self.overrides) or AS_IT_IS

    @property
    def folder(self) -> str:
        """A folder's name that is the same in every sweep, so that a larger one finds what a smaller one has done."""
        told = ",".join(self.overrides) or "as_it_is"
        plain = re.sub(r"[^A-Za-z0-9.,=+-]+", "_", told)[:LONGEST_NAME]
        # What had to be changed could be another setting's name as well.
        known = hashlib.sha256(self.name.encode()).hexdigest()[:8]
        return plain if plain.replace("_", "") == told.replace("_", "") else f"{plain}-{known}"


@dataclass(frozen=True)
class Trial(Fold):
    """The training of one setting in which one group, `number`, validates."""

    setting: str = ""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.setting}, seed {self.seed} group {self.number}"


def plan_settings(
    path: str | Path,
    overrides: Sequence[str],
    tried: Sequence[str],
    sample: int | None = None,
    one_at_a_time: bool = False,
) -> list[Setting]:
    """The recipe as it is, then every combination of the values of `tried`, such as `optim.lr=[1e-3, 3e-3]`.

    Args:
        path: of the configuration.
        overrides: `section.key=value`, of all settings.
        tried: `section.key=[value, value, ...]`.
        sample: only so many combinations, drawn at random; the same in each call.
        one_at_a_time: each value for itself, all else as it is: an ablation.

    Raises:
        ConfigError: a key that is no setting to try, no list of values, or a combination that is no configuration.
    """
    grid = [_values(text) for text in tried]
    if twice := {key for key, _ in grid if sum(key == other for other, _ in grid) > 1}:
        raise ConfigError(f"--try {min(twice)} stands twice; write its values into one list")
    choices = [[f"{key}={json.dumps(value)}" for value in values] for key, values in grid]
    combinations = [(one,) for one in itertools.chain(*choices)] if one_at_a_time else [*itertools.product(*choices)]
    if sample is not None:
        if sample < 1:
            raise ConfigError(f"--sample {sample}: draw at least one combination")
        combinations = sorted(combinations, key=lambda chosen: derive(0, f"sweep {' '.join(chosen)}"))[:sample]
    whole = Setting((), load(path, overrides))
    others = [Setting(chosen, load(path, [*overrides, *chosen])) for chosen in combinations]
    return [whole, *(setting for setting in others if setting.config != whole.config)]


def _values(text: str) -> tuple[str, tuple[Any, ...]]:
    key, _, listed = text.partition("=")
    values = parse(listed, f"--try {text}")[0] if listed else None
    if not isinstance(values, tuple) or not values:
        raise ConfigError(f"--try {text}: give a list of values, such as optim.lr=[1e-3,3e-3]")
    section, _, name = key.partition(".")
    if key == "train.seed":
        raise ConfigError("--try train.seed: a seed is no setting to choose; several of them are averaged by --seeds")
    if key in FREE or (section == "data" and name not in AudioConfig.model_fields):
        raise ConfigError(f"--try {key}: this changes who is heard, or where, not the recipe; set it for all settings")
    return key, values


def sweep(
    settings: Sequence[Setting], out: Path, groups: int, seeds: Sequence[int], place: Workers
) -> tuple[dict[str, Any] | None, int]:
    """Trains each setting for each group and seed that is not finished, then writes what all of them come to.

    Returns:
        What sweep.json holds, None where no setting is finished, and the exit code: of the signal that stopped it, or
        of the first run that failed, else 0.

    Raises:
        ConfigError: see `deal`; no process, a device that is not there, or a folder with a run of other settings.
        DataError: clips cannot be read or split.
        DiskError: `out` cannot be written.
        RunInUseError: another sweep is at work there.
    """
    if place.processes < 1:
        raise ConfigError(f"--processes {place.processes}: give at least one")
    data = settings[0].config.data
    for device in place.devices or (settings[0].config.train.device,):
        choose_device(device, "--devices" if place.devices else "train.device")
    with lock_run_folder(out, "--out"):
        dataset = load_dataset(data)
        speaker_groups = group_speakers(dataset, data, groups)
        chosen = any(setting.config.train.select != "last" for setting in settings)
        stamp = f"{speaker_groups.stamp}, and choose their epochs" if chosen else speaker_groups.stamp
        for note in dataset.notes:
            echo(f"note: {note}")
        trials = [trial for setting in settings for trial in plan_trials(setting, out, speaker_groups, seeds)]
        to_do = [trial for trial in trials if trial.state != "finished"]
        done = f"{len(trials) - len(to_do)} finished, {len(to_do)} to do"
        echo(f"{len(settings)} settings, {len(trials)} runs: {done}, in {out}")
        fold_runs = run_folds(to_do, lambda trial, slot: trial_commands(trial, place, slot), VALID, place)
        ranking = _conclude(settings, trials, fold_runs, out, stamp)
    if fold_runs.stopped is not None:
        echo(f"stopped with {len(fold_runs.missing)} of {len(trials)} runs to do; the same command goes on")
    return ranking, fold_runs.exit_code


@dataclass(frozen=True)
class SpeakerGroups:
    """Speakers who test, and are not heard, the groups of the others, and a line that says so."""

    test: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    stamp: str


def group_speakers(dataset: Dataset, config: DataConfig, groups: int) -> SpeakerGroups:
    """Deals the speakers beside the test part of the configuration's own fold into groups, even in sex and class.

    Raises:
        ConfigError: test speakers also train under this protocol, or there are fewer speakers than groups.
    """
    targets = dataset.targets.tolist()
    split = make_split(dataset.utterances, targets, config, dataset.digests)
    if not split.speaker_independent:
        raise ConfigError(f"data.protocol: {split.stamp}; a sweep needs speakers apart: add data.protocol=kfold")
    beside = sorted({*split.train, *split.valid})
    people = len(dataset.speaker_ids(tuple(beside)))
    if not 2 <= groups <= people:
        raise ConfigError(f"--groups {groups}: {people} speakers are beside the test part; give 2 to {people}")
    clips, classes = [dataset.utterances[i] for i in beside], [targets[i] for i in beside]
    folds = {"protocol": "kfold", "folds": groups, "valid_fraction": 0.0, "test_corpora": ()}
    told = []
    for number in range(groups):
        group = make_split(clips, classes, config.model_copy(update={**folds, "fold": number})).test
        told.append(tuple(sorted({clips[i].speaker_id for i in group})))
    stamp = f"{people} speakers beside the test part of {split.stamp}, in {groups} groups that validate in turn"
    return SpeakerGroups(tuple(dataset.speaker_ids(split.test)), tuple(told), stamp)


def plan_trials(setting: Setting, out: Path, speaker_groups: SpeakerGroups, seeds: Sequence[int]) -> list[Trial]:
    """The runs of a setting; what each reads as its configuration is written into the setting's folder.

    Raises:
        ConfigError: a folder holds a run of other settings or clips.
    """
    dataset = load_dataset(setting.config.data)
    apart = {"protocol": "speakers", "fold": 0, "test_corpora": (), "test_speakers": speaker_groups.test}
    trials, files = [], {}
    for number, group in enumerate(speaker_groups.groups):
        data = setting.config.data.model_copy(update={**apart, "valid_speakers": group})
        split = split_dataset(dataset, data)
        files[_file(number)] = dump(setting.config.model_copy(update={"data": data})).encode()
        for seed in seeds:
            folder = out / setting.folder / f"seed-{seed}" / f"group-{number}"
            train = setting.config.train.model_copy(update={"seed": seed, "output": str(folder)})
            config = setting.config.model_copy(update={"data": data, "train": train})
            state = state_of(folder, config, dataset, split, VALID)
            trials.append(Trial(seed, number, folder, config, split.stamp, state, setting=setting.name))
    write_files(out / setting.folder, files)
    return trials


def _file(number: int) -> str:
    return f"group-{number}.yaml"


def trial_commands(trial: Fold, place: Workers, slot: int) -> list[list[str]]:
    """Trains a setting without one group, then evaluates it on that group: the scripts that a user would call."""
    train = train_command(trial, trial.folder.parents[1] / _file(trial.number), {}, place, slot)
    return [train, evaluate_command(trial, VALID, place, slot, part="valid")]


def _conclude(
    settings: Sequence[Setting], trials: Sequence[Trial], fold_runs: FoldRuns, out: Path, stamp: str
) -> dict[str, Any] | None:
    missing = {trial.name for trial in fold_runs.missing}
    tried, waiting = [], []
    for setting in settings:
        own = [trial for trial in trials if trial.setting == setting.name]
        if any(trial.name in missing for trial in own):
            waiting.append(setting.name)
        else:
            tried.append(SettingResult(setting.name, setting.overrides, [read_fold(trial, VALID) for trial in own]))
    folders = {trial.name: trial.folder for trial in trials}
    failed = [f"{name} (exit code {code}; see {folders[name] / LOG})" for name, code in fold_runs.failed.items()]
    if fold_runs.stopped is None:
        for told in failed:
            echo(f"failed: {told}; the same command tries again")
    if not tried:
        return None
    ranking = {**rank(tried, stamp), "missing": waiting, "failed": failed}
    best = next(setting for setting in settings if setting.name == ranking["settings"][0]["name"])
    write_files(
        out,
        {
            "sweep.png": figure_png(ranking_figure(ranking)),
            "sweep.md": markdown_ranking(ranking).encode(),
            "best.yaml": dump(best.config).encode(),
            "sweep.json": (json.dumps(ranking, indent=2) + "\n").encode(),
        },
    )
    return ranking
