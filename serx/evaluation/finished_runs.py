"""Finished runs and cross-validations as their folders hold them: predictions, settings and learning curves."""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serx.checkpoint import load_run_checkpoint
from serx.checkpoint.metadata import check_metadata
from serx.config.loader import load_config
from serx.errors import DataError, SerxError
from serx.evaluation.pooling import EVALUATION, RESULT, FoldResult, read_cross_validation, read_evaluation
from serx.files import read_json
from serx.training.run_folder import METRICS, read_metrics

_FOLD = re.compile(r"\S+ fold (\d+)")  # the beginning of a protocol stamp


@dataclass(frozen=True)
class FinishedRun:
    """A run, or the runs of a cross-validation.

    Attributes:
        name: the folder.
        results: the predictions of each fold and seed; one for a run.
        config: the settings as JSON; None if the folder does not record them.
        curves: the lines of metrics.jsonl of each training.
    """

    name: str
    results: Sequence[FoldResult]
    config: Mapping[str, Any] | None = None
    curves: Sequence[Sequence[Mapping[str, Any]]] = ()


def read_run(folder: Path) -> FinishedRun:
    """The run or the cross-validation whose result is in a folder.

    Raises:
        DataError: there is none, or it is damaged.

    >>> read_run(Path("no such folder"))
    Traceback (most recent call last):
        ...
    serx.errors.DataError: no such folder: no such folder; give one of a finished run or cross-validation
    """
    if (folder / RESULT).exists():
        results = read_cross_validation(folder)
        config = read_json(folder / RESULT).get("config")
        runs = [folder / f"seed-{r.seed}" / f"fold-{r.fold}" for r in results]
        curves = [read_metrics(run)[0] for run in runs]
        return FinishedRun(str(folder), results, config if isinstance(config, dict) else None, _not_empty(curves))
    if not (folder / EVALUATION).exists():
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; give one of a finished run or cross-validation")
        raise DataError(
            f"{folder}: no {EVALUATION} and no {RESULT}; run serx evaluate --checkpoint {folder}/best.safetensors first"
        )
    result = read_evaluation(folder)
    saved = Path(str(read_json(folder / EVALUATION).get("checkpoint")))
    config = _config(saved, folder)
    run = folder if (folder / METRICS).exists() else saved.parent
    fold = _FOLD.match(result.protocol)
    seed = 0 if config is None else config["train"]["seed"]
    result = replace(result, seed=seed, fold=int(fold[1]) if fold else 0)
    return FinishedRun(str(folder), [result], config, _not_empty([read_metrics(run)[0]]))


def _config(saved: Path, folder: Path) -> dict[str, Any] | None:
    """The settings of the checkpoint, or of config.yaml if it is gone; None where this version can read neither."""
    with suppress(SerxError, OSError):
        return check_metadata(saved, load_run_checkpoint(saved).metadata).model_dump(mode="json")
    for run in (folder, saved.parent):
        with suppress(SerxError, OSError):
            return load_config(run / "config.yaml").model_dump(mode="json")
    return None


def _not_empty(curves: Sequence[Sequence[Mapping[str, Any]]]) -> list[Sequence[Mapping[str, Any]]]:
    return [lines for lines in curves if lines]
