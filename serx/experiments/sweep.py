"""A sweep: settings of a recipe compared on validation speakers, so that the test speakers stay unused.

The test speakers are those of the configuration's own fold. All other speakers are divided into groups. Every setting
is trained once for each group, which validates while the other groups train. So each of these speakers is predicted
once by a model that was not trained on them, and settings are compared over all of them, speaker by speaker.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serx import plots
from serx.config.loader import Config, dump, load_config
from serx.config.yaml_lines import parse
from serx.data.audio import AudioConfig
from serx.data.dataset import DataConfig, Dataset, load_dataset, split_dataset
from serx.data.protocols import make_split
from serx.data.ratings import check_emotions_only
from serx.errors import ConfigError
from serx.evaluation.ranking import SettingResult, markdown_ranking, rank
from serx.evaluation.report import write_files
from serx.experiments.fold_runs import FoldRuns, Workers, evaluate_command, run_folds, train_command
from serx.experiments.folds import FREE, Fold, read_fold, state_of
from serx.files import to_json
from serx.seeding import derive
from serx.training.console import echo
from serx.training.run_folder import lock_run_folder

AS_IT_IS = "as it is"
VALID = "valid"  # folder of the evaluation, within that of the run
MAX_FOLDER_NAME = 120


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
        return " ".join(self.overrides) or AS_IT_IS

    @property
    def folder(self) -> str:
        """A folder name that is the same in every sweep, so that a larger sweep finds the runs of a smaller one."""
        wanted = ",".join(self.overrides) or "as_it_is"
        safe = re.sub(r"[^A-Za-z0-9.,=+-]+", "_", wanted)[:MAX_FOLDER_NAME]
        if safe.replace("_", "") == wanted.replace("_", ""):
            return safe
        # Replaced characters could make two settings equal.
        return f"{safe}-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Trial(Fold):
    """The training of one setting with one validation group, whose number is `number`."""

    setting: str = ""

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.setting}, seed {self.seed} group {self.number}"


def plan_settings(
    path: str | Path,
    overrides: Sequence[str],
    tried: Sequence[str],
    sample: int | None = None,
    one_at_a_time: bool = False,
) -> list[Setting]:
    """The recipe as it is, then all combinations of the values in `tried`, such as `optim.lr=[1e-3, 3e-3]`.

    Args:
        path: of the configuration.
        overrides: `section.key=value`, for all settings.
        tried: `section.key=[value, value, ...]`.
        sample: a number of combinations to draw at random; the same in each call. Default: all.
        one_at_a_time: changes one setting at a time instead of combining them: an ablation.

    Raises:
        ConfigError: a key that cannot be tried, a text that is no list of values, or an invalid combination.

    >>> settings = plan_settings("mlp", ["data.root=corpora/ravdess"], ["optim.lr=[0.0002, 0.0005]"])
    >>> [setting.name for setting in settings]
    ['as it is', 'optim.lr=0.0002', 'optim.lr=0.0005']
    """
    grid = [_values(text) for text in tried]
    keys = [key for key, _ in grid]
    if twice := sorted(key for key in set(keys) if keys.count(key) > 1):
        raise ConfigError(f"--try {twice[0]} occurs twice; write its values into one list")
    choices = [[f"{key}={json.dumps(value)}" for value in values] for key, values in grid]
    if one_at_a_time:
        combinations: list[tuple[str, ...]] = [(choice,) for choice in itertools.chain(*choices)]
    else:
        combinations = [*itertools.product(*choices)]
    if sample is not None:
        if sample < 1:
            raise ConfigError(f"--sample {sample}: draw at least one combination")
        combinations = sorted(combinations, key=lambda chosen: derive(0, f"sweep {' '.join(chosen)}"))[:sample]
    recipe = Setting((), load_config(path, overrides))
    variants = [Setting(chosen, load_config(path, [*overrides, *chosen])) for chosen in combinations]
    return [recipe, *(setting for setting in variants if setting.config != recipe.config)]


def _values(text: str) -> tuple[str, tuple[Any, ...]]:
    key, _, listed = text.partition("=")
    values = parse(listed, f"--try {text}")[0] if listed else None
    if not isinstance(values, tuple) or not values:
        raise ConfigError(f"--try {text}: give a list of values, such as optim.lr=[1e-3,3e-3]")
    section, _, name = key.partition(".")
    if key == "train.seed":
        raise ConfigError("--try train.seed: a seed is not a setting to choose; average several with --seeds")
    if key in FREE or (section == "data" and name not in AudioConfig.model_fields):
        raise ConfigError(
            f"--try {key}: this changes the speakers or where the run takes place, not the recipe; set it for all "
            "settings"
        )
    return key, values


def sweep(
    settings: Sequence[Setting], out: Path, groups: int, seeds: Sequence[int], workers: Workers
) -> tuple[dict[str, Any] | None, int]:
    """Trains each setting for each group and seed that is not finished, then ranks the settings.

    Writes sweep.json, sweep.md, sweep.png and best.yaml, the recipe with the best setting, into `out`.

    Args:
        settings: of `plan_settings`.
        out: the folder of all runs and of the result.
        groups: how many speaker groups.
        seeds: of the trainings.
        workers: how many runs at a time, on which devices.

    Returns:
        The content of sweep.json, None if no setting is finished, and the exit code: 128 plus the signal that stopped
        the sweep, or that of the first run that failed, else 0.

    Raises:
        ConfigError: see `group_speakers`; no process, a device that does not exist, or a folder with a run of other
            settings.
        DataError: clips cannot be read or split.
        DiskError: `out` cannot be written.
        RunInUseError: another sweep runs there.

    >>> settings = plan_settings("mlp", ["data.root=corpora/ravdess"], ["optim.lr=[0.0002, 0.0005]"])
    >>> sweep(settings, Path("runs/sweep"), groups=3, seeds=[0], workers=Workers(processes=0))
    Traceback (most recent call last):
        ...
    serx.errors.ConfigError: --processes 0: give at least one
    """
    data = settings[0].config.data
    check_emotions_only(data.tasks, "a sweep")
    workers.check(settings[0].config)
    with lock_run_folder(out, "sweep", "--out"):
        dataset = load_dataset(data)
        speaker_groups = group_speakers(dataset, data, groups)
        chosen = any(setting.config.train.select != "last" for setting in settings)
        protocol = f"{speaker_groups.protocol}, and choose their epochs" if chosen else speaker_groups.protocol
        for note in dataset.notes:
            echo(f"note: {note}")
        trials = [trial for setting in settings for trial in plan_trials(setting, out, speaker_groups, seeds)]
        to_do = [trial for trial in trials if trial.state != "finished"]
        done = f"{len(trials) - len(to_do)} finished, {len(to_do)} to do"
        echo(f"{len(settings)} settings, {len(trials)} runs: {done}, in {out}")
        runs = run_folds(to_do, lambda trial, slot: trial_commands(trial, workers, slot), VALID, workers)
        ranking = _write_ranking(settings, trials, runs, out, protocol)
    if runs.stopped_by is not None:
        echo(f"stopped with {len(runs.missing)} of {len(trials)} runs to do; the same command continues")
    return ranking, runs.exit_code


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


def plan_trials(setting: Setting, out: Path, speaker_groups: SpeakerGroups, seeds: Sequence[int]) -> list[Trial]:
    """The runs of a setting. Writes the configuration of each group into the folder of the setting.

    Raises:
        ConfigError: a folder holds a run of other settings or clips.
    """
    dataset = load_dataset(setting.config.data)
    by_name = {"protocol": "speakers", "fold": 0, "test_corpora": (), "test_speakers": speaker_groups.test}
    trials, files = [], {}
    for number, group in enumerate(speaker_groups.groups):
        data = setting.config.data.model_copy(update={**by_name, "valid_speakers": group})
        split = split_dataset(dataset, data)
        files[_group_file(number)] = dump(setting.config.model_copy(update={"data": data})).encode()
        for seed in seeds:
            folder = out / setting.folder / f"seed-{seed}" / f"group-{number}"
            train = setting.config.train.model_copy(update={"seed": seed, "output": str(folder)})
            config = setting.config.model_copy(update={"data": data, "train": train})
            state = state_of(folder, config, dataset, split, VALID)
            trials.append(Trial(seed, number, folder, config, split.stamp, state, setting=setting.name))
    write_files(out / setting.folder, files)
    return trials


def _group_file(number: int) -> str:
    return f"group-{number}.yaml"


def trial_commands(trial: Fold, workers: Workers, slot: int) -> list[list[str]]:
    """The command lines that train a setting without one group and evaluate it on that group."""
    train = train_command(trial, trial.folder.parents[1] / _group_file(trial.number), {}, workers, slot)
    return [train, evaluate_command(trial, VALID, workers, slot, part="valid")]


def _write_ranking(
    settings: Sequence[Setting], trials: Sequence[Trial], runs: FoldRuns, out: Path, protocol: str
) -> dict[str, Any] | None:
    missing = {trial.name for trial in runs.missing}
    finished, unfinished = [], []
    for setting in settings:
        own = [trial for trial in trials if trial.setting == setting.name]
        if any(trial.name in missing for trial in own):
            unfinished.append(setting.name)
        else:
            results = [read_fold(trial, VALID) for trial in own]
            finished.append(SettingResult(setting.name, setting.overrides, results))
    failures = runs.failures()
    if runs.stopped_by is None:
        for failure in failures:
            echo(f"failed: {failure}; the same command tries again")
    if not finished:
        return None
    ranking = {**rank(finished, protocol), "missing": unfinished, "failed": failures}
    best = next(setting for setting in settings if setting.name == ranking["settings"][0]["name"])
    write_files(
        out,
        {
            "sweep.png": plots.figure_png(plots.ranking_figure(ranking)),
            "sweep.md": markdown_ranking(ranking).encode(),
            "best.yaml": dump(best.config).encode(),
            "sweep.json": to_json(ranking),
        },
    )
    return ranking
