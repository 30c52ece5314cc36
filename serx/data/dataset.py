"""`Dataset`: everything before the first batch: scan, label, decode, split, and check for leaks."""

import gc
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from serx.base_config import FilePath, Name
from serx.data.audio import AudioConfig
from serx.data.audio_cache import AudioCache, cache_folder, open_audio_cache
from serx.data.batches import Placement, StreamedAudio
from serx.data.copies import RULES, Copy, copies_among
from serx.data.copy_candidates import DIMENSIONS, fingerprints, nominate
from serx.data.corpora import NO_AGREEMENT, known_label_map
from serx.data.labels import LabeledCorpus, LabelsFrom, assign_labels, only_shared
from serx.data.leaks import PARTS, check_copies, check_leaks
from serx.data.names import NamesConfig, settle_names
from serx.data.protocols import ProtocolConfig, Split, make_split, naming_places
from serx.data.ratings import Task, check_rated, ratings_of
from serx.data.read_ahead import reading_ahead
from serx.data.scanner import scan
from serx.data.tables import TablesConfig
from serx.data.utterance import Utterance
from serx.errors import ConfigError, DataError, DiskError, explaining_out_of_memory
from serx.files import seal, unseal, why_not_written, write_atomically
from serx.metrics.votes import majority, to_shares
from serx.terminal import ProgressBar, printable

MAX_SHOWN = 5  # names in a message
FINGERPRINT_BATCH = 8  # clips; more do not fit a CPU's cache


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

    utterances: tuple[Utterance, ...]
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
            "utterances": tuple(self.utterances[i] for i in chosen),
            "targets": self.targets[chosen],
            "votes": None if self.votes is None else self.votes[chosen],
            "labeled": None if self.labeled is None else self.labeled[chosen],
            "ratings": self.ratings[chosen],
        }

    @property
    def weights(self) -> np.ndarray:
        """`(n,)` float64, how much each clip counts in training."""
        return np.array([utterance.weight for utterance in self.utterances], np.float64)

    @property
    def digests(self) -> tuple[str, ...]:
        """One hash per clip; equal for clips with equal decoded audio."""
        return self.audio_cache.digests

    def speaker_ids(self, indices: tuple[int, ...]) -> list[str]:
        """The distinct speakers of the clips with these `indices`, sorted."""
        return sorted({self.utterances[i].speaker_id for i in indices})

    def sha256(self, indices: Sequence[int]) -> str:
        """A hash of the decoded audio, label and speaker of these clips; their order and their paths do not matter."""
        lines = sorted(f"{self.digests[i]} {self._label(i)} {self.utterances[i].speaker_id}" for i in indices)
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
            scanned = scan(config.root, config.styles, config, config.corpora)
    except (OSError, ValueError) as error:  # a name that is too long, or contains a zero byte
        raise DataError(f"data.root: cannot be scanned: {error}; check the spelling") from error
    utterances = settle_names(scanned.utterances, config)
    for clip in utterances:
        if not (math.isfinite(clip.weight) and clip.weight > 0):
            raise DataError(f"{clip.source}: weight {clip.weight:g} is not above 0; leave the clip out in place of it")
    labeled = _labeled(utterances, config, labels, scanned.ties)
    rated = _rated(utterances, config, of_checkpoint=labels is not None)
    notes = [*scanned.notes, *_skipped_notes([(file.reason, file.path) for file in scanned.skipped])]
    row_of = {position: row for row, position in enumerate(labeled.positions)} if labeled else {}
    used = [i for i in range(len(utterances)) if i in row_of or rated[i].any()]
    notes += _target_notes(config, labeled, utterances, used, rated)
    notes += _weight_notes([utterances[i] for i in used])
    segments = [utterances[i].segment for i in used]
    audio_cache = open_audio_cache(segments, config, cache_folder(config.cache), progress, verify)
    _check_ranges([utterances[i] for i in used], audio_cache.skipped)
    notes += _skipped_notes([(why.partition(":")[0], Path(path)) for path, why in audio_cache.skipped.items()])
    notes += _warning_notes(audio_cache.warnings)
    kept = [i for i, row in enumerate(audio_cache.rows) if row >= 0]
    if not kept:
        raise DataError(f"{config.root}: none of the {len(segments)} files could be decoded; {'; '.join(notes)}")
    chosen = [used[i] for i in kept]
    has_label = np.array([i in row_of for i in chosen])
    rows = [row_of.get(i, 0) for i in chosen]
    targets = np.zeros(len(chosen), np.int64) if labeled is None else np.asarray(labeled.targets, np.int64)[rows]
    votes = None if labeled is None else labeled.votes
    dataset = Dataset(
        utterances=tuple(utterances[i] for i in chosen),
        targets=np.where(has_label, targets, 0),
        labels=() if labeled is None else tuple(labeled.labels),
        audio_cache=audio_cache,
        notes=tuple(notes),
        votes=None if votes is None else np.where(has_label[:, None], votes[rows], 0.0),
        labeled=None if labeled is None or has_label.all() else has_label,
        dimensions=config.dimensions if "dimensions" in config.tasks else (),
        ratings=ratings_of([utterances[i] for i in chosen], config.dimensions if "dimensions" in config.tasks else ()),
    )
    return dataset if config.duplicates == "refuse" else _without_duplicates(dataset, config, progress)


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
    utterances: Sequence[Utterance], config: DataConfig, labels: tuple[str, ...] | None, ties: Sequence[str]
) -> LabeledCorpus | None:
    """The clips that have a label, if emotions are learned."""
    if "emotions" not in config.tasks:
        return None
    label_map, source = config.label_map, config.labels_from
    nameless = [clip for clip in utterances if not clip.emotion and not (source == "votes" and clip.votes)]
    if nameless and "dimensions" not in config.tasks:
        raise DataError(
            f"{nameless[0].source}: no emotion, and {len(nameless)} clips have none; fill the cells, delete the rows, "
            "or learn the ratings: data.tasks=[dimensions] data.dimensions=[arousal]"
        )
    if ties and source == "emotion":
        more = [f"... and {len(ties) - MAX_SHOWN} more"] if len(ties) > MAX_SHOWN else []
        answer = "choose one in a column emotion, delete the row, or learn from the votes: data.labels_from=votes"
        raise DataError("\n".join([*(f"{tie}; {answer}" for tie in ties[:MAX_SHOWN]), *more]))
    if source == "votes" and labels is None and not any(clip.votes for clip in utterances):
        raise DataError(
            "data.labels_from is votes, but no clip has votes; add them to the data, or write labels_from: emotion"
        )
    if config.labels == "shared":
        labels, label_map = only_shared(utterances, labels, label_map, source)
    else:
        labels = labels or config.labels
    return assign_labels(utterances, labels, label_map, source)


def _rated(utterances: Sequence[Utterance], config: DataConfig, of_checkpoint: bool) -> np.ndarray:
    """Whether each clip is rated on each dimension that is learned, `(n, D)` bool."""
    dimensions = config.dimensions if "dimensions" in config.tasks else ()
    ratings = ratings_of(utterances, dimensions)
    if not of_checkpoint:
        check_rated(utterances, ratings, dimensions)
    elif dimensions and "emotions" not in config.tasks and np.isnan(ratings).all():
        raise DataError(f"no clip has a rating of {' or '.join(dimensions)}, which the model predicts")
    return ~np.isnan(ratings)


def _target_notes(
    config: DataConfig,
    labeled: LabeledCorpus | None,
    utterances: Sequence[Utterance],
    used: Sequence[int],
    rated: np.ndarray,
) -> list[str]:
    """What is dropped, and which clips lack a label or a rating."""
    notes = []
    if labeled is not None:
        what = "without a class, by" if "dimensions" in config.tasks else "dropped by"
        for emotion, count in labeled.dropped.items():
            why = "data.label_map" if emotion in config.label_map else "data.labels: shared"
            notes.append(f"{what} {why}: {count} x {emotion}")
        if config.labels_from == "emotion" and NO_AGREEMENT in labeled.labels:
            notes.append(
                f"warning: {NO_AGREEMENT} is a class: clips on whose emotion the raters did not agree; drop them with "
                f"data.label_map.{NO_AGREEMENT}=null, or learn from the votes: data.labels_from=votes"
            )
        notes += _vote_notes(labeled)
    if "dimensions" not in config.tasks:
        return notes
    if dropped := len(utterances) - len(used):
        lack = "a rating" if labeled is None else "a class or a rating"
        notes.append(f"dropped: {dropped} clips without {lack} of {', '.join(config.dimensions)}")
    if labeled is not None and len(labeled.positions) < len(used):
        notes.append(f"{len(used) - len(labeled.positions)} of {len(used)} clips have ratings and no class")
    for name, column in zip(config.dimensions, rated[list(used)].T, strict=True):
        if not column.all():
            notes.append(f"{int((~column).sum())} of {len(used)} clips have no rating of {name}")
    return notes


def _check_ranges(utterances: Sequence[Utterance], skipped: Mapping[str, str]) -> None:
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


def find_duplicates(dataset: Dataset, config: DataConfig, progress: bool = True) -> list[Copy]:
    """Pairs of clips of a dataset that hold the same recording under two speakers, by `serx.data.copies`.

    Under the protocols `random` and `manifest`, which may put clips of one speaker into two parts, any two clips count.
    """
    if config.protocol in ("random", "manifest"):
        groups = list(range(len(dataset.utterances)))
    else:
        groups = _numbered([u.speaker_id for u in dataset.utterances])
    copies = {(c.first, c.second): c for c in _copies(dataset.audio_cache, groups, config.sample_rate, progress)}
    equal: dict[str, list[int]] = {}  # silence has no fingerprint, and many equal files crowd each other out
    for i, digest in enumerate(dataset.digests):
        equal.setdefault(digest, []).append(i)
    for first, *others in equal.values():
        for i in others:
            if groups[i] != groups[first]:
                copies.setdefault((first, i), Copy(first, i, 1.0))
    return sorted(copies.values(), key=lambda copy: (-copy.correlation, copy.first, copy.second))


def _without_duplicates(dataset: Dataset, config: DataConfig, progress: bool) -> Dataset:
    """The dataset as `config.duplicates` wants it, with the files that are left out in its notes."""
    copies = find_duplicates(dataset, config, progress)
    if not copies:
        return dataset
    path = [str(utterance.segment) for utterance in dataset.utterances]
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
    utterances = tuple(dataset.utterances[i] for i in kept)
    return replace(
        dataset,
        **dataset.part(kept),
        audio_cache=open_audio_cache([u.segment for u in utterances], config, cache_folder(config.cache), progress),
        notes=(*dataset.notes, note),
        duplicates=tuple(printable(path[i]) for i in sorted(dropped)),
    )


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
    if split.speaker_independent and split.validation_independent:
        groups = _numbered([u.speaker_id for u in dataset.utterances])  # the same for each fold, and searched once
    else:
        part = {i: name for name in PARTS for i in getattr(split, name)}
        groups = _numbered([part.get(i, "") for i in range(len(dataset.utterances))])
    check_copies(dataset.utterances, split, _copies(dataset.audio_cache, groups, config.sample_rate, progress))
    return split


def find_copies(
    first: Dataset,
    first_clips: Sequence[int],
    second: Dataset,
    second_clips: Sequence[int],
    sample_rate: int,
    progress: bool = True,
) -> list[tuple[int, int]]:
    """Copies between two datasets, however encoded: pairs of one of `first_clips` and one of `second_clips`.

    Both datasets are decoded at `sample_rate`. A pair is a copy by the criteria of `serx.data.copies`.
    """
    chosen = [(first, i) for i in first_clips] + [(second, i) for i in second_clips]
    segments = {id(d): _segments(d.audio_cache, sample_rate, progress) for d in (first, second)}
    groups = [0] * len(first_clips) + [1] * len(second_clips)
    candidates = nominate([segments[id(d)][i] for d, i in chosen], groups)
    copies = copies_among(candidates, lambda k: chosen[k][0].audio_cache.clip(chosen[k][1]), sample_rate)
    return [(chosen[copy.first][1], chosen[copy.second][1]) for copy in copies]


def _numbered(names: Sequence[str]) -> list[int]:
    """The same number for the same name."""
    numbers: dict[str, int] = {}
    return [numbers.setdefault(name, len(numbers)) for name in names]


def _copies(audio_cache: AudioCache, groups: Sequence[int], sample_rate: int, progress: bool) -> list[Copy]:
    """Copies among clips of different groups, searched once and stored with the cache."""
    numbers = np.asarray(groups, "<i8")
    key = hashlib.sha256(_settings(audio_cache, sample_rate) + numbers.tobytes()).digest()
    path = audio_cache.folder / f"copies-{key.hex()[:16]}.sealed"
    rows = _stored(path, key, "<f8", 3)
    if rows is None or not np.isin(rows[:, :2], np.arange(len(groups))).all():
        candidates = nominate(_segments(audio_cache, sample_rate, progress), groups)
        found = copies_among(candidates, audio_cache.clip, sample_rate)
        rows = np.asarray([(copy.first, copy.second, copy.correlation) for copy in found], "<f8").reshape(-1, 3)
        _store(path, key, rows)
    return [Copy(int(first), int(second), float(correlation)) for first, second, correlation in rows]


def _segments(audio_cache: AudioCache, sample_rate: int, progress: bool) -> list[Tensor]:
    """`copies.fingerprints` of every clip of the cache, computed once and stored with it by the digest of the clip.

    Each file holds those that were new when it was written: digests, how many segments each has, and the segments.
    """
    key = hashlib.sha256(f"{RULES}|{sample_rate}".encode()).digest()
    name = f"fingerprints-{key.hex()[:8]}"
    clip_of = {digest: i for i, digest in reversed(list(enumerate(audio_cache.digests)))}
    known: dict[str, Tensor] = {}
    for path in sorted(audio_cache.folder.glob(f"{name}-*.sealed")):
        if len(known) < len(clip_of):
            known |= _stored_segments(path, key, clip_of)
    missing = np.array(sorted(i for digest, i in clip_of.items() if digest not in known), np.int64)
    if len(missing):
        source, found = StreamedAudio(audio_cache, torch.device("cpu")), []
        batches = np.array_split(missing, -(-len(missing) // FINGERPRINT_BATCH))
        with ProgressBar("compare", len(missing), "clips", progress) as bar, reading_ahead(source, batches) as ahead:
            for batch in batches:
                found += fingerprints(*ahead.batch(batch), sample_rate)
                bar.update(len(batch))
        new = [audio_cache.digests[i] for i in missing.tolist()]
        digests, counts = bytes.fromhex("".join(new)), np.array([len(clip) for clip in found], "<u4")
        head = key + len(new).to_bytes(8, "little") + digests + counts.tobytes()
        own = hashlib.sha256(digests).hexdigest()[:16]
        _store(audio_cache.folder / f"{name}-{own}.sealed", head, torch.cat(found).numpy().astype("<f2"))
        known |= dict(zip(new, found, strict=True))
    return [known[digest] for digest in audio_cache.digests]


def _stored_segments(path: Path, key: bytes, wanted: Mapping[str, int]) -> dict[str, Tensor]:
    """Those of the wanted digests that a file holds; none if it is of other settings or damaged."""
    content = unseal(path)
    start = len(key) + 8
    if content is None or content[: len(key)] != key or len(content) < start:
        return {}
    clips = int.from_bytes(content[len(key) : start], "little")
    end = start + 20 * clips
    if end > len(content) or (len(content) - end) % (2 * DIMENSIONS):
        return {}
    digests = content[start : start + 16 * clips].hex()
    counts = np.frombuffer(content, "<u4", clips, offset=start + 16 * clips).astype(np.int64)
    rows = np.frombuffer(bytearray(content[end:]), "<f2").reshape(-1, DIMENSIONS)
    if counts.sum() != len(rows) or not np.isfinite(rows).all():
        return {}
    parts = torch.from_numpy(rows).split(counts.tolist())
    named = zip((digests[32 * i : 32 * i + 32] for i in range(clips)), parts, strict=True)
    return {digest: part for digest, part in named if digest in wanted}


def _settings(audio_cache: AudioCache, sample_rate: int) -> bytes:
    return f"{RULES}|{sample_rate}|{'|'.join(audio_cache.digests)}".encode()


def _stored(path: Path, key: bytes, dtype: str, columns: int) -> np.ndarray | None:
    """`(n, columns)` numbers; None if the file is of other audio or damaged. Nothing in it is interpreted."""
    content = unseal(path)
    row = columns * np.dtype(dtype).itemsize
    if content is None or content[: len(key)] != key or (len(content) - len(key)) % row:
        return None
    numbers = np.frombuffer(bytearray(content), dtype, offset=len(key)).reshape(-1, columns)
    return numbers if np.isfinite(numbers).all() else None


def _store(path: Path, key: bytes, rows: np.ndarray) -> None:
    try:
        write_atomically(path, seal(key + rows.tobytes()))
    except OSError as error:
        what = f"{path}: cannot write the result of the leak check: {why_not_written(error, path)}"
        raise DiskError(f"{what}, or choose another folder with data.cache=DIR or SERX_CACHE") from error


def _vote_notes(labeled: LabeledCorpus) -> list[str]:
    """What is left of the votes, and which clips have none."""
    if labeled.votes is None:
        return []
    clips, voted = len(labeled.utterances), sum(bool(clip.votes) for clip in labeled.utterances)
    notes = []
    for emotion, number in labeled.dropped_votes.items():
        notes.append(f"left out by the label map: {number:g} votes for {emotion}")
    if labeled.without_vote:
        notes.append(f"dropped: {labeled.without_vote} clips without a vote for any of {', '.join(labeled.labels)}")
    if voted < clips:
        notes.append(f"{clips - voted} of {clips} clips have no votes: their emotion is their label")
    if tied := int(majority(labeled.votes)[1].sum()):
        notes.append(
            f"the votes of {tied} of {clips} clips tie: they train with their shares of votes, and count in no score "
            "of classes"
        )
    return notes


def _weight_notes(utterances: Sequence[Utterance]) -> list[str]:
    """The range of the weights, unless all are equal."""
    weights = [clip.weight for clip in utterances]
    low, high = min(weights), max(weights)
    if low == high:
        return []
    return [f"clips have weights from {low:g} to {high:g}: the loss of a clip is multiplied with its weight"]


def _warning_notes(warnings: dict[str, str]) -> list[str]:
    """One line per warning about files that are used, with the first few names."""
    return [
        f"warning: {what}: {_first_names([Path(path) for path, why in warnings.items() if why == what])}"
        for what in dict.fromkeys(warnings.values())
    ]


def _skipped_notes(files: list[tuple[str, Path]]) -> list[str]:
    """One line per reason, with the first few names."""
    return [
        f"skipped ({reason}): {_first_names([path for why, path in files if why == reason])}"
        for reason in dict.fromkeys(reason for reason, _ in files)
    ]


def _first_names(paths: Sequence[Path]) -> str:
    more = f", and {len(paths) - MAX_SHOWN} more" if len(paths) > MAX_SHOWN else ""
    return f"{', '.join(map(printable, paths[:MAX_SHOWN]))}{more}"
