"""`Dataset`: everything before the first batch: scan, label, decode, split, and check for leaks."""

import gc
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from serx.base_config import FilePath, Name
from serx.data.audio.config import AudioConfig
from serx.data.batches import Placement
from serx.data.cache.audio_cache import AudioCache, cache_folder, open_audio_cache
from serx.data.copies.duplicates import without_duplicates
from serx.data.copies.search import find_copies
from serx.data.corpora import known_label_map
from serx.data.dataset_notes import MAX_SHOWN, skipped_notes, target_notes, warning_notes, weight_notes
from serx.data.labels import LabeledCorpus, LabelsFrom, assign_labels, only_shared
from serx.data.names import NamesConfig, settle_names
from serx.data.ratings import Task, check_rated, ratings_of
from serx.data.scanning.snapshot import scan_once
from serx.data.splits.leaks import PARTS, check_copies, check_leaks
from serx.data.splits.protocol_config import ProtocolConfig, naming_places
from serx.data.splits.protocols import Split, make_split
from serx.data.tables.table import TablesConfig
from serx.data.utterances import Utterances
from serx.errors import ConfigError, DataError, explaining_out_of_memory
from serx.metrics.votes import majority, to_shares
from serx.terminal import printable


def _named_label_map(value: Any) -> Any:
    """A label map that a corpus declares, in place of its name."""
    if not isinstance(value, str):
        return value
    try:
        return known_label_map("data.label_map", value)
    except ConfigError as error:
        raise ValueError(str(error).partition(": ")[2]) from None


def _names_of_corpora(value: Any) -> Any:
    names = [value] if isinstance(value, str) else value
    listed = list(names.values()) if isinstance(names, dict) else names
    if listed is not None and not (isinstance(listed, list | tuple) and all(isinstance(name, str) for name in listed)):
        raise ValueError("write names of corpora, such as [ravdess], or {FOLDER: NAME}")
    return names


class DataConfig(AudioConfig, ProtocolConfig, NamesConfig, TablesConfig):
    """Which corpora and labels, how files are decoded (`AudioConfig`), how they are split (`ProtocolConfig`),
    which names are one speaker (`NamesConfig`), and how tables are read (`TablesConfig`).

    >>> DataConfig(root="/corpora/RAVDESS", label_map={"calm": "neutral"}).protocol
    'holdout'
    """

    root: FilePath | tuple[FilePath, ...] = Field(
        max_length=4096, description="a corpus, a folder of several, a manifest.csv, or a list of those"
    )
    corpora: Annotated[tuple[Name, ...] | dict[FilePath, Name] | None, BeforeValidator(_names_of_corpora)] = Field(
        None,
        max_length=1000,
        description="which corpora to look for (`serx corpora` lists them): names, or {FOLDER: NAME} for what is in a "
        "folder; null: all",
    )
    styles: tuple[Name, ...] = Field(
        ("speech",),
        min_length=1,
        max_length=100,
        description="speaking styles to use; add song for the sung clips of RAVDESS",
    )
    labels: Annotated[tuple[Name, ...], Field(max_length=1000)] | Literal["shared"] | None = Field(
        None,
        description="the classes, in order; shared: the emotions that every corpus has, others are dropped; "
        "null: all that occur",
    )
    label_map: Annotated[dict[Name, Name | None], BeforeValidator(_named_label_map)] = Field(
        default_factory=dict,
        max_length=10_000,
        description="renames or drops labels: {calm: neutral} renames, {boredom: null} drops; or the name of a map, "
        "such as iemocap4 (docs/corpora.md)",
    )
    labels_from: LabelsFrom = Field(
        "emotion",
        description="emotion: one label per clip; votes: the shares of the raters who chose each emotion, as targets "
        "of the training; a clip without votes keeps its label",
    )
    tasks: tuple[Task, ...] = Field(
        ("emotions",),
        min_length=1,
        max_length=2,
        description="what the model learns: emotions (classes), dimensions (ratings such as arousal), or both",
    )
    dimensions: tuple[Name, ...] = Field(
        (),
        max_length=20,
        description="tasks with dimensions: which of the rated ones, such as [arousal, valence, dominance]",
    )
    duplicates: Literal["refuse", "drop_one", "drop_all"] = Field(
        "refuse",
        description="recordings that the corpus itself holds twice, under two speakers (protocols random and manifest: "
        "in any two files): refuse stops if copies would be in two parts; drop_one keeps the first file by path; "
        "drop_all keeps none, since one of the names is wrong",
    )
    placement: Placement = Field(
        "auto", description="device: audio in device memory; stream: read from disk; auto: device if it fits"
    )


@dataclass(frozen=True)
class Dataset:
    """Labeled, decoded clips.

    Attributes:
        utterances: clip i of `audio_cache` is `utterances[i]`.
        targets: `(n,)` int64, indices into `labels`; of votes, the label with most of them (the first of several).
        labels: ordered class names.
        audio_cache: the decoded audio.
        notes: lines for the user: which files were skipped or dropped, and why.
        duplicates: paths (of segments, with their times) of the clips that `data.duplicates` left out.
        votes: `(n, C)` float64, how many raters chose each label, or their shares; None unless `data.labels_from` is
            votes. 0 for clips without a label.
        labeled: `(n,)` bool, false for clips that have ratings only; None if all clips have a label.
        dimensions: names of the columns of `ratings`.
        ratings: `(n, D)` float64, NaN where a clip is not rated.
    """

    utterances: Utterances
    targets: np.ndarray
    labels: tuple[str, ...]
    audio_cache: AudioCache
    notes: tuple[str, ...]
    duplicates: tuple[str, ...] = ()
    votes: np.ndarray | None = None
    labeled: np.ndarray | None = None
    dimensions: tuple[str, ...] = ()
    ratings: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))

    @property
    def has_label(self) -> np.ndarray:
        """`(n,)` bool: the clips that have a label or votes."""
        return np.full(len(self.targets), bool(self.labels)) if self.labeled is None else self.labeled

    @property
    def shares(self) -> np.ndarray | None:
        """`(n, C)` float64, the share of the votes for each label, 0 without one; None if each clip has one label."""
        if self.votes is None and self.labeled is None:
            return None
        votes = np.eye(len(self.labels))[self.targets] if self.votes is None else self.votes
        return np.where(self.has_label[:, None], to_shares(np.where(self.has_label[:, None], votes, 1.0)), 0.0)

    @property
    def has_class(self) -> np.ndarray:
        """`(n,)` bool: the clips that scores of classes count: they have a label, and not several with most votes."""
        return self.has_label if self.votes is None else self.has_label & ~majority(self.votes)[1]

    @property
    def strata(self) -> list[int]:
        """The class of each clip, which a split draws evenly; clips without a label are a class of their own."""
        return np.where(self.has_label, self.targets, len(self.labels)).tolist()

    def part(self, clips: Sequence[int]) -> dict[str, Any]:
        """The fields with an entry for each clip, of some `clips` only; without the audio."""
        chosen = list(clips)
        return {
            "utterances": self.utterances.take(chosen),
            "targets": self.targets[chosen],
            "votes": None if self.votes is None else self.votes[chosen],
            "labeled": None if self.labeled is None else self.labeled[chosen],
            "ratings": self.ratings[chosen],
        }

    @property
    def weights(self) -> np.ndarray:
        """`(n,)` float64, how much each clip counts in training."""
        return self.utterances.numbers["weight"]

    @property
    def digests(self) -> Sequence[str]:
        """One hash per clip; equal for clips with equal decoded audio."""
        return self.audio_cache.digests

    def speaker_ids(self, indices: Sequence[int]) -> list[str]:
        """The distinct speakers of the clips with these `indices`, sorted."""
        return sorted(set(self.utterances.speaker_ids_of(indices)))

    def sha256(self, indices: Sequence[int]) -> str:
        """A hash of the decoded audio, label and speaker of these clips; their order and their paths do not matter."""
        speakers = zip(indices, self.utterances.speaker_ids_of(indices), strict=True)
        lines = sorted(f"{self.digests[i]} {self._label(i)} {speaker_id}" for i, speaker_id in speakers)
        return hashlib.sha256("\n".join(lines).encode(errors="backslashreplace")).hexdigest()

    def _label(self, i: int) -> str:
        """The label and the ratings of a clip as text."""
        ratings = ",".join(map(repr, self.ratings[i].tolist())) if self.dimensions else ""
        return f"{self.labels[self.targets[i]] if self.has_label[i] else ''}{ratings}"


@explaining_out_of_memory("lower data.max_seconds, or give fewer recordings")
def load_dataset(
    config: DataConfig, labels: tuple[str, ...] | None = None, progress: bool = True, verify: bool = False
) -> Dataset:
    """Finds, labels and decodes the corpora of `config.root`.

    Args:
        config: the `data` section of a recipe.
        labels: the classes, if a checkpoint fixes them; default `config.labels`.
        progress: show a bar while decoding.
        verify: compare all decoded audio with its digests, however much there is.

    Raises:
        DataError: no usable clip, or an emotion without a label.
        DiskError: the decoded audio cannot be written.

    >>> import tempfile, soundfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for code in ("03", "05"):
    ...         soundfile.write(f"{folder}/03-01-{code}-01-01-01-07.wav", np.sin(np.arange(8000)), 16_000)
    ...     dataset = load_dataset(DataConfig(root=folder, cache=f"{folder}/cache"), progress=False)
    ...     dataset.labels, dataset.targets.tolist(), dataset.audio_cache.lengths.tolist()
    (('happy', 'angry'), [0, 1], [8000, 8000])
    """
    with naming_places(config):
        return _load_dataset(config, labels, progress, verify)


def _load_dataset(config: DataConfig, labels: tuple[str, ...] | None, progress: bool, verify: bool) -> Dataset:
    try:
        with _no_garbage_collection():
            scanned = scan_once(config.root, config.styles, config, config.corpora)
    except (OSError, ValueError) as error:  # a name that is too long, or contains a zero byte
        raise DataError(f"data.root: cannot be scanned: {error}; check the spelling") from error
    utterances = settle_names(scanned.utterances, config)
    weights = utterances.numbers["weight"]
    for i in np.flatnonzero(~(np.isfinite(weights) & (weights > 0)))[:1].tolist():
        weight = f"weight {weights[i]:g} is not above 0"
        raise DataError(f"{utterances.source(i)}: {weight}; leave the clip out in place of it")
    labeled = _labeled(utterances, config, labels, scanned.ties)
    rated = _rated(utterances, config, of_checkpoint=labels is not None)
    notes = [*scanned.notes, *skipped_notes([(file.reason, file.path) for file in scanned.skipped])]
    row_of = np.full(len(utterances), -1)
    if labeled is not None:
        row_of[labeled.positions] = np.arange(len(labeled.positions))
    used = np.flatnonzero((row_of >= 0) | rated.any(1))
    notes += target_notes(config, labeled, len(utterances), used, rated)
    notes += weight_notes(weights[used])
    clips = utterances if len(used) == len(utterances) else utterances.take(used)
    audio_cache = open_audio_cache(clips.segments, config, cache_folder(config.cache), progress, verify)
    _check_ranges(clips, audio_cache.skipped)
    notes += skipped_notes([(why.partition(":")[0], Path(path)) for path, why in audio_cache.skipped.items()])
    notes += warning_notes(audio_cache.warnings)
    kept = audio_cache.rows >= 0
    if not kept.any():
        raise DataError(f"{config.root}: none of the {len(clips)} files could be decoded; {'; '.join(notes)}")
    clips, rows = clips if kept.all() else clips.take(kept), row_of[used[kept]]
    has_label = rows >= 0
    targets = np.zeros(len(rows), np.int64) if labeled is None else np.asarray(labeled.targets, np.int64)[rows]
    votes = None if labeled is None else labeled.votes
    dimensions = config.dimensions if "dimensions" in config.tasks else ()
    clips.audio_keys = None  # the cache is open
    dataset = Dataset(
        utterances=clips,
        targets=np.where(has_label, targets, 0),
        labels=() if labeled is None else tuple(labeled.labels),
        audio_cache=audio_cache,
        notes=tuple(notes),
        votes=None if votes is None else np.where(has_label[:, None], votes[rows], 0.0),
        labeled=None if labeled is None or has_label.all() else has_label,
        dimensions=dimensions,
        ratings=ratings_of(clips, dimensions),
    )
    return dataset if config.duplicates == "refuse" else without_duplicates(dataset, config, progress)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Looking for cycles among ever more clips would take a third of the time, and there are none."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _labeled(
    utterances: Utterances, config: DataConfig, labels: tuple[str, ...] | None, ties: Sequence[str]
) -> LabeledCorpus | None:
    """The clips that have a label, if emotions are learned."""
    if "emotions" not in config.tasks:
        return None
    label_map, source = config.label_map, config.labels_from
    nameless = np.flatnonzero(~utterances.has("emotion") & ~((source == "votes") & utterances.has("votes")))
    if len(nameless) and "dimensions" not in config.tasks:
        raise DataError(
            f"{utterances.source(int(nameless[0]))}: no emotion, and {len(nameless)} clips have none; fill the cells, "
            "delete the rows, or learn the ratings: data.tasks=[dimensions] data.dimensions=[arousal]"
        )
    if ties and source == "emotion":
        more = [f"... and {len(ties) - MAX_SHOWN} more"] if len(ties) > MAX_SHOWN else []
        answer = "choose one in a column emotion, delete the row, or learn from the votes: data.labels_from=votes"
        raise DataError("\n".join([*(f"{tie}; {answer}" for tie in ties[:MAX_SHOWN]), *more]))
    if source == "votes" and labels is None and not utterances.has("votes").any():
        raise DataError(
            "data.labels_from is votes, but no clip has votes; add them to the data, or write labels_from: emotion"
        )
    if config.labels == "shared":
        labels, label_map = only_shared(utterances, labels, label_map, source)
    else:
        labels = labels or config.labels
    return assign_labels(utterances, labels, label_map, source)


def _rated(utterances: Utterances, config: DataConfig, of_checkpoint: bool) -> np.ndarray:
    """Whether each clip is rated on each dimension that is learned, `(n, D)` bool."""
    dimensions = config.dimensions if "dimensions" in config.tasks else ()
    ratings = ratings_of(utterances, dimensions)
    if not of_checkpoint:
        check_rated(utterances, ratings, dimensions)
    elif dimensions and "emotions" not in config.tasks and np.isnan(ratings).all():
        raise DataError(f"no clip has a rating of {' or '.join(dimensions)}, which the model predicts")
    return ~np.isnan(ratings)


def _check_ranges(utterances: Utterances, skipped: Mapping[str, str]) -> None:
    """Raises if a segment is not within its file: the table is wrong, and skipping the row would hide it."""
    faults = []
    for utterance in utterances if skipped else ():
        reason, _, detail = skipped.get(str(utterance.segment), "").partition(": ")
        if reason == "out_of_range":
            what = f"{printable(utterance.segment.name)} is not within its file"
            faults.append(f"{printable(utterance.source)}: {what}: {detail}; correct start and end, in seconds")
    if faults:
        more = [f"... and {len(faults) - MAX_SHOWN} more"] if len(faults) > MAX_SHOWN else []
        raise DataError("\n".join([*faults[:MAX_SHOWN], *more]))


@explaining_out_of_memory("lower data.max_seconds, or give fewer recordings")
def split_dataset(dataset: Dataset, config: DataConfig, progress: bool = True) -> Split:
    """Splits by `config.protocol`, and checks the parts for shared speakers, shared audio and copies of audio.

    Raises:
        LeakError: a speaker or the same audio would be in two parts.
        ConfigError, DataError: as `make_split` raises.

    >>> import tempfile, soundfile
    >>> random = np.random.default_rng(0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for actor in range(1, 11):
    ...         name = f"{folder}/03-01-05-01-01-01-{actor:02d}.wav"
    ...         soundfile.write(name, 0.1 * random.standard_normal(4000), 16_000)
    ...     config = DataConfig(root=folder, cache=f"{folder}/cache")
    ...     split = split_dataset(load_dataset(config, progress=False), config, progress=False)
    >>> len(split.train), len(split.valid), len(split.test), split.stamp
    (6, 2, 2, 'holdout, speaker-independent')
    """
    split = make_split(dataset.utterances, dataset.strata, config, dataset.digests, dataset.labels, dataset.shares)
    check_leaks(dataset.utterances, split, dataset.digests)
    groups = dataset.utterances.speakers[0]  # the same for each fold, and searched once
    if not (split.speaker_independent and split.validation_independent):
        groups = _numbered_parts(split, len(dataset.utterances))
    copies = find_copies(dataset.audio_cache, groups, config.sample_rate, progress)
    check_copies(dataset.utterances, split, copies)
    return split


def _numbered_parts(split: Split, clips: int) -> np.ndarray:
    """`(clips,)`: the part of each clip, numbered in the order of the clips."""
    part = np.full(clips, len(PARTS))  # of clips in no part
    for number, name in enumerate(PARTS):
        part[list(getattr(split, name))] = number
    first = np.unique(part, return_index=True)
    order = np.argsort(np.argsort(first[1]))
    return order[np.searchsorted(first[0], part)]
