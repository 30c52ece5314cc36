"""Evaluate a checkpoint under noise, reverberation, telephones and other levels.

The clips are those of held-out speakers.
"""

import argparse

from serx.cli.options import add_held_out, held_out_model
from serx.cli.output import add_json, print_json
from serx.terminal import show

EXAMPLES = """  %(prog)s --checkpoint checkpoints/cnn1d/RUN/best.safetensors
  %(prog)s --checkpoint best.safetensors --noise /sounds/streets --out results/stress"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The checkpoint, the clips, and recordings of noise."""
    add_held_out(parser, ["test", "valid"], "stress.json and stress.png")
    add_json(parser, "the content of stress.json")
    parser.add_argument("--noise", metavar="FOLDER", help="noise recordings to mix in, in addition to synthetic noise")


def main(arguments: argparse.Namespace) -> int:
    """Evaluates every condition, and prints and writes the table."""
    from serx.device import choose_device
    from serx.evaluation.held_out import load_held_out
    from serx.evaluation.stress import stress_blocks, stress_test, write_stress_test

    path, out = held_out_model(arguments)
    device = choose_device(arguments.device, "--device")
    held = load_held_out(
        path, arguments.root, arguments.part, device, cache=arguments.cache, emotions=arguments.emotions
    )
    for note in held.notes:
        print(f"note: {note}")
    result = stress_test(held, arguments.noise)
    write_stress_test(out, result)
    if arguments.json:
        print_json(arguments, result)
    else:
        show([*stress_blocks(result), ""])
    print(f"written: {out / 'stress.json'}, and in the same folder stress.png")
    return 0
