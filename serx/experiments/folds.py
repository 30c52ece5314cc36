"""The folds of a protocol as run folders: which there are, what was asked of each, and how far each has come."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from serx import checkpoint
from serx.config.loader import Config, load
from serx.data.dataset import Dataset
from serx.data.protocols import Split, fold_count, make_split
from serx.errors import CheckpointError, ConfigError, DataError
from serx.evaluation.pooling import FoldResult
from serx.evaluation.predictions import Predictions, from_csv
from serx.metrics import score
from serx.training.resume import changed
from serx.training.run_folder import BEST, LAST, PREVIOUS

ROUNDING = 1e-9  # of a UAR
TEST = "test"  # the folder, within that of the run, of its evaluation
# Where a fold is trained, which may change between two visits; whatever else changes would mix two experiments.
FREE = {"data.cache", "data.placement", "train.device", "train.threads", "train.output"}


@dataclass(frozen=True)
class Fold:
    """One fold under one seed: its run folder, the configuration it is trained by, and its split's stamp.

    `asked` is False of those that only stand in the same folder, from another visit.
    """

    seed: int
    number: int
    folder: Path
    config: Config
    stamp: str
    state: Literal["new", "begun", "finished"]
    asked: bool = True

    @property
    def name(self) -> str:
        """For people."""
        return f"seed {self.seed} fold {self.number}"


def plan_folds(
    config: Config, dataset: Dataset, out: Path, seeds: Sequence[int], only: Sequence[int] = ()
) -> tuple[list[Fold], list[str]]:
    """Every fold of `config.data.protocol` for every seed, and why others are not (their speakers are not there).

    Seeds that `out` holds from another visit are among them.

    Args:
        only: the numbers of the folds that are asked for; none given: all.

    Raises:
        ConfigError: a fold that the protocol has not, or a folder that holds one of other settings or clips; names
            what differs.
        DataError: no fold at all can be made.
    """
    folds, skipped, fault = [], [], None
    count = fold_count(dataset.utterances, config.data)
    unknown = [number for number in only if not 0 <= number < count]
    if unknown:
        raise ConfigError(f"--folds {unknown[0]}: on this data {config.data.protocol} has folds 0 to {count - 1}")
    there = {int(path.name[5:]) for path in out.glob("seed-*") if re.fullmatch("seed--?[0-9]+", path.name)}
    for number in range(count):
        data = config.data.model_copy(update={"fold": number})
        try:
            split = make_split(dataset.utterances, dataset.targets.tolist(), data, dataset.digests)
        except DataError as error:
            if not only or number in only:
                fault = error
            skipped.append(f"fold {number}: {error}")
            continue
        for seed in sorted({*seeds, *there}):
            folder = out / f"seed-{seed}" / f"fold-{number}"
            train = config.train.model_copy(update={"seed": seed, "output": str(folder)})
            own = config.model_copy(update={"data": data, "train": train})
            asked = seed in seeds and (not only or number in only)
            folds.append(Fold(seed, number, folder, own, split.stamp, state_of(folder, own, dataset, split), asked))
    if not any(fold.asked for fold in folds) and fault is not None:
        raise fault
    return sorted(folds, key=lambda fold: (fold.seed, fold.number)), skipped


def state_of(
    folder: Path, config: Config, dataset: Dataset, split: Split, evaluation: str = TEST
) -> Literal["new", "begun", "finished"]:
    """How far the run of `config` in a folder has come, which is finished once it holds this evaluation.

    Raises:
        ConfigError: the run there is one of other settings or clips.
    """
    if not any((folder / name).exists() for name in (LAST, PREVIOUS)):
        return "new"
    before, after = (_tree(some) for some in (load(folder / "config.yaml"), config))
    told = [line for key, line in changed(before, after).items() if key not in FREE]
    if told:
        raise ConfigError(
            f"{folder} holds a run of other settings; put them back, or name another folder with --out:\n  "
            + "\n  ".join(told)
        )
    try:
        _read(folder / evaluation)
        digests = checkpoint.load_run_checkpoint(folder / BEST).metadata["digests"]
    except (DataError, CheckpointError):  # not evaluated, or damaged since: --resume compares the clips
        return "begun"
    for part in checkpoint.PARTS:
        if sorted(digests[part]) != sorted(dataset.digests[i] for i in getattr(split, part)):
            raise ConfigError(f"{folder}: the {part} clips have changed since; name another folder with --out")
    return "finished"


def _tree(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="json")


def read_fold(fold: Fold, evaluation: str = TEST) -> FoldResult:
    """The predictions of a finished fold, under the stamp of their evaluation, which is in the folder of this name.

    Raises:
        DataError: they cannot be read, or are not those that the evaluation was made of.
    """
    stamp, predictions, alone = _read(fold.folder / evaluation)
    return FoldResult(fold.seed, fold.number, stamp, predictions, alone)


def _read(test: Path) -> tuple[str, Predictions, dict[str, float] | None]:
    try:
        evaluation = json.loads((test / "evaluation.json").read_text())
        [(_, predictions)] = from_csv(test / "predictions.csv")
        made_of = score(predictions.targets, predictions.probabilities.argmax(1), predictions.labels)
        whole = len(predictions.paths) == evaluation["n_clips"] and abs(made_of.uar - evaluation["uar"]) < ROUNDING
        result = evaluation["protocol"], predictions, evaluation.get("alone")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{test}: no whole evaluation ({error}); run the fold again") from error
    if not whole:
        raise DataError(f"{test}: predictions.csv is not what evaluation.json was made of; run the fold again")
    return result
