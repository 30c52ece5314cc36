"""Combine trained checkpoints of any kinds into one checkpoint that averages their predictions.

All of them must have been trained with the same labels, sample rate and decoding settings, and none on speakers or
clips that another one holds out. The new checkpoint is evaluated, exported and used like any other, but not trained.
"""

import argparse

from serx.cli.commands import command_line
from serx.cli.options import add_import
from serx.cli.output import add_json, print_json
from serx.terminal import Table, printable, show

EXAMPLES = """  %(prog)s probe/best.safetensors cnn/best.safetensors --output ensemble.safetensors
  %(prog)s probe/best.safetensors cnn/best.safetensors --weights 2 1 --output ensemble.safetensors"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The checkpoints, their weights, and the file to write."""
    parser.add_argument("checkpoints", nargs="+", metavar="CHECKPOINT", help="best.safetensors of a run; two or more")
    parser.add_argument("--output", required=True, metavar="FILE", help="the checkpoint to write")
    parser.add_argument(
        "--weights",
        type=float,
        nargs="+",
        metavar="W",
        help="the weight of each checkpoint, in their order and relative to each other; default: all the same",
    )
    add_json(parser, "`checkpoint`, `bytes`, `voters`, `labels`, `dimensions` and `protocol`")
    add_import(parser)


def main(arguments: argparse.Namespace) -> int:
    """Builds the ensemble, and prints who votes and how to evaluate it."""
    from serx.training.ensemble import build_ensemble

    built = build_ensemble(arguments.checkpoints, arguments.output, arguments.weights)
    for note in built.notes:
        print(f"note: {note}")
    if arguments.json:
        fields = ("kind", "path", "sha256", "share")
        voters = [dict(zip(fields, voter, strict=True)) for voter in built.voters]
        document = {"checkpoint": arguments.output, "bytes": built.n_bytes, "voters": voters}
        names = {"labels": built.labels, "dimensions": built.dimensions}
        print_json(arguments, {**document, **names, "protocol": built.protocol})
        return 0
    print(f"{printable(arguments.output)}: {built.n_bytes / 1e6:.1f} MB, {len(built.voters)} models that vote")
    rows = [(f"{100 * share:.1f} %", kind, sha256, path) for kind, path, sha256, share in built.voters]
    show([Table("Voters", ("share", "model", "sha256", "checkpoint"), rows, left=(1, 2, 3))])
    if built.labels:
        print(f"labels: {', '.join(built.labels)}")
    if built.dimensions:
        print(f"dimensions: {', '.join(built.dimensions)}")
    print(f"protocol: {built.protocol}")
    print(f"evaluate: {command_line('evaluate', arguments, '--checkpoint', str(arguments.output))}")
    return 0
