"""Files and folders, looked at in such a way that `observing` knows what was seen, and can tell whether it is still so.

A scan depends on the names in folders, on the bytes of tables and label files, on which paths are files, and on which
of them are the same file. The modules that a scan runs look at the disk by the functions here, and by no others.
"""

import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from serx.errors import DataError
from serx.system import WINDOWS

FileIdentity = tuple[int, int]
NOT_A_FILE = (-1, -1)  # what is recorded of a folder, a pipe or a device
NOTHING = (-2, -2)  # in arrays of identities: there is no such path
_SMALL = 16 << 20  # bytes; of larger Parquet files the state is compared, as of audio
_CLOCK = 2.0  # seconds; a file system's clock may stand still for as long (FAT)


@dataclass
class Seen:
    """What was seen of the disk, by absolute paths.

    Attributes:
        names: folder -> digest of the names of all files in and below it.
        contents: file -> digest of its bytes.
        states: large file -> what changes when its content changes; None: it had just changed, and may change again
            without a trace.
        folders: path -> whether it was a folder.
        files: path -> identity, `NOT_A_FILE`, or None where there was nothing. `is_current` leaves them to its caller.
    """

    names: dict[str, str] = field(default_factory=dict)
    contents: dict[str, str] = field(default_factory=dict)
    states: dict[str, str | None] = field(default_factory=dict)
    folders: dict[str, bool] = field(default_factory=dict)
    files: dict[str, FileIdentity | None] = field(default_factory=dict)

    def is_current(self) -> bool:
        """Whether names, contents, states and folders are the same now."""
        try:
            return (
                all(os.path.isdir(path) == answer for path, answer in self.folders.items())
                and all(state is not None and _state(path) == state for path, state in self.states.items())
                and all(os.path.isfile(path) and _digest(path) == digest for path, digest in self.contents.items())
                and all(_digest_of_names(list(_walk(folder))) == digest for folder, digest in self.names.items())
            )
        except (OSError, ValueError, DataError):
            return False


_seen: ContextVar[Seen | None] = ContextVar("seen", default=None)


@contextmanager
def observing() -> Iterator[Seen]:
    """Collects what the functions of this file see within the block.

    >>> with observing() as seen:
    ...     _ = file_identity(Path("no such file"))
    >>> seen.files
    {'no such file': None}
    """
    seen = Seen()
    token = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(token)


def file_identity(path: Path) -> FileIdentity | None:
    """What is equal for all names of one file (links, other cases of letters); None if there is no such file.

    >>> file_identity(Path("no such file")) is None
    True
    """
    seen, answer = _seen.get(), None
    try:
        status = path.stat()
        answer = (status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else NOT_A_FILE
    except (OSError, ValueError):  # also a name that is too long, or contains a zero byte
        pass
    if seen is not None:
        seen.files[str(path)] = answer
    return None if answer == NOT_A_FILE else answer


def identities(paths: Sequence[str]) -> np.ndarray | None:
    """`(n, 2)` int64: the `file_identity` of each path, `NOT_A_FILE`, or `NOTHING`; None if a number has 64 bits."""
    found: list[FileIdentity] = []
    for path in paths:
        try:
            status = os.stat(path)
            found.append((status.st_dev, status.st_ino) if stat.S_ISREG(status.st_mode) else NOT_A_FILE)
        except (OSError, ValueError):
            found.append(NOTHING)
    try:
        return np.array(found, np.int64).reshape(-1, 2)
    except OverflowError:
        return None


def is_file(path: Path) -> bool:
    """Whether there is a file at a path."""
    return file_identity(path) is not None


def is_folder(path: Path) -> bool:
    """Whether there is a folder at a path.

    Raises:
        OSError: the system cannot tell.
    """
    answer, seen = path.is_dir(), _seen.get()
    if seen is not None:
        seen.folders[str(path)] = answer
    return answer


def read_bytes(path: Path) -> bytes:
    """The bytes of a file.

    Raises:
        OSError: it cannot be read.
    """
    content, seen = path.read_bytes(), _seen.get()
    if seen is not None:
        _note(seen.contents, str(path), hashlib.sha256(content).hexdigest())
    return content


def will_be_read(path: Path) -> None:
    """To be called before another library reads a file by its path.

    Raises:
        OSError: the file cannot be read.
    """
    seen = _seen.get()
    if seen is None or str(path) in seen.contents or str(path) in seen.states:
        return
    if WINDOWS or os.stat(path).st_size <= _SMALL:  # Windows has no time of change that no program can set
        seen.contents[str(path)] = _digest(path)
    else:
        seen.states[str(path)] = _state(path)


def files_in(root: Path) -> list[Path]:
    """The files in and below `root`, sorted per folder. Links are followed; each folder is entered once.

    Hidden folders and those of macOS archives are left out.

    Raises:
        DataError: a folder cannot be listed.
    """
    found, seen = list(_walk(root)), _seen.get()
    if seen is not None:
        _note(seen.names, str(root), _digest_of_names(found))
    return [Path(folder, name) for folder, names in found for name in names]


def _note(digests: dict[str, str], path: str, digest: str) -> None:
    """Records a digest; of what has changed between two looks at it, one that nothing has."""
    if digests.setdefault(path, digest) != digest:
        digests[path] = ""


def _walk(root: str | Path) -> Iterator[tuple[str, list[str]]]:
    """Each folder and the names of the files in it."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot list this folder: {error.strerror}; fix its permissions") from None

    entered = set()
    for folder, subfolders, names in os.walk(root, onerror=refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in entered:
            subfolders.clear()
            continue
        entered.add(real)
        subfolders[:] = sorted(name for name in subfolders if name != "__MACOSX" and not name.startswith("."))
        yield folder, sorted(names)


def _digest_of_names(found: list[tuple[str, list[str]]]) -> str:
    digest = hashlib.sha256()
    for folder, names in found:
        digest.update(os.fsencode("\0".join([folder, *names, "", ""])))
    return digest.hexdigest()


def _digest(path: str | Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _state(path: str | Path) -> str | None:
    s = os.stat(path)
    if abs(time.time() - max(s.st_ctime, s.st_mtime)) < _CLOCK or not stat.S_ISREG(s.st_mode):
        return None
    return f"{s.st_size}|{s.st_mtime_ns}|{s.st_ctime_ns}|{s.st_ino}|{s.st_dev}"
