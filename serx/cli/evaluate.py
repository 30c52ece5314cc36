"""Evaluate a checkpoint on the held-out speakers of its own protocol."""

import argparse

from serx.cli import common

EXAMPLES = """  %(prog)s --checkpoint checkpoints/cnn1d/RUN/best.safetensors
  %(prog)s --checkpoint best.safetensors --adapt                   (adapted to each test speaker, without labels)
  %(prog)s --checkpoint best.safetensors --root /corpora/emodb --out results/emodb     (another corpus)
  %(prog)s --checkpoint superb/wav2vec2-base-superb-er@refs/pr/2 --root /corpora/emodb --out results/superb
  %(prog)s --root /corpora/emodb --out results/emodb     (the model that ships with serx)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The checkpoint, the clips, and how to treat their speakers."""
    common.add_held_out(parser, ["test", "valid", "all"], "evaluation.json, predictions.csv and figures")
    parser.add_argument(
        "--allow-seen", action="store_true", help="evaluate training speakers as well; the report says so"
    )
    parser.add_argument(
        "--adapt",
        action=argparse.BooleanOptionalAction,
        help="adapt the model to each speaker with that speaker's unlabeled clips first; default: model.adapt",
    )


def main(arguments: argparse.Namespace) -> int:
    """Evaluates, writes the report and prints it."""
    from serx.device import choose_device
    from serx.errors import ConfigError
    from serx.evaluation import evaluate
    from serx.inference.published import is_published
    from serx.training.run_folder import read_metrics

    if arguments.checkpoint and is_published(arguments.checkpoint) and not arguments.out:
        raise ConfigError(
            f"{arguments.checkpoint}: a published model has no run folder; say with --out where the report goes"
        )
    path, out = common.held_out_model(arguments)
    device = choose_device(arguments.device, "--device")
    evaluation = evaluate(
        path,
        arguments.root,
        arguments.part,
        device,
        arguments.allow_seen,
        adapt=arguments.adapt,
        cache=arguments.cache,
    )
    for note in evaluation.notes:
        print(f"note: {note}")
    epochs, warnings = read_metrics(path.parent)
    for warning in warnings:
        print(f"warning: {warning}")
    written = evaluation.write(out, epochs)
    print(evaluation.report())
    figures = "confusion.png, report.png, speakers.png, calibration.png" + (", curves.png" if epochs else "")
    print(f"written: {written}, and in the same folder predictions.csv, {figures}")
    return 0
