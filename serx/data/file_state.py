"""What changes when the content of a file changes, and the keys by which the audio cache finds clips."""

import hashlib
import os
import stat
from collections.abc import Sequence
from itertools import chain

import numpy as np

from serx.data.utterance import Segment
from serx.data.utterances import Segments, Utterances
from serx.system import WINDOWS

_BLOCK = 4096  # bytes at each end of a file that are compared where the system keeps no time of change


def file_state(path: str) -> str:
    """What changes when the content of a file changes.

    Size and modification time may survive a replacement (`cp -p`, `touch -r`). The inode, or the time of change, which
    no program can set, does not. Windows has no such time: there, both ends of the file are read.

    >>> file_state("no such file")
    'missing'
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


def file_stats(paths: Sequence[str]) -> np.ndarray | None:
    """`(n, 5)` int64: size, times of modification and of change in ns, inode and device of files, by one call each.

    None if one of them is no file.
    """
    try:
        rows = (
            (s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino, s.st_dev, stat.S_ISREG(s.st_mode))
            for s in map(os.stat, paths)
        )
        found = np.fromiter(chain.from_iterable(rows), np.int64, 6 * len(paths)).reshape(-1, 6)
    except (OSError, ValueError, OverflowError):  # ValueError: a zero byte; OverflowError: an inode beyond 63 bits
        return None
    return found[:, :5] if found[:, 5].all() else None


def audio_keys(clips: Sequence[Segment], stats: np.ndarray | None = None) -> np.ndarray:
    """The key of each clip in the audio cache: a digest of its segment and of the state of its file, `(n,)` 16 bytes.

    Args:
        clips: the segments.
        stats: `file_stats` of `clips.clips.files`, where they are known.
    """
    if isinstance(clips, Segments):
        return _keys_of_columns(clips.clips, stats)
    states: dict[str, str] = {}  # of files with segments: a whole file rarely comes twice
    texts = []
    for clip in clips:
        path = str(clip.path)
        state = states.get(path) or file_state(path)
        if not clip.is_whole:
            states[path] = state
        texts.append(f"{path}{clip.fragment}|{state}")
    return _digests(texts)


def _keys_of_columns(clips: Utterances, stats: np.ndarray | None) -> np.ndarray:
    used, file = np.unique(clips.file, return_inverse=True)
    paths = clips.files.paths()
    paths = [paths[i] for i in used.tolist()]
    if stats is None or WINDOWS:
        states = [file_state(path) for path in paths]
    else:
        states = [f"{size}|{mtime}|{ctime}|{inode}" for size, mtime, ctime, inode, _ in stats[used].tolist()]
    whole = clips.is_whole_file
    if whole.all() and len(used) == len(clips):
        return _digests([f"{paths[i]}|{states[i]}" for i in file.tolist()])
    segments = clips.segments
    fragments = ["" if whole[i] else segments[i].fragment for i in range(len(clips))]
    return _digests([f"{paths[i]}{part}|{states[i]}" for i, part in zip(file.tolist(), fragments, strict=True)])


def _digests(texts: Sequence[str]) -> np.ndarray:
    sha256 = hashlib.sha256
    # A file name need not be valid text.
    return np.frombuffer(b"".join([sha256(t.encode(errors="surrogateescape")).digest()[:16] for t in texts]), "S16")
