"""Examine a corpus before training: counts, folds and warnings.

Decodes the corpus as training does, counts clips and speakers, says what is missing of a known corpus, splits by the
protocol, and warns of what would mislead, such as an emotion that only some speakers recorded or a corpus whose
recordings differ in level.
"""

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from serx.cli.options import add_config
from serx.cli.output import add_json, print_json
from serx.terminal import Table, show, wrap

if TYPE_CHECKING:
    from serx.data.audit import Audit
    from serx.data.dataset import DataConfig, Dataset

EXAMPLES = """  %(prog)s --config cnn2d data.root=/corpora/ravdess
  %(prog)s --config cross_corpus data.root=[/corpora/ravdess,/corpora/mine.csv]"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The recipe whose data section is examined."""
    add_config(parser)
    add_json(
        parser,
        "`clips`, `seconds`, `emotions`, `speakers`, `protocol`, `folds`, `duplicates`, `corpus_probe`, `warnings`, "
        "`notes`",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="compare all decoded audio with its digests; of large caches only samples are",
    )


def main(arguments: argparse.Namespace) -> int:
    """Prints counts, speakers, folds and warnings."""
    import torch

    from serx.config.loader import load_config
    from serx.data.audit import audit_dataset
    from serx.data.batches import make_batch_source
    from serx.data.copies.duplicates import duplicates_of
    from serx.data.corpora.comparison import compare
    from serx.data.dataset import load_dataset
    from serx.data.scanning.snapshot import scan_once

    config = load_config(arguments.config, arguments.overrides)
    dataset = load_dataset(config.data, verify=arguments.verify)
    if arguments.verify:
        size = f"{len(dataset.utterances)} clips, {dataset.audio_cache.nbytes / 1e6:.1f} MB"
        print(f"verified: {size} of decoded audio are as written; decoded now: {dataset.audio_cache.decoded}")
    for note in dataset.notes:
        print(f"note: {note}")
    found = scan_once(config.data.root, config.data.styles, config.data, config.data.corpora)
    for line in compare(found.utterances):
        print(f"known corpus {line}")
    source = make_batch_source(dataset.audio_cache, torch.device("cpu"), config.data.placement)
    result = audit_dataset(dataset, source, config.data.sample_rate)
    ratings = rated(dataset)
    parts = folds(dataset, config.data)
    copies = [
        (dataset.utterances[copy.first], dataset.utterances[copy.second], copy.correlation)
        for copy in duplicates_of(dataset, config.data)
    ]
    if arguments.json:
        document = {
            **totals(result),
            **({"dimensions": ratings} if ratings else {}),
            "protocol": config.data.protocol,
            "folds": parts,
            "duplicates": [
                {"first": str(first.segment), "second": str(second.segment), "correlation": correlation}
                for first, second, correlation in copies
            ],
            "corpus_probe": result.corpus_probe,
            "warnings": result.warnings,
            "notes": dataset.notes,
        }
        print_json(arguments, document)
        return 0
    show([*tables(result), *rating_tables(ratings), *probe_lines(result), *fold_lines(parts, config.data.protocol)])
    for warning in result.warnings:
        print(f"warning: {warning}")
    for first, second, correlation in copies:
        print(
            f"warning: {first.segment} ({first.speaker_id}) and {second.segment} ({second.speaker_id}) hold the same "
            f"recording (correlation {correlation:.3f}): delete one, or set data.duplicates=drop_one or drop_all"
        )
    return 0


def totals(result: "Audit") -> dict[str, Any]:
    """Clips, durations, clips and speakers by emotion and corpus, and every speaker, ready for JSON."""
    import numpy as np

    low, middle, high = (float(value) for value in np.quantile(result.seconds, (0, 0.5, 1)))
    return {
        "clips": len(result.seconds),
        "seconds": {"total": float(result.seconds.sum()), "least": low, "median": middle, "most": high},
        "emotions": {
            label: {corpus: {"clips": clips, "speakers": speakers} for corpus, (clips, speakers) in of_label.items()}
            for label, of_label in result.counts.items()
        },
        "speakers": [dataclasses.asdict(speaker) for speaker in result.speakers],
    }


def rated(dataset: "Dataset") -> dict[str, dict[str, float]]:
    """Of each dimension the clips and speakers with a rating, and the least, mean and largest rating and spread."""
    import numpy as np

    found = {}
    for name, column in zip(dataset.dimensions, dataset.ratings.T, strict=True):
        clips = np.flatnonzero(~np.isnan(column))
        values = column[clips]
        found[name] = {
            "clips": len(clips),
            "speakers": len(dataset.speaker_ids(tuple(clips.tolist()))),
            "least": float(values.min()),
            "mean": float(values.mean()),
            "most": float(values.max()),
            "std": float(values.std()),
        }
    return found


def rating_tables(ratings: Mapping[str, Mapping[str, float]]) -> list[Table]:
    """The ratings of each dimension; nothing without dimensions."""
    rows = [
        [name, of["clips"], of["speakers"], *(f"{of[key]:.2f}" for key in ("least", "mean", "most", "std"))]
        for name, of in ratings.items()
    ]
    header = ["", "clips", "speakers", "least", "mean", "largest", "std"]
    return [Table("Ratings of dimensions", header, rows)] if rows else []


def tables(result: "Audit") -> list[Table]:
    """Clips by emotion and corpus, then by speaker."""
    import numpy as np

    corpora = list(next(iter(result.counts.values()), ()))
    low, middle, high = np.quantile(result.seconds, (0, 0.5, 1))
    title = f"{len(result.seconds)} clips, {result.seconds.sum() / 60:.0f} minutes, each {low:.1f} to {high:.1f} s"
    rows = [[label, *(_cell(*counts[name]) for name in corpora)] for label, counts in result.counts.items()]
    by_emotion = Table(f"{title} (median {middle:.1f}); clips (speakers) by emotion", ["", *corpora], rows)
    rows = [
        [
            speaker.speaker_id,
            speaker.sex or "-",
            str(speaker.clips),
            f"{speaker.minutes:.1f}",
            f"{speaker.level_db:.0f}",
            _percent(speaker.outliers),
        ]
        for speaker in result.speakers
    ]
    header = ["", "sex", "clips", "minutes", "level, dB", "outliers, %"]
    title = "Speakers; outliers: clips recorded differently from those of all other speakers"
    return [by_emotion, Table(title, header, rows, left=(0, 1))]


def probe_lines(result: "Audit") -> list[str]:
    """How well the recording channel tells the corpus of a clip; empty for a single corpus."""
    probe = result.corpus_probe
    if probe is None:
        return []
    accuracy, chance = _percent(probe["balanced_accuracy"]), _percent(probe["chance"])
    what = (
        "a linear probe tells the corpus of clips from their recording channel (levels and fading of frequency bands)"
    )
    return ["", *wrap(f"{what} in {accuracy} % (chance {chance} %)")]


def folds(dataset: "Dataset", config: "DataConfig") -> list[dict[str, Any]]:
    """What each fold of the protocol would train, validate and test on, or the `error` that says why it cannot."""
    from serx.data.dataset import split_dataset
    from serx.data.splits.protocols import fold_count
    from serx.errors import DataError

    parts: list[dict[str, Any]] = []
    for number in range(fold_count(dataset.utterances, config)):
        try:
            split = split_dataset(dataset, config.model_copy(update={"fold": number}))
        except DataError as error:
            parts.append({"fold": number, "error": str(error)})
            continue
        of_split = {"train": split.train, "valid": split.valid, "test": split.test}
        sizes = {name: {"clips": len(part), "speakers": dataset.speaker_ids(part)} for name, part in of_split.items()}
        parts.append({"fold": number, **sizes, "notes": split.notes})
    return parts


def fold_lines(parts: Sequence[Mapping[str, Any]], protocol: str) -> list[str]:
    """The folds as text."""
    lines = ["", f"Protocol {protocol}"]
    for fold in parts:
        if "error" in fold:
            lines.append(f"  fold {fold['fold']}: {fold['error']}")
            continue
        sizes = [f"{fold[name]['clips']} {name} ({len(fold[name]['speakers'])})" for name in ("train", "valid", "test")]
        testers = fold["test"]["speakers"]
        more = f", and {len(testers) - 8} more" if len(testers) > 8 else ""
        lines.append(f"  fold {fold['fold']}: {', '.join(sizes)}; test: {', '.join(testers[:8])}{more}")
        lines += [f"    {note}" for note in fold["notes"]]
    return [*lines, ""]


def _cell(clips: int, speakers: int) -> str:
    return f"{clips} ({speakers})" if clips else "-"


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.0f}"
