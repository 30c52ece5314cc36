#!/usr/bin/env python3
"""Make the demo's corpus: speech-like clips of made-up voices that act eight emotions. It is not human speech."""

from pathlib import Path

from serx.cli import common as commands


def main(arguments) -> None:
    from serx.data.synthetic.corpus import holds_corpus, make_corpus

    root, *settings = Path(arguments.root), arguments.speakers, arguments.clips, arguments.seed
    if holds_corpus(root, *settings):
        print(f"{root} already holds this corpus")
        return
    make_corpus(root, *settings)
    count = sum(1 for _ in root.rglob("*.wav"))
    print(f"{count} clips of {arguments.speakers} made-up voices are in {root}")


if __name__ == "__main__":
    parser = commands.parser(
        __doc__, "  python scripts/demo.py\n  python scripts/demo.py --root data/small --speakers 8 --clips 2 --seed 1"
    )
    parser.add_argument("--root", default="data/demo", metavar="DIR", help="where it goes (default: data/demo)")
    parser.add_argument("--speakers", type=int, default=24, metavar="N", help="1 to 24, half of each sex (default: 24)")
    parser.add_argument("--clips", type=int, default=4, metavar="N", help="a speaker and emotion, 1 to 8 (default: 4)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another seed makes others (default: 0)")
    commands.run(main, parser.parse_args())
