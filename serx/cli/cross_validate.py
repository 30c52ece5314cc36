"""Train and test every fold of a protocol, and a baseline on the same folds.

Each fold is an ordinary run in its own process. Finished folds are kept, so that the same command resumes. The results
are pooled over folds, with intervals over speakers.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serx.cli.commands import command_line, serx_command
from serx.cli.options import add_config
from serx.cli.output import add_json, add_report, how_to_reproduce, print_json, write_page
from serx.cli.parts import (
    add_execution,
    cluster_job,
    folder_of_runs,
    print_parts,
    workers_of,
    written_script,
)
from serx.terminal import Block, show

if TYPE_CHECKING:
    from serx.config import Config
    from serx.experiments.fold_runs import Workers

BASELINE = "logistic_regression"

EXAMPLES = """  %(prog)s --config configs/cnn1d.yaml data.root=/corpora/ravdess data.protocol=loso
  %(prog)s --config cnn2d data.root=/corpora/ravdess --seeds 0 1 2 --devices cuda:0 cuda:1
  %(prog)s --config cnn2d data.root=/corpora/ravdess --executor slurm --partition gpu --gpus 1 --cpus 8
  %(prog)s --config mlp data.root=/corpora/ravdess --report report.html     (also as a page)
  %(prog)s --config cnn2d data.root=[RAVDESS,CREMA-D] data.protocol=loco     (leave one corpus out)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipe, its folds, and what to compare it with."""
    add_config(parser)
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="default: checkpoints/<config>/cross_validation; folds that are finished there are not trained again",
    )
    parser.add_argument("--folds", type=int, nargs="+", metavar="N", help="train only these folds; default: all")
    add_execution(parser, "folds")
    parser.add_argument(
        "--baseline",
        metavar="RECIPE",
        help=f"another recipe to train on the same folds, on the emotions; default: {BASELINE}; `none` trains no "
        "baseline",
    )
    parser.add_argument(
        "--adapt",
        action="store_true",
        help="then evaluate each fold again, adapted to each test speaker without labels, and compare both",
    )
    add_report(parser, "the pooled result")
    add_json(
        parser,
        "`folder`, `cross_validation` (null if no fold is finished), and where they were asked for `adapted`, "
        "`adapted_comparison`, `baseline` and `baseline_comparison`",
    )


def main(arguments: argparse.Namespace) -> int:
    """Cross-validates, and prints the pooled result and how it compares with the baseline."""
    from serx.config.loader import load_config
    from serx.evaluation.cross_validation_report import cross_validation_blocks
    from serx.experiments.cross_validation import ADAPTED, adapt_folds, check_can_adapt, cross_validate

    config = load_config(arguments.config, arguments.overrides)
    baseline_recipe, baseline = _baseline(arguments, config)
    out = folder_of_runs(arguments, config.train.output, "cross_validation")
    if config.data.fold and not arguments.folds:
        print(
            f"note: data.fold={config.data.fold} chooses no fold here; --folds {config.data.fold} trains that one only"
        )
    workers = workers_of(arguments)
    seeds = list(dict.fromkeys(arguments.seeds or [config.train.seed]))
    only = arguments.folds or ()
    if arguments.adapt:
        check_can_adapt(config)
    job_code = 0
    if arguments.part is not None or arguments.list_parts or arguments.executor != "processes":
        recipes = [(config, out), *([(baseline, out / "baseline")] if baseline is not None else [])]
        ends, job_code = (False, 0) if arguments.collect else _parts(arguments, recipes, seeds, workers)
        if ends:
            return job_code
    run = not arguments.collect and arguments.executor == "processes"
    result = cross_validate(config, out, seeds, workers, only, run)
    document: dict[str, Any] = {"folder": out, "cross_validation": result.summary}
    code = job_code or result.exit_code
    if result.summary:
        _show(arguments, ["", *cross_validation_blocks(result.summary), ""])
        print(f"written: {out / 'cross_validation.json'}, and in the same folder {_files(result.summary)}")
        if arguments.report:
            write_page(arguments.report, _page(arguments, config, out, result.summary))
    is_stopped = code >= 128
    if arguments.adapt and result.summary and not is_stopped:
        print()
        adapted = adapt_folds(config, out, workers, run)
        document["adapted"] = adapted.summary
        if adapted.summary:
            _show(arguments, ["", *cross_validation_blocks(adapted.summary), ""])
            document["adapted_comparison"] = _comparison(arguments, out, out / ADAPTED)
        is_stopped = bool(adapted.exit_code)
        code = code or adapted.exit_code
    if baseline is not None and not is_stopped:
        print(f"\nbaseline: {baseline_recipe} on the same folds")
        of_baseline = cross_validate(baseline, out / "baseline", seeds, workers, only, run)
        document["baseline"] = of_baseline.summary
        if result.exit_code == of_baseline.exit_code == 0 and result.summary and of_baseline.summary:
            _show(arguments, [""])
            document["baseline_comparison"] = _comparison(arguments, out / "baseline", out)
        code = code or of_baseline.exit_code
    if arguments.json:
        print_json(arguments, document)
    return code


def _parts(
    arguments: argparse.Namespace,
    recipes: Sequence[tuple["Config", Path]],
    seeds: Sequence[int],
    workers: "Workers",
) -> tuple[bool, int]:
    """Runs or lists the parts of the recipes; returns whether the command ends there, and the exit code."""
    from serx.experiments.cross_validation import list_parts, run_part
    from serx.experiments.executors import run_on_cluster
    from serx.experiments.parts import IN_USE, check_part

    (_, out), *_ = recipes
    parts = [
        (config, fold, to) for config, to in recipes for fold in list_parts(config, to, seeds, arguments.folds or ())
    ]
    if arguments.part is not None:
        check_part(arguments.part, len(parts))
        config, fold, to = parts[arguments.part]
        adapt = arguments.adapt and to == out
        return True, run_part(config, to, fold.seed, fold.number, replace(workers, processes=1), adapt)
    commands = [part_command(arguments, out, seeds, part) for part in range(len(parts))]
    if arguments.list_parts:
        print_parts(commands)
        return True, 0
    if arguments.executor == "sbatch":
        return True, written_script(arguments, commands, out)
    to_do = {
        f"{'' if to == out else 'baseline '}{fold.name}": commands[part]
        for part, (_, fold, to) in enumerate(parts)
        if fold.state != "finished" or arguments.adapt
    }
    codes = run_on_cluster(arguments.executor, to_do, out, cluster_job(arguments)).values()
    return False, next((code for code in codes if code not in (0, IN_USE)), 0)


def part_command(arguments: argparse.Namespace, out: Path, seeds: Sequence[int], part: int) -> list[str]:
    """The command line that runs a part of this cross-validation, and does nothing if it is finished."""
    words = ["--config", str(arguments.config), "--out", str(out), "--seeds", *map(str, seeds)]
    words += ["--folds", *map(str, arguments.folds)] if arguments.folds else []
    words += ["--baseline", arguments.baseline] if arguments.baseline else []
    words += ["--devices", *arguments.devices] if arguments.devices else []
    words += ["--adapt"] * arguments.adapt
    return serx_command("cross-validate", arguments, *words, "--part", str(part), *arguments.overrides)


def _baseline(arguments: argparse.Namespace, config: "Config") -> tuple[str, "Config | None"]:
    """The baseline's recipe and its configuration; None if there is none, as for a model of dimensions alone."""
    from serx.config.loader import load_config
    from serx.errors import ConfigError
    from serx.experiments.cross_validation import baseline_config

    recipe = arguments.baseline or BASELINE
    if "emotions" not in config.data.tasks:
        if arguments.baseline not in (None, "none"):
            raise ConfigError("--baseline is compared by its emotions, and data.tasks has none; leave it out")
        recipe = "none"
    return recipe, None if recipe == "none" else baseline_config(config, load_config(recipe))


def _files(summary: Mapping[str, Any]) -> str:
    files = ["predictions.csv", "confusion.png", "speakers.png"] if "uar" in summary else []
    return ", ".join(files + ["ratings.csv"] * ("dimensions" in summary))


def _show(arguments: argparse.Namespace, report: Sequence[Block]) -> None:
    """Prints a report, which `--json` replaces."""
    if not arguments.json:
        show(report)


def _comparison(arguments: argparse.Namespace, reference: Path, run: Path) -> dict[str, Any]:
    """A comparison, which is also shown, and written into the folder `run`."""
    from serx.evaluation.comparison import compare_runs, write_comparison
    from serx.evaluation.comparison_report import comparison_blocks
    from serx.evaluation.finished_runs import read_run

    result = compare_runs([read_run(reference), read_run(run)])
    write_comparison(run, result)
    _show(arguments, comparison_blocks(result))
    return result


def _page(arguments: argparse.Namespace, config: "Config", out: Path, summary: Mapping[str, Any]) -> str:
    from serx.data.dataset import load_dataset
    from serx.pages import cross_validation_page

    dataset = load_dataset(config.data)
    facts = {"data": config.data.root, "data (sha256)": dataset.sha256(range(len(dataset.utterances)))}
    return cross_validation_page(
        out,
        config,
        dataset,
        summary,
        how_to_reproduce(arguments, facts),
        lambda checkpoint: command_line("stress", arguments, "--checkpoint", checkpoint),
    )
