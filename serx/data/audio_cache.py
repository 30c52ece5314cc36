"""Decode a corpus once into one flat int16 file, and open it in milliseconds ever after.

A pack is a folder in the cache, named by a digest of what it was made from (paths, sizes, modification times and the
audio settings): change any of those, or any byte of the pack, and it is made anew. It holds `audio.int16`,
`index.sealed` (JSON behind its sha256) and, once they have been asked for, `thumbnails.sealed`, the small pictures by
which copies of a clip are found.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
from tqdm import tqdm

from serx.data.audio import AudioConfig, AudioError, read
from serx.errors import DiskError
from serx.files import free_space, locked, remove_temporaries, seal, unseal, write_atomically

CACHE_VERSION = 4
FULL_SCALE = 32768  # as libsndfile has it: 16-bit files at the right rate are kept bit for bit


@dataclass(frozen=True)
class AudioCache:
    """Decoded clips, end to end in one int16 array.

    Attributes:
        folder: where it is kept.
        samples: `(total,)` int16, mapped from disk.
        offsets: `(clips + 1,)` int64; clip i is `samples[offsets[i]:offsets[i + 1]]`.
        scales: `(clips,)` float32; samples times scale are in [-1, 1], or beyond where a float file was.
        rows: for each path asked for, its clip, or -1 where the file was set aside.
        digests: a hash of each clip's decoded samples: equal audio has equal digests, whatever the file.
        refused: path -> `reason: detail` for the files set aside.
    """

    folder: Path
    samples: np.ndarray
    offsets: np.ndarray
    scales: np.ndarray
    rows: tuple[int, ...]
    digests: tuple[str, ...]
    refused: dict[str, str]
    fingerprint: str

    @property
    def lengths(self) -> np.ndarray:
        """`(clips,)` int64 samples."""
        return np.diff(self.offsets)

    def clip(self, i: int) -> np.ndarray:
        """Clip i, `(T,)` int16."""
        return self.samples[self.offsets[i] : self.offsets[i + 1]]


def cache_folder(configured: str | None = None) -> Path:
    """Where packs are kept: the configured folder, else `SERX_CACHE`, else `~/.cache/serx`."""
    return Path(configured or os.environ.get("SERX_CACHE") or "~/.cache/serx").expanduser()


def open_audio_cache(paths: Sequence[Path], config: AudioConfig, cache: Path, progress: bool = True) -> AudioCache:
    """Opens the pack of these files, decoding them first when no such pack is in the cache.

    Raises:
        DiskError: the cache cannot be written.
    """
    fingerprint = _fingerprint(paths, config)
    folder = cache / f"pack-{fingerprint[:24]}"
    try:
        audio_cache = _open(folder, fingerprint)
        if audio_cache is None:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder / ".lock") as alone:
                audio_cache = _open(folder, fingerprint)  # another process may have made it meanwhile
                if audio_cache is None:
                    if alone:
                        _clear(folder)
                    _make(folder, paths, config, progress)
                    audio_cache = _open(folder, fingerprint)
    except OSError as error:
        where = f"{folder}: cannot keep decoded audio: {error.strerror} ({free_space(cache)})"
        raise DiskError(f"{where}; choose another place with data.cache=DIR or SERX_CACHE") from error
    if audio_cache is None:
        raise DiskError(f"{folder}: what was written there reads otherwise; choose another disk with data.cache=DIR")
    return audio_cache


def _open(folder: Path, fingerprint: str) -> AudioCache | None:
    """The pack in a folder; None where there is none, or any byte of it has changed: it is never trusted then."""
    content = unseal(folder / "index.sealed")
    if content is None:
        return None
    index = json.loads(content)
    offsets = np.concatenate([[0], np.cumsum(np.asarray(index["lengths"], np.int64))]).astype(np.int64)
    flat = folder / "audio.int16"
    if not flat.exists() or flat.stat().st_size != 2 * offsets[-1]:
        return None
    samples = np.memmap(flat, np.int16, "r") if offsets[-1] else np.zeros(0, np.int16)
    if [_digest(samples[start:end]) for start, end in pairwise(offsets)] != index["digests"]:
        return None
    return AudioCache(
        folder=folder,
        samples=samples,
        offsets=offsets,
        scales=np.asarray(index["scales"], np.float32),
        rows=tuple(index["rows"]),
        digests=tuple(index["digests"]),
        refused=index["refused"],
        fingerprint=fingerprint,
    )


def _clear(folder: Path) -> None:
    """Deletes what processes killed while they decoded have left; only for who holds the folder's lock."""
    for left in folder.glob("audio.*.partial"):
        left.unlink(missing_ok=True)
    remove_temporaries(folder)


def _fingerprint(paths: Sequence[Path], config: AudioConfig) -> str:
    digest = hashlib.sha256(f"{CACHE_VERSION}|{config.model_dump_json(include=set(AudioConfig.model_fields))}".encode())
    for path in paths:
        try:
            status = path.stat()
            state = f"{status.st_size}|{status.st_mtime_ns}"
        except OSError:
            state = "missing"
        digest.update(f"|{path}|{state}".encode(errors="surrogateescape"))  # a name need not be text
    return digest.hexdigest()


def _make(folder: Path, paths: Sequence[Path], config: AudioConfig, progress: bool) -> None:
    """Decodes in threads (libsndfile and soxr let go of the interpreter) and writes in the order of `paths`."""
    lengths: list[int] = []
    scales: list[float] = []
    rows: list[int] = []
    digests: list[str] = []
    refused: dict[str, str] = {}

    def decode(path: Path) -> tuple[np.ndarray, float] | AudioError:
        try:
            return to_int16(read(path, config))
        except AudioError as error:
            return error

    workers = min(16, os.cpu_count() or 1)
    partial = folder / f"audio.{os.getpid()}.partial"
    try:
        with ThreadPoolExecutor(workers) as pool, partial.open("wb") as flat:
            bar = tqdm(total=len(paths), desc="decode", unit="clip", disable=None if progress else True)
            for path, decoded in zip(paths, _ordered(pool, decode, paths, ahead=4 * workers), strict=True):
                bar.update()
                if isinstance(decoded, AudioError):
                    refused[str(path)] = f"{decoded.reason}: {decoded.detail}"
                    rows.append(-1)
                    continue
                clip, scale = decoded
                flat.write(clip.tobytes())
                rows.append(len(lengths))
                lengths.append(len(clip))
                scales.append(scale)
                digests.append(_digest(clip))
            bar.close()
            flat.flush()
            os.fsync(flat.fileno())
        os.replace(partial, folder / "audio.int16")
    finally:
        partial.unlink(missing_ok=True)
    index = {"lengths": lengths, "scales": scales, "rows": rows, "digests": digests, "refused": refused}
    write_atomically(folder / "index.sealed", seal(json.dumps(index).encode()))


def _digest(clip: np.ndarray) -> str:
    return hashlib.sha256(clip.tobytes()).hexdigest()[:32]


def _ordered(pool: ThreadPoolExecutor, work, items: Sequence, ahead: int):
    """`map` that keeps at most `ahead` results waiting, so that memory does not grow with the corpus."""
    rest = iter(items)
    waiting = [pool.submit(work, item) for item in islice(rest, ahead)]
    while waiting:
        done = waiting.pop(0).result()
        waiting.extend(pool.submit(work, item) for item in islice(rest, 1))
        yield done


def to_int16(waveform: np.ndarray) -> tuple[np.ndarray, float]:
    """Samples and their scale: full scale is 1, as in the file, unless a float file goes beyond it."""
    peak = max(1.0, float(np.abs(waveform).max()))
    samples = np.round(waveform * (FULL_SCALE / peak))
    return np.clip(samples, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16), peak / FULL_SCALE
