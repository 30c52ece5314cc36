"""`Dataset`: everything before the first batch: scan, label, decode, split, and check for leaks."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from serx.base_config import FilePath, Name
from serx.data.audio import AudioConfig
from serx.data.audio_cache import AudioCache, cache_folder, open_audio_cache
from serx.data.batches import Placement, StreamedAudio
from serx.data.labels import assign_labels, only_shared
from serx.data.leaks import (
    BANDS,
    MIN_CORRELATION,
    SLICES,
    check_copies,
    check_leaks,
    max_correlation,
    near_duplicates,
    thumbnails,
)
from serx.data.names import NamesConfig, settle_names
from serx.data.protocols import ProtocolConfig, Split, make_split, naming_places
from serx.data.scanner import scan
from serx.data.utterance import Utterance
from serx.errors import DataError, DiskError, explaining_out_of_memory
from serx.files import free_space, seal, unseal, write_atomically
from serx.terminal import printable

MAX_SHOWN = 5  # names in a message
THUMBNAIL_SIZE = 2 * BANDS * SLICES  # numbers of one clip's two pictures
THUMBNAIL_BATCH = 8  # clips; more do not fit a CPU's cache


class DataConfig(AudioConfig, ProtocolConfig, NamesConfig):
    """Which corpora and labels, how files are decoded (`AudioConfig`), how they are split (`ProtocolConfig`),
    and which names are one speaker (`NamesConfig`).

    >>> DataConfig(root="/corpora/RAVDESS", label_map={"calm": "neutral"}).protocol
    'holdout'
    """

    root: FilePath | tuple[FilePath, ...] = Field(
        max_length=4096, description="a corpus, a folder of several, a manifest.csv, or a list of those"
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
    label_map: dict[Name, Name | None] = Field(
        default_factory=dict,
        max_length=10_000,
        description="renames or drops labels: {calm: neutral} renames, {boredom: null} drops",
    )
    cache: FilePath | None = Field(None, description="folder for decoded audio; null: $SERX_CACHE or ~/.cache/serx")
    placement: Placement = Field(
        "auto", description="device: audio in device memory; stream: read from disk; auto: device if it fits"
    )


@dataclass(frozen=True)
class Dataset:
    """Labeled, decoded clips.

    Attributes:
        utterances: clip i of `audio_cache` is `utterances[i]`.
        targets: `(n,)` int64, indices into `labels`.
        labels: ordered class names.
        audio_cache: the decoded audio.
        notes: lines for the user: which files were skipped or dropped, and why.
    """

    utterances: tuple[Utterance, ...]
    targets: np.ndarray
    labels: tuple[str, ...]
    audio_cache: AudioCache
    notes: tuple[str, ...]

    @property
    def digests(self) -> tuple[str, ...]:
        """One hash per clip; equal for clips with equal decoded audio."""
        return self.audio_cache.digests

    def speaker_ids(self, indices: tuple[int, ...]) -> list[str]:
        """The distinct speakers of the clips with these `indices`, sorted."""
        return sorted({self.utterances[i].speaker_id for i in indices})


@explaining_out_of_memory("lower data.max_seconds, or give fewer recordings")
def load_dataset(config: DataConfig, labels: tuple[str, ...] | None = None, progress: bool = True) -> Dataset:
    """Finds, labels and decodes the corpora of `config.root`.

    Args:
        config: the `data` section of a recipe.
        labels: the classes, if a checkpoint fixes them; default `config.labels`.
        progress: show a bar while decoding.

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
        return _load_dataset(config, labels, progress)


def _load_dataset(config: DataConfig, labels: tuple[str, ...] | None, progress: bool) -> Dataset:
    try:
        scanned = scan(config.root, config.styles)
    except (OSError, ValueError) as error:  # a name that is too long, or contains a zero byte
        raise DataError(f"data.root: cannot be scanned: {error}; check the spelling") from error
    utterances = settle_names(scanned.utterances, config)
    label_map = config.label_map
    if config.labels == "shared":
        labels, label_map = only_shared(utterances, labels, label_map)
    else:
        labels = labels or config.labels
    labeled = assign_labels(utterances, labels, label_map)
    notes = _skipped_notes([(file.reason, file.path) for file in scanned.skipped])
    for emotion, count in labeled.dropped.items():
        why = "data.label_map" if emotion in config.label_map else "data.labels: shared"
        notes.append(f"dropped by {why}: {count} x {emotion}")
    paths = [utterance.path for utterance in labeled.utterances]
    audio_cache = open_audio_cache(paths, config, cache_folder(config.cache), progress)
    notes += _skipped_notes([(why.partition(":")[0], Path(path)) for path, why in audio_cache.skipped.items()])
    kept = [i for i, row in enumerate(audio_cache.rows) if row >= 0]
    if not kept:
        raise DataError(f"{config.root}: none of the {len(paths)} files could be decoded; {'; '.join(notes)}")
    return Dataset(
        utterances=tuple(labeled.utterances[i] for i in kept),
        targets=np.asarray([labeled.targets[i] for i in kept], np.int64),
        labels=tuple(labeled.labels),
        audio_cache=audio_cache,
        notes=tuple(notes),
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
    split = make_split(dataset.utterances, dataset.targets.tolist(), config, dataset.digests, dataset.labels)
    check_leaks(dataset.utterances, split, dataset.digests)
    pictures = _thumbnails(dataset.audio_cache, config.sample_rate, progress)
    check_copies(dataset.utterances, split, pictures, dataset.audio_cache.clip)
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

    Both datasets are decoded at `sample_rate`. A pair is a copy by the criteria of `leaks.check_copies`.
    """
    chosen = ((first, first_clips), (second, second_clips))
    pictures = torch.cat([_thumbnails(d.audio_cache, sample_rate, progress)[list(clips)] for d, clips in chosen])
    nominated = near_duplicates(pictures, [range(len(first_clips)), range(len(first_clips), len(pictures))])
    pairs = [(first_clips[near.first], second_clips[near.second - len(first_clips)]) for near in nominated]
    audio = first.audio_cache, second.audio_cache
    return [(i, j) for i, j in pairs if max_correlation(audio[0].clip(i), audio[1].clip(j)) > MIN_CORRELATION]


def _thumbnails(audio_cache: AudioCache, sample_rate: int, progress: bool) -> Tensor:
    """`leaks.thumbnails` of every clip of the cache, computed once and stored with it.

    The file holds a digest of the audio and then plain float16 numbers: nothing in it is interpreted.
    """
    path = audio_cache.folder / "thumbnails.sealed"
    settings = f"{THUMBNAIL_SIZE}|{sample_rate}|{'|'.join(audio_cache.digests)}"
    audio = hashlib.sha256(settings.encode()).digest()
    pictures = _stored_thumbnails(unseal(path), audio, len(audio_cache.digests))
    if pictures is None:
        pictures = _compute_thumbnails(audio_cache, sample_rate, progress)
        try:
            write_atomically(path, seal(audio + pictures.tobytes()))
        except OSError as error:
            what = f"{path}: cannot write the thumbnails of the leak check: {error.strerror} ({free_space(path)})"
            raise DiskError(f"{what}; choose another folder with data.cache=DIR or SERX_CACHE") from error
    return torch.from_numpy(pictures).float()


def _stored_thumbnails(content: bytes | None, audio: bytes, clips: int) -> np.ndarray | None:
    """`(clips, THUMBNAIL_SIZE)` float16; None if the content is of other audio or damaged."""
    if content is None or content[: len(audio)] != audio or len(content) != len(audio) + 2 * clips * THUMBNAIL_SIZE:
        return None
    pictures = np.frombuffer(bytearray(content), np.float16, offset=len(audio)).reshape(clips, THUMBNAIL_SIZE)
    return pictures if np.isfinite(pictures).all() else None


def _compute_thumbnails(audio_cache: AudioCache, sample_rate: int, progress: bool) -> np.ndarray:
    """`(clips, THUMBNAIL_SIZE)` float16."""
    source, clips = StreamedAudio(audio_cache, torch.device("cpu")), np.arange(len(audio_cache.digests))
    pictures = []
    with tqdm(total=len(clips), desc="compare", unit="clip", disable=None if progress else True) as bar:
        for batch in np.array_split(clips, -(-len(clips) // THUMBNAIL_BATCH)):
            pictures.append(thumbnails(*source.batch(batch), sample_rate).half())
            bar.update(len(batch))
    return torch.cat(pictures).numpy()


def _skipped_notes(files: list[tuple[str, Path]]) -> list[str]:
    """One line per reason, with the first few names."""
    notes = []
    for reason, count in Counter(reason for reason, _ in files).items():
        names = [printable(path) for why, path in files if why == reason]
        more = f", and {count - MAX_SHOWN} more" if count > MAX_SHOWN else ""
        notes.append(f"skipped ({reason}): {', '.join(names[:MAX_SHOWN])}{more}")
    return notes
