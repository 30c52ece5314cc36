"""Compare finished runs: scores, settings that differ, learning curves, and paired tests over speakers.

Each run is compared with the first one. A run is the folder of a training that was evaluated, or of a
cross-validation. Runs of the same clips only can be compared speaker by speaker.
"""

import argparse
from pathlib import Path

from serx.cli.options import add_import
from serx.cli.output import add_json, add_report, how_to_reproduce, print_json, write_page
from serx.terminal import show

EXAMPLES = """  %(prog)s checkpoints/mlp/RUN checkpoints/cnn1d/RUN              (two trainings)
  %(prog)s runs/cnn1d runs/cnn2d --report comparison.html         (two cross-validations, also as a page)
  %(prog)s runs/whole runs/no_norm runs/no_masks --markdown       (an ablation, as a Markdown table)"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folders, and the form of the output."""
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="folders of finished runs or cross-validations; the first is the reference",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--markdown", action="store_true", help="print one Markdown table instead, a run a row")
    add_json(form, "`runs`, `comparisons`, `settings` and `curves`")
    add_report(parser, "the comparison")
    add_import(parser)


def main(arguments: argparse.Namespace) -> int:
    """Prints the comparison; returns 6 where no run could be compared with the first."""
    from serx.errors import DataError
    from serx.evaluation.comparison import compare_runs
    from serx.evaluation.comparison_report import comparison_blocks, markdown_comparison
    from serx.evaluation.finished_runs import read_run

    result = compare_runs([read_run(Path(folder)) for folder in arguments.runs])
    if arguments.json:
        print_json(arguments, result)
    elif arguments.markdown:
        print(markdown_comparison(result), end="")
    else:
        show(comparison_blocks(result))
    if arguments.report:
        from serx.pages import comparison_page

        write_page(arguments.report, comparison_page(result, how_to_reproduce(arguments, {})))
    refused = [comparison["not_compared"] for comparison in result["comparisons"] if "not_compared" in comparison]
    if len(refused) == len(result["comparisons"]):
        raise DataError(f"{arguments.runs[0]} can be compared with no other run: {refused[0]}")
    return 0
