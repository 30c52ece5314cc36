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
import json
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock

import numpy as np

from serx.data.audio import AudioConfig, AudioError, StrPath, decode, decode_segments
from serx.data.utterance import Segment
from serx.errors import DiskError
from serx.files import locked, remove_temporaries, seal, unseal, why_not_written, write_atomically
from serx.system import WINDOWS, cpu_count
from serx.terminal import ProgressBar

CACHE_VERSION = 11
FULL_SCALE = 32768  # as in libsndfile: 16-bit files at the right rate are stored bit for bit
SHARD_BYTES = 1 << 30
CHECKPOINT_BYTES = 1 << 28  # a decoder that is killed has to repeat at most this much
CHECKED_BYTES = 1 << 28  # every clip of so much audio is compared with its digest when it is opened
SAMPLED_CLIPS = 256  # and so many of more audio
_BLOCK = 4096  # bytes at each end of a file that are compared where the system keeps no time of change
_RECORD = np.dtype([("key", "S16"), ("digest", "V16"), ("start", "<i8"), ("length", "<i8"), ("scale", "<f4")])


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
        rows: for each file or segment given, its clip, or -1 if it was skipped.
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
    rows: tuple[int, ...]
    digests: tuple[str, ...]
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
            rows=tuple(range(count)),
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
    clips: Sequence[StrPath | Segment],
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
    ...     audio_cache.rows, audio_cache.lengths.tolist()
    ((0, -1), [1600])
    """
    segments = [clip if isinstance(clip, Segment) else Segment(Path(clip)) for clip in clips]
    root = cache_folder() if cache is None else Path(cache)
    folder = root / f"audio-{_store_name(segments, config)}"
    keys = _keys(segments)
    try:
        audio_cache = _Store(folder).open(segments, keys, verify)
        if audio_cache is None and (others := _siblings(folder)):
            audio_cache = _Store(folder, others).open(segments, keys, verify)
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
        store = _Store(folder, others)  # another process may have decoded the clips meanwhile
        if repair:
            store = store.without_damaged(keys)
        if alone:
            store.remove_unreadable()
        missing = store.missing(keys)
        if missing:
            with _Writer(folder, store, alone) as writer:
                _decode(segments, keys, missing, config, writer, progress)
        decoded += len(missing)
        audio_cache = _Store(folder, others).open(segments, keys, verify or repair, decoded)
        if audio_cache is not None:
            return audio_cache
    return None


def _store_name(segments: Sequence[Segment], config: AudioConfig) -> str:
    """A digest of the settings, and one of the folder that holds all files."""
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


def _keys(segments: Sequence[Segment]) -> np.ndarray:
    """`(n,)` digests of 16 bytes: of each segment, and of what changes when the content of its file does."""
    states: dict[str, str] = {}  # of files with segments: a whole file rarely comes twice
    keys = []
    for segment in segments:
        path = str(segment.path)
        state = states.get(path) or _state(path)
        if not segment.is_whole:
            states[path] = state
        # A file name need not be valid text.
        text = f"{path}{segment.fragment}|{state}".encode(errors="surrogateescape")
        keys.append(hashlib.sha256(text).digest()[:16])
    return np.frombuffer(b"".join(keys), "S16")


@dataclass(frozen=True)
class _Shard:
    """A shard and its index. `refused` and `warnings` are by key."""

    folder: Path
    number: int
    records: np.ndarray
    refused: dict[bytes, str]
    warnings: dict[bytes, str]

    @property
    def end(self) -> int:
        """How many samples belong to clips."""
        return int((self.records["start"] + self.records["length"]).max(initial=0))


def _read_shard(folder: Path, number: int) -> _Shard | None:
    """A shard, without the clips that its file is too short for; None if its index is damaged."""
    content = unseal(folder / f"{number:04d}.sealed")
    if content is None or len(content) < 8:
        return None
    count = int.from_bytes(content[:8], "little")
    size = 8 + count * _RECORD.itemsize
    if size > len(content):
        return None
    records = np.frombuffer(content, _RECORD, count, offset=8)
    try:
        said = json.loads(content[size:])
        refused, warnings = (
            {bytes.fromhex(key).rstrip(b"\0"): str(text) for key, text in said[name].items()}
            for name in ("refused", "warnings")
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    starts, lengths = records["start"], records["length"]
    order = np.argsort(starts, kind="stable")
    apart = (starts[order][1:] >= (starts + lengths)[order][:-1]).all()
    limit = 1 << 40
    sound = ((starts >= 0) & (lengths >= 0) & (starts < limit) & (lengths < limit)).all() and apart
    if not sound or not (np.isfinite(records["scale"]) & (records["scale"] > 0)).all():
        return None
    flat = folder / f"{number:04d}.int16"
    held = flat.stat().st_size // 2 if flat.is_file() else 0
    return _Shard(folder, number, records[starts + lengths <= held], refused, warnings)


def _read_shards(folder: Path) -> dict[int, _Shard | None]:
    """The shards of a folder by their numbers; None where the index is damaged."""
    numbers = {int(p.stem) for p in folder.glob("*.*") if p.stem.isdecimal() and p.suffix in (".int16", ".sealed")}
    return {number: _read_shard(folder, number) for number in sorted(numbers)}


class _Store:
    """The shards of a folder, and what is read from other folders."""

    def __init__(self, folder: Path, others: Sequence[Path] = ()) -> None:
        self.folder = folder
        found = _read_shards(folder)
        self.damaged = [number for number, shard in found.items() if shard is None]
        self.own = [shard for shard in found.values() if shard is not None]
        # Of clips that are held twice, those of the folder itself come last, and are used.
        read = [shard for other in others for shard in _read_shards(other).values() if shard is not None]
        self.shards = [*read, *self.own]
        records = [shard.records for shard in self.shards]
        self._records = np.concatenate(records) if records else np.zeros(0, _RECORD)
        self._shard = np.repeat(np.arange(len(records), dtype=np.int32), [len(part) for part in records])
        self._order = np.argsort(self._records["key"], kind="stable")
        self._sorted = self._records["key"][self._order]
        self._refused = {key: text for shard in self.shards for key, text in shard.refused.items()}
        self._warnings = {key: text for shard in self.shards for key, text in shard.warnings.items()}

    def _find(self, keys: np.ndarray) -> np.ndarray:
        """`(n,)` the record of each key, or -1."""
        place = np.searchsorted(self._sorted, keys, side="right") - 1
        if not len(self._sorted):
            return place
        return np.where(self._sorted[place] == keys, self._order[place], -1)

    def missing(self, keys: np.ndarray) -> list[int]:
        """Which of the keys are neither held nor refused."""
        return [i for i in np.flatnonzero(self._find(keys) < 0).tolist() if keys[i] not in self._refused]

    @staticmethod
    def _samples(shard: _Shard) -> np.ndarray:
        flat = shard.folder / f"{shard.number:04d}.int16"
        return np.memmap(flat, np.int16, "r") if flat.stat().st_size > 1 else np.zeros(0, np.int16)

    def open(self, segments: Sequence[Segment], keys: np.ndarray, verify: bool, decoded: int = 0) -> AudioCache | None:
        """The clips of these keys; None if one is missing or is not what its digest says."""
        if self.missing(keys):
            return None
        found = self._find(keys)
        chosen = self._records[found[found >= 0]]
        used, shard = np.unique(self._shard[found[found >= 0]], return_inverse=True)
        rows = np.where(found >= 0, np.cumsum(found >= 0) - 1, -1)
        digests = chosen["digest"].tobytes().hex()
        audio_cache = AudioCache(
            folder=self.folder,
            shards=tuple(self._samples(self.shards[i]) for i in used),
            shard=shard.astype(np.int32),
            starts=chosen["start"].astype(np.int64),
            lengths=chosen["length"].astype(np.int64),
            scales=chosen["scale"].astype(np.float32),
            rows=tuple(rows.tolist()),
            digests=tuple(digests[i : i + 32] for i in range(0, len(digests), 32)),
            skipped={str(segments[i]): self._refused[keys[i]] for i in np.flatnonzero(found < 0).tolist()},
            fingerprint=hashlib.sha256(self.folder.name.encode() + keys.tobytes()).hexdigest(),
            warnings={str(segments[i]): self._warnings[key] for i, key in enumerate(keys) if key in self._warnings}
            if self._warnings
            else {},
            decoded=decoded,
        )
        return None if _damaged_clips(audio_cache, verify) else audio_cache

    def remove_unreadable(self) -> None:
        """Deletes shards without an index."""
        for number in self.damaged:
            for ending in ("int16", "sealed"):
                (self.folder / f"{number:04d}.{ending}").unlink(missing_ok=True)
        self.damaged = []

    def without_damaged(self, keys: np.ndarray) -> "_Store":
        """The store without those clips of these keys that are not what their digests say."""
        found = self._find(keys)
        for i in np.unique(found[found >= 0]).tolist():
            record, place = self._records[i], self._shard[i]
            start, length = int(record["start"]), int(record["length"])
            shard = self.shards[place]
            if _digest(self._samples(shard)[start : start + length]) != record["digest"].tobytes():
                kept = shard.records[shard.records["key"] != record["key"]]
                self.shards[place] = replace(shard, records=kept)
                _write_index(self.shards[place])
        return _Store(self.folder)


def _damaged_clips(audio_cache: AudioCache, verify: bool) -> bool:
    """Whether a clip is not what its digest says: all are compared, or a sample of a large cache."""
    clips = np.arange(len(audio_cache.digests))
    if not verify and audio_cache.nbytes > CHECKED_BYTES and len(clips) > SAMPLED_CLIPS:
        # Other clips each time, so that damage is found sooner or later. No result depends on which.
        clips = np.random.default_rng().choice(clips, SAMPLED_CLIPS, replace=False)
    return any(_digest(audio_cache.clip(i)).hex() != audio_cache.digests[i] for i in clips.tolist())


def _write_index(shard: _Shard) -> None:
    said = {
        name: {key.ljust(16, b"\0").hex(): text for key, text in entries.items()}
        for name, entries in (("refused", shard.refused), ("warnings", shard.warnings))
    }
    content = len(shard.records).to_bytes(8, "little") + shard.records.tobytes() + json.dumps(said).encode()
    write_atomically(shard.folder / f"{shard.number:04d}.sealed", seal(content))


class _Writer:
    """Appends clips to the last shard of a folder, and begins new ones."""

    def __init__(self, folder: Path, store: _Store, alone: bool) -> None:
        self._folder = folder
        numbers = [shard.number for shard in store.own]
        last = store.own[-1] if store.own else None
        # Without locks, another process may append to the same shard.
        free = last is not None and last.end * 2 < SHARD_BYTES and alone
        self._begin(
            last if last is not None and free else _empty_shard(folder, max([*numbers, *store.damaged], default=-1) + 1)
        )

    def _begin(self, shard: _Shard) -> None:
        self._shard, self._records = shard, [shard.records]
        self._refused, self._warnings = dict(shard.refused), dict(shard.warnings)
        self._end = self._saved = shard.end
        flat = self._folder / f"{shard.number:04d}.int16"
        if flat.is_symlink() or (flat.exists() and not flat.is_file()):
            flat.unlink()
        self._file = flat.open("r+b" if flat.exists() else "w+b")
        self._file.truncate(2 * self._end)  # what a killed process wrote behind
        self._file.seek(2 * self._end)

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None or not issubclass(kind, OSError):  # a full disk holds no index either
                self._save()
        finally:
            self._file.close()

    def add(self, key: bytes, samples: np.ndarray, scale: float, warning: str) -> None:
        """Appends a clip."""
        self._file.write(samples.tobytes())
        record = np.zeros(1, _RECORD)
        record["key"], record["digest"] = key, np.void(_digest(samples))
        record["start"], record["length"], record["scale"] = self._end, len(samples), scale
        self._records.append(record)
        if warning:
            self._warnings[key] = warning
        self._end += len(samples)
        if 2 * self._end >= SHARD_BYTES:
            self._save()
            self._file.close()
            self._begin(_empty_shard(self._folder, self._shard.number + 1))
        elif 2 * (self._end - self._saved) >= CHECKPOINT_BYTES:
            self._save()

    def refuse(self, key: bytes, reason: str) -> None:
        """Notes why a clip cannot be used."""
        self._refused[key] = reason

    def _save(self) -> None:
        """Writes the index, after the samples have reached the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._records = [np.concatenate(self._records)]
        _write_index(replace(self._shard, records=self._records[0], refused=self._refused, warnings=self._warnings))
        self._saved = self._end


def _empty_shard(folder: Path, number: int) -> _Shard:
    return _Shard(folder, number, np.zeros(0, _RECORD), {}, {})


def _state(path: str) -> str:
    """What changes when the content of a file changes.

    Size and modification time may survive a replacement (`cp -p`, `touch -r`). The inode, or the time of change, which
    no program can set, does not. Windows has no such time: there, both ends of the file are read.
    """
    try:
        status = os.stat(path)
        state = f"{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}|{status.st_ino}"
        return f"{state}|{_ends(path, status.st_size)}" if WINDOWS else state
    except OSError:
        return "missing"


def _ends(path: str, size: int) -> str:
    """A digest of the first and the last block of a file."""
    with open(path, "rb") as file:
        first = file.read(_BLOCK)
        file.seek(max(0, size - _BLOCK))
        return hashlib.sha256(first + file.read(_BLOCK)).hexdigest()


def _decode(
    segments: Sequence[Segment],
    keys: np.ndarray,
    missing: Sequence[int],
    config: AudioConfig,
    writer: _Writer,
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


def _digest(clip: np.ndarray) -> bytes:
    return hashlib.sha256(clip.tobytes()).digest()[:16]


def to_int16(waveform: np.ndarray) -> tuple[np.ndarray, float]:
    """`(T,)` int16 samples and their scale, which is 1 / 32768 unless a float file exceeds full scale.

    >>> samples, scale = to_int16(np.array([0.5, -1.0], np.float32))
    >>> samples.tolist(), scale == 1 / 32768
    ([16384, -32768], True)
    """
    peak = max(1.0, float(np.abs(waveform).max()))
    samples = np.round(waveform * (FULL_SCALE / peak))
    return np.clip(samples, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16), peak / FULL_SCALE
