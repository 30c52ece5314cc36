"""Unpack a zip or tar that a stranger may have made: everything is checked before the first byte is written.

Refused are names that lead out of the folder, links and devices, encrypted or doubled members, and bombs: too many
members, too many bytes, or far more bytes than the archive has. What passes is written beside the target and renamed
into place, so that a folder of that name is always whole.
"""

import lzma
import os
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
from serx.files import free_space


@dataclass(frozen=True)
class Limits:
    """What an honest corpus stays below."""

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
# What the two libraries raise at damaged archives; RuntimeError: recursion, a password, an unknown compression.
_DAMAGE = (
    zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error, EOFError, ValueError, RuntimeError,
    IndexError,
)  # fmt: skip
_TAR_LONG = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip
_TAR_HEADER = 1 << 16  # bytes of a long name or a pax header, which tarfile reads into memory
_DIRECTORY_ENTRY = 600  # bytes of a zip's list of members for one of them
_ODD = re.compile(r"[\x00-\x1f\x7f<>:\"|?*\\]")


def unpack(archive: Path, target: Path, limits: Limits = Limits()) -> list[Path]:
    """Unpacks into the new folder `target` and returns its files, sorted.

    Raises:
        DataError: the archive is damaged or hostile; names the member and the reason, and nothing was written.
        DiskError: no room.
    """
    if target.exists():
        raise DataError(f"{target} is already there; move it away, or give another folder")
    with _opened(archive, limits) as opened:
        members = list(_checked(archive, opened, limits))
        room = sum(member.size for member in members)
        if room > shutil.disk_usage(_existing(target)).free:
            raise DiskError(f"{target}: unpacking needs {room / 1e6:.0f} MB ({free_space(target)})")
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            for member in members:
                _write(opened, member, partial / member.name)
            os.replace(partial, target)
        except OSError as error:
            if error.errno is None:  # gzip's and bz2's way to say that their data is damaged
                raise DataError(f"{archive}: damaged: {error}; download it again") from error
            raise DiskError(f"{target}: cannot unpack: {error.strerror} ({free_space(target)})") from error
        except _DAMAGE as error:
            raise DataError(f"{archive}: damaged: {error}; download it again") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return sorted(path for path in target.rglob("*") if path.is_file())


class _TarInfo(tarfile.TarInfo):
    """A member whose long name or pax header is read only when it is of a sane size."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _TAR_LONG and self.size > _TAR_HEADER:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


@contextmanager
def _opened(archive: Path, limits: Limits) -> Iterator[zipfile.ZipFile | tarfile.TarFile]:
    """The archive by its content, whatever it is called."""
    try:
        with archive.open("rb") as file:
            start = file.read(4)
        if start == b"PK\x03\x04":
            _check_directory(archive, limits)
            opened: zipfile.ZipFile | tarfile.TarFile = zipfile.ZipFile(archive)
        else:
            opened = tarfile.open(archive, "r:*", tarinfo=_TarInfo)  # noqa: SIM115 (closed below)
    except (*_DAMAGE, OSError) as error:
        raise DataError(f"{archive}: neither a zip nor a tar, or damaged: {error}") from error
    with opened:
        yield opened


def _check_directory(archive: Path, limits: Limits) -> None:
    """Refuses a zip whose list of members would fill the memory before it could be counted."""
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - (1 << 16) - 22 - 20))
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or len(tail) < end + 22:
        raise zipfile.BadZipFile("no list of members at its end")
    count, directory = struct.unpack("<HI", tail[end + 10 : end + 16])
    if tail[max(0, end - 20) : end].startswith(b"PK\x06\x07"):
        raise DataError(f"{archive}: a zip64 archive; no corpus of serx needs one")
    if count > limits.members or directory > limits.members * _DIRECTORY_ENTRY:
        raise DataError(f"{archive}: {count} members in a list of {directory} bytes; at most {limits.members}")


def _checked(archive: Path, opened: zipfile.ZipFile | tarfile.TarFile, limits: Limits) -> Iterator[_Member]:
    """The members one by one, each refused as soon as it is seen to break a rule."""
    most = min(limits.total_bytes, int(limits.ratio * archive.stat().st_size) + _BLOCK)
    total = 0
    seen: set[str] = set()
    folders: set[str] = set()
    listed = cast(
        Iterable[zipfile.ZipInfo | tarfile.TarInfo],
        opened if isinstance(opened, tarfile.TarFile) else opened.infolist(),
    )
    try:
        for count, content in enumerate(listed, 1):
            member = _zipped(content) if isinstance(content, zipfile.ZipInfo) else _tarred(content)
            total += member.size
            fault = _name_fault(member.name, limits)
            key = member.name.rstrip("/").casefold()
            above = {str(path).casefold() for path in PurePosixPath(member.name).parents}
            if count > limits.members:
                fault = f"more than {limits.members} members"
            elif total > most:
                fault = f"unpacks to {total} bytes or more, at most {most}"
            elif not member.folder and (key in seen or key in folders or seen & above):
                fault = "stands twice, or is a file and a folder"
            if fault:
                raise DataError(f"{archive}: {member.name[:80]!r}: {fault}; nothing was unpacked")
            folders |= above
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
    if not name.strip("/") or "" in parts or "." in parts[1:] or _ODD.search(name) or not name.isprintable():
        return "not a plain name"
    if len(name.encode("utf-8", "replace")) > limits.name_length or len(parts) > 20:
        return "too long a name"
    return None


def _write(opened: zipfile.ZipFile | tarfile.TarFile, member: _Member, path: Path) -> None:
    """Copies one file and never more bytes than it promised."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(member.content, zipfile.ZipInfo):
        source: IO[bytes] | None = cast(zipfile.ZipFile, opened).open(member.content)
    else:
        source = cast(tarfile.TarFile, opened).extractfile(member.content)
    if source is None:
        raise ValueError(f"{member.name[:80]!r} has no content")
    left = member.size
    with source, path.open("xb") as file:
        while block := source.read(min(_BLOCK, left + 1)):
            left -= len(block)
            if left < 0:
                raise ValueError(f"{member.name[:80]!r} is longer than it says")
            file.write(block)
    if left:
        raise ValueError(f"{member.name[:80]!r} is shorter than it says")


def _existing(path: Path) -> Path:
    return next(folder for folder in path.absolute().parents if folder.exists())
