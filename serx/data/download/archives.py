"""Unpack an untrusted zip or tar: everything is checked before the first byte is written.

Raises on names that lead out of the folder, links and devices, encrypted or duplicate members, and decompression bombs:
too many members, too many bytes, or far more bytes than the archive has. The content is written to a temporary folder
next to the target and then renamed, so a folder of the target's name is always complete.
"""

import glob
import lzma
import os
import platform
import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from serx.errors import DataError, DiskError
from serx.files import StrPath, free_space, why_not_written
from serx.system import is_running


@dataclass(frozen=True)
class Limits:
    """Upper limits that no real corpus reaches."""

    members: int = 20_000
    total_bytes: int = 4 << 30
    ratio: float = 50.0  # unpacked bytes per byte of the archive; speech is near 1.3
    name_length: int = 240


@dataclass(frozen=True)
class _Member:
    name: str
    size: int
    folder: bool
    content: zipfile.ZipInfo | tarfile.TarInfo


_BLOCK = 1 << 20
# What zipfile and tarfile raise on damaged archives; RuntimeError: recursion, a password, an unknown compression.
_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError, RuntimeError,
    IndexError,
)  # fmt: skip
_TAR_LONG = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip
_TAR_HEADER = 1 << 16  # bytes of a long name or a pax header, which tarfile reads into memory
_DIRECTORY_ENTRY = 600  # bytes per member in a zip's central directory, at most
_BAD_CHARACTERS = re.compile(r"[\x00-\x1f\x7f<>:\"|?*\\]")


def unpack(archive: StrPath, target: StrPath, limits: Limits = Limits()) -> list[Path]:
    """Unpacks into the new folder `target` and returns its files, sorted.

    Raises:
        DataError: the archive is damaged, hostile or holds no file. The message names the member and the reason;
            nothing was written.
        DiskError: too little free space, or the folder cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with zipfile.ZipFile(f"{folder}/a.zip", "w") as file:
    ...         file.writestr("clips/a.wav", b"audio")
    ...     [path.name for path in unpack(f"{folder}/a.zip", f"{folder}/out")]
    ['a.wav']
    """
    archive, target = Path(archive), Path(target)
    if os.path.lexists(target):  # a link to nothing as well
        raise DataError(f"{target} already exists; move it away, or choose another folder")
    with _opened(archive, limits) as opened:
        members = list(_checked(archive, opened, limits))
        if not members:
            raise DataError(f"{archive}: holds no file; nothing was unpacked")
        needed = sum(member.size for member in members)
        if needed > shutil.disk_usage(_existing(target)).free:
            raise DiskError(f"{target}: unpacking needs {needed / 1e6:.0f} MB ({free_space(target)}); free some space")
        partial = target.with_name(f".{target.name}.{platform.node()}-{os.getpid()}.partial")
        try:
            _remove_partials(target, partial)
            for member in members:
                _write(opened, member, partial / member.name)
            os.replace(partial, target)
        except OSError as error:
            if error.errno is None:  # gzip and bz2 report damaged data this way
                raise DataError(f"{archive}: damaged: {error}; download it again") from error
            raise DiskError(f"{target}: cannot unpack: {why_not_written(error, target)}") from error
        except _DAMAGE as error:
            raise DataError(f"{archive}: damaged: {error}; download it again") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return sorted(path for path in target.rglob("*") if path.is_file())


def _remove_partials(target: Path, own: Path) -> None:
    """Deletes what processes of this machine left behind that were killed while they unpacked into `target`."""
    prefix = f".{target.name}.{platform.node()}-"
    for path in target.parent.glob(f"{glob.escape(prefix)}*.partial"):
        number = path.name[len(prefix) : -len(".partial")]
        if path != own and (not number.isdecimal() or is_running(int(number))):
            continue
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        else:
            shutil.rmtree(path)


class _TarInfo(tarfile.TarInfo):
    """A member whose long name or pax header is read only if its size is reasonable."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _TAR_LONG and self.size > _TAR_HEADER:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


@contextmanager
def _opened(archive: Path, limits: Limits) -> Iterator[zipfile.ZipFile | tarfile.TarFile]:
    """The opened archive. Its kind is recognized by its content, not its name."""
    try:
        if not archive.is_file():  # reading a pipe would wait for ever
            raise DataError(f"{archive}: {'not a plain file' if os.path.lexists(archive) else 'no such file'}")
        with archive.open("rb") as file:
            start = file.read(4)
        if start in (b"PK\x03\x04", b"PK\x05\x06"):  # a member, or the directory of a zip without any
            _check_directory(archive, limits)
            opened: zipfile.ZipFile | tarfile.TarFile = zipfile.ZipFile(archive)
        else:
            opened = tarfile.open(archive, "r:*", tarinfo=_TarInfo)  # noqa: SIM115 (closed below)
    except (*_DAMAGE, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(
            ":"
        )  # tarfile tells each format it tried
        raise DataError(f"{archive}: neither a zip nor a tar, or damaged: {reason}") from error
    with opened:
        yield opened


def _check_directory(archive: Path, limits: Limits) -> None:
    """Raises on a zip whose central directory would fill the memory before its members could be counted."""
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - (1 << 16) - 22 - 20))
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        raise zipfile.BadZipFile("no central directory at its end")
    count, directory = struct.unpack("<HI", tail[end + 10 : end + 16])
    if tail[max(0, end - 20) : end].startswith(b"PK\x06\x07"):
        raise DataError(f"{archive}: a zip64 archive, which no supported corpus needs")
    if count > limits.members or directory > limits.members * _DIRECTORY_ENTRY:
        raise DataError(f"{archive}: {count} members in a directory of {directory} bytes; at most {limits.members}")


def _checked(archive: Path, opened: zipfile.ZipFile | tarfile.TarFile, limits: Limits) -> Iterator[_Member]:
    """Yields the members; raises at the first one that breaks a rule."""
    max_bytes = min(limits.total_bytes, int(limits.ratio * archive.stat().st_size) + _BLOCK)
    total = 0
    seen: set[str] = set()
    folders: set[str] = set()
    contents = cast(
        Iterable[zipfile.ZipInfo | tarfile.TarInfo],
        opened if isinstance(opened, tarfile.TarFile) else opened.infolist(),
    )
    try:
        for count, content in enumerate(contents, 1):
            member = _zipped(content) if isinstance(content, zipfile.ZipInfo) else _tarred(content)
            total += member.size
            fault = _name_fault(member.name, limits)
            key = member.name.rstrip("/").casefold()
            parents = {str(path).casefold() for path in PurePosixPath(member.name).parents}
            if count > limits.members:
                fault = f"more than {limits.members} members"
            elif total > max_bytes:
                fault = f"unpacks to {total} bytes or more, at most {max_bytes}"
            elif not member.folder and (key in seen or key in folders or seen & parents):
                fault = "occurs twice, or as a file and a folder"
            if fault:
                raise DataError(f"{archive}: {member.name[:80]!r}: {fault}; nothing was unpacked")
            folders |= parents
            if not member.folder:
                seen.add(key)
                yield member
    except (*_DAMAGE, OSError) as error:
        raise DataError(f"{archive}: {error}; nothing was unpacked") from error


def _zipped(info: zipfile.ZipInfo) -> _Member:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ValueError(f"{info.filename[:80]!r} is a link or a device")
    if info.flag_bits & 1:
        raise ValueError(f"{info.filename[:80]!r} is encrypted")
    return _Member(info.orig_filename, info.file_size, info.is_dir(), info)


def _tarred(info: tarfile.TarInfo) -> _Member:
    if not (info.isreg() or info.isdir()) or info.issparse():
        raise ValueError(f"{info.name[:80]!r} is a link, a device or another special file")
    return _Member(info.name, info.size, info.isdir(), info)


def _name_fault(name: str, limits: Limits) -> str | None:
    parts = name.rstrip("/").split("/")
    if name.startswith("/") or ".." in parts:
        return "leads out of the folder"
    if not name.strip("/") or "" in parts or "." in parts[1:] or _BAD_CHARACTERS.search(name) or not name.isprintable():
        return "not a plain name"
    if len(name.encode("utf-8", "replace")) > limits.name_length or len(parts) > 20:
        return "too long a name"
    return None


def _write(opened: zipfile.ZipFile | tarfile.TarFile, member: _Member, path: Path) -> None:
    """Writes one member, and never more bytes than its header says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(member.content, zipfile.ZipInfo):
        source: IO[bytes] | None = cast(zipfile.ZipFile, opened).open(member.content)
    else:
        source = cast(tarfile.TarFile, opened).extractfile(member.content)
    if source is None:
        raise ValueError(f"{member.name[:80]!r} has no content")
    remaining = member.size
    with source, path.open("xb") as file:
        while block := source.read(min(_BLOCK, remaining + 1)):
            remaining -= len(block)
            if remaining < 0:
                raise ValueError(f"{member.name[:80]!r} is longer than its header says")
            file.write(block)
    if remaining:
        raise ValueError(f"{member.name[:80]!r} is shorter than its header says")


def _existing(path: Path) -> Path:
    return next(folder for folder in path.absolute().parents if folder.exists())
