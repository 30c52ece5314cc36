"""`AudioCache`: a corpus decoded once into one flat int16 file, which later runs open in milliseconds.

Each cache is a folder, named by a digest of its inputs: the audio settings, and for each file its path, size, inode,
and times of modification and change. If any of those or any byte of the cache changes, the corpus is decoded again. The
folder holds `audio.int16`, `index.sealed` (JSON after its sha256) and, after the first leak check,
`fingerprints.sealed` and `copies-*.sealed`. Nothing in it is trusted: what is damaged, of another type or not a plain
file is made again.
"""

import hashlib
import json
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
from tqdm import tqdm

from serx.data.audio import AudioConfig, AudioError, StrPath, decode
from serx.errors import DiskError
from serx.files import free_space, locked, remove_temporaries, seal, unseal, write_atomically
from serx.system import WINDOWS, cpu_count

CACHE_VERSION = 7
FULL_SCALE = 32768  # as in libsndfile: 16-bit files at the right rate are stored bit for bit
_BLOCK = 4096  # bytes at each end of a file that are compared where the system keeps no time of change


@dataclass(frozen=True)
class AudioCache:
    """Decoded clips, end to end in one int16 array.

    Attributes:
        folder: the folder of the cache.
        samples: `(total,)` int16, mapped from disk.
        offsets: `(clips + 1,)` int64; clip i is `samples[offsets[i]:offsets[i + 1]]`.
        scales: `(clips,)` float32; samples times scale are in [-1, 1], or beyond if a float file was.
        rows: for each path given, its clip, or -1 if the file was skipped.
        digests: a hash of each clip's decoded samples: equal audio has equal digests, in any file format.
        skipped: path -> `reason: detail` of the files that could not be used.
        fingerprint: digest of the inputs.
        warnings: path -> what a user should know about a file that is used, such as that its channels cancel.

    >>> two = AudioCache(Path(), np.arange(5, dtype=np.int16), np.array([0, 2, 5]), np.ones(2, np.float32),
    ...                  (0, 1), ("a", "b"), {}, "")
    >>> two.lengths.tolist(), two.clip(1).tolist()
    ([2, 3], [2, 3, 4])
    """

    folder: Path
    samples: np.ndarray
    offsets: np.ndarray
    scales: np.ndarray
    rows: tuple[int, ...]
    digests: tuple[str, ...]
    skipped: dict[str, str]
    fingerprint: str
    warnings: dict[str, str] = field(default_factory=dict)

    @property
    def lengths(self) -> np.ndarray:
        """`(clips,)` int64, in samples."""
        return np.diff(self.offsets)

    def clip(self, i: int) -> np.ndarray:
        """Clip i, `(T,)` int16."""
        return self.samples[self.offsets[i] : self.offsets[i + 1]]


def cache_folder(configured: str | None = None) -> Path:
    """The folder of all caches: the configured one, else `$SERX_CACHE`, else `~/.cache/serx`."""
    return Path(configured or os.environ.get("SERX_CACHE") or "~/.cache/serx").expanduser()


def open_audio_cache(
    paths: Sequence[StrPath], config: AudioConfig, cache: StrPath | None = None, progress: bool = True
) -> AudioCache:
    """Opens the cache of these files; decodes them first if there is none.

    Args:
        paths: audio files.
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
    files, root = [Path(path) for path in paths], cache_folder() if cache is None else Path(cache)
    fingerprint = _fingerprint(files, config)
    folder = root / f"pack-{fingerprint[:24]}"
    try:
        audio_cache = _open(folder, fingerprint, len(files))
        if audio_cache is None:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder / ".lock") as alone:
                audio_cache = _open(folder, fingerprint, len(files))  # another process may have decoded it meanwhile
                if audio_cache is None:
                    if alone:
                        _remove_partials(folder)
                    _decode_all(folder, files, config, progress)
                    audio_cache = _open(folder, fingerprint, len(files))
    except OSError as error:
        what = f"{folder}: cannot write decoded audio: {error.strerror} ({free_space(root)})"
        raise DiskError(f"{what}; choose another folder with data.cache=DIR or SERX_CACHE") from error
    if audio_cache is None:
        raise DiskError(f"{folder}: reads back different bytes than written; choose another disk with data.cache=DIR")
    return audio_cache


@dataclass(frozen=True)
class _Index:
    """What `index.sealed` holds; `AudioCache` describes the values."""

    lengths: list[int]
    scales: list[float]
    rows: list[int]
    digests: list[str]
    refused: dict[str, str]
    warnings: dict[str, str]


def _parse_index(content: bytes, files: int) -> _Index | None:
    """The index of a cache of so many files; None if its JSON, a type or a number is wrong."""
    try:
        index = _Index(**json.loads(content))
        plain = (
            _list_of(index.lengths, int)
            and _list_of(index.scales, float)
            and _list_of(index.rows, int)
            and _list_of(index.digests, str)
            and all(type(text) is str for text in (*index.refused.values(), *index.warnings.values()))
        )
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None
    if not plain or len(index.rows) != files or not len(index.lengths) == len(index.scales) == len(index.digests):
        return None
    sound = min(index.lengths, default=0) >= 0 and all(0 < scale < math.inf for scale in index.scales)
    in_order = [row for row in index.rows if row != -1] == list(range(len(index.lengths)))
    return index if sound and in_order else None


def _list_of(values: object, kind: type) -> bool:
    return isinstance(values, list) and all(type(value) is kind for value in values)


def _open(folder: Path, fingerprint: str, files: int) -> AudioCache | None:
    """The cache of so many files in a folder; None if there is none or any byte of it has changed."""
    content = unseal(folder / "index.sealed")
    index = None if content is None else _parse_index(content, files)
    flat = folder / "audio.int16"
    if index is None or not flat.is_file() or flat.stat().st_size != 2 * sum(index.lengths):
        return None
    offsets = np.cumsum([0, *index.lengths], dtype=np.int64)
    samples = np.memmap(flat, np.int16, "r") if offsets[-1] else np.zeros(0, np.int16)
    if [_digest(samples[start:end]) for start, end in pairwise(offsets)] != index.digests:
        return None
    return AudioCache(
        folder=folder,
        samples=samples,
        offsets=offsets,
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


def _fingerprint(paths: Sequence[Path], config: AudioConfig) -> str:
    digest = hashlib.sha256(f"{CACHE_VERSION}|{config.model_dump_json(include=set(AudioConfig.model_fields))}".encode())
    for path in paths:
        digest.update(f"|{path}|{_state(path)}".encode(errors="surrogateescape"))  # a file name need not be valid text
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


def _decode_all(folder: Path, paths: Sequence[Path], config: AudioConfig, progress: bool) -> None:
    """Decodes in threads (libsndfile and soxr release the GIL) and writes in the order of `paths`."""
    lengths: list[int] = []
    scales: list[float] = []
    rows: list[int] = []
    digests: list[str] = []
    skipped: dict[str, str] = {}
    warnings: dict[str, str] = {}

    def decode_int16(path: Path) -> tuple[np.ndarray, float] | AudioError:
        notes: list[str] = []
        try:
            clip = to_int16(decode(path, config, notes=notes))
            if notes:
                warnings[str(path)] = "; ".join(notes)
            return clip
        except AudioError as error:
            return error

    workers = min(16, cpu_count())
    partial = folder / f"audio.{os.getpid()}.partial"
    try:
        with ThreadPoolExecutor(workers) as pool, partial.open("wb") as flat:
            bar = tqdm(total=len(paths), desc="decode", unit="clip", disable=None if progress else True)
            for path, decoded in zip(paths, _ordered(pool, decode_int16, paths, ahead=4 * workers), strict=True):
                bar.update()
                if isinstance(decoded, AudioError):
                    skipped[str(path)] = f"{decoded.reason}: {decoded.detail}"
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
    index = {"lengths": lengths, "scales": scales, "rows": rows, "digests": digests, "refused": skipped}
    index |= {"warnings": {str(path): warnings[str(path)] for path in paths if str(path) in warnings}}
    write_atomically(folder / "index.sealed", seal(json.dumps(index).encode()))


def _digest(clip: np.ndarray) -> str:
    return hashlib.sha256(clip.tobytes()).hexdigest()[:32]


def _ordered(pool: ThreadPoolExecutor, work, items: Sequence, ahead: int):
    """`pool.map` with at most `ahead` results in memory, so that memory does not grow with the corpus."""
    rest = iter(items)
    waiting = [pool.submit(work, item) for item in islice(rest, ahead)]
    while waiting:
        done = waiting.pop(0).result()
        waiting.extend(pool.submit(work, item) for item in islice(rest, 1))
        yield done


def to_int16(waveform: np.ndarray) -> tuple[np.ndarray, float]:
    """`(T,)` int16 samples and their scale, which is 1 / 32768 unless a float file exceeds full scale.

    >>> samples, scale = to_int16(np.array([0.5, -1.0], np.float32))
    >>> samples.tolist(), scale == 1 / 32768
    ([16384, -32768], True)
    """
    peak = max(1.0, float(np.abs(waveform).max()))
    samples = np.round(waveform * (FULL_SCALE / peak))
    return np.clip(samples, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16), peak / FULL_SCALE
