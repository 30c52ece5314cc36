"""The Optuna study of a sweep: which setting each part tries, what came of it, and which parts end early.

A study is in a journal file or in a database, and any number of processes and machines may work on it. Each part of the
sweep is one trial: it waits in the study's queue until a process claims it. A process that finds the trial of its part
running, while nobody holds the part's lock, continues that trial: the process before it was killed.

Trials are compared twice. Between epochs: every run (a speaker group under a seed) has a study of its own, in which it
is compared with the runs of other settings on the same speakers. Between groups: each validation speaker is an instance
of Optuna's Wilcoxon test, paired with the same speaker under the best setting so far.
"""

import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState

from serx.errors import ConfigError, DataError, DiskError, SerxError
from serx.experiments.space import Choice, Dimension

Method = Literal["grid", "random", "tpe"]
PRUNERS = ("median", "halving", "wilcoxon")
LOCK_SECONDS = 15  # after which the lock of a process that was killed while it wrote to the journal is broken
DATABASE_SECONDS = 60.0  # for which SQLite waits while another process writes

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class PartTrial:
    """The trial of a part.

    Attributes:
        state: `waiting`, `running` (or its process was killed), `complete`, `pruned` or `fail`.
        overrides: its setting; None until a process has claimed it and the sampler has chosen.
        value: validation UAR, if complete.
        exit_code, error: of a trial that failed.
    """

    number: int
    state: str
    overrides: tuple[str, ...] | None
    value: float | None
    exit_code: int
    error: str

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do: a failed trial is tried again."""
        return self.state in ("complete", "pruned")


class SweepStudy:
    """The study of a sweep in its storage."""

    def __init__(self, storage: str, name: str, method: Method, space: Sequence[Dimension], prune: Sequence[str]):
        """Opens the study, or makes it.

        Args:
            storage: the path of a journal file, or the URL of a database, such as sqlite:///study.db.
            name: of the study; the same for all processes of the sweep.
            method: which sampler chooses the settings that are not in the queue.
            space: what a sampler chooses from.
            prune: of `PRUNERS`.

        Raises:
            ConfigError: the database cannot be used.
            DataError: the journal is damaged.
            DiskError: the journal cannot be written.
        """
        self._shown = re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1:***@", storage)
        self._method, self._space, self._prune = method, space, prune
        with self._explained(), warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            self._storage = _open(storage)
            self._study = self._load(name, optuna.pruners.WilcoxonPruner() if "wilcoxon" in prune else None, 0)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns the errors of Optuna and its storages into one line."""
        try:
            yield
        except (SerxError, optuna.TrialPruned):
            raise
        except OSError as error:
            reason = error.strerror or str(error)
            raise DiskError(f"--storage {self._shown}: cannot write: {reason}; name another") from error
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            if "://" in self._shown:
                raise ConfigError(f"--storage {self._shown}: cannot use this database: {reason}") from error
            text = f"--storage {self._shown}: the journal is damaged ({reason}); move it away: finished runs are kept"
            raise DataError(text) from error

    def _load(self, name: str, pruner: optuna.pruners.BasePruner | None, part: int) -> optuna.Study:
        """A study of the storage; `part` keeps the samplers of two processes from drawing the same numbers."""
        sampler: optuna.samplers.BaseSampler = optuna.samplers.RandomSampler(seed=part)
        if self._method == "tpe":
            # With constant_liar, settings that run elsewhere count as bad, so that two processes try different ones.
            sampler = optuna.samplers.TPESampler(seed=part, constant_liar=True)
        pruner = pruner or optuna.pruners.NopPruner()
        return optuna.create_study(
            storage=self._storage, study_name=name, sampler=sampler, pruner=pruner, direction="maximize",
            load_if_exists=True,
        )  # fmt: skip

    def enqueue(self, settings: Mapping[int, Sequence[str] | None]) -> None:
        """Adds the parts that the study lacks: part -> its overrides, or None if the sampler shall choose them."""
        with self._explained():
            known = {trial.user_attrs.get("part") for trial in self._study.get_trials(deepcopy=False)}
            for part, overrides in settings.items():
                if part not in known:
                    self._enqueue(part, overrides)

    def _enqueue(self, part: int, overrides: Sequence[str] | None, parameters: Mapping[str, Any] | None = None) -> None:
        attributes: dict[str, Any] = {"part": part}
        if overrides is not None:
            attributes["overrides"] = list(overrides)
        if parameters is None:
            parameters = {key: value for key, _, value in (text.partition("=") for text in overrides or ())}
        self._study.enqueue_trial(dict(parameters), user_attrs=attributes)

    def parts(self) -> dict[int, PartTrial]:
        """The trial of each part; that of the last attempt if earlier ones failed."""
        with self._explained():
            return {part: _part_trial(trial) for part, trial in self._by_part().items()}

    def _by_part(self) -> dict[int, FrozenTrial]:
        found: dict[int, FrozenTrial] = {}
        for trial in self._study.get_trials(deepcopy=False):
            part = trial.user_attrs.get("part")
            # Two processes that made the study at the same moment may both have added a part: the first one counts.
            if part is not None and (part not in found or found[part].state == TrialState.FAIL):
                found[part] = trial
        return found

    def claim(self, part: int) -> "Attempt":
        """The trial of a part, to be run by this process, which must hold the part's lock.

        A waiting trial becomes a running one. A running trial is continued. A failed one is repeated with its setting.

        Raises:
            ConfigError: another process has claimed it at this moment, or the part is finished or unknown.
        """
        with self._explained():
            trial = self._by_part().get(part)
            if trial is not None and trial.state == TrialState.FAIL:
                self._enqueue(part, trial.user_attrs.get("overrides"), trial.params)
                trial = self._by_part()[part]
            if trial is None or trial.state.is_finished():
                raise ConfigError(f"part {part} is not waiting in the study")
            study_id = self._storage.get_study_id_from_name(self._study.study_name)
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, trial.number)
            if trial.state == TrialState.WAITING and not self._storage.set_trial_state_values(
                trial_id, state=TrialState.RUNNING
            ):
                raise ConfigError(f"part {part} was claimed by another process at this moment; run it again")
            study = self._load(self._study.study_name, self._study.pruner, part)
            study.get_trials(deepcopy=False)  # the cache in front of a database knows only trials that it has read
            own = optuna.trial.Trial(study, trial_id)
            overrides = own.user_attrs.get("overrides")
            fixed = None if overrides is None else {text.partition("=")[0] for text in overrides}
            chosen = [_suggest(own, dim) for dim in self._space if fixed is None or dim.key in fixed]
            if overrides is None:
                overrides = chosen
                own.set_user_attr("overrides", overrides)
            return Attempt(self, own, tuple(overrides))

    def run_study(self, run: str, epochs: int, part: int) -> optuna.Study:
        """The study in which the runs of one speaker group and seed are compared epoch by epoch."""
        pruner: optuna.pruners.BasePruner = optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=epochs // 5)
        if "halving" in self._prune:
            pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=max(1, epochs // 9), reduction_factor=3)
        return self._load(f"{self._study.study_name} {run}", pruner, part)

    @property
    def prunes_epochs(self) -> bool:
        """Whether runs are compared epoch by epoch."""
        return bool({"median", "halving"} & set(self._prune))


class Attempt:
    """A trial that this process runs.

    Attributes:
        overrides: the setting.
    """

    def __init__(self, study: SweepStudy, trial: optuna.trial.Trial, overrides: tuple[str, ...]) -> None:
        self._study, self._trial, self.overrides = study, trial, overrides
        self.is_pruned = False

    def speakers(self, scores: Mapping[int, float]) -> None:
        """Reports the scores of the speakers of a finished group: number of the speaker -> score.

        The recipe as it is is never pruned, since all settings are compared with it.
        """
        with self._study._explained(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Optuna, for speakers whom the best setting has not
            reported = self._trial.study.get_trials(deepcopy=False)[self._trial.number].intermediate_values
            for speaker, score in scores.items():
                if speaker not in reported:  # by a process that was killed
                    self._trial.report(score, speaker)
            self.is_pruned = bool(self.overrides and self._trial.should_prune())

    @contextmanager
    def run(self, name: str, epochs: int) -> Iterator["RunReport"]:
        """A run of this setting, whose epochs are compared with those of the same run of other settings."""
        if not self._study.prunes_epochs:
            yield RunReport(self, None)
            return
        with self._study._explained():
            study = self._study.run_study(name, epochs, self._trial.number)
            trial = study.ask()
            trial.set_user_attr("overrides", list(self.overrides))
        report = RunReport(self, trial)
        yield report
        with self._study._explained():
            if self.is_pruned:
                study.tell(trial, state=TrialState.PRUNED)
            elif report.last is not None:
                study.tell(trial, report.last)
            else:
                study.tell(trial, state=TrialState.FAIL)

    def complete(self, value: float) -> None:
        """Records the validation UAR."""
        with self._study._explained():
            self._trial.study.tell(self._trial, value)

    def prune(self) -> None:
        """Records that the setting was given up."""
        with self._study._explained():
            self._trial.study.tell(self._trial, state=TrialState.PRUNED)

    def fail(self, error: SerxError) -> None:
        """Records an error."""
        with self._study._explained():
            self._trial.set_user_attr("exit_code", error.exit_code)
            self._trial.set_user_attr("error", str(error)[:1000])
            self._trial.study.tell(self._trial, state=TrialState.FAIL)


class RunReport:
    """Reports the epochs of one run.

    Attributes:
        last: validation UAR of the last epoch reported.
    """

    def __init__(self, attempt: Attempt, trial: optuna.trial.Trial | None) -> None:
        self._attempt, self._trial = attempt, trial
        self.last: float | None = None

    def epoch(self, number: int, uar: float) -> bool:
        """Reports the UAR of an epoch, counted from 1; returns whether the setting shall be given up."""
        if self._trial is None:
            return False
        self.last = uar
        with self._attempt._study._explained():
            self._trial.report(uar, number)
            self._attempt.is_pruned = bool(self._attempt.overrides and self._trial.should_prune())
        return self._attempt.is_pruned


def _open(storage: str) -> BaseStorage:
    if "://" in storage:
        sqlite = {"connect_args": {"timeout": DATABASE_SECONDS}} if storage.startswith("sqlite") else {}
        return RDBStorage(storage, engine_kwargs=sqlite)
    path = Path(storage)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = JournalFileOpenLock if sys.platform == "win32" else JournalFileSymlinkLock
    return JournalStorage(JournalFileBackend(str(path), lock_obj=lock(str(path), LOCK_SECONDS)))


def _suggest(trial: optuna.trial.Trial, dimension: Dimension) -> str:
    """The value that the queue or the sampler gives the trial, as `section.key=value`."""
    key = dimension.key
    value: str | int | float
    if isinstance(dimension, Choice):
        value = trial.suggest_categorical(key, dimension.values)
    elif dimension.integer:
        value = trial.suggest_int(key, int(dimension.low), int(dimension.high), log=dimension.log)
    else:
        value = trial.suggest_float(key, dimension.low, dimension.high, log=dimension.log)
    return f"{key}={value}"


def _part_trial(trial: FrozenTrial) -> PartTrial:
    attributes = trial.user_attrs
    overrides = attributes.get("overrides")
    return PartTrial(
        trial.number,
        trial.state.name.lower(),
        None if overrides is None else tuple(overrides),
        trial.value if trial.state == TrialState.COMPLETE else None,
        int(attributes.get("exit_code", 1)),
        str(attributes.get("error", "")),
    )
