"""The registry of downloads: for each corpus its license and its files, or what the user must do by hand.

URLs and digests are those of the publishers' records: Zenodo records 1188976 (RAVDESS) and 7447302 (EMO-DB, 535 clips
as WAV, by its authors). For CREMA-D they come from the file list of its repository, which identifies every clip by the
git hash of a git-lfs pointer, which contains the clip's sha256.
"""

import hashlib
import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from serx.data.download.archives import unpack
from serx.data.download.fetch import fetch, get
from serx.errors import ConfigError, DataError, DiskError
from serx.files import StrPath, why_not_written, write_atomically
from serx.terminal import ProgressBar


@dataclass(frozen=True)
class Archive:
    """One archive to download and unpack.

    Attributes:
        url: of the archive.
        size: bytes.
        digest: `md5:...` or `sha256:...`.
        folder: where it is unpacked, relative to the download folder.
        clips: number of WAV files in it.
    """

    url: str
    size: int
    digest: str
    folder: str
    clips: int


@dataclass(frozen=True)
class Source:
    """How to get one corpus.

    Attributes:
        license: license, and the paper to cite.
        archives: files to download; empty for CREMA-D, which is downloaded clip by clip.
        by_hand: instructions if the corpus cannot be downloaded; `DIR` is the download folder.

    >>> SOURCES["savee"].archives, "Register.html" in SOURCES["savee"].by_hand
    ((), True)
    """

    license: str
    archives: tuple[Archive, ...] = ()
    by_hand: str = ""


_ZENODO = "https://zenodo.org/records/1188976/files"
_BY_HAND = "serx finds the clips by their names in any folder layout; then use data.root=DIR"
SOURCES = {
    "ravdess": Source(
        "CC BY-NC-SA 4.0; cite Livingstone & Russo 2018, doi:10.1371/journal.pone.0196391",
        (
            Archive(f"{_ZENODO}/Audio_Speech_Actors_01-24.zip", 208_468_073, "md5:bc696df654c87fed845eb13823edef8a",
                    "ravdess/speech", 1440),
            Archive(f"{_ZENODO}/Audio_Song_Actors_01-24.zip", 225_505_317, "md5:5411230427d67a21e18aa4d466e6d1b9",
                    "ravdess/song", 1012),
        ),
    ),
    "emodb": Source(
        "CC BY 4.0 (Zenodo record 7447302); cite Burkhardt et al. 2005, doi:10.21437/Interspeech.2005-446",
        (Archive("https://zenodo.org/records/7447302/files/emodb.zip", 39_981_818,
                 "md5:9d21362dbc5676ef3ab4745d83ced0db", "emodb", 535),),
    ),
    "cremad": Source("Open Database License 1.0; cite Cao et al. 2014, doi:10.1109/TAFFC.2014.2336244"),
    "tess": Source(
        "CC BY-NC-ND 4.0; cite Pichora-Fuller & Dupuis 2020, doi:10.5683/SP2/E8H2MF",
        by_hand="The download page of TESS needs a browser. Open https://doi.org/10.5683/SP2/E8H2MF, choose "
        "'Access Dataset', 'Original Format ZIP', and unpack it into DIR/tess; " + _BY_HAND,
    ),
    "savee": Source(
        "free for research, on the authors' terms; cite Haq & Jackson 2009",
        by_hand="SAVEE needs a registration. Fill in http://kahlan.eps.surrey.ac.uk/savee/Register.html; its authors "
        "send a password for AudioData.zip; unpack that into DIR/savee; " + _BY_HAND,
    ),
}  # fmt: skip

_CREMAD_LIST = "https://api.github.com/repos/CheyneyComputerScience/CREMA-D/git/trees/master:AudioWAV"
_CREMAD_FILES = "https://media.githubusercontent.com/media/CheyneyComputerScience/CREMA-D/master/AudioWAV/"
_CREMAD_CLIPS = 7442
_MAX_LIST_BYTES, _MAX_CLIP_BYTES, _WORKERS, _MAX_SHOWN = 8 << 20, 2 << 20, 8, 5


def download(corpus: str, root: StrPath, progress: bool = True) -> Path:
    """Downloads a corpus into `root/<corpus>`; files that exist already are not downloaded again.

    Args:
        corpus: a key of `SOURCES`.
        root: the folder for all corpora.
        progress: show a bar.

    Returns:
        The folder of the corpus.

    Raises:
        ConfigError: an unknown corpus, or one that must be downloaded by hand; the message says how.
        DataError, DiskError: as `fetch` and `unpack` raise, or clips are missing.

    >>> try:
    ...     download("savee", "/corpora")
    ... except ConfigError as error:
    ...     print(str(error)[:34])
    savee: SAVEE needs a registration.
    """
    if corpus not in SOURCES:
        raise ConfigError(f"no download called {corpus!r}; choose from {', '.join(SOURCES)}")
    root, source = Path(root), SOURCES[corpus]
    if source.by_hand:
        raise ConfigError(f"{corpus}: {source.by_hand.replace('DIR', str(root))}")
    if corpus == "cremad":
        return _download_clips(root / corpus, progress)
    for archive in source.archives:
        folder = root / archive.folder
        if os.path.lexists(folder):
            if (clips := _count_clips(folder)) != archive.clips:
                fault = f"has {clips} clips instead of {archive.clips}"
                raise DataError(f"{folder}: {fault}; move the folder away and run the command again")
            continue
        file = fetch(archive.url, root / archive.url.rpartition("/")[2], archive.size, archive.digest, progress)
        unpack(file, folder)
        if (clips := _count_clips(folder)) != archive.clips:
            shutil.rmtree(folder)
            raise DataError(f"{file}: has {clips} clips instead of {archive.clips}; nothing was unpacked")
        file.unlink()
    return root / corpus


def _count_clips(folder: Path) -> int:
    if not folder.is_dir():
        kind = "a link to a missing folder" if folder.is_symlink() and not folder.exists() else "not a folder"
        raise DataError(f"{folder}: {kind}; move it away and run the command again")
    return sum(1 for path in folder.rglob("*.wav") if path.is_file() and not path.name.startswith("."))


def _download_clips(folder: Path, progress: bool) -> Path:
    """Downloads CREMA-D clip by clip (its whole repository is many times larger); resumes where it stopped."""
    listed = _parse_list(get(_CREMAD_LIST, _MAX_LIST_BYTES))
    faults: list[str] = []
    with (
        ThreadPoolExecutor(_WORKERS) as pool,
        ProgressBar("cremad", len(listed), "clips", progress) as bar,
    ):
        for fault in pool.map(lambda item: _download_clip(folder / item[0], item[1]), listed.items()):
            faults += [fault] if fault else []
            bar.update()
    if faults:
        more = f"; and {len(faults) - _MAX_SHOWN} more" if len(faults) > _MAX_SHOWN else ""
        shown = "; ".join(faults[:_MAX_SHOWN]) + more
        raise DataError(f"{folder}: {len(faults)} of {len(listed)} clips are missing: {shown}; run it again")
    return folder


def _parse_list(answer: bytes) -> dict[str, str]:
    """Clip name -> git hash of its git-lfs pointer, from the repository's file list."""
    try:
        tree = json.loads(answer)
        listed = {item["path"]: item["sha"] for item in tree["tree"] if item["path"].endswith(".wav")}
        plain = all(name.replace("_", "").removesuffix(".wav").isalnum() and name.isascii() for name in listed)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{_CREMAD_LIST}: the file list has changed; is there a newer serx?") from error
    if tree.get("truncated") or not plain or len(listed) != _CREMAD_CLIPS:
        raise DataError(f"{_CREMAD_LIST}: lists {len(listed)} clips, not {_CREMAD_CLIPS}; is there a newer serx?")
    return listed


def _download_clip(path: Path, sha: str) -> str | None:
    """Downloads one clip unless it exists; returns what went wrong, or None."""
    try:
        if os.path.lexists(path) and not path.is_file():
            return f"{path}: not a plain file; move it away"
        if path.exists() and _matches(path.read_bytes(), sha):
            return None
        content = get(_CREMAD_FILES + path.name, _MAX_CLIP_BYTES)
        if not _matches(content, sha):
            return f"{path.name}: its content is not what the repository lists"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except DataError as error:
        return str(error)
    except OSError as error:
        raise DiskError(f"{path}: cannot write: {why_not_written(error, path)}") from error
    return None


def _matches(content: bytes, sha: str) -> bool:
    """Whether `sha` is git's hash of the git-lfs pointer of this content, or of the content itself."""
    pointer = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(content).hexdigest()}\n"
        f"size {len(content)}\n"
    ).encode()
    return sha in {_git_hash(text) for text in (pointer, content)}


def _git_hash(text: bytes) -> str:
    """Git's name of a file with this content. Its sha1 finds mix-ups; https protects against forgery."""
    return hashlib.sha1(b"blob %d\0" % len(text) + text, usedforsecurity=False).hexdigest()
