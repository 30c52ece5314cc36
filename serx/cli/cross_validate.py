"""Train and test every fold of a protocol, and a baseline on the same folds.

Each fold is an ordinary run in its own process. Finished folds are kept, so that the same command resumes. The results
are pooled over folds, with intervals over speakers.
"""

import argparse
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serx.cli import common

if TYPE_CHECKING:
    from serx.config import Config

BASELINE = "logistic_regression"

EXAMPLES = """  %(prog)s --config configs/cnn1d.yaml data.root=/corpora/ravdess data.protocol=loso
  %(prog)s --config cnn2d data.root=/corpora/ravdess --seeds 0 1 2 --devices cuda:0 cuda:1
  %(prog)s --config mlp data.root=/corpora/ravdess --report report.html     (also as a page)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipe, its folds, and what to compare it with."""
    common.add_config(parser)
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="default: checkpoints/<config>/cross_validation; folds that are finished there are not trained again",
    )
    parser.add_argument("--folds", type=int, nargs="+", metavar="N", help="train only these folds; default: all")
    common.add_workers(parser, "folds")
    parser.add_argument(
        "--baseline",
        metavar="RECIPE",
        help=f"another recipe to train on the same folds; default: {BASELINE}; `none` trains no baseline",
    )
    parser.add_argument(
        "--adapt",
        action="store_true",
        help="then evaluate each fold again, adapted to each test speaker without labels, and compare both",
    )
    common.add_report(parser, "the pooled result")


def main(arguments: argparse.Namespace) -> int:
    """Cross-validates, and prints the pooled result and how it compares with the baseline."""
    from serx.config.loader import load_config
    from serx.evaluation.pooling import format_cross_validation
    from serx.experiments.cross_validation import (
        ADAPTED,
        adapt_folds,
        baseline_config,
        check_can_adapt,
        cross_validate,
    )
    from serx.experiments.fold_runs import Workers

    config = load_config(arguments.config, arguments.overrides)
    baseline_recipe = arguments.baseline or BASELINE
    baseline = None if baseline_recipe == "none" else baseline_config(config, load_config(baseline_recipe))
    out = common.folder_of_runs(arguments, config.train.output, "cross_validation")
    if config.data.fold and not arguments.folds:
        print(
            f"note: data.fold={config.data.fold} chooses no fold here; --folds {config.data.fold} trains that one only"
        )
    devices = tuple(arguments.devices or ())
    processes = max(1, len(devices)) if arguments.processes is None else arguments.processes
    workers = Workers(processes, devices)
    seeds = list(dict.fromkeys(arguments.seeds or [config.train.seed]))
    only = arguments.folds or ()
    if arguments.adapt:
        check_can_adapt(config)
    result = cross_validate(config, out, seeds, workers, only)
    if result.summary:
        print(f"\n{format_cross_validation(result.summary)}")
        files = "predictions.csv, confusion.png, speakers.png"
        print(f"written: {out / 'cross_validation.json'}, and in the same folder {files}")
        if arguments.report:
            common.write_page(arguments.report, _page(arguments, config, out, result.summary))
    if arguments.adapt and result.summary and result.exit_code < 128:
        print()
        adapted = adapt_folds(config, out, workers)
        if adapted.summary:
            print(f"\n{format_cross_validation(adapted.summary)}")
            print(_comparison(out, out / ADAPTED), end="")
        if adapted.exit_code:
            return result.exit_code or adapted.exit_code
    if baseline is None or result.exit_code >= 128:
        return result.exit_code
    print(f"\nbaseline: {baseline_recipe} on the same folds")
    baseline_result = cross_validate(baseline, out / "baseline", seeds, workers, only)
    if result.exit_code == baseline_result.exit_code == 0:
        print(f"\n{_comparison(out / 'baseline', out)}", end="")
    return result.exit_code or baseline_result.exit_code


def _comparison(reference: Path, run: Path) -> str:
    """The text report of a comparison, which is also written into the folder `run`."""
    from serx.evaluation.comparison import compare_runs, format_comparison, write_comparison
    from serx.evaluation.finished_runs import read_run

    result = compare_runs([read_run(reference), read_run(run)])
    write_comparison(run, result)
    return format_comparison(result)


def _page(arguments: argparse.Namespace, config: "Config", out: Path, summary: Mapping[str, Any]) -> str:
    import torch

    from serx.data.batches import make_batch_source
    from serx.data.dataset import load_dataset
    from serx.evaluation.pooling import read_cross_validation
    from serx.evaluation.predictions import join
    from serx.pages import clip_reader, confident_mistakes, evaluation_page
    from serx.training.run_folder import read_metrics

    results = read_cross_validation(out)
    one_seed = join([r.predictions for r in results if r.seed == results[0].seed])  # each clip once
    dataset = load_dataset(config.data)
    paths = Counter(str(utterance.path) for utterance in dataset.utterances)
    index = {str(u.path): i for i, u in enumerate(dataset.utterances) if paths[str(u.path)] == 1}
    clips = [index.get(path) for path in one_seed.paths]
    source = make_batch_source(dataset.audio_cache, torch.device("cpu"), "stream")
    runs = {f"seed {r.seed} fold {r.fold}": out / f"seed-{r.seed}" / f"fold-{r.fold}" for r in results}
    return evaluation_page(
        summary,
        join([r.predictions for r in results]),
        f"{config.model.kind}: cross-validation",
        {name: read_metrics(folder)[0] for name, folder in runs.items()},
        mistakes=confident_mistakes(one_seed, clip_reader(source.batch, clips, config.data.sample_rate)),
        reproduction=common.reproduction(
            arguments, {"data": config.data.root, "data (sha256)": dataset.sha256(range(len(dataset.utterances)))}
        ),
    )
