"""Recordings that a corpus holds twice, and the dataset without them (`data.duplicates`)."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from serx.data.cache.audio_cache import cache_folder, open_audio_cache
from serx.data.copies.pairs import Copy
from serx.data.copies.search import find_duplicates
from serx.data.dataset_notes import MAX_SHOWN
from serx.errors import DataError
from serx.terminal import printable

if TYPE_CHECKING:
    from serx.data.dataset import DataConfig, Dataset


def duplicates_of(dataset: "Dataset", config: "DataConfig", progress: bool = True) -> list[Copy]:
    """Pairs of clips of a dataset that hold the same recording under two speakers, by `serx.data.copies.pairs`.

    Under the protocols `random` and `manifest`, which may put clips of one speaker into two parts, any two clips count.
    """
    any_two = config.protocol in ("random", "manifest")
    groups = np.arange(len(dataset.utterances)) if any_two else dataset.utterances.speakers[0]
    return find_duplicates(dataset.audio_cache, groups, config.sample_rate, progress)


def without_duplicates(dataset: "Dataset", config: "DataConfig", progress: bool) -> "Dataset":
    """The dataset as `config.duplicates` wants it, with the files that are left out in its notes."""
    copies = duplicates_of(dataset, config, progress)
    if not copies:
        return dataset
    path = [str(segment) for segment in dataset.utterances.segments]
    first_of = list(range(len(path)))  # the first file by path that holds the same recording, through other copies too
    while any(first_of[c.first] != first_of[c.second] for c in copies):
        for c in copies:
            first_of[c.first] = first_of[c.second] = min(first_of[c.first], first_of[c.second], key=path.__getitem__)
    dropped = {i: first for i, first in enumerate(first_of) if i != first}  # clip -> the clip that it is a copy of
    if config.duplicates == "drop_all":
        dropped |= {first: i for i, first in sorted(dropped.items(), reverse=True)}
    kept = [i for i in range(len(path)) if i not in dropped]
    if not kept:
        raise DataError(f"data.duplicates: {config.duplicates} leaves out every clip; delete the copies by hand")
    names = [f"{printable(path[i])} (as {printable(Path(path[of]).name)})" for i, of in sorted(dropped.items())]
    more = f", and {len(names) - MAX_SHOWN} more, which the checkpoint lists" if len(names) > MAX_SHOWN else ""
    note = f"left out by data.duplicates: {config.duplicates} ({len(names)}): {', '.join(names[:MAX_SHOWN])}{more}"
    part = dataset.part(kept)
    return replace(
        dataset,
        **part,
        audio_cache=open_audio_cache(part["utterances"].segments, config, cache_folder(config.cache), progress),
        notes=(*dataset.notes, note),
        duplicates=tuple(printable(path[i]) for i in sorted(dropped)),
    )
