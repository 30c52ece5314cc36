"""`Dataset`: everything before the first batch: scan, label, decode, split, and the check that nothing leaks."""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from tqdm import tqdm

from serx.data.audio import AudioConfig
from serx.data.audio_cache import AudioCache, cache_folder, open_audio_cache
from serx.data.batches import Placement, StreamedAudio
from serx.data.corpora import scan
from serx.data.labels import assign_labels, only_shared
from serx.data.leaks import ALIGNED, alignment, check_copies, check_leaks, near_duplicates, thumbnails
from serx.data.manifest import same_speaker
from serx.data.protocols import ProtocolConfig, Split, make_split
from serx.data.utterance import Utterance
from serx.errors import DataError, DiskError
from serx.files import free_space, seal, unseal, write_atomically


class DataConfig(AudioConfig, ProtocolConfig):
    """Corpora and labels, beside how files are decoded (`AudioConfig`) and split (`ProtocolConfig`)."""

    root: str | tuple[str, ...]  # a corpus, a folder of several, a manifest.csv, or a list of those
    styles: tuple[str, ...] = Field(("speech",), min_length=1)  # add song for RAVDESS's sung clips
    # the classes, in order; shared: the emotions that every corpus has, others dropped; default: those that are there
    labels: tuple[str, ...] | Literal["shared"] | None = None
    label_map: dict[str, str | None] = Field(default_factory=dict)  # calm: neutral renames, boredom: null drops
    cache: str | None = None  # decoded audio; default $SERX_CACHE or ~/.cache/serx
    placement: Placement = "auto"  # audio whole on the device, streamed from disk, or whichever fits


SHOWN = 5


THUMBNAIL_BATCH = 8  # clips: more leave a CPU's cache


@dataclass(frozen=True)
class Dataset:
    """Labeled, decoded clips; clip i of the pack is `utterances[i]`.

    Attributes:
        targets: `(n,)` int64, indices into `labels`.
        notes: lines the user must hear: what was set aside, dropped or missing.
    """

    utterances: tuple[Utterance, ...]
    targets: np.ndarray
    labels: tuple[str, ...]
    audio_cache: AudioCache
    notes: tuple[str, ...]

    @property
    def digests(self) -> tuple[str, ...]:
        """Equal for clips whose decoded audio is equal."""
        return self.audio_cache.digests

    def speaker_ids(self, indices: tuple[int, ...]) -> list[str]:
        """The speakers of these clips, sorted."""
        return sorted({self.utterances[i].speaker_id for i in indices})


def load_dataset(config: DataConfig, labels: tuple[str, ...] | None = None, progress: bool = True) -> Dataset:
    """Finds, labels and decodes the corpora of `config.root`.

    Args:
        labels: the classes, where a checkpoint has fixed them; default `config.labels`.

    Raises:
        DataError: nothing usable is there, or an emotion has no label.
        DiskError: the decoded audio cannot be kept.
    """
    try:
        found = scan(config.root, config.styles)
    except (OSError, ValueError) as error:  # a name too long, or with a zero byte
        raise DataError(f"data.root: cannot be looked through: {error}; check the spelling") from error
    _refuse_doubtful_voices(found.utterances)
    label_map = config.label_map
    if config.labels == "shared":
        labels, label_map = only_shared(found.utterances, labels, label_map)
    else:
        labels = labels or config.labels
    labeled = assign_labels(found.utterances, labels, label_map)
    notes = _tell_set_aside([(item.reason, item.path) for item in found.skipped])
    for emotion, count in labeled.dropped.items():
        why = "data.label_map" if emotion in config.label_map else "data.labels: shared"
        notes.append(f"dropped by {why}: {count} x {emotion}")
    paths = [utterance.path for utterance in labeled.utterances]
    audio_cache = open_audio_cache(paths, config, cache_folder(config.cache), progress)
    notes += _tell_set_aside([(why.partition(":")[0], Path(path)) for path, why in audio_cache.refused.items()])
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


def split_dataset(dataset: Dataset, config: DataConfig, progress: bool = True) -> Split:
    """The parts of `config.protocol`, checked for shared speakers, shared audio and copies of it.

    Raises:
        LeakError: a speaker or the same audio would be in two parts.
    """
    split = make_split(dataset.utterances, dataset.targets.tolist(), config, dataset.digests)
    check_leaks(dataset.utterances, split, dataset.digests)
    pictures = _thumbnails(dataset.audio_cache, config.sample_rate, progress)
    check_copies(dataset.utterances, split, pictures, dataset.audio_cache.clip)
    return split


def find_copies(
    one: Dataset, clips: Sequence[int], other: Dataset, others: Sequence[int], sample_rate: int, progress: bool = True
) -> list[tuple[int, int]]:
    """Which of the `clips` of one dataset are among `others` of another, however encoded: pairs of their numbers.

    Both are decoded at `sample_rate`; copies are those of `leaks.check_copies`.
    """
    chosen = ((one, clips), (other, others))
    pictures = torch.cat([_thumbnails(d.audio_cache, sample_rate, progress)[list(numbers)] for d, numbers in chosen])
    nominated = near_duplicates(pictures, [range(len(clips)), range(len(clips), len(pictures))])
    pairs = [(clips[near.first], others[near.second - len(clips)]) for near in nominated]
    return [(i, j) for i, j in pairs if alignment(one.audio_cache.clip(i), other.audio_cache.clip(j)) > ALIGNED]


def _thumbnails(audio_cache: AudioCache, sample_rate: int, progress: bool) -> Tensor:
    """`leaks.thumbnails` of every clip of the pack, made once and kept with it."""
    path = audio_cache.folder / "thumbnails.sealed"
    kept = unseal(path)
    if kept is None:
        corpus, clips = StreamedAudio(audio_cache, torch.device("cpu")), np.arange(len(audio_cache.digests))
        made = []
        hidden = None if progress else True  # None: shown on a terminal only
        with tqdm(total=len(clips), desc="compare", unit="clip", disable=hidden) as bar:
            for batch in np.array_split(clips, -(-len(clips) // THUMBNAIL_BATCH)):
                made.append(thumbnails(*corpus.batch(batch), sample_rate).half())
                bar.update(len(batch))
        content = io.BytesIO()
        np.save(content, torch.cat(made).numpy())
        kept = content.getvalue()
        try:
            write_atomically(path, seal(kept))
        except OSError as error:
            where = f"{path}: cannot keep what copies are found by: {error.strerror} ({free_space(path)})"
            raise DiskError(f"{where}; choose another place with data.cache=DIR or SERX_CACHE") from error
    return torch.from_numpy(np.load(io.BytesIO(kept))).float()


def _refuse_doubtful_voices(utterances: tuple[Utterance, ...]) -> None:
    speaker_ids = {utterance.speaker_id: utterance for utterance in utterances}
    nameless = {speaker_id: clip for speaker_id, clip in speaker_ids.items() if not clip.corpus_named}
    pairs = [(a, b) for a, clip in nameless.items() for b in speaker_ids if a != b and same_speaker(clip, b)]
    if pairs:
        named = list(dict.fromkeys(" and ".join(sorted(pair)) for pair in pairs))
        more = f", and {len(named) - SHOWN} more" if len(named) > SHOWN else ""
        raise DataError(
            f"data.root: one person or two? {'; '.join(named[:SHOWN])}{more}: a manifest without a corpus goes by its "
            "file's name. Give the manifests a column corpus: the same word for the same people, else different ones"
        )


def _tell_set_aside(items: list[tuple[str, Path]]) -> list[str]:
    """One line a reason, with the first few names."""
    lines = []
    for reason, count in Counter(reason for reason, _ in items).items():
        names = [str(path) for why, path in items if why == reason]
        more = f", and {count - SHOWN} more" if count > SHOWN else ""
        lines.append(f"set aside ({reason}): {', '.join(names[:SHOWN])}{more}")
    return lines
