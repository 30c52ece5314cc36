"""Train an emotion classifier from a recipe."""

import argparse
from pathlib import Path

from serx.cli.commands import command_line
from serx.cli.options import add_config
from serx.cli.output import add_json, print_json

EXAMPLES = """  %(prog)s --config configs/cnn1d.yaml data.root=/corpora/ravdess
  %(prog)s --config cnn2d data.root=/corpora/ravdess data.fold=1 train.seed=3 train.output=checkpoints/fold1
  %(prog)s --config cnn2d --resume                   (the newest run of that recipe)
  %(prog)s --config mine.yaml --import my_models     (a model kind registered in my_models.py)
  torchrun --nproc-per-node 4 -m serx train --config cnn2d data.root=/corpora/ravdess     (on four GPUs)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipe, and what to do with a run that is there already."""
    add_config(parser)
    add_json(parser, "`run`, `checkpoint`, `kept` (the line of metrics.jsonl) and `stopped_by`")
    way = parser.add_mutually_exclusive_group()
    way.add_argument("--resume", action="store_true", help="continue the run in train.output, or the newest one")
    way.add_argument("--overwrite", action="store_true", help="delete the run that is in train.output first")


def main(arguments: argparse.Namespace) -> int:
    """Trains, and prints which epoch was kept and how to evaluate it."""
    from serx.config.loader import load_config
    from serx.training.distributed import join_world
    from serx.training.run_folder import choose_run_folder, holds_run, what_is_saved
    from serx.training.trainer import fit

    world = join_world()
    config = world.from_first(lambda: load_config(arguments.config, arguments.overrides))
    name, resume, overwrite = Path(arguments.config).stem, arguments.resume, arguments.overwrite
    folder = world.from_first(lambda: choose_run_folder(config.train.output, name, resume, overwrite))
    result = fit(config, folder, resume, overwrite=overwrite)
    if not world.is_first:  # the first process says how the run ended
        return 128 + result.stopped_by if result.stopped_by else 0
    if arguments.json:
        checkpoint = result.checkpoint if result.kept else None
        document = {"run": folder, "checkpoint": checkpoint, "kept": result.kept or None}
        print_json(arguments, {**document, "stopped_by": result.stopped_by})
    if result.stopped_by is not None and not holds_run(folder):
        print(f"stopped; {what_is_saved(folder)}")
        return 128 + result.stopped_by
    if result.stopped_by is not None:
        words = ("--config", str(folder / "config.yaml"), f"train.output={folder}", "--resume")
        print(f"stopped; continue with: {command_line('train', arguments, *words)}")
        return 128 + result.stopped_by
    kept = result.kept
    if not kept:
        print("no epoch had a finite score, so there is no best.safetensors; lower optim.lr, or check the data")
        return 4
    epoch, score = f"epoch {kept['epoch'] + 1}", kept["valid"]
    why = {
        "last": "the last",
        "uar": "the best validation UAR",
        "ccc": "the best mean validation CCC",
        "loss": "the lowest validation loss",
    }
    scores = f", validation UAR {100 * score['uar']:.1f}" if score and "uar" in score else ""
    scores += f", mean validation CCC {score['ccc']:.3f}" if score and "ccc" in score else ""
    print(f"kept: {epoch} ({why[config.train.select]}){scores} ({kept['protocol']})")
    words = ("--checkpoint", str(result.checkpoint), *(("--cache", config.data.cache) if config.data.cache else ()))
    print(f"evaluate: {command_line('evaluate', arguments, *words)}")
    return 0
