"""Fetch one file over https: resumed where it was cut, of the right length, kept only if its digest is right.

The file grows under the name `NAME.part`; only after the digest has been compared does it get its own name.
"""

import hashlib
import http.client
import os
import shutil
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO

from tqdm import tqdm

from serx.errors import ConfigError, DataError, DiskError
from serx.files import free_space

TRIES, PATIENCE_SECONDS, TIMEOUT_SECONDS = 5, 2.0, 30.0
_BLOCK = 1 << 18
_GONE = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError)


def fetch(url: str, path: Path, size: int, digest: str, progress: bool = True) -> Path:
    """Downloads `url` to `path`, going on with an earlier attempt's `.part` where the server can.

    Args:
        size: bytes the file has; a longer answer is cut off and refused.
        digest: `md5:…` or `sha256:…` in hexadecimal.

    Raises:
        ConfigError: the address is neither https nor 127.0.0.1.
        DataError: the server failed several times, or sent something else than was published.
        DiskError: no room for the file.
    """
    if path.exists() and _digest(path, digest) == digest:
        return path
    part = path.with_name(f"{path.name}.part")
    have = part.stat().st_size if part.exists() else 0
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if size - have > shutil.disk_usage(path.parent).free:
            raise DiskError(
                f"{path}: {(size - have) / 1e6:.0f} MB are to come ({free_space(path)}); choose another --root"
            )
        with tqdm(total=size, desc=path.name, unit="B", unit_scale=True, disable=None if progress else True) as bar:
            _persist(url, part, size, bar)
        found = _digest(part, digest)
        if found != digest:
            part.unlink()
            raise DataError(f"{url}: sent a file with {found}, published is {digest}; it was deleted, try again")
        os.replace(part, path)
    except OSError as error:
        raise DiskError(f"{path}: cannot write: {error.strerror} ({free_space(path)})") from error
    return path


def get(url: str, most: int) -> bytes:
    """A small answer, whole.

    Raises:
        DataError: it cannot be had, or is longer than `most` bytes.
    """
    try:
        with _open(url, {}) as answer:
            content: bytes = answer.read(most + 1)
    except _GONE as error:
        raise DataError(f"{url}: {_explain(error)}; try again later") from error
    if len(content) > most:
        raise DataError(f"{url}: sent more than {most} bytes")
    return content


def _persist(url: str, part: Path, size: int, bar: tqdm) -> None:
    """Asks again, for what is missing, until the file is long enough or the server has failed too often in a row."""
    failures, error = 0, "the answer ended too early"
    while (have := part.stat().st_size if part.exists() else 0) < size:
        if failures == TRIES:
            raise DataError(f"{url}: {error}; {have} of {size} bytes are kept, run the command again to go on")
        if failures:
            time.sleep(PATIENCE_SECONDS * 2 ** (failures - 1))
        try:
            _ask(url, part, have, size, bar)
            error = "the answer ended too early"
        except _GONE as gone:
            error = _explain(gone)
            if isinstance(gone, urllib.error.HTTPError) and gone.code == 416:  # our part is none of this file
                part.unlink()
            elif isinstance(gone, urllib.error.HTTPError) and gone.code < 500 and gone.code not in (408, 429):
                raise DataError(f"{url}: {error}") from gone
        failures = 0 if part.exists() and part.stat().st_size > have else failures + 1
    if part.stat().st_size > size:
        part.unlink()
        raise DataError(f"{url}: the file is longer than the {size} bytes published; it was deleted")


def _ask(url: str, part: Path, have: int, size: int, bar: tqdm) -> None:
    with _open(url, {"Range": f"bytes={have}-"} if have else {}) as answer:
        goes_on = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if answer.status == 206 and not goes_on:
            raise http.client.HTTPException(f"answered another range than asked: {answer.headers.get('Content-Range')}")
        start = have if goes_on else 0  # a server that knows no ranges sends the whole again
        bar.n = start
        with part.open("ab" if goes_on else "wb") as file:
            _copy(answer.read, file, size - start + 1, bar)


def _copy(read: Callable[[int], bytes], file: IO[bytes], most: int, bar: tqdm) -> None:
    while most > 0 and (block := read(min(_BLOCK, most))):
        file.write(block)
        most -= len(block)
        bar.update(len(block))


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https alone."""

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
        raise ConfigError(f"{url}: refused: corpora come over https only")


def _explain(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    return str(getattr(error, "reason", None) or error or type(error).__name__)


def _digest(path: Path, like: str) -> str:
    """The file's digest, of the kind of `like`."""
    kind = like.partition(":")[0]
    digest = hashlib.new(kind)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"{kind}:{digest.hexdigest()}"
