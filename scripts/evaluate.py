#!/usr/bin/env python3
"""Evaluate a checkpoint on the held-out speakers of its own protocol."""

import json
from argparse import BooleanOptionalAction
from pathlib import Path

from serx.cli import common as commands


def main(arguments) -> int:
    from serx.device import choose_device
    from serx.evaluation.held_out import evaluate_checkpoint
    from serx.evaluation.report import format_report, write_report
    from serx.training.run_folder import read_metrics

    path = Path(arguments.checkpoint)
    device = choose_device(arguments.device, "--device")
    result = evaluate_checkpoint(
        path, arguments.root, arguments.part, device, arguments.allow_seen, adapt=arguments.adapt
    )
    for note in result.notes:
        print(f"note: {note}")
    out, epochs = Path(arguments.out or path.parent), read_metrics(path.parent)
    written = write_report(out, result.predictions, result.stamp, result.extra, epochs)
    print(format_report(json.loads(written.read_text())))
    pictures = "confusion.png, report.png, speakers.png, calibration.png" + (", curves.png" if epochs else "")
    print(f"written: {written}, predictions.csv, {pictures} beside it")
    return 0


if __name__ == "__main__":
    parser = commands.parser(
        __doc__,
        "  python scripts/evaluate.py --checkpoint checkpoints/cnn1d/RUN/best.safetensors\n"
        "  python scripts/evaluate.py --checkpoint best.safetensors --root /corpora/emodb --out results/emodb",
    )
    commands.add_held_out(parser, ["test", "valid", "all"], "evaluation.json and pictures")
    parser.add_argument("--allow-seen", action="store_true", help="evaluate training speakers too, marked as such")
    parser.add_argument(
        "--adapt",
        action=BooleanOptionalAction,
        help="each speaker's clips, unlabeled, make the voice known first; default: the recipe's model.adapt",
    )
    commands.run(main, parser.parse_args())
