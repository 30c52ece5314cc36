"""Finished runs and cross-validations as their folders hold them: predictions, settings and learning curves."""

import math
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from serx import metrics
from serx.checkpoint import load_run_checkpoint
from serx.checkpoint.metadata import check_metadata
from serx.config.loader import load_config
from serx.errors import DataError, SerxError
from serx.evaluation.cross_validation_report import COLUMNS, RESULT
from serx.evaluation.pooling import FoldResult
from serx.evaluation.predictions import Predictions, from_csv
from serx.evaluation.ratings import Ratings, ratings_from_csv, score_ratings
from serx.evaluation.report import EVALUATION, PREDICTIONS, RATINGS
from serx.files import read_json
from serx.training.run_folder import METRICS, read_metrics

ROUNDING = 1e-9  # of a UAR
CCC_ROUNDING = 1e-6  # of a CCC of values with nine digits
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


def read_cross_validation(out: Path) -> list[FoldResult]:
    """The folds that `write_cross_validation` wrote into a folder.

    Raises:
        DataError: there is no cross-validation in the folder.
    """
    try:
        summary = read_json(out / RESULT)
        emotions = dict(from_csv(out / PREDICTIONS, COLUMNS)) if "uar" in summary else {}
        ratings = dict(ratings_from_csv(out / RATINGS, COLUMNS)) if "dimensions" in summary else {}
        protocols = {(str(fold["seed"]), str(fold["fold"])): fold["protocol"] for fold in summary["folds"]}
        keys = list(dict.fromkeys([*emotions, *ratings]))
        return [
            FoldResult(int(key[0]), int(key[1]), protocols[key[0], key[1]], emotions.get(key), ratings=ratings.get(key))
            for key in keys
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{out}: no finished cross-validation ({error}); run cross-validate first") from error


def read_evaluation(folder: Path) -> FoldResult:
    """What `Evaluation.write` wrote into a folder, as fold 0 of seed 0.

    Raises:
        DataError: the evaluation cannot be read, or its predictions do not give its scores.
    """
    try:
        evaluation = read_json(folder / EVALUATION)
        if not isinstance(evaluation, dict):
            raise TypeError(f"{EVALUATION} has no names of scores")
        predictions = from_csv(folder / PREDICTIONS)[0][1] if "uar" in evaluation else None
        ratings = ratings_from_csv(folder / RATINGS)[0][1] if "dimensions" in evaluation else None
        faulty = _files_without_their_scores(evaluation, predictions, ratings)
        unadapted = evaluation.get("without_adaptation")
        if not isinstance(evaluation["protocol"], str) or not all(math.isfinite(n) for n in (unadapted or {}).values()):
            raise TypeError("protocol or without_adaptation is of another type")
        probe = _checked_probe(evaluation.get("corpus_probe"))
        result = FoldResult(0, 0, evaluation["protocol"], predictions, unadapted, ratings, probe)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(f"{folder}: no complete evaluation ({error}); evaluate the run again") from error
    if predictions is None and ratings is None:
        raise DataError(f"{folder}: no complete evaluation (it has no scores); evaluate the run again")
    if faulty:
        raise DataError(f"{folder}: {faulty[0]} does not give the scores of {EVALUATION}; evaluate the run again")
    return result


def _checked_probe(probe: Any) -> Any:
    """The entry of an evaluation; a KeyError, TypeError or ValueError if serx has not written it."""
    if probe is not None and not (
        math.isfinite(probe["balanced_accuracy"] + probe["chance"]) and isinstance(probe["with_training_clips"], bool)
    ):
        raise ValueError("corpus_probe is not what serx writes")
    return probe


def _files_without_their_scores(
    evaluation: Mapping[str, Any], predictions: Predictions | None, ratings: Ratings | None
) -> list[str]:
    """The files whose predictions are not those that were scored."""
    faulty = []
    if predictions is not None:
        known = predictions.with_class()
        uar = metrics.score(known.targets, known.predicted, known.labels).uar
        if len(predictions.paths) != evaluation["n_clips"] or abs(uar - evaluation["uar"]) >= ROUNDING:
            faulty.append(PREDICTIONS)
    if ratings is not None:
        ccc = score_ratings(ratings, resamples=1)["mean"]["ccc"]
        written = evaluation["dimensions"]["mean"]["ccc"]
        if len(ratings.paths) != evaluation["n_clips"] or abs(ccc - written) >= CCC_ROUNDING:
            faulty.append(RATINGS)
    return faulty


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
