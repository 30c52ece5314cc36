#!/usr/bin/env python3
"""Train and test every fold of a protocol, a baseline beside it, and say what they come to together."""

import json
from pathlib import Path

from serx import commands
from serx.errors import ConfigError

BASELINE = Path("configs/baseline.yaml")


def main(arguments) -> int:
    if arguments.compare:
        return compare(*arguments.compare)
    if not arguments.config:
        raise ConfigError("give --config FILE, or --compare DIR_A DIR_B of two that are finished")
    from serx.config import load
    from serx.evaluation.cross_validation import format_cross_validation
    from serx.experiments.cross_validation import Workplace, cross_validate

    config = load(arguments.config, arguments.overrides)
    out = Path(arguments.out or Path("checkpoints") / Path(arguments.config).stem / "cross_validation")
    devices = tuple(arguments.devices or ())
    place = Workplace(Path(__file__).parent, arguments.processes or max(1, len(devices)), devices)
    seeds = list(dict.fromkeys(arguments.seeds or [config.train.seed]))
    ended = cross_validate(config, out, seeds, place)
    codes = [ended.exit_code]
    baseline = Path(arguments.baseline) if arguments.baseline else BASELINE
    wanted = arguments.baseline != "none" and (arguments.baseline or BASELINE.exists())
    beside = None
    if wanted and ended.exit_code < 128:
        print(f"\nbaseline {baseline}, on the same folds")
        same_data = load(baseline).model_copy(update={"data": config.data})
        beside = cross_validate(same_data, out / "baseline", seeds, place)
        codes.append(beside.exit_code)
    if ended.summary:
        print(f"\n{format_cross_validation(ended.summary)}")
        print(f"written: {out / 'cross_validation.json'}, predictions.csv, confusion.png, speakers.png beside it")
    if ended.summary and beside and beside.summary and not any(codes):
        print()
        compare(out, out / "baseline", out / "comparison.json")
    return next((code for code in codes if code), 0)


def compare(a, b, written=None) -> int:
    from serx.evaluation.comparison import compare as compare_folds
    from serx.evaluation.comparison import format_comparison
    from serx.evaluation.cross_validation import read_cross_validation
    from serx.evaluation.report import write_files

    result = compare_folds(read_cross_validation(Path(a)), read_cross_validation(Path(b)))
    if written:
        write_files(written.parent, {written.name: (json.dumps(result, indent=2) + "\n").encode()})
    print(format_comparison(result, (str(a), str(b))), end="")
    return 0


if __name__ == "__main__":
    parser = commands.parser(
        __doc__,
        "  python scripts/cross_validate.py --config configs/cnn1d.yaml data.root=/corpora/ravdess data.protocol=loso\n"
        "  python scripts/cross_validate.py --config configs/cnn2d.yaml --seeds 0 1 2 --devices cuda:0 cuda:1\n"
        "  python scripts/cross_validate.py --compare runs/cnn1d runs/cnn2d     (two that are finished, clip by clip)",
    )
    parser.add_argument("--config", help="a YAML file, such as configs/cnn1d.yaml")
    parser.add_argument("--out", help="default: checkpoints/<config>/cross_validation; finished folds there are kept")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="N", help="default: train.seed")
    parser.add_argument("--processes", type=int, metavar="N", help="folds at a time; default: one, or one a device")
    parser.add_argument("--devices", nargs="+", metavar="DEVICE", help="dealt to the processes, such as cuda:0 cuda:1")
    parser.add_argument(
        "--baseline", help="another configuration on the same folds; default: configs/baseline.yaml, or none"
    )
    parser.add_argument("--compare", nargs=2, metavar="DIR", help="compare two finished cross-validations clip by clip")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings over those of the file")
    commands.run(main, parser.parse_intermixed_args())
