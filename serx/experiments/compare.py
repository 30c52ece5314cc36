"""Cross-validations beside each other: a baseline on a net's folds, what lies between two, and a table of many."""

import json
from collections.abc import Sequence
from pathlib import Path

from serx.config.loader import Config
from serx.errors import DataError
from serx.evaluation.comparison import compare, format_comparison
from serx.evaluation.pooling import FoldResult, read_cross_validation, stamp_of, summarize_folds
from serx.evaluation.report import write_files
from serx.evaluation.stamps import is_adapted
from serx.evaluation.tables import markdown, percent

COLUMNS = ("run", "UAR of each fold", "UAR", "accuracy", "men less women", "UAR less the first")
COMPARISON = "comparison.json"


def beside(config: Config, baseline: Config) -> Config:
    """The baseline on the data and the device of `config`; where there nobody validates, its own share chooses."""
    share = config.data.valid_fraction or baseline.data.valid_fraction
    data = config.data.model_copy(update={"valid_fraction": share})
    place = {name: getattr(config.train, name) for name in ("seed", "device", "threads")}
    return baseline.model_copy(update={"data": data, "train": baseline.train.model_copy(update=place)})


def compare_cross_validations(a: Path, b: Path, written: Path | None = None) -> str:
    """The comparison of the folds that two folders have in common, for a terminal; as JSON into `written`, too.

    Raises:
        DataError: one of them holds no cross-validation, or they tested different clips.
        DiskError: the file cannot be written.
    """
    ours, theirs = read_cross_validation(a), read_cross_validation(b)
    common = {fold.fold for fold in ours} & {fold.fold for fold in theirs}
    if common:  # else compare says what differs
        ours, theirs = ([fold for fold in some if fold.fold in common] for some in (ours, theirs))
    result = compare(ours, theirs)
    if written:
        write_files(written, {COMPARISON: (json.dumps(result, indent=2) + "\n").encode()})
    return format_comparison(result, (str(a), str(b)))


def comparison_table(folders: Sequence[Path]) -> str:
    """Markdown with a row for each finished cross-validation, in %: of an ablation, the first being the recipe whole.

    Intervals (95 %) are over speakers. Where a row tested other clips than the first, no difference is given; where it
    stands under another protocol, the row says so.

    Raises:
        DataError: one of them holds no cross-validation.
    """
    read = [read_cross_validation(folder) for folder in folders]
    stamp = stamp_of(read[0])
    rows = [_row(folder, tested, read[0], stamp) for folder, tested in zip(folders, read, strict=True)]
    return f"{stamp}:\n\n{markdown(COLUMNS, rows)}"


def _row(folder: Path, tested: Sequence[FoldResult], first: Sequence[FoldResult], stamp: str) -> list[str]:
    summary = summarize_folds(tested)
    name, other = f"`{folder}`", summary["protocol"]
    difference = "another protocol" if is_adapted(other) != is_adapted(stamp) else ""
    if tested is first:
        difference = "-"
    elif not difference:
        try:
            uar = compare(tested, first)["uar"]
            difference = f"{100 * uar['difference']:+.1f}{_interval(uar['interval'], '+.1f')}"
        except DataError:
            difference = "other clips"
    return [
        name if other == stamp else f"{name} [{other}]",
        ", ".join(percent(uar).strip() for uar in summary["per_fold"]["uar"]),
        f"{percent(summary['uar']).strip()}{_interval(summary['intervals']['uar'], '.1f')}",
        percent(summary["accuracy"]).strip(),
        "" if summary["sex_gap_accuracy"] is None else f"{summary['sex_gap_accuracy']:+.1f}",
        difference,
    ]


def _interval(bounds: Sequence[float] | None, form: str) -> str:
    return f" ({100 * bounds[0]:{form}} to {100 * bounds[1]:{form}})" if bounds else ""
