"""`scan_once`: a scan of tables that is kept beside the audio cache, so that the next start does not parse them again.

A scan of 200,000 rows takes some ten seconds, and its result seldom changes. What it depends on is compared at each
start, and anything else than before leads to a new scan:

- the settings, the code of `serx.data`, the corpora and emotions that a user has registered;
- the tables, by a digest of all their bytes;
- the file of each row, by one call to the system that says whether it is there and is the same file (by inode), and
  whether its audio has changed; and where no file was, that there is none.

Kept are scans of tables of text (CSV, TSV, JSON). Folders, Parquet files and label files of corpora are scanned at each
start. A snapshot that is damaged, or that cannot be written, costs a scan and nothing else. It holds arrays and JSON;
nothing in it is executed.
"""

import hashlib
import json
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import serx
from serx.data.audio import StrPath
from serx.data.audio_cache import cache_folder
from serx.data.corpora import CORPORA
from serx.data.corpora.readers import READERS
from serx.data.corpora.recognition import ChosenCorpora
from serx.data.file_state import audio_keys, file_stats
from serx.data.labels import EMOTIONS, SYNONYMS
from serx.data.scanner import Scan, scan
from serx.data.tables import OPENERS, TablesConfig, read_parquet
from serx.data.utterance import FileIdentity, SkippedFile, file_identity, recording_identities
from serx.data.utterances import NUMBERS, WORDS, Files, Texts, Utterances, Words
from serx.files import locked, remove_temporaries, seal, unseal, write_atomically
from serx.system import WINDOWS

_FORMAT = 1


def scan_once(
    root: StrPath | Sequence[StrPath], styles: Collection[str], tables: TablesConfig, corpora: ChosenCorpora
) -> Scan:
    """`scan`, or what it found the last time if all that it depends on is the same.

    Raises:
        DataError: as `scan` raises.
    """
    roots = _tables(root)
    if roots is None:
        return scan(root, styles, tables, corpora)
    folder = cache_folder(tables.cache) / "scans"
    settings = _settings(roots, styles, tables, corpora)
    path = folder / f"{hashlib.sha256(settings.encode()).hexdigest()[:32]}.sealed"
    key = _key(settings, roots)
    if key is not None and (known := _read(path, key, tables)) is not None:
        return known
    with recording_identities() as asked:
        found = scan(root, styles, tables, corpora)
    clips = Utterances.of(found.utterances)
    stats = file_stats(clips.files.paths())
    if stats is not None:
        clips.audio_keys = audio_keys(clips.segments, stats)
    found = replace(found, utterances=clips)
    # A table that was changed meanwhile has another key.
    if key is not None and stats is not None and key == _key(settings, roots):
        _write(path, key, found, clips, stats, asked, tables)
    return found


def _tables(root: StrPath | Sequence[StrPath]) -> list[Path] | None:
    """The roots, if each is a table of text that is read as nothing else."""
    try:
        roots = [root] if isinstance(root, str | os.PathLike) else list(root)
        paths = [Path(os.path.abspath(os.path.expanduser(item))) for item in roots]
        sound = all(map(Path.is_file, paths))
    except (OSError, ValueError):
        return None
    for path in paths:
        opener = OPENERS.get(path.suffix.lower())
        is_label_file = any(reader.files.search(path.as_posix()) for reader in READERS.values())
        if opener in (None, read_parquet) or path.name.startswith("db.") or is_label_file:  # db.: of audformat
            return None
    return paths if sound and paths else None


def _settings(roots: Sequence[Path], styles: Collection[str], tables: TablesConfig, corpora: ChosenCorpora) -> str:
    """What a user says about the scan."""
    named = [tables.audio_root, *corpora] if isinstance(corpora, Mapping) else [tables.audio_root]
    folders = [None if name is None else os.path.abspath(os.path.expanduser(name)) for name in named]
    return json.dumps(
        {
            "roots": [str(path) for path in roots],
            "styles": sorted(styles),
            "corpora": list(corpora.values()) if isinstance(corpora, Mapping) else corpora and list(corpora),
            "tables": {"columns": list(tables.columns.items()), "encoding": tables.encoding},
            "folders": [(folder, folder is not None and os.path.isdir(folder)) for folder in folders],
        }
    )


def _key(settings: str, roots: Sequence[Path]) -> bytes | None:
    """A digest of the settings, the code and the tables; None if a table cannot be read."""
    digest = hashlib.sha256(f"{_FORMAT}|{serx.__version__}|{sys.version}|{settings}|".encode())
    digest.update(repr((EMOTIONS, SYNONYMS)).encode(errors="backslashreplace"))
    for corpus in CORPORA.values():
        patterns = [(pattern.pattern, pattern.flags) for pattern in corpus.patterns]
        if corpus.rank == 1:  # of a user; the others are in the code
            digest.update(repr((replace(corpus, patterns=()), patterns)).encode(errors="backslashreplace"))
        digest.update(corpus.name.encode())
    digest.update(_CODE)
    try:
        for path in roots:
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    except OSError:
        return None
    return digest.digest()


def _code_digest(folder: Path) -> bytes:
    """A digest of all modules in and below a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


_CODE = _code_digest(Path(__file__).parent)  # as it is imported: the files may change while the process runs


def _write(
    path: Path,
    key: bytes,
    found: Scan,
    clips: Utterances,
    stats: np.ndarray,
    asked: Mapping[str, FileIdentity | None],
    tables: TablesConfig,
) -> None:
    """Writes a snapshot, unless a file was exchanged while it was made."""
    paths = clips.files.paths()
    if [asked.get(file) for file in paths] != [(device, inode) for inode, device in stats[:, 3:].tolist()]:
        return
    own = set(paths)
    others = [[file, answer and list(answer)] for file, answer in asked.items() if file not in own]
    assert clips.audio_keys is not None
    arrays = {
        "folder": clips.files.folder,
        "name_ends": clips.files.names.ends,
        "file": clips.file,
        **clips.numbers,
        **{f"word {name}": column.codes for name, column in clips.words.items()},
        "table": clips.tables.codes,
        "line": clips.lines,
        "stats": stats,
        "audio_keys": clips.audio_keys,
    }
    said = {
        "arrays": [(name, array.dtype.str, array.shape) for name, array in arrays.items()],
        "folders": clips.files.folders,
        "names": clips.files.names.joined,
        "words": {name: column.values for name, column in clips.words.items()},
        "tables": clips.tables.values,
        "skipped": [(str(file.path), file.reason, file.detail) for file in found.skipped],
        "notes": found.notes,
        "ties": found.ties,
        "asked": others,
        "searched": _listing(tables, others),
    }
    text = json.dumps(said).encode()
    parts = [key, len(text).to_bytes(8, "little"), text, *(np.ascontiguousarray(a).tobytes() for a in arrays.values())]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with locked(path.parent / ".lock") as alone:
            if alone:
                remove_temporaries(path.parent)
            write_atomically(path, seal(b"".join(parts)))
    except OSError:  # a full or protected disk: the next start scans again
        return


def _listing(tables: TablesConfig, asked: Sequence[Sequence[Any]]) -> str:
    """A digest of all names below `audio_root`, which is searched where a file is not at its path."""
    if tables.audio_root is None or not asked:
        return ""
    digest = hashlib.sha256()
    for folder, folders, names in os.walk(os.path.abspath(os.path.expanduser(tables.audio_root))):
        folders.sort()
        digest.update(json.dumps([folder, folders, sorted(names)]).encode())
    return digest.hexdigest()


def _read(path: Path, key: bytes, tables: TablesConfig) -> Scan | None:
    """The scan of a snapshot that is whole and still true."""
    content = unseal(path)
    if content is None or content[: len(key)] != key:
        return None
    try:
        return _scan_of(content, len(key), tables)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, MemoryError):
        return None


def _scan_of(content: bytes, start: int, tables: TablesConfig) -> Scan | None:
    end = start + 8 + int.from_bytes(content[start : start + 8], "little")
    said = json.loads(content[start + 8 : end])
    arrays: dict[str, np.ndarray] = {}
    for name, kind, shape in said["arrays"]:
        dtype, count = np.dtype(kind), int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(content, dtype, count, end).reshape(shape)
        end += count * dtype.itemsize
    stats = arrays.pop("stats")
    # The arrays are copied, so that the content is freed.
    arrays = {name: array.copy() for name, array in arrays.items()}
    clips = Utterances(
        files=Files(arrays["folder"], tuple(said["folders"]), Texts(said["names"], arrays["name_ends"])),
        file=arrays["file"],
        numbers={name: arrays[name] for name in NUMBERS},
        words={name: Words(arrays[f"word {name}"], _tuples(said["words"][name])) for name in WORDS},
        tables=Words(arrays["table"], tuple(said["tables"])),
        lines=arrays["line"],
        audio_keys=(keys := arrays["audio_keys"]),
    )
    _check(clips, len(stats))
    now = file_stats(clips.files.paths())
    if now is None or not np.array_equal(now[:, 3:], stats[:, 3:]):
        return None
    for file, answer in said["asked"]:
        if _identity(file) != (answer and tuple(answer)):
            return None
    if _listing(tables, said["asked"]) != said["searched"]:
        return None
    changed = (now != stats).any(1)[clips.file] | WINDOWS
    if changed.any():
        keys[changed] = audio_keys(clips.take(changed).segments, now)
    skipped = tuple(SkippedFile(Path(file), reason, detail) for file, reason, detail in said["skipped"])
    return Scan(clips, skipped, tuple(said["notes"]), tuple(said["ties"]))


def _identity(path: str) -> FileIdentity | None:
    with recording_identities() as asked:
        file_identity(Path(path))
    return asked[str(Path(path))]


def _tuples(values: Any) -> Any:
    """The lists of JSON as the tuples that they were."""
    return tuple(map(_tuples, values)) if isinstance(values, list) else values


def _check(clips: Utterances, files: int) -> None:
    """Raises ValueError if a number in a column points at nothing."""
    ends = clips.files.names.ends
    sizes = [
        (clips.file, files),
        (clips.files.folder, len(clips.files.folders)),
        (clips.tables.codes, len(clips.tables.values)),
        *((column.codes, len(column.values)) for column in clips.words.values()),
    ]
    if any(len(codes) and not (codes.min() >= 0 and codes.max() < size) for codes, size in sizes):
        raise ValueError("a number beyond its column")
    columns = [*clips.numbers.values(), *(column.codes for column in clips.words.values()), clips.tables.codes]
    if any(len(column) != len(clips) for column in (*columns, clips.lines, clips.audio_keys)):  # type: ignore[arg-type]
        raise ValueError("columns of different lengths")
    if len(ends) != files or len(clips.files) != files or (np.diff(ends, prepend=0) < 0).any():
        raise ValueError("names of another number of files")
    if files and ends[-1] != len(clips.files.names.joined):
        raise ValueError("names of another length")
