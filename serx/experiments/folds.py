"""The folds of a protocol as run folders: which there are, how each is configured, and how far each has come."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from serx import checkpoint
from serx.checkpoint.metadata import PARTS
from serx.config.loader import Config, load_config
from serx.data.dataset import Dataset
from serx.data.splits.protocols import Split, fold_count, make_split
from serx.errors import CheckpointError, ConfigError, DataError
from serx.evaluation.finished_runs import read_evaluation
from serx.evaluation.pooling import FoldResult
from serx.training.resume import changed
from serx.training.run_folder import BEST, LAST, PREVIOUS

TEST = "test"  # folder of the evaluation, within that of the run
# Settings that say where a fold runs; they may change between two calls. Any other change would mix two experiments.
FREE = {"data.cache", "data.placement", "train.device", "train.threads", "train.output"}
State = Literal["new", "begun", "finished"]


@dataclass(frozen=True)
class Fold:
    """One fold under one seed.

    Attributes:
        number: of the fold.
        folder: of the run.
        config: what it is trained with.
        protocol: the protocol stamp of its split.
        state: `begun` if a training can be resumed, `finished` if it is evaluated too.
        requested: False for a fold that an earlier call left in the same folder and this call does not ask for.
    """

    seed: int
    number: int
    folder: Path
    config: Config
    protocol: str
    state: State
    requested: bool = True

    @property
    def name(self) -> str:
        """For messages."""
        return f"seed {self.seed} fold {self.number}"


def plan_folds(
    config: Config, dataset: Dataset, out: Path, seeds: Sequence[int], only: Sequence[int] = ()
) -> tuple[list[Fold], list[str]]:
    """All folds of `config.data.protocol` for all seeds, and a line on each fold whose speakers are missing.

    Seeds that an earlier call left in `out` are included.

    Args:
        only: numbers of the requested folds; default: all.

    Raises:
        ConfigError: a fold number that the protocol does not have, or a folder with a run of other settings or clips,
            whose differences are named.
        DataError: no requested fold can be made.
    """
    folds: list[Fold] = []
    skipped: list[str] = []
    fault = None
    number_of_folds = fold_count(dataset.utterances, config.data)
    unknown = [number for number in only if not 0 <= number < number_of_folds]
    if unknown:
        last = number_of_folds - 1
        raise ConfigError(f"--folds {unknown[0]}: on this data {config.data.protocol} has folds 0 to {last}")
    earlier = {int(path.name[5:]) for path in out.glob("seed-*") if re.fullmatch("seed--?[0-9]+", path.name)}
    for number in range(number_of_folds):
        data = config.data.model_copy(update={"fold": number})
        try:
            split = make_split(
                dataset.utterances, dataset.strata, data, dataset.digests, dataset.labels, dataset.shares
            )
        except DataError as error:
            if not only or number in only:
                fault = error
            skipped.append(f"fold {number}: {error}")
            continue
        for seed in sorted({*seeds, *earlier}):
            folder = out / f"seed-{seed}" / f"fold-{number}"
            train = config.train.model_copy(update={"seed": seed, "output": str(folder)})
            own = config.model_copy(update={"data": data, "train": train})
            requested = seed in seeds and (not only or number in only)
            state = state_of(folder, own, dataset, split)
            folds.append(Fold(seed, number, folder, own, split.stamp, state, requested))
    if not any(fold.requested for fold in folds) and fault is not None:
        raise fault
    return sorted(folds, key=lambda fold: (fold.seed, fold.number)), skipped


def state_of(folder: Path, config: Config, dataset: Dataset, split: Split, evaluation: str = TEST) -> State:
    """How far the run of `config` in a folder has come; it is finished if its folder holds this evaluation.

    Raises:
        ConfigError: the folder holds a run of other settings or clips.
    """
    if not any((folder / name).exists() for name in (LAST, PREVIOUS)):
        return "new"
    saved = load_config(folder / "config.yaml")
    config = config.model_copy(update={"model": config.model.resumed(saved.model)})  # what it had read from outside
    before, after = (c.model_dump(mode="json") for c in (saved, config))
    differences = [line for key, line in changed(before, after).items() if key not in FREE]
    if differences:
        raise ConfigError(
            f"{folder} holds a run of other settings; restore them, or name another folder with --out:\n  "
            + "\n  ".join(differences)
        )
    try:
        read_evaluation(folder / evaluation)
        digests = checkpoint.load_run_checkpoint(folder / BEST).metadata["digests"]
    except (DataError, CheckpointError):  # not evaluated, or damaged since; --resume compares the clips
        return "begun"
    for part in PARTS:
        if sorted(digests[part]) != sorted(dataset.digests[i] for i in getattr(split, part)):
            raise ConfigError(f"{folder}: the {part} clips have changed since; name another folder with --out")
    return "finished"


def read_fold(fold: Fold, evaluation: str = TEST) -> FoldResult:
    """The result of a finished fold.

    Args:
        fold: finished.
        evaluation: folder of the evaluation, within that of the run.

    Raises:
        DataError: the evaluation cannot be read, or its predictions do not give its scores.
    """
    result = read_evaluation(fold.folder / evaluation)
    return replace(result, seed=fold.seed, fold=fold.number)
