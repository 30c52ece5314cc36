#!/usr/bin/env python3
"""Hear the held-out speakers in noise, in rooms, over telephones, at other levels: what is left of the figure?"""

import json
from pathlib import Path

from serx.cli import common as commands


def main(arguments) -> int:
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
    print(f"written: {out / 'stress.json'}, stress.png beside it")
    return 0


if __name__ == "__main__":
    parser = commands.parser(
        __doc__,
        "  python scripts/stress.py --checkpoint checkpoints/cnn1d/RUN/best.safetensors\n"
        "  python scripts/stress.py --checkpoint best.safetensors --noise /sounds/streets --out results/stress",
    )
    commands.add_held_out(parser, ["test", "valid"], "stress.json and stress.png")
    parser.add_argument("--noise", metavar="FOLDER", help="recordings of noises to be mixed in as well")
    commands.run(main, parser.parse_args())
