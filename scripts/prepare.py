#!/usr/bin/env python3
"""Look at a corpus as a training would: decode it once, count it, split it, and say what in it would mislead."""

from serx.cli import common as commands


def main(arguments) -> int:
    import torch

    from serx.config.loader import load
    from serx.data.audit import audit
    from serx.data.batches import make_batch_source
    from serx.data.dataset import load_dataset

    config = load(arguments.config, arguments.overrides)
    dataset = load_dataset(config.data)
    for note in dataset.notes:
        print(f"note: {note}")
    found = audit(
        dataset,
        make_batch_source(dataset.audio_cache, torch.device("cpu"), config.data.placement),
        config.data.sample_rate,
    )
    print("\n".join(tables(found)))
    print("\n".join(folds(dataset, config.data)))
    for warning in found.warnings:
        print(f"warning: {warning}")
    return 0


def tables(found) -> list[str]:
    """Clips by emotion and corpus, then by speaker."""
    import numpy as np

    from serx.evaluation.tables import table

    corpora = list(next(iter(found.counts.values())))
    low, middle, high = np.quantile(found.seconds, (0, 0.5, 1))
    title = f"{len(found.seconds)} clips, {found.seconds.sum() / 60:.0f} minutes, each {low:.1f} to {high:.1f} s"
    rows = [[label, *(_cell(*counts[name]) for name in corpora)] for label, counts in found.counts.items()]
    lines = table(f"{title} (median {middle:.1f}); clips (speakers) by emotion", ["", *corpora], rows)
    rows = [
        [one.speaker_id, one.sex or "-", one.clips, f"{one.minutes:.1f}", f"{one.level_db:.0f}", _percent(one.odd)]
        for one in found.speakers
    ]
    header = ["", "sex", "clips", "minutes", "level, dB", "odd, %"]
    return lines + table("Speakers; odd are clips recorded unlike everybody else's", header, rows)


def folds(dataset, config) -> list[str]:
    """What each fold of the protocol would train, validate and test on, or why it cannot."""
    from serx.data.dataset import split_dataset
    from serx.data.protocols import fold_count
    from serx.errors import DataError

    lines = ["", f"Protocol {config.protocol}"]
    for number in range(fold_count(dataset.utterances, config)):
        try:
            split = split_dataset(dataset, config.model_copy(update={"fold": number}))
        except DataError as error:
            lines.append(f"  fold {number}: {error}")
            continue
        parts = {"train": split.train, "valid": split.valid, "test": split.test}
        sizes = ", ".join(f"{len(part)} {name} ({len(dataset.speaker_ids(part))})" for name, part in parts.items())
        testers = dataset.speaker_ids(split.test)
        more = f", and {len(testers) - 8} more" if len(testers) > 8 else ""
        lines.append(f"  fold {number}: {sizes}; test: {', '.join(testers[:8])}{more}")
    return [*lines, ""]


def _cell(clips: int, speakers: int) -> str:
    return f"{clips} ({speakers})" if clips else "-"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f}"


if __name__ == "__main__":
    parser = commands.parser(
        __doc__,
        "  python scripts/prepare.py --config configs/cnn2d.yaml data.root=/corpora/ravdess\n"
        "  python scripts/prepare.py --config configs/joined.yaml data.root=[/corpora/ravdess,/corpora/mine.csv]",
    )
    parser.add_argument("--config", required=True, help="a YAML file, such as configs/cnn1d.yaml")
    parser.add_argument("overrides", nargs="*", metavar="section.key=value", help="settings over those of the file")
    commands.run(main, parser.parse_intermixed_args())
