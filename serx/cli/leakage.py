"""Show how much a leaking test set inflates a score.

Trains one recipe without a mistake and with three common ones, each of which lets test speakers or test clips into
training.
"""

import argparse
import time
from pathlib import Path

from serx.cli.options import add_config
from serx.cli.output import add_json, print_json
from serx.terminal import show

EXAMPLES = """  %(prog)s --config mlp data.root=/corpora/ravdess
  %(prog)s --config mlp --copies 6 data.root=/corpora/ravdess train.epochs=30
  %(prog)s --config published/ravdess_mlp data.root=DIR data.protocol=luna5"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipe, and how many augmented copies one of the mistakes makes."""
    add_config(parser)
    add_json(parser, "the content of leakage.json")
    parser.add_argument("--out", metavar="DIR", help="default: checkpoints/<config>/leakage-<time>")
    parser.add_argument(
        "--copies",
        type=int,
        default=3,
        metavar="K",
        help="augmented copies of each clip, with noise, time stretch and pitch shift; default: 3",
    )


def main(arguments: argparse.Namespace) -> int:
    """Trains the four variants, and prints and writes their scores."""
    from serx.config.loader import load_config
    from serx.experiments.leakage import lesson_blocks, run_leakage_lesson

    config = load_config(arguments.config, arguments.overrides)
    stem = Path(arguments.config).stem
    out = Path(arguments.out or Path("checkpoints") / stem / f"leakage-{time.strftime('%Y%m%d-%H%M%S')}")
    lesson, code = run_leakage_lesson(config, out, arguments.copies)
    if code:
        return code
    if arguments.json:
        print_json(arguments, lesson)
    else:
        show(lesson_blocks(lesson))
    print(f"written: {out / 'leakage.json'}, and in the same folder leakage.png")
    return 0
