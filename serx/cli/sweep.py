"""Compare settings of a recipe on validation speakers.

The test speakers stay untouched, so that the best setting can be tested afterwards. A sweep is an Optuna study: any
number of processes and machines may run the same command at the same time, and it continues where it was stopped.
"""

import argparse
from typing import TYPE_CHECKING

from serx.cli.commands import command_line, serx_command
from serx.cli.options import add_config
from serx.cli.output import add_json, print_json
from serx.cli.parts import (
    add_execution,
    cluster_job,
    folder_of_runs,
    print_parts,
    workers_of,
    written_script,
)
from serx.terminal import show

if TYPE_CHECKING:
    from serx.experiments.sweep_plan import SweepPlan

EXAMPLES = """  %(prog)s --config cnn1d data.root=DIR --try optim.lr=[1e-3,3e-3]
  %(prog)s --config cnn1d data.root=DIR --seeds 0 1 --groups 5 \\
      --try optim.lr=[1e-3,2e-3,4e-3] --try model.dropout=[0.2,0.4]      (every combination)
  %(prog)s --config cnn2d data.root=DIR --one-at-a-time --try augment.waveform.noise.p=[0] \\
      --try model.relaxed_freq_norm=[0] --try train.ema_decay=[0]        (an ablation)
  %(prog)s --config cnn1d data.root=DIR --try optim.lr=[1e-3,3e-3] \\
      --executor slurm --partition gpu --gpus 1 --cpus 8 --time 120      (an array of Slurm jobs)
  %(prog)s --config cnn2d data.root=DIR --devices cuda:0 cuda:1 --search tpe --trials 40 --prune median \\
      --try optim.lr=1e-4..1e-2,log --try train.epochs=20..80 --try optim.weight_decay=[0.01,0.1]"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipe, the settings to try, and on what."""
    add_config(parser)
    parser.add_argument(
        "--try",
        dest="tried",
        action="append",
        required=True,
        metavar="KEY=[A,B]",
        help="values of a setting to compare, or a range of numbers, KEY=A..B or KEY=A..B,log; several --try give "
        "every combination; the unchanged recipe runs as well",
    )
    parser.add_argument(
        "--search",
        choices=["grid", "random", "tpe"],
        default="grid",
        help="grid: every combination of the values; random, tpe: Optuna chooses, at random or by what it has learned; "
        "default: grid",
    )
    parser.add_argument(
        "--trials",
        type=int,
        metavar="N",
        help="try N settings besides the recipe; default: all of a grid, else 20. Of a grid, N are drawn at random",
    )
    parser.add_argument(
        "--one-at-a-time", action="store_true", help="change one setting of the recipe at a time: an ablation"
    )
    parser.add_argument(
        "--prune",
        nargs="+",
        choices=["median", "halving", "wilcoxon"],
        default=[],
        help="give up bad settings early: median or halving between epochs, wilcoxon between speaker groups",
    )
    parser.add_argument(
        "--groups",
        type=int,
        default=3,
        metavar="K",
        help="speaker groups; each validates once while the others train; default: 3",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="default: checkpoints/<config>/sweep; runs that are finished there are not trained again",
    )
    parser.add_argument(
        "--storage",
        default="",
        metavar="FILE_OR_URL",
        help="of the study: a journal file, or a database such as sqlite:///study.db; default: study.journal in --out",
    )
    add_execution(parser, "settings")
    add_json(parser, "the content of sweep.json, or null if no setting is finished")


def main(arguments: argparse.Namespace) -> int:
    """Runs the parts of the sweep, and prints the ranking."""
    from serx.config.loader import load_config
    from serx.evaluation.ranking import ranking_blocks
    from serx.experiments.executors import run_on_cluster
    from serx.experiments.parts import IN_USE
    from serx.experiments.sweep import collect, prepare, sweep
    from serx.experiments.sweep_part import run_part
    from serx.experiments.sweep_plan import plan_sweep

    recipe = load_config(arguments.config, arguments.overrides)
    out = folder_of_runs(arguments, recipe.train.output, "sweep")
    plan = plan_sweep(
        arguments.config,
        arguments.overrides,
        arguments.tried,
        out,
        method=arguments.search,
        trials=arguments.trials,
        one_at_a_time=arguments.one_at_a_time,
        prune=tuple(arguments.prune),
        groups=arguments.groups,
        seeds=tuple(dict.fromkeys(arguments.seeds or [recipe.train.seed])),
        storage=arguments.storage,
    )
    if arguments.part is not None:
        return run_part(plan, arguments.part)
    commands = [part_command(arguments, plan, part) for part in range(plan.parts)]
    if arguments.list_parts:
        print_parts(commands)
        return 0
    if arguments.executor == "sbatch" and not arguments.collect:
        prepare(plan)
        return written_script(arguments, commands, out)
    if arguments.collect or arguments.executor != "processes":
        codes = []
        if not arguments.collect:
            job = cluster_job(arguments)
            to_do = {f"part {part}": commands[part] for part in prepare(plan)}
            codes = [*run_on_cluster(arguments.executor, to_do, out, job).values()]
        ranking, failed = collect(plan)
        code = next((code for code in [*codes, *failed] if code not in (0, IN_USE)), 0)
    else:

        def command(part: int, device: str, threads: int) -> list[str]:
            return part_command(arguments, plan, part, f"train.device={device}", f"train.threads={threads}")

        ranking, code = sweep(plan, workers_of(arguments), command)
    if arguments.json:
        print_json(arguments, ranking)
    if ranking:
        if not arguments.json:
            show(["", *ranking_blocks(ranking), ""])
        print(f"written: {out / 'sweep.json'}, and in the same folder sweep.md, sweep.png and best.yaml (the best)")
        best = str(out / "best.yaml")
        print(f"to test it: {command_line('cross-validate', arguments, '--config', best)}")
    return code


def part_command(arguments: argparse.Namespace, plan: "SweepPlan", part: int, *overrides: str) -> list[str]:
    """The command line that runs a part of this sweep, and does nothing if it is finished."""
    words = ["--config", str(arguments.config), *(word for text in arguments.tried for word in ("--try", text))]
    words += ["--search", plan.method, *(["--trials", str(plan.trials)] if plan.trials is not None else [])]
    words += ["--one-at-a-time"] * plan.one_at_a_time
    words += ["--prune", *plan.prune] if plan.prune else []
    words += ["--groups", str(plan.groups), "--seeds", *map(str, plan.seeds), "--out", str(plan.out)]
    words += ["--storage", plan.storage] if plan.storage else []
    return serx_command("sweep", arguments, *words, "--part", str(part), *arguments.overrides, *overrides)
