"""Two cross-validations beside each other: a baseline on a net's folds, and what lies between the two."""

import json
from pathlib import Path

from serx.config import Config
from serx.evaluation.comparison import compare, format_comparison
from serx.evaluation.cross_validation import read_cross_validation
from serx.evaluation.report import write_files

COMPARISON = "comparison.json"


def beside(config: Config, baseline: Config) -> Config:
    """The baseline on the data and the device of `config`; where there nobody validates, its own share chooses."""
    share = config.data.valid_share or baseline.data.valid_share
    data = config.data.model_copy(update={"valid_share": share})
    place = {name: getattr(config.train, name) for name in ("seed", "device", "threads")}
    return baseline.model_copy(update={"data": data, "train": baseline.train.model_copy(update=place)})


def compare_folders(a: Path, b: Path, written: Path | None = None) -> str:
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
