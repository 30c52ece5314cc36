"""Compare settings of a recipe on validation speakers.

The test speakers stay untouched, so that the best setting can be tested afterwards.
"""

import argparse

from serx.cli import common

EXAMPLES = """  %(prog)s --config cnn1d data.root=DIR --try optim.lr=[1e-3,3e-3]
  %(prog)s --config cnn1d data.root=DIR --seeds 0 1 --groups 5 \\
      --try optim.lr=[1e-3,2e-3,4e-3] --try model.dropout=[0.2,0.4]      (every combination)
  %(prog)s --config cnn2d data.root=DIR --one-at-a-time --try augment.waveform.noise.p=[0] \\
      --try model.relaxed_freq_norm=[0] --try train.ema_decay=[0]        (an ablation)
  %(prog)s --config cnn2d data.root=DIR --devices cuda:0 cuda:1 --sample 20 \\
      --try model.relaxed_freq_norm=[0,0.5,1] --try train.epochs=[20,40,80] --try optim.weight_decay=[0.01,0.1]"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipe, the settings to try, and on what."""
    common.add_config(parser)
    parser.add_argument(
        "--try",
        dest="tried",
        action="append",
        required=True,
        metavar="KEY=[A,B]",
        help="values of a setting to compare; several --try give every combination; the unchanged recipe runs as well",
    )
    parser.add_argument(
        "--one-at-a-time", action="store_true", help="change one setting of the recipe at a time: an ablation"
    )
    parser.add_argument("--sample", type=int, metavar="N", help="train only N of the combinations, chosen at random")
    parser.add_argument(
        "--groups",
        type=int,
        default=3,
        metavar="K",
        help="speaker groups; each validates once while the others train; default: 3",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="default: checkpoints/<config>/sweep; runs that are finished there are not trained again",
    )
    common.add_workers(parser, "runs")
    common.add_json(parser, "the content of sweep.json, or null if no setting is finished")


def main(arguments: argparse.Namespace) -> int:
    """Trains every setting on every group, and prints the ranking."""
    from serx.evaluation.ranking import format_ranking
    from serx.experiments.fold_runs import Workers
    from serx.experiments.sweep import plan_settings, sweep

    settings = plan_settings(
        arguments.config, arguments.overrides, arguments.tried, arguments.sample, arguments.one_at_a_time
    )
    out = common.folder_of_runs(arguments, settings[0].config.train.output, "sweep")
    devices = tuple(arguments.devices or ())
    processes = max(1, len(devices)) if arguments.processes is None else arguments.processes
    seeds = list(dict.fromkeys(arguments.seeds or [settings[0].config.train.seed]))
    ranking, code = sweep(settings, out, arguments.groups, seeds, Workers(processes, devices))
    if arguments.json:
        common.print_json(arguments, ranking)
    if ranking:
        if not arguments.json:
            print(f"\n{format_ranking(ranking)}")
        print(f"written: {out / 'sweep.json'}, and in the same folder sweep.md, sweep.png and best.yaml (the best)")
        best = str(out / "best.yaml")
        print(f"to test it: {common.command_line('cross-validate', arguments, '--config', best)}")
    return code
