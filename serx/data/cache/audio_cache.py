"""`AudioCache`: clips decoded once into flat int16 files, which later runs open without reading them.

A clip is a file or a segment of one; a file is decoded once for all of its segments. The clips of one corpus and of the
same audio settings share a folder, named by digests of the settings and of the folder that holds all files. What
another folder of the same settings holds, such as that of one corpus of a list, is read from there and not decoded
again. A clip is known there by a digest of its segment and of its file's path, size, inode, and times of modification
and change: what is new or has changed is decoded and appended, and nothing else.

The folder holds shards of 1 GiB: `0000.int16`, the samples of clips end to end, and `0000.sealed`, its index after the
sha256 of it: 52 bytes a clip, and what is to be said about files that cannot be used. After a leak check there are
`fingerprints-*.sealed` and `copies-*.sealed` too. Nothing in the folder is trusted: what is damaged, of another type or
not a plain file is made again. Up to 256 MiB every clip is compared with its digest when a cache is opened; of larger
ones some are, and `serx audit --verify` compares all.
"""

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import overload

import numpy as np

from serx.data.audio.config import AudioConfig
from serx.data.audio.decoding import decode
from serx.data.audio.error import AudioError
from serx.data.audio.segments import decode_segments
from serx.data.cache.shards import Store, Writer, digest
from serx.data.file_state import audio_keys
from serx.data.utterance import Segment
from serx.data.utterances import Segments
from serx.errors import DiskError
from serx.files import StrPath, locked, remove_temporaries, why_not_written
from serx.system import cpu_count
from serx.terminal import ProgressBar

CACHE_VERSION = 11
FULL_SCALE = 32768  # as in libsndfile: 16-bit files at the right rate are stored bit for bit
CHECKED_BYTES = 1 << 28  # every clip of so much audio is compared with its digest when it is opened
SAMPLED_CLIPS = 256  # and so many of more audio


class Digests(Sequence[str]):
    """Digests of 16 bytes as hexadecimal text, kept as bytes.

    >>> digests = Digests(bytes(range(32)))
    >>> len(digests), digests[0]
    (2, '000102030405060708090a0b0c0d0e0f')
    """

    def __init__(self, content: bytes) -> None:
        """`content`: the digests one after the other."""
        self._content = content

    def __len__(self) -> int:
        return len(self._content) // 16

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[str]: ...
    def __getitem__(self, place: int | slice) -> str | Sequence[str]:
        if isinstance(place, slice):
            return [self[i] for i in range(*place.indices(len(self)))]
        i = range(len(self))[place]
        return self._content[16 * i : 16 * i + 16].hex()

    def __iter__(self) -> Iterator[str]:
        text = self._content.hex()
        return (text[i : i + 32] for i in range(0, len(text), 32))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True)
class AudioCache:
    """Decoded clips in int16 arrays.

    Attributes:
        folder: the folder of the cache.
        shards: arrays of int16, mapped from disk.
        shard: `(clips,)` int32, in which shard a clip is.
        starts: `(clips,)` int64; clip i is `shards[shard[i]][starts[i]:starts[i] + lengths[i]]`.
        lengths: `(clips,)` int64, in samples.
        scales: `(clips,)` float32; samples times scale are in [-1, 1], or beyond if a float file was.
        rows: `(n,)` int64, for each file or segment given its clip, or -1 if it was skipped.
        digests: a hash of each clip's decoded samples: equal audio has equal digests, in any file format.
        skipped: `str` of a segment (a path, and `#t=start,end` of a part) -> `reason: detail`, if it cannot be used.
        fingerprint: digest of the inputs.
        warnings: the same -> what a user should know about a clip that is used, such as that its channels cancel.
        decoded: how many clips were decoded to open it.

    >>> two = AudioCache.in_memory(np.arange(5, dtype=np.int16), np.array([3, 2]))
    >>> two.clip(0).tolist(), two.clip(1).tolist()
    ([0, 1, 2], [3, 4])
    """

    folder: Path
    shards: tuple[np.ndarray, ...]
    shard: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    scales: np.ndarray
    rows: np.ndarray
    digests: Sequence[str]
    skipped: dict[str, str]
    fingerprint: str
    warnings: dict[str, str] = field(default_factory=dict)
    decoded: int = 0

    @classmethod
    def in_memory(
        cls,
        samples: np.ndarray,
        lengths: np.ndarray,
        scales: np.ndarray | None = None,
        digests: Sequence[str] = (),
        folder: Path = Path(),
    ) -> "AudioCache":
        """Clips that lie end to end in `samples (total,)` int16; the default scale is 1."""
        count = len(lengths)
        return cls(
            folder=folder,
            shards=(samples,),
            shard=np.zeros(count, np.int32),
            starts=np.cumsum([0, *lengths[:-1]], dtype=np.int64)[:count],
            lengths=np.asarray(lengths, np.int64),
            scales=np.ones(count, np.float32) if scales is None else scales,
            rows=np.arange(count),
            digests=tuple(digests),
            skipped={},
            fingerprint="",
        )

    @property
    def nbytes(self) -> int:
        """Bytes of all clips."""
        return 2 * int(self.lengths.sum())

    def clip(self, i: int) -> np.ndarray:
        """Clip i, `(T,)` int16."""
        return self.shards[self.shard[i]][self.starts[i] : self.starts[i] + self.lengths[i]]

    def samples(self) -> np.ndarray:
        """A copy of all clips end to end, `(total,)` int16."""
        joined = np.empty(int(self.lengths.sum()), np.int16)
        end = 0
        for i, length in enumerate(self.lengths.tolist()):
            joined[end : end + length] = self.clip(i)
            end += length
        return joined


def cache_folder(configured: str | None = None) -> Path:
    """The folder of all caches: the configured one, else `$SERX_CACHE`, else `~/.cache/serx`."""
    return Path(configured or os.environ.get("SERX_CACHE") or "~/.cache/serx").expanduser()


def open_audio_cache(
    clips: Sequence[StrPath | Segment] | Segments,
    config: AudioConfig,
    cache: StrPath | None = None,
    progress: bool = True,
    verify: bool = False,
) -> AudioCache:
    """Opens the cache of these clips; decodes those first that it does not hold.

    Args:
        clips: audio files, or segments of files.
        config: how they are decoded.
        cache: the folder of all caches; default: `cache_folder()`.
        progress: show a bar while decoding.
        verify: compare every clip with its digest, however large the cache is.

    Raises:
        DiskError: the cache cannot be written.

    >>> import tempfile, soundfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     soundfile.write(f"{folder}/a.wav", np.sin(np.arange(1600)), 16_000)
    ...     audio_cache = open_audio_cache([f"{folder}/a.wav", f"{folder}/b.wav"], AudioConfig(), folder)
    ...     audio_cache.rows.tolist(), audio_cache.lengths.tolist()
    ([0, -1], [1600])
    """
    segments: Sequence[Segment]
    if isinstance(clips, Segments):
        segments, keys = clips, clips.clips.audio_keys
    else:
        segments, keys = [clip if isinstance(clip, Segment) else Segment(Path(clip)) for clip in clips], None
    root = cache_folder() if cache is None else Path(cache)
    folder = root / f"audio-{_store_name(segments, config)}"
    keys = audio_keys(segments) if keys is None else keys
    try:
        audio_cache = _opened(Store(folder), segments, keys, verify)
        if audio_cache is None and (others := _siblings(folder)):
            audio_cache = _opened(Store(folder, others), segments, keys, verify)
            folder.mkdir(exist_ok=True)  # for what is computed from the audio
        if audio_cache is None:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder / ".lock") as alone:
                if alone:
                    remove_temporaries(folder)
                audio_cache = _made(folder, segments, keys, config, alone, progress, verify)
    except OSError as error:
        what = f"{folder}: cannot write decoded audio: {why_not_written(error, root)}"
        raise DiskError(f"{what}, or choose another folder with data.cache=DIR or SERX_CACHE") from error
    if audio_cache is None:
        raise DiskError(f"{folder}: reads back different bytes than written; choose another disk with data.cache=DIR")
    return audio_cache


def _made(
    folder: Path,
    segments: Sequence[Segment],
    keys: np.ndarray,
    config: AudioConfig,
    alone: bool,
    progress: bool,
    verify: bool,
) -> AudioCache | None:
    """The cache after decoding what it lacks, and what is damaged; None if it still is. `alone`: the lock is held."""
    decoded = 0
    for repair in (False, True):
        others = [] if repair else _siblings(folder)
        store = Store(folder, others)  # another process may have decoded the clips meanwhile
        if repair:
            store = store.without_damaged(keys)
        if alone:
            store.remove_unreadable()
        missing = store.missing(keys)
        if missing:
            with Writer(folder, store, alone) as writer:
                _decode(segments, keys, missing, config, writer, progress)
        decoded += len(missing)
        audio_cache = _opened(Store(folder, others), segments, keys, verify or repair, decoded)
        if audio_cache is not None:
            return audio_cache
    return None


def _opened(
    store: Store, segments: Sequence[Segment], keys: np.ndarray, verify: bool, decoded: int = 0
) -> AudioCache | None:
    """The clips of these keys; None if one is missing or is not what its digest says."""
    found = store.find(keys)
    held = found >= 0
    if not all(key in store.refused for key in keys[~held]):
        return None
    chosen = store.records[found[held]]
    used, shard = np.unique(store.shard_of[found[held]], return_inverse=True)
    warned = (
        np.flatnonzero(np.isin(keys, np.array(list(store.warnings), "S16"))) if store.warnings else np.zeros(0, int)
    )
    audio_cache = AudioCache(
        folder=store.folder,
        shards=tuple(store.samples(store.shards[i]) for i in used),
        shard=shard.astype(np.int32),
        starts=chosen["start"].astype(np.int64),
        lengths=chosen["length"].astype(np.int64),
        scales=chosen["scale"].astype(np.float32),
        rows=np.where(held, np.cumsum(held) - 1, -1),
        digests=Digests(chosen["digest"].tobytes()),
        skipped={str(segments[i]): store.refused[keys[i]] for i in np.flatnonzero(~held).tolist()},
        fingerprint=hashlib.sha256(store.folder.name.encode() + keys.tobytes()).hexdigest(),
        warnings={str(segments[i]): store.warnings[keys[i]] for i in warned.tolist()},
        decoded=decoded,
    )
    return None if _damaged_clips(audio_cache, verify) else audio_cache


def _damaged_clips(audio_cache: AudioCache, verify: bool) -> bool:
    """Whether a clip is not what its digest says: all are compared, or a sample of a large cache."""
    clips = np.arange(len(audio_cache.digests))
    if not verify and audio_cache.nbytes > CHECKED_BYTES and len(clips) > SAMPLED_CLIPS:
        # Other clips each time, so that damage is found sooner or later. No result depends on which.
        clips = np.random.default_rng().choice(clips, SAMPLED_CLIPS, replace=False)
    return any(digest(audio_cache.clip(i)).hex() != audio_cache.digests[i] for i in clips.tolist())


def _store_name(segments: Sequence[Segment], config: AudioConfig) -> str:
    """A digest of the settings, and one of the folder that holds all files."""
    if isinstance(segments, Segments):
        files = segments.clips.files
        used = np.unique(files.folder[np.unique(segments.clips.file)])
        folders = {os.path.dirname(files.folders[i]) for i in used.tolist()}
    else:
        folders = {os.path.dirname(segment.path) for segment in segments}
    parents = {os.path.abspath(folder) for folder in folders}
    try:
        above = os.path.commonpath(parents) if parents else ""
    except ValueError:  # on several drives of Windows
        above = ""
    settings = config.model_dump_json(include=set(AudioConfig.model_fields))
    parts = f"{CACHE_VERSION}|{settings}", above
    return "-".join(hashlib.sha256(part.encode(errors="surrogateescape")).hexdigest()[:16] for part in parts)


def _siblings(folder: Path) -> list[Path]:
    """The other folders of the same settings: what one corpus has decoded, a list of several need not decode again."""
    settings = folder.name.rpartition("-")[0]
    return [other for other in sorted(folder.parent.glob(f"{settings}-*")) if other != folder]


def _decode(
    segments: Sequence[Segment],
    keys: np.ndarray,
    missing: Sequence[int],
    config: AudioConfig,
    writer: Writer,
    progress: bool,
) -> None:
    """Decodes file by file in threads (libsndfile and soxr release the GIL), and writes clips as they come.

    So no more audio is in memory than the threads decode, however long the files are.
    """
    clips_of: dict[Path, list[int]] = {}
    for clip in missing:
        clips_of.setdefault(segments[clip].path, []).append(clip)
    writing = Lock()
    with ProgressBar("decode", len(missing), "clips", progress) as bar:

        def decode_file(clips: Sequence[int]) -> None:
            for clip, waveform, notes in _decode_clips(segments, clips, config):
                with writing:
                    bar.update()
                    if isinstance(waveform, AudioError):
                        writer.refuse(keys[clip], f"{waveform.reason}: {waveform.detail}")
                    else:
                        writer.add(keys[clip], *waveform, "; ".join(notes))

        _run(decode_file, list(clips_of.values()))


def _decode_clips(
    segments: Sequence[Segment], clips: Sequence[int], config: AudioConfig
) -> Iterator[tuple[int, tuple[np.ndarray, float] | AudioError, list[str]]]:
    """The clips of one file, in int16 with their scales."""
    path, parts = segments[clips[0]].path, [clip for clip in clips if not segments[clip].is_whole]
    for clip in clips:
        if segments[clip].is_whole:
            notes: list[str] = []
            try:
                yield clip, to_int16(decode(path, config, notes=notes)), notes
            except AudioError as error:
                yield clip, error, []
    if parts:
        for number, waveform, notes in decode_segments(path, [segments[clip][1:] for clip in parts], config):
            yield parts[number], waveform if isinstance(waveform, AudioError) else to_int16(waveform), notes


def _run(work: Callable[[Sequence[int]], None], items: Sequence[Sequence[int]]) -> None:
    """Runs `work` on every item in threads; an error ends all of them."""
    workers = min(16, cpu_count())
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[None]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 4 * workers:
                    waiting.popleft().result()
            while waiting:
                waiting.popleft().result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def to_int16(waveform: np.ndarray) -> tuple[np.ndarray, float]:
    """`(T,)` int16 samples and their scale, which is 1 / 32768 unless a float file exceeds full scale.

    >>> samples, scale = to_int16(np.array([0.5, -1.0], np.float32))
    >>> samples.tolist(), scale == 1 / 32768
    ([16384, -32768], True)
    """
    peak = max(1.0, float(np.abs(waveform).max()))
    samples = np.round(waveform * (FULL_SCALE / peak))
    return np.clip(samples, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16), peak / FULL_SCALE
