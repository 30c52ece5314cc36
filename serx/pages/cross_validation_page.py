"""The page of a cross-validation, with the pooled scores of all folds.

Each fold has a network of its own. A mistake is explained by the network that made it; the map and the stress test are
those of the first fold.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch

from serx.config.loader import Config
from serx.data.batches import make_batch_source
from serx.data.dataset import Dataset
from serx.errors import SerxError
from serx.evaluation.finished_runs import read_cross_validation
from serx.evaluation.pooling import FoldResult
from serx.evaluation.predictions import join
from serx.evaluation.ratings import join_ratings
from serx.evaluation.report import EVALUATION
from serx.evaluation.stamps import is_adapted
from serx.files import read_json
from serx.inference.explanation import Explanation
from serx.inference.predictor import Predictor
from serx.pages.clips import Explain, clip_explainer, clip_reader, confident_mistakes
from serx.pages.evaluation_page import evaluation_page, map_of_clips, stress_of
from serx.pages.ratings_page import ratings_page, ratings_section
from serx.pages.sections import ABSENT, OF_ADAPTED, OF_WAVEFORMS, Absent, Reproduction
from serx.recognizer import Recognizer
from serx.training.run_folder import BEST, read_metrics

TEST = "test"  # folder of a fold's evaluation


def cross_validation_page(
    out: Path,
    config: Config,
    dataset: Dataset,
    summary: Mapping[str, Any],
    reproduction: Reproduction,
    stress_command: Callable[[str], str] = "serx stress --checkpoint {}".format,
) -> str:
    """The page.

    Args:
        out: the folder of a finished cross-validation.
        config: of its folds.
        dataset: of all its clips.
        summary: the content of cross_validation.json.
        reproduction: of the page.
        stress_command: from the name of a checkpoint to the command line of its stress test.

    Raises:
        DataError: there is no cross-validation in the folder.
    """
    results = read_cross_validation(out)
    of_one_seed = [r for r in results if r.seed == results[0].seed]  # each clip once
    title, curves = (
        f"{config.model.kind}: cross-validation",
        {_name(r): read_metrics(_folder(out, r))[0] for r in results},
    )
    ratings = [r.ratings for r in of_one_seed if r.ratings is not None]
    if of_one_seed[0].predictions is None:
        return ratings_page(summary, join_ratings(ratings), title, curves, reproduction)
    predictions, folders = join([r.emotions for r in of_one_seed]), [_folder(out, r) for r in of_one_seed]
    segments = [str(utterance.segment) for utterance in dataset.utterances]
    times = Counter(segments)
    index = {segment: i for i, segment in enumerate(segments) if times[segment] == 1}
    clips = [index.get(path) for path in predictions.paths]
    source = make_batch_source(dataset.audio_cache, torch.device("cpu"), "stream")
    first, of_first, name = _recognizer(folders[0]), of_one_seed[0].emotions, _name(of_one_seed[0])
    adapted = any(is_adapted(r.protocol) for r in results)
    command = stress_command(str(folders[0] / BEST))
    absent = {"stress": Absent(f"{ABSENT['stress'].why} It takes one fold; the page shows {name}.", [command])}
    shown, explain = None, None
    if first is None:
        gone = f"The checkpoint of {name} cannot be read; the same command trains a fold again whose folder is deleted."
        absent |= dict.fromkeys(("map", "saliency"), Absent(gone))
    else:
        places = np.array([i for i in range(len(of_first.paths)) if clips[i] is not None], int)
        note = f"Of {name} alone: each fold has a network of its own{', here before adaptation' if adapted else ''}."
        of_clips = np.array([clips[i] for i in places], int)
        shown = map_of_clips(first, source, of_clips, of_first.take(places), note)
        if adapted:
            absent["saliency"] = OF_ADAPTED
        elif clip_explainer(first, of_first) is None:
            absent["saliency"] = OF_WAVEFORMS
        else:
            explain = _explainer(of_one_seed, folders)
    stress = stress_of([folders[0]], _evaluation(folders[0] / TEST))
    return evaluation_page(
        summary,
        join([r.emotions for r in results]),
        title,
        curves,
        stress,
        shown,
        confident_mistakes(predictions, clip_reader(source.batch, clips, config.data.sample_rate), explain=explain),
        reproduction,
        absent,
        f"Of {name} alone.",
        ratings_section(summary["dimensions"], join_ratings(ratings)) if ratings else None,
    )


def _name(result: FoldResult) -> str:
    return f"seed {result.seed} fold {result.fold}"


def _folder(out: Path, result: FoldResult) -> Path:
    return out / f"seed-{result.seed}" / f"fold-{result.fold}"


def _recognizer(folder: Path) -> Recognizer | None:
    """The network of a fold; None if its checkpoint is gone."""
    try:
        return Predictor.load(folder / BEST, torch.device("cpu")).recognizer
    except SerxError:
        return None


def _evaluation(folder: Path) -> dict[str, Any]:
    try:
        return dict(read_json(folder / EVALUATION))
    except (OSError, ValueError, TypeError):
        return {}


def _explainer(results: Sequence[FoldResult], folders: Sequence[Path]) -> Explain:
    """Explains each prediction of the joined `results` by the network of its fold."""
    starts = list(accumulate((len(r.paths) for r in results[:-1]), initial=0))
    read = lru_cache(maxsize=1)(_recognizer)  # networks with an encoder are large

    def explain(i: int, waveform: np.ndarray) -> Explanation | None:
        fold = bisect_right(starts, i) - 1
        recognizer = read(folders[fold])
        of_fold = None if recognizer is None else clip_explainer(recognizer, results[fold].emotions)
        return None if of_fold is None else of_fold(i - starts[fold], waveform)

    return explain
