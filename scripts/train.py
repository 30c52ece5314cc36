#!/usr/bin/env python3
"""Train an emotion classifier from a configuration."""

import shlex
from pathlib import Path

from serx.cli import common as commands


def main(arguments) -> int:
    from serx.config.loader import load
    from serx.training.run_folder import choose_run_folder
    from serx.training.trainer import fit

    config = load(arguments.config, arguments.overrides)
    folder = choose_run_folder(config.train.output, Path(arguments.config).stem, arguments.resume)
    outcome = fit(config, folder, arguments.resume)
    if outcome.stopped_by is not None:
        again = ["python", "scripts/train.py", "--config", str(folder / "config.yaml"), f"train.output={folder}"]
        print(f"stopped; go on with: {shlex.join(again)} --resume")
        return 128 + outcome.stopped_by
    best = outcome.best
    if not best:
        print("no epoch had a finite score: there is no best.safetensors; lower optim.lr, or look at the data")
        return 4
    valid = f"validation UAR {100 * best['valid']['uar']:.1f}" if best["valid"] else "the last"
    print(f"best: epoch {best['epoch'] + 1}, {valid} ({best['protocol']})")
    print(f"evaluate: python scripts/evaluate.py --checkpoint {folder / 'best.safetensors'}")
    return 0


if __name__ == "__main__":
    parser = commands.parser(
        __doc__,
        "  python scripts/train.py --config configs/cnn1d.yaml data.root=/corpora/ravdess\n"
        "  python scripts/train.py --config configs/cnn2d.yaml data.fold=1 train.seed=3 train.output=checkpoints/x\n"
        "  python scripts/train.py --config configs/cnn2d.yaml --resume     (the newest run of that name)",
    )
    parser.add_argument("--config", required=True, help="a YAML file, such as configs/cnn1d.yaml")
    parser.add_argument("--resume", action="store_true", help="go on with the run in train.output, or the newest one")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings over those of the file")
    commands.run(main, parser.parse_intermixed_args())
