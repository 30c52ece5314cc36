"""Write a file whole or not at all: a reader sees the old content or the new, whatever is killed in between."""

import os
import shutil
from pathlib import Path


def write_atomically(path: Path, content: bytes) -> None:
    """Replaces `path` by `content` and waits until the disk has it.

    Raises:
        OSError: nothing was changed, and no temporary file is left.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the rename itself must reach the disk
    finally:
        os.close(folder)


def free_space(path: Path) -> str:
    """Free bytes where `path` is or would be, in words."""
    existing = next((folder for folder in [path, *path.absolute().parents] if folder.exists()), Path("/"))
    return f"{shutil.disk_usage(existing).free / 1e6:.1f} MB free"
