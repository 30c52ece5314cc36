"""Evaluate a checkpoint under noise, reverberation, telephones and other levels.

The clips are those of held-out speakers.
"""

import argparse
import json
from pathlib import Path

from serx.cli import common

EXAMPLES = """  %(prog)s --checkpoint checkpoints/cnn1d/RUN/best.safetensors
  %(prog)s --checkpoint best.safetensors --noise /sounds/streets --out results/stress"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The checkpoint, the clips, and recordings of noise."""
    common.add_held_out(parser, ["test", "valid"], "stress.json and stress.png")
    parser.add_argument("--noise", metavar="FOLDER", help="noise recordings to mix in, in addition to synthetic noise")


def main(arguments: argparse.Namespace) -> int:
    """Evaluates every condition, and prints and writes the table."""
    import numpy as np

    from serx.device import choose_device
    from serx.evaluation.held_out import held_out
    from serx.evaluation.report import write_files
    from serx.evaluation.stress import format_stress, stress
    from serx.plots.experiments import stress_figure
    from serx.plots.style import figure_png

    path = Path(arguments.checkpoint)
    out = Path(arguments.out or path.parent)
    held = held_out(path, arguments.root, arguments.part, choose_device(arguments.device, "--device"))
    for note in held.notes:
        print(f"note: {note}")
    result = {"checkpoint": str(path), "part": arguments.part, **stress(held, arguments.noise)}
    chance = 1 / len(np.unique(held.dataset.targets[held.clips]))
    figure = stress_figure(result, chance, f"Stress test [{result['protocol']}]")
    files = {"stress.png": figure_png(figure), "stress.json": f"{json.dumps(result, indent=2)}\n".encode()}
    write_files(out, files)
    print(format_stress(result))
    print(f"written: {out / 'stress.json'}, and in the same folder stress.png")
    return 0
