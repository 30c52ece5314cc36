#!/usr/bin/env python3
"""Measure the speed of serx, stage by stage, and of other libraries on the same clips; write a page and a JSON file."""

import os
import sys
from pathlib import Path

from serx.cli.interrupts import exit_on_signals

exit_on_signals()
from serx.cli.execution import run_main  # noqa: E402  after the handlers are set
from serx.cli.parsing import make_parser  # noqa: E402  after the handlers are set

sys.path.insert(0, str(Path(__file__).parents[1]))  # benchmarks/ is not part of the package


def main(arguments) -> None:
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(arguments.threads)  # before the libraries that read it are imported
    from benchmarks.bench import benchmark

    benchmark(arguments, " ".join(["python", *sys.argv]))


if __name__ == "__main__":
    parser = make_parser(
        __doc__,
        "  python scripts/benchmark.py --root /corpora/RAVDESS\n"
        "  python scripts/benchmark.py --only logmel mfcc chains --rounds 15 --out /tmp/speed\n"
        "  python scripts/benchmark.py --only step --profile checkpoints/trace",
    )
    parser.add_argument("--root", metavar="DIR", help="folder of audio files (default: a synthetic corpus)")
    parser.add_argument("--clips", type=int, metavar="N", help="batch size (default: 64, on a GPU 256)")
    parser.add_argument("--seconds", type=float, default=3.0, help="duration of each clip (default: 3)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads (default: 1)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: auto)")
    parser.add_argument(
        "--clock", choices=["wall", "cpu"], default="wall", help="cpu if other programs share the cores"
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="STAGE", help="stages or groups of the report (default: all)"
    )
    parser.add_argument(
        "--rounds", type=int, default=7, metavar="N", help="number of rounds; medians are reported (default: 7)"
    )
    parser.add_argument(
        "--config", default="configs/cnn2d.yaml", help="recipe of the training step (default: %(default)s)"
    )
    parser.add_argument("--out", default="benchmarks", metavar="DIR", help="folder of the report (default: benchmarks)")
    parser.add_argument("--profile", metavar="DIR", help="write a trace of the training step for TensorBoard")
    run_main(main, parser.parse_args())
