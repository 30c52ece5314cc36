"""`AudioCache`: a corpus decoded once into one flat int16 file, which later runs open in milliseconds.

A clip is a file or a segment of one; a file is decoded once for all of its segments. Each cache is a folder, named by a
digest of its inputs: the audio settings, and for each clip its segment and its file's path, size, inode, and times of
modification and change. If any of those or any byte of the cache changes, the corpus is decoded again. The
folder holds `audio.int16`, `index.sealed` (JSON after its sha256) and, after the first leak check,
`fingerprints.sealed` and `copies-*.sealed`. Nothing in it is trusted: what is damaged, of another type or not a plain
file is made again.
"""

import hashlib
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from serx.data.audio import AudioConfig, AudioError, StrPath, decode, decode_segments
from serx.data.utterance import Segment
from serx.errors import DiskError
from serx.files import free_space, locked, remove_temporaries, seal, unseal, write_atomically
from serx.system import WINDOWS, cpu_count

CACHE_VERSION = 8
FULL_SCALE = 32768  # as in libsndfile: 16-bit files at the right rate are stored bit for bit
_BLOCK = 4096  # bytes at each end of a file that are compared where the system keeps no time of change


@dataclass(frozen=True)
class AudioCache:
    """Decoded clips in one int16 array.

    Attributes:
        folder: the folder of the cache.
        samples: `(total,)` int16, mapped from disk.
        starts: `(clips,)` int64; clip i is `samples[starts[i]:starts[i] + lengths[i]]`.
        lengths: `(clips,)` int64, in samples.
        scales: `(clips,)` float32; samples times scale are in [-1, 1], or beyond if a float file was.
        rows: for each file or segment given, its clip, or -1 if it was skipped.
        digests: a hash of each clip's decoded samples: equal audio has equal digests, in any file format.
        skipped: `str` of a segment (a path, and `#t=start,end` of a part) -> `reason: detail`, if it cannot be used.
        fingerprint: digest of the inputs.
        warnings: the same -> what a user should know about a clip that is used, such as that its channels cancel.

    >>> two = AudioCache(Path(), np.arange(5, dtype=np.int16), np.array([3, 0]), np.array([2, 3]),
    ...                  np.ones(2, np.float32), (0, 1), ("a", "b"), {}, "")
    >>> two.clip(0).tolist(), two.clip(1).tolist()
    ([3, 4], [0, 1, 2])
    """

    folder: Path
    samples: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    scales: np.ndarray
    rows: tuple[int, ...]
    digests: tuple[str, ...]
    skipped: dict[str, str]
    fingerprint: str
    warnings: dict[str, str] = field(default_factory=dict)

    def clip(self, i: int) -> np.ndarray:
        """Clip i, `(T,)` int16."""
        return self.samples[self.starts[i] : self.starts[i] + self.lengths[i]]


def cache_folder(configured: str | None = None) -> Path:
    """The folder of all caches: the configured one, else `$SERX_CACHE`, else `~/.cache/serx`."""
    return Path(configured or os.environ.get("SERX_CACHE") or "~/.cache/serx").expanduser()


def open_audio_cache(
    clips: Sequence[StrPath | Segment], config: AudioConfig, cache: StrPath | None = None, progress: bool = True
) -> AudioCache:
    """Opens the cache of these clips; decodes them first if there is none.

    Args:
        clips: audio files, or segments of files.
        config: how they are decoded.
        cache: the folder of all caches; default: `cache_folder()`.
        progress: show a bar while decoding.

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
    fingerprint = _fingerprint(segments, config)
    folder = root / f"pack-{fingerprint[:24]}"
    try:
        audio_cache = _open(folder, fingerprint, len(segments))
        if audio_cache is None:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder / ".lock") as alone:
                audio_cache = _open(folder, fingerprint, len(segments))  # another process may have decoded it meanwhile
                if audio_cache is None:
                    if alone:
                        _remove_partials(folder)
                    _decode_all(folder, segments, config, progress)
                    audio_cache = _open(folder, fingerprint, len(segments))
    except OSError as error:
        what = f"{folder}: cannot write decoded audio: {error.strerror} ({free_space(root)})"
        raise DiskError(f"{what}; choose another folder with data.cache=DIR or SERX_CACHE") from error
    if audio_cache is None:
        raise DiskError(f"{folder}: reads back different bytes than written; choose another disk with data.cache=DIR")
    return audio_cache


@dataclass(frozen=True)
class _Index:
    """What `index.sealed` holds; `AudioCache` describes the values."""

    starts: list[int]
    lengths: list[int]
    scales: list[float]
    rows: list[int]
    digests: list[str]
    refused: dict[str, str]
    warnings: dict[str, str]


def _parse_index(content: bytes, clips: int) -> _Index | None:
    """The index of a cache of so many clips; None if its JSON, a type or a number is wrong."""
    try:
        index = _Index(**json.loads(content))
        plain = (
            _list_of(index.starts, int)
            and _list_of(index.lengths, int)
            and _list_of(index.scales, float)
            and _list_of(index.rows, int)
            and _list_of(index.digests, str)
            and all(type(text) is str for text in (*index.refused.values(), *index.warnings.values()))
        )
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    if (
        not plain
        or len(index.rows) != clips
        or not (len(index.starts) == len(index.lengths) == len(index.scales) == len(index.digests))
    ):
        return None
    sound = min(index.lengths, default=0) >= 0 and all(0 < scale < math.inf for scale in index.scales)
    in_order = [row for row in index.rows if row != -1] == list(range(len(index.digests)))
    spans = sorted(zip(index.starts, index.lengths, strict=True))
    end_to_end = [start for start, _ in spans] == [0, *accumulate(length for _, length in spans)][: len(spans)]
    return index if sound and in_order and end_to_end else None


def _list_of(values: object, kind: type) -> bool:
    return isinstance(values, list) and all(type(value) is kind for value in values)


def _open(folder: Path, fingerprint: str, clips: int) -> AudioCache | None:
    """The cache of so many clips in a folder; None if there is none or any byte of it has changed."""
    content = unseal(folder / "index.sealed")
    index = None if content is None else _parse_index(content, clips)
    flat = folder / "audio.int16"
    if index is None or not flat.is_file() or flat.stat().st_size != 2 * sum(index.lengths):
        return None
    samples = np.memmap(flat, np.int16, "r") if any(index.lengths) else np.zeros(0, np.int16)
    spans = zip(index.starts, index.lengths, strict=True)
    if [_digest(samples[start : start + length]) for start, length in spans] != index.digests:
        return None
    return AudioCache(
        folder=folder,
        samples=samples,
        starts=np.asarray(index.starts, np.int64),
        lengths=np.asarray(index.lengths, np.int64),
        scales=np.asarray(index.scales, np.float32),
        rows=tuple(index.rows),
        digests=tuple(index.digests),
        skipped=index.refused,
        fingerprint=fingerprint,
        warnings=index.warnings,
    )


def _remove_partials(folder: Path) -> None:
    """Deletes the partial files of processes that were killed while decoding. The caller must hold the lock."""
    for partial in folder.glob("audio.*.partial"):
        partial.unlink(missing_ok=True)
    remove_temporaries(folder)


def _fingerprint(segments: Sequence[Segment], config: AudioConfig) -> str:
    digest = hashlib.sha256(f"{CACHE_VERSION}|{config.model_dump_json(include=set(AudioConfig.model_fields))}".encode())
    states: dict[Path, str] = {}
    for segment in segments:
        if segment.path not in states:
            states[segment.path] = _state(segment.path)
        # A file name need not be valid text.
        digest.update(f"|{segment}|{states[segment.path]}".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _state(path: Path) -> str:
    """What changes when the content of a file changes.

    Size and modification time may survive a replacement (`cp -p`, `touch -r`). The inode, or the time of change, which
    no program can set, does not. Windows has no such time: there, both ends of the file are read.
    """
    try:
        status = path.stat()
        state = f"{status.st_size}|{status.st_mtime_ns}|{status.st_ctime_ns}|{status.st_ino}"
        return f"{state}|{_ends(path, status.st_size)}" if WINDOWS else state
    except OSError:
        return "missing"


def _ends(path: Path, size: int) -> str:
    """A digest of the first and the last block of a file."""
    with path.open("rb") as file:
        first = file.read(_BLOCK)
        file.seek(max(0, size - _BLOCK))
        return hashlib.sha256(first + file.read(_BLOCK)).hexdigest()


class _Placed(NamedTuple):
    """A clip in the flat file."""

    start: int
    length: int
    scale: float
    digest: str


def _decode_all(folder: Path, segments: Sequence[Segment], config: AudioConfig, progress: bool) -> None:
    """Decodes file by file in threads (libsndfile and soxr release the GIL), and writes clips as they come.

    So no more audio is in memory than the threads decode, however long the files are.
    """
    clips_of: dict[Path, list[int]] = {}
    for number, segment in enumerate(segments):
        clips_of.setdefault(segment.path, []).append(number)
    placed: dict[int, _Placed] = {}
    skipped: dict[int, str] = {}
    warnings: dict[int, str] = {}
    partial = folder / f"audio.{os.getpid()}.partial"
    writing = Lock()
    try:
        with (
            partial.open("wb") as flat,
            tqdm(total=len(segments), desc="decode", unit="clip", disable=None if progress else True) as bar,
        ):

            def decode_file(clips: Sequence[int]) -> None:
                for clip, waveform, notes in _decode_clips(segments, clips, config):
                    with writing:
                        bar.update()
                        if isinstance(waveform, AudioError):
                            skipped[clip] = f"{waveform.reason}: {waveform.detail}"
                            continue
                        samples, scale = waveform
                        placed[clip] = _Placed(flat.tell() // 2, len(samples), scale, _digest(samples))
                        flat.write(samples.tobytes())
                        if notes:
                            warnings[clip] = "; ".join(notes)

            _run(decode_file, list(clips_of.values()))
            flat.flush()
            os.fsync(flat.fileno())
        os.replace(partial, folder / "audio.int16")
    finally:
        partial.unlink(missing_ok=True)
    used = sorted(placed)
    row = {clip: number for number, clip in enumerate(used)}
    index = _Index(
        starts=[placed[clip].start for clip in used],
        lengths=[placed[clip].length for clip in used],
        scales=[placed[clip].scale for clip in used],
        rows=[row.get(clip, -1) for clip in range(len(segments))],
        digests=[placed[clip].digest for clip in used],
        refused=_by_name(segments, skipped),
        warnings=_by_name(segments, warnings),
    )
    write_atomically(folder / "index.sealed", seal(json.dumps(asdict(index)).encode()))


def _by_name(segments: Sequence[Segment], said: dict[int, str]) -> dict[str, str]:
    return {str(segments[clip]): said[clip] for clip in sorted(said)}


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


def _digest(clip: np.ndarray) -> str:
    return hashlib.sha256(clip.tobytes()).hexdigest()[:32]


def to_int16(waveform: np.ndarray) -> tuple[np.ndarray, float]:
    """`(T,)` int16 samples and their scale, which is 1 / 32768 unless a float file exceeds full scale.

    >>> samples, scale = to_int16(np.array([0.5, -1.0], np.float32))
    >>> samples.tolist(), scale == 1 / 32768
    ([16384, -32768], True)
    """
    peak = max(1.0, float(np.abs(waveform).max()))
    samples = np.round(waveform * (FULL_SCALE / peak))
    return np.clip(samples, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16), peak / FULL_SCALE
