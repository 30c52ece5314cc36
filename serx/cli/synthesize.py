"""Make the synthetic demo corpus. It is not human speech.

The clips are speech-like: 24 synthetic speakers with eight emotions.
"""

import argparse
from pathlib import Path

from serx.cli.output import add_json, print_json

EXAMPLES = """  %(prog)s
  %(prog)s --root data/small --speakers 8 --clips 2 --seed 1"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder, and the size of the corpus."""
    parser.add_argument("--root", default="data/demo", metavar="DIR", help="output folder; default: data/demo")
    parser.add_argument(
        "--speakers", type=int, default=24, metavar="N", help="1 to 24, half of them female; default: 24"
    )
    parser.add_argument(
        "--clips", type=int, default=4, metavar="N", help="clips per speaker and emotion, 1 to 8; default: 4"
    )
    add_json(parser, "`root`, `clips`, `speakers` and `made` (false if the corpus was there already)")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="another seed makes other speakers; default: 0"
    )


def main(arguments: argparse.Namespace) -> int:
    """Writes the corpus, unless the folder holds it already."""
    from serx.data.synthetic.corpus import holds_corpus, make_corpus

    root, *settings = Path(arguments.root), arguments.speakers, arguments.clips, arguments.seed
    is_there = holds_corpus(root, *settings)
    if not is_there:
        make_corpus(root, *settings)
    count = sum(1 for _ in root.rglob("*.wav"))
    if arguments.json:
        document = {"root": root, "clips": count, "speakers": arguments.speakers, "made": not is_there}
        print_json(arguments, document)
    elif is_there:
        print(f"{root} already holds this corpus")
    else:
        print(f"{count} clips of {arguments.speakers} synthetic speakers are in {root}")
    return 0
