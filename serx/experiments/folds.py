"""The folds of a protocol as run folders: which there are, what was asked of each, and how far each has come."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from serx.config import Config, load
from serx.data.dataset import Dataset
from serx.data.protocols import Split, fold_count, make_split
from serx.errors import ConfigError, DataError
from serx.evaluation.cross_validation import FoldResult
from serx.evaluation.predictions import from_csv
from serx.training import checkpoint
from serx.training.folder import BEST, LAST, PREVIOUS
from serx.training.resume import changed

TEST = "test"  # the folder, within that of the run, of its evaluation
# Where a fold is trained, which may change between two visits; whatever else changes would mix two experiments.
FREE = {"data.cache", "data.placement", "train.device", "train.threads", "train.output"}


@dataclass(frozen=True)
class Fold:
    """One fold under one seed: its run folder, the configuration it is trained by, and its split's stamp."""

    seed: int
    number: int
    folder: Path
    config: Config
    stamp: str
    state: Literal["new", "begun", "finished"]

    @property
    def name(self) -> str:
        """For people."""
        return f"seed {self.seed} fold {self.number}"


def plan_folds(
    config: Config, dataset: Dataset, out: Path, seeds: Sequence[int], only: Sequence[int] = ()
) -> tuple[list[Fold], list[str]]:
    """Every fold of `config.data.protocol` for every seed, and why others are not (their speakers are not there).

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
    for number in range(count):
        if only and number not in only:
            skipped.append(f"fold {number}: not asked for")
            continue
        data = config.data.model_copy(update={"fold": number})
        try:
            split = make_split(dataset.utterances, dataset.targets.tolist(), data, dataset.digests)
        except DataError as error:
            fault = error
            skipped.append(f"fold {number}: {error}")
            continue
        for seed in seeds:
            folder = out / f"seed-{seed}" / f"fold-{number}"
            train = config.train.model_copy(update={"seed": seed, "output": str(folder)})
            own = config.model_copy(update={"data": data, "train": train})
            folds.append(Fold(seed, number, folder, own, split.stamp, _state(folder, own, dataset, split)))
    if not folds and fault is not None:
        raise fault
    return sorted(folds, key=lambda fold: (fold.seed, fold.number)), skipped


def _state(folder: Path, config: Config, dataset: Dataset, split: Split) -> Literal["new", "begun", "finished"]:
    if not any((folder / name).exists() for name in (LAST, PREVIOUS)):
        return "new"
    before, after = (_tree(some) for some in (load(folder / "config.yaml"), config))
    told = [line for key, line in changed(before, after).items() if key not in FREE]
    if told:
        raise ConfigError(
            f"{folder} holds a run of other settings; put them back, or name another folder with --out:\n  "
            + "\n  ".join(told)
        )
    if not (folder / TEST / "evaluation.json").exists():
        return "begun"  # --resume compares the clips
    digests = checkpoint.load_run(folder / BEST).facts["digests"]
    for part in checkpoint.PARTS:
        if sorted(digests[part]) != sorted(dataset.digests[i] for i in getattr(split, part)):
            raise ConfigError(f"{folder}: the {part} clips have changed since; name another folder with --out")
    return "finished"


def _tree(config: Config) -> dict[str, Any]:
    return config.model_dump(mode="json")


def read_fold(fold: Fold) -> FoldResult:
    """The predictions of a finished fold, under the stamp of their evaluation.

    Raises:
        DataError: they cannot be read.
    """
    [(_, predictions)] = from_csv(fold.folder / TEST / "predictions.csv")
    try:
        evaluation = json.loads((fold.folder / TEST / "evaluation.json").read_text())
        return FoldResult(fold.seed, fold.number, evaluation["protocol"], predictions, evaluation.get("alone"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{fold.folder / TEST}: no whole evaluation ({error}); delete it and run the fold again"
        ) from error
