"""Train an emotion classifier from a recipe."""

import argparse
from pathlib import Path

from serx.cli import common

EXAMPLES = """  %(prog)s --config configs/cnn1d.yaml data.root=/corpora/ravdess
  %(prog)s --config cnn2d data.root=/corpora/ravdess data.fold=1 train.seed=3 train.output=checkpoints/fold1
  %(prog)s --config cnn2d --resume                   (the newest run of that recipe)
  %(prog)s --config mine.yaml --import my_models     (a model kind registered in my_models.py)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipe, and whether to resume."""
    common.add_config(parser)
    parser.add_argument("--resume", action="store_true", help="continue the run in train.output, or the newest one")


def main(arguments: argparse.Namespace) -> int:
    """Trains, and prints which epoch was kept and how to evaluate it."""
    from serx.config.loader import load_config
    from serx.training.run_folder import choose_run_folder
    from serx.training.trainer import fit

    config = load_config(arguments.config, arguments.overrides)
    folder = choose_run_folder(config.train.output, Path(arguments.config).stem, arguments.resume)
    outcome = fit(config, folder, arguments.resume)
    if outcome.stopped_by is not None:
        words = ("--config", str(folder / "config.yaml"), f"train.output={folder}", "--resume")
        print(f"stopped; continue with: {common.command_line('train', arguments, *words)}")
        return 128 + outcome.stopped_by
    kept = outcome.best
    if not kept:
        print("no epoch had a finite score, so there is no best.safetensors; lower optim.lr, or check the data")
        return 4
    epoch, score = f"epoch {kept['epoch'] + 1}", kept["valid"]
    uar = f", validation UAR {100 * score['uar']:.1f}" if score else ""
    print(
        f"kept: {epoch} (last){uar} ({kept['protocol']})"
        if config.train.select == "last"
        else f"best: {epoch}{uar} ({kept['protocol']})"
    )
    best = str(folder / "best.safetensors")
    print(f"evaluate: {common.command_line('evaluate', arguments, '--checkpoint', best)}")
    return 0
