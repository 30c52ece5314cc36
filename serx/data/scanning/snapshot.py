"""`scan_once`: a scan that is kept beside the audio cache, so that the next start need not repeat it.

A scan of 200,000 clips takes some ten seconds, and its result seldom changes. What it depends on is compared at each
start, and anything else than before leads to a new scan:

- the settings, the code of serx, the corpora and emotions that a user has registered;
- what the scan has seen of the disk (`observed_files`): the names of all files in its folders, the bytes of tables and
  label files, and which paths were folders;
- the file of each clip, by one call to the system that says whether it is there and is the same file (by inode), and
  whether its audio has changed; and where no file was, that there is none.

A scan that raises is not kept, so that its errors come again. A snapshot that is damaged, or that cannot be written,
costs a scan and nothing else. `stored_scan` makes bytes of a scan.
"""

import hashlib
import json
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import serx
from serx.data.cache.audio_cache import cache_folder
from serx.data.corpora import CORPORA
from serx.data.corpora.recognition import ChosenCorpora
from serx.data.file_state import audio_keys, file_stats
from serx.data.labels import EMOTIONS, SYNONYMS
from serx.data.observed_files import NOTHING, Seen, identities, observing
from serx.data.scanning.scanner import Scan, scan
from serx.data.scanning.stored_scan import StoredScan, pack, unpack
from serx.data.tables.arrow import folder_of_audio
from serx.data.tables.table import TablesConfig
from serx.data.utterances import Files, Utterances
from serx.files import StrPath, locked, remove_temporaries, seal, unseal, write_atomically
from serx.system import WINDOWS

_FORMAT = 2


def scan_once(
    root: StrPath | Sequence[StrPath], styles: Collection[str], tables: TablesConfig, corpora: ChosenCorpora
) -> Scan:
    """`scan`, or what it found the last time if all that it depends on is the same.

    Raises:
        DataError: as `scan` raises.
    """
    settings = _settings(root, styles, tables, corpora)
    path = cache_folder(tables.cache) / "scans" / f"{hashlib.sha256(settings.encode()).hexdigest()[:32]}.sealed"
    key = _key(settings)
    if (known := _read(path, key, tables)) is not None:
        return known
    with observing() as seen:
        found = scan(root, styles, tables, corpora)
    clips = Utterances.of(found.utterances)
    stats = file_stats(clips.files.paths())
    if stats is None:
        return replace(found, utterances=clips)
    clips.audio_keys = audio_keys(clips.segments, stats)
    found = replace(found, utterances=clips)
    others = _other_files(clips, stats, seen)
    if others is not None and seen.is_current():  # nothing was changed meanwhile
        _write(path, key, StoredScan(found, clips, stats, *others, seen))
    return found


def _settings(
    root: StrPath | Sequence[StrPath], styles: Collection[str], tables: TablesConfig, corpora: ChosenCorpora
) -> str:
    """What a user says about the scan."""
    roots = [root] if isinstance(root, str | os.PathLike) else list(root)
    by_folder = isinstance(corpora, Mapping)
    return json.dumps(
        {
            "roots": [_absolute(item) for item in roots],
            "styles": sorted(styles),
            "corpora": list(corpora.values()) if isinstance(corpora, Mapping) else corpora and list(corpora),
            "folders": list(map(_absolute, corpora or ())) if by_folder else [],
            "tables": {"columns": list(tables.columns.items()), "encoding": tables.encoding},
            "audio_root": None if tables.audio_root is None else _absolute(tables.audio_root),
        }
    )


def _absolute(path: StrPath) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _key(settings: str) -> bytes:
    """A digest of the settings and the code."""
    digest = hashlib.sha256(f"{_FORMAT}|{serx.__version__}|{sys.version}|{settings}|".encode())
    digest.update(repr((EMOTIONS, SYNONYMS)).encode(errors="backslashreplace"))
    for corpus in CORPORA.values():
        patterns = [(pattern.pattern, pattern.flags) for pattern in corpus.patterns]
        if corpus.rank == 1:  # of a user; the others are in the code
            digest.update(repr((replace(corpus, patterns=()), patterns)).encode(errors="backslashreplace"))
        digest.update(corpus.name.encode())
    digest.update(_CODE)
    return digest.digest()


def _code_digest(folder: Path) -> bytes:
    """A digest of the modules in a folder, and of all in and below its folder `data`."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.py"), *(folder / "data").rglob("*.py")]):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


_CODE = _code_digest(Path(serx.__file__).parent)  # as it is imported: the files may change while the process runs


def _other_files(clips: Utterances, stats: np.ndarray, seen: Seen) -> tuple[Files, np.ndarray] | None:
    """The paths that the scan asked for beside those of the clips, with their identities `(n, 2)`.

    None if a file was exchanged since.
    """
    paths = clips.files.paths()
    if [seen.files.get(file) for file in paths] != [(device, inode) for inode, device in stats[:, 3:].tolist()]:
        return None
    own = set(paths)
    others = [path for path in seen.files if path not in own]
    now = identities(others)
    if now is None or now.tolist() != [list(seen.files[path] or NOTHING) for path in others]:
        return None
    return Files.of(others), now


def _write(path: Path, key: bytes, scanned: StoredScan) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent / ".lock") as alone:
            if alone:
                remove_temporaries(path.parent)
            write_atomically(path, seal(key + pack(scanned)))
    except OSError:  # a full or protected disk: the next start scans again
        return


def _read(path: Path, key: bytes, tables: TablesConfig) -> Scan | None:
    """The scan of a snapshot that is whole and still true."""
    content = unseal(path)
    if content is None or content[: len(key)] != key:
        return None
    try:
        stored = unpack(memoryview(content)[len(key) :])
        return _as_it_is_now(stored, tables) if stored.seen.is_current() else None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, MemoryError):
        return None


def _as_it_is_now(stored: StoredScan, tables: TablesConfig) -> Scan | None:
    """The scan, with new keys of the clips whose audio has changed; None if another scan would find other files."""
    clips = stored.clips
    now = file_stats(clips.files.paths())
    if now is None or not np.array_equal(now[:, 3:], stored.stats[:, 3:]):
        return None
    changed = (now != stored.stats).any(1)
    # A scan writes the audio of a table again if it is not as in the table.
    from_tables = os.path.join(folder_of_audio(tables), "")
    if changed.any() and any(clips.files.path(i).startswith(from_tables) for i in np.flatnonzero(changed).tolist()):
        return None
    others = identities(stored.others.paths())
    if others is None or not np.array_equal(others, stored.identities):
        return None
    renewed, keys = changed[clips.file] | WINDOWS, clips.audio_keys
    if keys is not None and renewed.any():
        keys[renewed] = audio_keys(clips.take(renewed).segments, now)
    return stored.found
