"""Write a file whole or not at all: a reader sees the old content or the new, whatever is killed in between."""

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Some file systems have no hard links (FAT, a few network ones), and some cannot sync a folder.
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}


def write_atomically(path: Path, content: bytes, keep: Path | None = None) -> None:
    """Replaces `path` by `content` and waits until the disk has it; what stood there before goes to `keep`.

    The new content is on the disk before anything old is let go, so that at each moment one of `path` and `keep` is
    whole, and, on file systems with hard links, `path` is.

    Raises:
        OSError: `path` holds the old content or the new, whole, and no temporary file is left.
    """
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if keep is not None and path.exists():
            _set_aside(path, keep)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def seal(content: bytes) -> bytes:
    """The content behind its sha256, for `unseal` to see any change."""
    return hashlib.sha256(content).digest() + content


def unseal(path: Path) -> bytes | None:
    """What was sealed into a file; None where it is missing or any byte of it has changed."""
    try:
        sealed = path.read_bytes()
    except FileNotFoundError:
        return None
    return sealed[32:] if hashlib.sha256(sealed[32:]).digest() == sealed[:32] else None


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Waits until no other process holds the lock file; the kernel frees a killed one's. False where none can lock."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            alone = True
        except OSError:  # a file system without locks: work may be done twice
            alone = False
        yield alone


def remove_temporaries(folder: Path) -> None:
    """Deletes what writers killed within `write_atomically` left; only for who holds the folder's lock."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def free_space(path: Path) -> str:
    """Free bytes where `path` is or would be, in words."""
    existing = next((folder for folder in [path, *path.absolute().parents] if folder.exists()), Path("/"))
    return f"{shutil.disk_usage(existing).free / 1e6:.1f} MB free"


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _set_aside(path: Path, keep: Path) -> None:
    """Gives the content of `path` the name `keep` too; `path` itself stays, where the file system can do that."""
    second = _temporary(keep)
    second.unlink(missing_ok=True)
    try:
        os.link(path, second)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.replace(path, keep)
        return
    try:
        os.replace(second, keep)
    finally:
        second.unlink(missing_ok=True)  # renaming a file to another name of its own does nothing


def _sync_folder(folder: Path) -> None:
    """Waits until the renames in a folder have reached the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)
