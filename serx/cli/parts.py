"""Experiments of many runs: in processes here, one part at a time, or on a cluster."""

import argparse
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from serx.errors import ConfigError

if TYPE_CHECKING:
    from serx.experiments.executors import ClusterJob
    from serx.experiments.fold_runs import Workers


def add_execution(parser: argparse.ArgumentParser, runs: str) -> None:
    """Under which seeds `runs` are trained, how many at a time, where, and which part of them."""
    parser.add_argument(
        "--seeds", type=int, nargs="+", metavar="N", help="train every run once a seed; default: train.seed"
    )
    parser.add_argument(
        "--processes", type=int, metavar="N", help=f"number of {runs} at a time; default: one, or one per device"
    )
    parser.add_argument(
        "--devices", nargs="+", metavar="DEVICE", help="devices for the processes, such as cuda:0 cuda:1"
    )
    _add_parts(parser)
    _add_cluster(parser)


def workers_of(arguments: argparse.Namespace) -> "Workers":
    """The processes of `add_execution`."""
    from serx.experiments.fold_runs import Workers

    devices = tuple(arguments.devices or ())
    return Workers(max(1, len(devices)) if arguments.processes is None else arguments.processes, devices)


def folder_of_runs(arguments: argparse.Namespace, output: str | None, name: str) -> Path:
    """The folder of a cross-validation or a sweep: `--out`, else one named by the recipe.

    `output` is the recipe's `train.output`, the folder of a single run: a line says that it is not used.
    """
    out = Path(arguments.out or Path("checkpoints") / Path(arguments.config).stem / name)
    if output and Path(output) != out:
        print(f"note: train.output={output} is the folder of a single run and not used here; these go to --out {out}")
    return out


def _add_parts(parser: argparse.ArgumentParser) -> None:
    """One part instead of all, for a scheduler."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--list-parts",
        action="store_true",
        help="print the command of each part, one a line, for a scheduler: each skips what is done",
    )
    group.add_argument("--part", type=int, metavar="K", help="run part K only, without the result of all parts")
    group.add_argument("--collect", action="store_true", help="run nothing: write the result of what is done")


def print_parts(commands: Sequence[Sequence[str]]) -> None:
    """Prints command lines for a shell, one a line."""
    for words in commands:
        print(shlex.join(words))


def _add_cluster(parser: argparse.ArgumentParser) -> None:
    """Where the parts run, and what they ask of a cluster."""
    group = parser.add_argument_group("cluster")
    group.add_argument(
        "--executor",
        choices=["processes", "slurm", "sbatch", "submitit-local", "submitit-debug"],
        default="processes",
        help="where the parts run: processes here; an array of Slurm, by submitit; a script for `sbatch` to submit; "
        "submitit without Slurm, in processes or one after another; default: processes",
    )
    group.add_argument("--partition", metavar="NAME", help="of Slurm; default: the cluster's")
    group.add_argument("--time", type=int, default=60, metavar="MINUTES", help="for each part; default: 60")
    group.add_argument("--cpus", type=int, default=1, metavar="N", help="for each part; default: 1")
    group.add_argument("--gpus", type=int, default=0, metavar="N", help="for each part; default: 0")
    group.add_argument("--memory", type=float, metavar="GB", help="for each part; default: the cluster's")
    group.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="OPTION=VALUE",
        help="another option of sbatch, such as account=lab; may be repeated",
    )


def cluster_job(arguments: argparse.Namespace) -> "ClusterJob":
    """What the parts ask of a cluster.

    Raises:
        ConfigError: submitit is not installed, or a number or an option makes no sense.
    """
    from serx.experiments.executors import ClusterJob, check_executor

    check_executor(arguments.executor)
    options = {}
    for text in arguments.sbatch:
        name, _, value = text.partition("=")
        if not re.fullmatch("[a-z][a-z0-9-]*", name) or not value or "\n" in value:
            raise ConfigError(f"--sbatch {text}: write OPTION=VALUE, such as account=lab")
        options[name] = value
    return ClusterJob(
        arguments.time, arguments.partition, arguments.cpus, arguments.gpus, arguments.memory, arguments.processes,
        options,
    )  # fmt: skip


def written_script(arguments: argparse.Namespace, commands: Sequence[Sequence[str]], out: Path) -> int:
    """Writes the script for `sbatch`, and says how to use it."""
    from serx.experiments.executors import write_script

    print(f"submit it with: sbatch {shlex.quote(str(write_script(commands, out, cluster_job(arguments))))}")
    print("when the parts are done, the same command with --collect instead of --executor sbatch writes the result")
    return 0
