"""Files that are written whole or not at all, and locks between processes.

A reader sees the old content or the new, whatever is killed in between. The operating system frees the lock of a killed
process at once.
"""

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from serx.errors import ConfigError

StrPath = str | os.PathLike[str]

# Some file systems have no hard links (FAT, some network file systems), and some cannot sync a folder.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}


def write_atomically(path: Path, content: bytes, keep: Path | None = None) -> None:
    """Replaces `path` by `content` and waits until it is on the disk; the previous content moves to `keep`, if given.

    The new content is on the disk before any old file is replaced. At each moment one of `path` and `keep` is whole,
    and `path` is, if the file system has hard links.

    Raises:
        OSError: nothing was written. `path` holds the old content or the new, whole; no temporary file is left.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for content in (b"first", b"second"):
    ...     write_atomically(folder / "last", content, keep=folder / "previous")
    >>> (folder / "last").read_bytes(), (folder / "previous").read_bytes()
    (b'second', b'first')
    """
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            _keep_previous(path, keep)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def seal(content: bytes) -> bytes:
    """The content after its sha256, so that `unseal` detects any change.

    >>> len(seal(b"content")) - len(b"content")
    32
    """
    return hashlib.sha256(content).digest() + content


def unseal(path: Path) -> bytes | None:
    """The content of a file that holds `seal(content)`; None if it cannot be read or any byte has changed.

    >>> unseal(Path("no such file")) is None
    True
    """
    try:
        if not path.is_file():  # reading a pipe would wait for ever
            return None
        sealed = path.read_bytes()
    except OSError:
        return None
    content = memoryview(sealed)[32:]
    return bytes(content) if hashlib.sha256(content).digest() == sealed[:32] else None


def as_path(value: object, name: str) -> Path:
    """A path that a caller gives, as `Path`.

    Args:
        name: of the argument, for the message.

    Raises:
        ConfigError: it is neither a string nor a path, it is empty, or it holds a zero byte.

    >>> as_path("runs/first", "folder").name
    'first'
    """
    if not isinstance(value, str | os.PathLike):
        raise ConfigError(f"{name}: expected a path, got {type(value).__name__}")
    text = os.fspath(value)
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigError(f"{name}: {text!r} is no path")
    return Path(text)


def parse_json(text: str | bytes) -> Any:
    """The value of JSON text that anyone may have written.

    Raises:
        ValueError: it is not JSON, nested too deep, or holds an integer of more than 64 bits.

    >>> parse_json('{"uar": 0.5}')
    {'uar': 0.5}
    """
    try:
        return json.loads(text, parse_int=_small_int)
    except RecursionError:
        raise ValueError("nested too deep") from None


def read_json(path: Path, max_bytes: int = 64 << 20) -> Any:
    """`parse_json` of a file of at most `max_bytes`.

    Raises:
        OSError: it cannot be read.
        ValueError: it is larger, or not JSON.
    """
    with path.open("rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"more than {max_bytes} bytes")
    return parse_json(content)


def plain(value: Any) -> Any:
    """The value in the types of strict JSON: arrays become lists, NaN and infinity null, anything else its text.

    >>> plain({"uar": float("nan"), "folder": Path("run"), 3: (1, 2)})
    {'uar': None, 'folder': 'run', '3': [1, 2]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if hasattr(value, "tolist"):  # of NumPy and torch, which this module does not import
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def to_json(value: Any) -> bytes:
    """The value as a strict JSON file."""
    return (json.dumps(plain(value), indent=2, allow_nan=False) + "\n").encode()


def _small_int(digits: str) -> int:
    if len(digits) > 19:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Holds the lock file `path`; only one process at a time can.

    Args:
        path: an empty file, which is made and stays.
        wait: wait until the process that holds the lock releases it or ends.

    Yields:
        Whether the lock is held: False on a file system without locks.

    Raises:
        BlockingIOError: another process holds the lock, and `wait` is False.
        OSError: the lock file cannot be made.

    >>> import tempfile
    >>> with locked(Path(tempfile.mkdtemp()) / ".lock") as held:
    ...     held
    True
    """
    path.open("a").close()  # an unwritable folder raises here; later errors mean that the file system has no locks
    lock = FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(blocking=wait)
        held = True
    except Timeout:
        raise BlockingIOError(errno.EWOULDBLOCK, "another process holds the lock", str(path)) from None
    except (OSError, NotImplementedError):
        held = False
    try:
        yield held
    finally:
        lock.release()


def remove_temporaries(folder: Path) -> None:
    """Deletes the temporary files of writers that were killed. The caller must hold the lock of the folder."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def remedy(error: OSError) -> str:
    """What helps when a file cannot be written.

    >>> remedy(OSError(errno.EFBIG, "File too large"))
    'raise the limit on the size of files (ulimit -f)'
    """
    if error.errno == errno.EFBIG:
        return "raise the limit on the size of files (ulimit -f)"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "make the folder writable"
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP):
        return "name another file or folder"
    if error.errno == getattr(errno, "EDQUOT", None):
        return "free some space, or have the quota raised"
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return "raise the limit on open files (ulimit -n)"
    return "free some space"


def why_not_written(error: OSError, path: Path) -> str:
    """What the system says about a failed write to `path`, the free space there, and what helps.

    >>> why_not_written(OSError(errno.EFBIG, "File too large"), Path("some/folder")).partition(" (")[0]
    'File too large'
    """
    return f"{error.strerror or error} ({free_space(path)}); {remedy(error)}"


def free_space(path: Path) -> str:
    """The free space on the disk of `path`, in words; `path` need not exist.

    >>> free_space(Path("some/new/folder")).endswith(" MB free")
    True
    """
    return f"{free_bytes(path) / 1e6:.1f} MB free"


def free_bytes(path: Path) -> int:
    """The free space on the disk of `path`; `path` need not exist.

    >>> free_bytes(Path("some/new/folder")) > 0
    True
    """
    existing = next((folder for folder in [path.absolute(), *path.absolute().parents] if folder.exists()), Path())
    return shutil.disk_usage(existing).free


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _keep_previous(path: Path, keep: Path) -> None:
    """Gives the content of `path` the name `keep` as well. Without hard links, `path` is renamed to `keep`."""
    link = _temporary(keep)
    link.unlink(missing_ok=True)
    try:
        os.link(path, link)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.replace(path, keep)
        return
    try:
        os.replace(link, keep)
    finally:
        link.unlink(missing_ok=True)  # renaming a link to another name of the same file does nothing


def _sync_folder(folder: Path) -> None:
    """Waits until the renames in a folder have reached the disk, where folders can be opened (not on Windows)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)
