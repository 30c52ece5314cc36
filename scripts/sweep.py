#!/usr/bin/env python3
"""Try settings of a recipe on validation speakers; the test speakers are not heard."""

import sys
from pathlib import Path

from serx.cli import common as commands


def main(arguments) -> int:
    from serx.evaluation.ranking import format_ranking
    from serx.experiments.fold_runs import Workers
    from serx.experiments.sweep import plan_settings, sweep

    settings = plan_settings(
        arguments.config, arguments.overrides, arguments.tried, arguments.sample, arguments.one_at_a_time
    )
    out = Path(arguments.out or Path("checkpoints") / Path(arguments.config).stem / "sweep")
    devices = tuple(arguments.devices or ())
    processes = max(1, len(devices)) if arguments.processes is None else arguments.processes
    place = Workers(Path(__file__).parent, processes, devices)
    seeds = list(dict.fromkeys(arguments.seeds or [settings[0].config.train.seed]))
    ranking, code = sweep(settings, out, arguments.groups, seeds, place)
    if ranking:
        print(f"\n{format_ranking(ranking)}")
        print(f"written: {out / 'sweep.json'}, sweep.md, sweep.png and best.yaml, the best of them, beside it")
        print(f"to test it: python scripts/cross_validate.py --config {out / 'best.yaml'}")
    return code


if __name__ == "__main__":
    parser = commands.parser(
        __doc__,
        "  python scripts/sweep.py --config configs/cnn1d.yaml data.root=DIR --try optim.lr=[1e-3,3e-3]\n"
        "  python scripts/sweep.py --config configs/cnn1d.yaml data.root=DIR --seeds 0 1 --groups 5 \\\n"
        "      --try optim.lr=[1e-3,2e-3,4e-3] --try model.dropout=[0.2,0.4]      (each with each)\n"
        "  python scripts/sweep.py --config configs/cnn2d.yaml data.root=DIR --one-at-a-time \\\n"
        "      --try augment.waveform.noise.p=[0] --try model.relaxed_freq_norm=[0] --try train.ema_decay=[0]      (an ablation)\n"
        "  python scripts/sweep.py --config configs/cnn2d.yaml data.root=DIR --devices cuda:0 cuda:1 --sample 20 \\\n"
        "      --try model.relaxed_freq_norm=[0,0.5,1] --try train.epochs=[20,40,80] --try optim.weight_decay=[0.01,0.1]",
    )
    parser.add_argument("--config", required=True, help="a YAML file, such as configs/cnn1d.yaml")
    parser.add_argument(
        "--try",
        dest="tried",
        action="append",
        required=True,
        metavar="KEY=[A,B]",
        help="values of a setting; of several settings each with each; the recipe as it is runs beside them",
    )
    parser.add_argument(
        "--one-at-a-time", action="store_true", help="each value for itself, all else as the recipe has it: an ablation"
    )
    parser.add_argument("--sample", type=int, metavar="N", help="only so many of the combinations, drawn at random")
    parser.add_argument(
        "--groups", type=int, default=3, metavar="K", help="of speakers, which validate in turn; default: 3"
    )
    parser.add_argument("--out", help="default: checkpoints/<config>/sweep; finished runs there are kept")
    commands.add_processes(parser, "runs")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings over those of the file")
    commands.run(main, parser.parse_intermixed_args(commands.overrides_first(sys.argv[1:])))
