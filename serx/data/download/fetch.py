"""Download one file over https: interrupted downloads resume, and length and digest are verified.

The file is written as `NAME.part` and renamed only after its digest was verified. No link is followed: what is at
`NAME.part` and is not a plain file of one name is an error.
"""

import hashlib
import http.client
import os
import shutil
import ssl
import stat
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO

from serx.errors import ConfigError, DataError, DiskError
from serx.files import StrPath, free_space, why_not_written
from serx.terminal import ProgressBar

TRIES, FIRST_WAIT_SECONDS, TIMEOUT_SECONDS = 5, 2.0, 30.0
_BLOCK = 1 << 18
_NETWORK_ERRORS = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)


def fetch(url: str, path: StrPath, size: int, digest: str, progress: bool = True) -> Path:
    """Downloads `url` to `path`; resumes an earlier attempt's `.part` if the server supports it.

    A file that is complete already is not downloaded again.

    Args:
        url: https, or http on 127.0.0.1.
        path: of the file to write.
        size: bytes of the file; a longer answer is cut off and raises.
        digest: `md5:...` or `sha256:...` in hexadecimal.
        progress: show a bar.

    Raises:
        ConfigError: the URL is neither https nor on 127.0.0.1.
        DataError: the server failed several times, or sent another content than was published; or something else than
            a plain file is in the way.
        DiskError: too little free space, or the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:  # complete already: nothing is downloaded
    ...     _ = Path(folder, "a.txt").write_bytes(b"abc")
    ...     fetch("https://example.org/a.txt", f"{folder}/a.txt", 3, "md5:900150983cd24fb0d6963f7d28e17f72").name
    'a.txt'
    """
    path = Path(path)
    part = path.with_name(f"{path.name}.part")
    try:
        if os.path.lexists(path) and not path.is_file():
            raise DataError(
                f"{path}: {_kind(path)} is in the way of the download; move it away, or choose another --root"
            )
        if path.exists() and _digest(path, digest) == digest:
            return path
        have = _partial_size(part)
        path.parent.mkdir(parents=True, exist_ok=True)
        if size - have > shutil.disk_usage(path.parent).free:
            needed = f"{(size - have) / 1e6:.0f} MB"
            raise DiskError(f"{path}: the download needs {needed} ({free_space(path)}); choose another --root")
        with ProgressBar(path.name, size, "B", progress) as bar:
            _download(url, part, size, bar)
        actual = _digest(part, digest)
        if actual != digest:
            part.unlink()
            raise DataError(f"{url}: the digest is {actual}, expected {digest}; the file was deleted, try again")
        os.replace(part, path)
    except OSError as error:
        raise DiskError(f"{path}: cannot write: {why_not_written(error, path)}") from error
    return path


def _partial_size(part: Path) -> int:
    """Bytes of a partial file, 0 if there is none; raises if writing to it would write to something else."""
    try:
        status = part.lstat()
    except FileNotFoundError:
        return 0
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        raise DataError(f"{part}: {_kind(part)} is where the partial download belongs; move it away and try again")
    return status.st_size


def _kind(path: Path) -> str:
    mode = path.lstat().st_mode
    kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe"}
    return "a file with another name (a hard link)" if stat.S_ISREG(mode) else kinds.get(stat.S_IFMT(mode), "a device")


def _open_without_links(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def get(url: str, max_bytes: int) -> bytes:
    """The content of a small file.

    Raises:
        DataError: the server failed, or the content is longer than `max_bytes`.
    """
    try:
        with _open(url, {}) as answer:
            content: bytes = answer.read(max_bytes + 1)
    except _NETWORK_ERRORS as error:
        raise DataError(f"{url}: {_explain(error)}; try again later") from error
    if len(content) > max_bytes:
        raise DataError(f"{url}: sent more than {max_bytes} bytes")
    return content


def _download(url: str, part: Path, size: int, bar: ProgressBar) -> None:
    """Requests the missing bytes until the file is complete, or the server has failed too often in a row."""
    failures, error = 0, "the connection closed too early"
    while (have := _partial_size(part)) < size:
        if failures == TRIES:
            raise DataError(f"{url}: {error}; {have} of {size} bytes are kept, run the command again to resume")
        if failures:
            time.sleep(FIRST_WAIT_SECONDS * 2 ** (failures - 1))
        try:
            _request(url, part, have, size, bar)
            error = "the connection closed too early"
        except _NETWORK_ERRORS as network_error:
            error = _explain(network_error)
            status = network_error.code if isinstance(network_error, urllib.error.HTTPError) else None
            if status == 416:  # the partial file is longer than the file on the server
                part.unlink()
            elif status is not None and status < 500 and status not in (408, 429):
                raise DataError(f"{url}: {error}") from network_error
        failures = 0 if _partial_size(part) > have else failures + 1
    if _partial_size(part) > size:
        part.unlink()
        raise DataError(f"{url}: the file is longer than the {size} bytes published; it was deleted, try again")


def _request(url: str, part: Path, have: int, size: int, bar: ProgressBar) -> None:
    with _open(url, {"Range": f"bytes={have}-"} if have else {}) as answer:
        resumed = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if answer.status == 206 and not resumed:
            raise http.client.HTTPException(f"sent another range than requested: {answer.headers.get('Content-Range')}")
        start = have if resumed else 0  # a server without range support sends the whole file again
        bar.start_at(start)
        _partial_size(part)
        with open(part, "ab" if resumed else "wb", opener=_open_without_links) as file:
            _copy(answer.read, file, size - start + 1, bar)


def _copy(read: Callable[[int], bytes], file: IO[bytes], max_bytes: int, bar: ProgressBar) -> None:
    while max_bytes > 0 and (block := read(min(_BLOCK, max_bytes))):
        file.write(block)
        max_bytes -= len(block)
        bar.update(len(block))


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        _check(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    _check(url)
    request = urllib.request.Request(url, headers={"User-Agent": "serx", "Accept-Encoding": "identity", **headers})
    answer: http.client.HTTPResponse = urllib.request.build_opener(_SafeRedirects).open(
        request, timeout=TIMEOUT_SECONDS
    )
    return answer


def _check(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname == "127.0.0.1"):
        raise ConfigError(f"{url}: not allowed: corpora are downloaded over https only")


def _explain(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    return str(getattr(error, "reason", None) or error or type(error).__name__)


def _digest(path: Path, like: str) -> str:
    """The file's digest, by the same hash function as `like` (`md5:...` or `sha256:...`)."""
    kind = like.partition(":")[0]
    digest = hashlib.new(kind)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"{kind}:{digest.hexdigest()}"
