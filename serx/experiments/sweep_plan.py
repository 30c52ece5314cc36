"""What a sweep tries, and on whom: its settings, its parts, and the groups of speakers that validate.

The test speakers are those of the configuration's own fold. All other speakers are divided into groups. Every setting
is trained once for each group, which validates while the other groups train. So each of these speakers is predicted
once by a model that was not trained on them.
"""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serx.config.loader import Config, load_config
from serx.data.dataset import DataConfig, Dataset, load_dataset
from serx.data.splits.protocols import make_split
from serx.errors import ConfigError, DiskError
from serx.experiments.folds import FREE
from serx.experiments.space import Choice, Dimension, parse_space
from serx.files import locked
from serx.seeding import derive
from serx.training.resume import flat

if TYPE_CHECKING:
    from serx.experiments.study import Method, SweepStudy

AS_IT_IS = "as it is"
JOURNAL = "study.journal"
DEFAULT_TRIALS = 20  # of a sampler
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
