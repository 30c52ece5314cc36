#!/usr/bin/env python3
"""Make the model that ships with serx from a run: checkpoints/default.safetensors, its figures, and its model card."""

import sys
from pathlib import Path

from serx.cli.interrupts import exit_on_signals

exit_on_signals()
from serx.cli.execution import run_main  # noqa: E402  after the handlers are set
from serx.cli.parsing import make_parser  # noqa: E402  after the handlers are set

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks/ is not part of the package


def main(arguments) -> None:
    from benchmarks.model_card import write_card
    from serx.errors import ConfigError

    pairs = [text.partition("=") for text in arguments.unseen]
    if wrong := [name for name, _, root in pairs if not root]:
        raise ConfigError(f"--unseen {wrong[0]}: give a name and a folder or manifest, such as tess=/corpora/TESS")
    unseen = {name: root for name, _, root in pairs}
    words = [
        "--checkpoint RUN/best.safetensors --held-out CV/predictions.csv",
        *(f"--unseen {name}=DIR" for name in unseen),
    ]
    command = f"python scripts/model_card.py {' '.join(words)}"
    held_out = [Path(path) for path in arguments.held_out]
    figures = write_card(Path(arguments.checkpoint), held_out, unseen, Path(arguments.out), arguments.cache, command)
    print(
        f"UAR {100 * figures['held_out']['all']['uar']:.1f} % on held-out speakers; unsure below "
        f"{figures['min_confidence']:g}; {figures['latency']['milliseconds']:g} ms a clip; written into {arguments.out}"
    )


if __name__ == "__main__":
    parser = make_parser(
        __doc__,
        "  python scripts/model_card.py --checkpoint RUN/best.safetensors --held-out CV/predictions.csv \\\n"
        "      --unseen tess=/corpora/TESS --unseen ased=/corpora/ASED/manifest.csv",
    )
    parser.add_argument("--checkpoint", required=True, metavar="FILE", help="best.safetensors of the run")
    parser.add_argument(
        "--held-out",
        required=True,
        nargs="+",
        metavar="FILE",
        help="predictions.csv of cross-validate or evaluate, for the same recipe on held-out speakers",
    )
    parser.add_argument(
        "--unseen", action="append", default=[], metavar="NAME=DIR", help="a corpus that it was not trained on"
    )
    parser.add_argument("--out", default=str(ROOT / "checkpoints"), metavar="DIR", help="default: checkpoints/")
    parser.add_argument("--cache", metavar="DIR", help="folder for decoded audio")
    run_main(main, parser.parse_args())
