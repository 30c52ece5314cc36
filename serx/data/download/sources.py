"""The corpora that can be had: where from, under which license, and what arrived; for the others, what to do by hand.

Addresses and digests are those the publishers' records give: Zenodo records 1188976 (RAVDESS) and 7447302 (EMO-DB, the
535 clips as wav, by its authors), and for CREMA-D the list of its repository, which names every clip by the hash of a
note that holds its sha256.
"""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from serx.data.download.archives import unpack
from serx.data.download.fetch import fetch, get
from serx.errors import ConfigError, DataError, DiskError
from serx.files import free_space, write_atomically


@dataclass(frozen=True)
class Archive:
    """One file to fetch and the folder it becomes; `clips` wav files are in it."""

    url: str
    size: int
    digest: str
    folder: str
    clips: int


@dataclass(frozen=True)
class Source:
    """A corpus: its license, and its archives, or else what a person has to do."""

    license: str
    archives: tuple[Archive, ...] = ()
    by_hand: str = ""


_ZENODO = "https://zenodo.org/records/1188976/files"
_BY_HAND = "serx finds the clips by their names in any folder layout; then: data.root=DIR"
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
        by_hand="TESS is given out by a page that wants a browser. Open https://doi.org/10.5683/SP2/E8H2MF, choose "
        "'Access Dataset', 'Original Format ZIP', and unpack it into DIR/tess; " + _BY_HAND,
    ),
    "savee": Source(
        "free for research, on the authors' terms; cite Haq & Jackson 2009",
        by_hand="SAVEE wants a registration. Fill in http://kahlan.eps.surrey.ac.uk/savee/Register.html; its authors "
        "send a password for AudioData.zip; unpack that into DIR/savee; " + _BY_HAND,
    ),
}  # fmt: skip

_CREMAD_LIST = "https://api.github.com/repos/CheyneyComputerScience/CREMA-D/git/trees/master:AudioWAV"
_CREMAD_FILES = "https://media.githubusercontent.com/media/CheyneyComputerScience/CREMA-D/master/AudioWAV/"
_CREMAD_CLIPS = 7442
_MOST_LIST, _MOST_CLIP, _WORKERS, _SHOWN = 8 << 20, 2 << 20, 8, 5


def download(corpus: str, root: Path, progress: bool = True) -> Path:
    """Brings a corpus into `root/<corpus>`; what is there already is not fetched again.

    Raises:
        ConfigError: no such corpus, or one that has to be fetched by hand; says how.
        DataError, DiskError: as `fetch` and `unpack` do, or not all clips arrived.
    """
    source = SOURCES[corpus]
    if source.by_hand:
        raise ConfigError(f"{corpus}: {source.by_hand.replace('DIR', str(root))}")
    if corpus == "cremad":
        return _download_clips(root / corpus, progress)
    for archive in source.archives:
        folder = root / archive.folder
        if folder.exists():
            continue
        file = fetch(archive.url, root / archive.url.rpartition("/")[2], archive.size, archive.digest, progress)
        unpack(file, folder)
        found = sum(1 for path in folder.rglob("*.wav") if not path.name.startswith("."))
        if found != archive.clips:
            raise DataError(f"{folder}: {found} clips arrived, {archive.clips} were published; delete it and try again")
        file.unlink()
    return root / corpus


def _download_clips(folder: Path, progress: bool) -> Path:
    """CREMA-D clip by clip (its repository with everything is many times larger); goes on where it stopped."""
    listed = _parse_list(get(_CREMAD_LIST, _MOST_LIST))
    hidden = None if progress else True
    faults: list[str] = []
    with (
        ThreadPoolExecutor(_WORKERS) as pool,
        tqdm(total=len(listed), unit="clip", desc="cremad", disable=hidden) as bar,
    ):
        for fault in pool.map(lambda item: _bring_clip(folder / item[0], item[1]), listed.items()):
            faults += [fault] if fault else []
            bar.update()
    if faults:
        shown = "; ".join(faults[:_SHOWN]) + (f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else "")
        raise DataError(f"{folder}: {len(faults)} of {len(listed)} clips did not arrive: {shown}; run it again")
    return folder


def _parse_list(answer: bytes) -> dict[str, str]:
    """Clip name -> git hash of its note, from the repository's answer."""
    try:
        tree = json.loads(answer)
        listed = {item["path"]: item["sha"] for item in tree["tree"] if item["path"].endswith(".wav")}
        plain = all(name.replace("_", "").removesuffix(".wav").isalnum() and name.isascii() for name in listed)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{_CREMAD_LIST}: not the list of clips it was; is there a newer serx?") from error
    if tree.get("truncated") or not plain or len(listed) != _CREMAD_CLIPS:
        raise DataError(f"{_CREMAD_LIST}: lists {len(listed)} clips, not {_CREMAD_CLIPS}; is there a newer serx?")
    return listed


def _bring_clip(path: Path, sha: str) -> str | None:
    """Fetches one clip unless it is there; says what went wrong."""
    try:
        if path.exists() and _is_named(path.read_bytes(), sha):
            return None
        content = get(_CREMAD_FILES + path.name, _MOST_CLIP)
        if not _is_named(content, sha):
            return f"{path.name}: another content than the repository lists"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except DataError as error:
        return str(error)
    except OSError as error:
        raise DiskError(f"{path}: cannot write: {error.strerror} ({free_space(path)})") from error
    return None


def _is_named(content: bytes, sha: str) -> bool:
    """Whether `sha` is git's hash of the git-lfs note of this content, or of the content itself."""
    note = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(content).hexdigest()}\n"
        f"size {len(content)}\n"
    ).encode()
    return sha in {_git_hash(text) for text in (note, content)}


def _git_hash(text: bytes) -> str:
    """What git calls this file by; git's sha1 is to find mix-ups; https is against forgeries."""
    return hashlib.sha1(b"blob %d\0" % len(text) + text, usedforsecurity=False).hexdigest()
