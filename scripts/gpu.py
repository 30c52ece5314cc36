#!/usr/bin/env python3
"""Test serx on this machine's GPU, then measure it there; writes benchmarks/gpu.md. Without a GPU it says so."""

import argparse
import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

from serx.cli.interrupts import exit_on_signals

exit_on_signals()
from serx.cli.execution import run_main  # noqa: E402  after the handlers are set
from serx.cli.parsing import make_parser  # noqa: E402  after the handlers are set

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks/ is not part of the package


def main(arguments: argparse.Namespace) -> int:
    import torch

    import serx
    from benchmarks import gpu
    from benchmarks.inputs import load_inputs
    from serx.device import choose_device

    path = Path(arguments.out) / "gpu.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        if not path.exists():
            path.write_text(gpu.NOT_MEASURED)
        print(f"no CUDA GPU here: nothing was tested or measured; {path} stays as it is")
        return 0
    device = choose_device(arguments.device, "--device")
    tested = "not run"
    if arguments.tests:
        command = [sys.executable, "-m", "pytest", "-q", "-m", "cuda and not long", "tests/test_cuda.py"]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
        print(done.stdout)
        if done.returncode:
            print("error: tests fail on this GPU, so nothing is measured", file=sys.stderr)
            return 1
        tested = done.stdout.strip().splitlines()[-1].strip("= ")
    is_gpu = device.type == "cuda"
    clock = "cuda" if is_gpu else arguments.clock
    peaks = gpu.measure_peaks(device, arguments.copy_megabytes, arguments.matrix_size, arguments.rounds, clock)
    rows = gpu.measure_all(
        arguments.config,
        lambda clips: load_inputs(arguments.root, clips, arguments.seconds, device),
        arguments.batches,
        arguments.precisions,
        arguments.modes,
        arguments.rounds,
        clock,
    )
    name = torch.cuda.get_device_name(device) if is_gpu else platform.processor() or platform.machine()
    head = [
        f"# Speed on {name}",
        "",
        f"Written by `python {' '.join(sys.argv)}` on {datetime.now(timezone.utc):%Y-%m-%d %H:%M UTC}; do not edit.",
        "",
        f"- {arguments.config}; clips of {arguments.seconds:g} s at 16 kHz; medians of {arguments.rounds} rounds",
        f"- serx {serx.__version__}, python {platform.python_version()}, torch {torch.__version__}, "
        f"CUDA {torch.version.cuda if is_gpu else 'not used'}",
        f"- tests of `tests/test_cuda.py`: {tested}",
    ]
    path.write_text(gpu.page(rows, peaks, head))
    print(f"written: {path}")
    return 0


if __name__ == "__main__":
    parser = make_parser(
        __doc__ or "",
        "  python scripts/gpu.py                                 (what `make gpu` runs)\n"
        "  python scripts/gpu.py --batches 256 --no-tests        (one batch size)\n"
        "  python scripts/gpu.py --device cpu --batches 2 --modes eager --no-tests --out /tmp/speed",
    )
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu (default: cuda)")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128, 512, 1024, 4096], metavar="N")
    parser.add_argument("--precisions", nargs="+", choices=["fp32", "bf16", "fp16"], default=["bf16", "fp16"])
    parser.add_argument(
        "--modes", nargs="+", choices=["eager", "compiled", "CUDA graphs"], default=["eager", "compiled", "CUDA graphs"]
    )
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="of --device cpu: cpu if other programs share the cores",
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="duration of each clip (default: 3)")
    parser.add_argument("--root", metavar="DIR", help="folder of audio files (default: a synthetic corpus)")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="medians of N rounds (default: 7)")
    parser.add_argument(
        "--copy-megabytes", type=int, default=1024, metavar="N", help="size of the copies that are timed"
    )
    parser.add_argument(
        "--matrix-size", type=int, default=8192, metavar="N", help="size of the matrices that are timed"
    )
    parser.add_argument("--config", default="configs/cnn2d.yaml", help="recipe of the step (default: %(default)s)")
    parser.add_argument("--out", default=str(ROOT / "benchmarks"), metavar="DIR", help="folder of gpu.md")
    parser.add_argument("--no-tests", dest="tests", action="store_false", help="measure only")
    run_main(main, parser.parse_args())
