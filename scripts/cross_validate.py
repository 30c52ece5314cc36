#!/usr/bin/env python3
"""Train and test every fold of a protocol, a baseline beside it, and say what they come to together."""

import sys
from pathlib import Path

from serx.cli import common as commands
from serx.errors import ConfigError

BASELINE = Path("configs/baseline.yaml")


def main(arguments) -> int:
    if arguments.compare:
        from serx.experiments.compare import compare_cross_validations

        print(compare_cross_validations(*map(Path, arguments.compare)), end="")
        return 0
    if arguments.table:
        from serx.experiments.compare import comparison_table

        print(comparison_table([Path(folder) for folder in arguments.table]), end="")
        return 0
    if not arguments.config:
        raise ConfigError("give --config FILE, or --compare or --table with folders of those that are finished")
    from serx.config.loader import load
    from serx.evaluation.pooling import format_cross_validation
    from serx.experiments.adapted import ADAPTED, adapt_folds, check_can_adapt
    from serx.experiments.compare import beside, compare_cross_validations
    from serx.experiments.cross_validation import cross_validate
    from serx.experiments.fold_runs import Workers

    config = load(arguments.config, arguments.overrides)
    named = Path(arguments.baseline or BASELINE)
    wanted = arguments.baseline != "none" and (arguments.baseline is not None or named.exists())
    baseline = beside(config, load(named)) if wanted else None
    out = Path(arguments.out or Path("checkpoints") / Path(arguments.config).stem / "cross_validation")
    devices = tuple(arguments.devices or ())
    processes = max(1, len(devices)) if arguments.processes is None else arguments.processes
    place = Workers(Path(__file__).parent, processes, devices)
    seeds = list(dict.fromkeys(arguments.seeds or [config.train.seed]))
    only = arguments.folds or ()
    if arguments.adapt:
        check_can_adapt(config)
    net = cross_validate(config, out, seeds, place, only)
    if net.summary:
        print(f"\n{format_cross_validation(net.summary)}")
        print(f"written: {out / 'cross_validation.json'}, predictions.csv, confusion.png, speakers.png beside it")
    if arguments.adapt and net.summary and net.exit_code < 128:
        print()
        known = adapt_folds(config, out, place)
        if known.summary:
            print(f"\n{format_cross_validation(known.summary)}")
            print(compare_cross_validations(out / ADAPTED, out, out / ADAPTED), end="")
        if known.exit_code:
            return net.exit_code or known.exit_code
    if baseline is None or net.exit_code >= 128:
        return net.exit_code
    print(f"\nbaseline: {named} on the same folds")
    other = cross_validate(baseline, out / "baseline", seeds, place, only)
    if net.exit_code == other.exit_code == 0:
        print(f"\n{compare_cross_validations(out, out / 'baseline', out)}", end="")
    return net.exit_code or other.exit_code


if __name__ == "__main__":
    parser = commands.parser(
        __doc__,
        "  python scripts/cross_validate.py --config configs/cnn1d.yaml data.root=/corpora/ravdess data.protocol=loso\n"
        "  python scripts/cross_validate.py --config configs/cnn2d.yaml --seeds 0 1 2 --devices cuda:0 cuda:1\n"
        "  python scripts/cross_validate.py --compare runs/cnn1d runs/cnn2d     (two that are finished)\n"
        "  python scripts/cross_validate.py --table runs/whole runs/no_relax runs/no_masks     (an ablation)",
    )
    parser.add_argument("--config", help="a YAML file, such as configs/cnn1d.yaml")
    parser.add_argument("--out", help="default: checkpoints/<config>/cross_validation; finished folds there are kept")
    parser.add_argument("--folds", type=int, nargs="+", metavar="N", help="some of them; default: all")
    commands.add_processes(parser, "folds")
    parser.add_argument(
        "--baseline", help="another configuration on the same folds; default: configs/baseline.yaml, or none"
    )
    parser.add_argument(
        "--adapt",
        action="store_true",
        help="then hear the test speakers once more, each voice made known by its clips: into OUT/enrolled",
    )
    parser.add_argument(
        "--compare", nargs=2, metavar="DIR", help="compare two finished cross-validations, speaker by speaker"
    )
    parser.add_argument("--table", nargs="+", metavar="DIR", help="Markdown, a row each of several that are finished")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings over those of the file")
    commands.run(main, parser.parse_intermixed_args(commands.overrides_first(sys.argv[1:])))
