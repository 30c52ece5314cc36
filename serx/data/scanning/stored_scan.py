"""`StoredScan`: a scan and what it depends on, as bytes that hold arrays and JSON; nothing in them is executed."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from serx.data.observed_files import Seen
from serx.data.scanning.scanner import Scan
from serx.data.utterance import SkippedFile
from serx.data.utterances import NUMBERS, WORDS, Files, Texts, Utterances, Words


@dataclass(frozen=True)
class StoredScan:
    """A scan, and what it depends on.

    Attributes:
        found: the scan.
        clips: its utterances, with the keys of their audio.
        stats: `file_stats` of `clips.files`.
        others: the paths that the scan asked for beside those of the clips, and
        identities: whether and which file each of them was, `(n, 2)`.
        seen: what else the scan has seen of the disk.
    """

    found: Scan
    clips: Utterances
    stats: np.ndarray
    others: Files
    identities: np.ndarray
    seen: Seen


def pack(stored: StoredScan) -> bytes:
    """The bytes of a scan: the length of the JSON text in 8 bytes, the text, and the arrays that it names."""
    clips = stored.clips
    assert clips.audio_keys is not None
    arrays = {
        "file": clips.file,
        **clips.numbers,
        **{f"word {name}": column.codes for name, column in clips.words.items()},
        "table": clips.tables.codes,
        "line": clips.lines,
        "audio_keys": clips.audio_keys,
        "stats": stored.stats,
        "identities": stored.identities,
        **_arrays_of(clips.files, "clips"),
        **_arrays_of(stored.others, "others"),
    }
    texts = {
        "arrays": [(name, array.dtype.str, array.shape) for name, array in arrays.items()],
        "files": {name: [files.folders, files.names.joined] for name, files in _both(stored).items()},
        "words": {name: column.values for name, column in clips.words.items()},
        "tables": clips.tables.values,
        "skipped": [(str(file.path), file.reason, file.detail) for file in stored.found.skipped],
        "notes": stored.found.notes,
        "ties": stored.found.ties,
        "seen": asdict(replace(stored.seen, files={})),
    }
    text = json.dumps(texts).encode()
    return b"".join(
        [len(text).to_bytes(8, "little"), text, *(np.ascontiguousarray(a).tobytes() for a in arrays.values())]
    )


def _both(stored: StoredScan) -> dict[str, Files]:
    return {"clips": stored.clips.files, "others": stored.others}


def _arrays_of(files: Files, name: str) -> dict[str, np.ndarray]:
    return {f"folders of {name}": files.folder, f"ends of {name}": files.names.ends}


def unpack(content: memoryview) -> StoredScan:
    """The scan of its bytes.

    Raises:
        ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, MemoryError: they are not as `pack`
            makes them.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    texts = json.loads(bytes(content[8:end]))
    arrays: dict[str, np.ndarray] = {}
    for name, kind, shape in texts["arrays"]:
        dtype, count = np.dtype(kind), int(np.prod(shape, dtype=np.int64))
        # Copied, so that the content is freed.
        arrays[name] = np.frombuffer(content, dtype, count, end).reshape(shape).copy()
        end += count * dtype.itemsize
    clips = Utterances(
        files=_files(texts, arrays, "clips"),
        file=arrays["file"],
        numbers={name: arrays[name] for name in NUMBERS},
        words={name: Words(arrays[f"word {name}"], _tuples(texts["words"][name])) for name in WORDS},
        tables=Words(arrays["table"], tuple(texts["tables"])),
        lines=arrays["line"],
        audio_keys=arrays["audio_keys"],
    )
    others, stats, known = _files(texts, arrays, "others"), arrays["stats"], arrays["identities"]
    _check(clips)
    if stats.shape != (len(clips.files), 5) or known.shape != (len(others), 2):
        raise ValueError("states of another number of files")
    skipped = tuple(SkippedFile(Path(file), reason, detail) for file, reason, detail in texts["skipped"])
    found = Scan(clips, skipped, tuple(texts["notes"]), tuple(texts["ties"]))
    return StoredScan(found, clips, stats, others, known, Seen(**texts["seen"]))


def _files(texts: Mapping[str, Any], arrays: Mapping[str, np.ndarray], name: str) -> Files:
    folders, joined = texts["files"][name]
    files = Files(arrays[f"folders of {name}"], tuple(folders), Texts(joined, arrays[f"ends of {name}"]))
    ends = files.names.ends
    if len(ends) != len(files) or (np.diff(ends, prepend=0) < 0).any() or (len(ends) and ends[-1] != len(joined)):
        raise ValueError("names of another number of files, or of another length")
    _check_codes(files.folder, len(folders))
    return files


def _tuples(values: Any) -> Any:
    """The lists of JSON as the tuples that they were."""
    return tuple(map(_tuples, values)) if isinstance(values, list) else values


def _check(clips: Utterances) -> None:
    """Raises ValueError if a number in a column points at nothing."""
    _check_codes(clips.file, len(clips.files))
    for column in (*clips.words.values(), clips.tables):
        _check_codes(column.codes, len(column.values))
    columns = [*clips.numbers.values(), *(column.codes for column in clips.words.values()), clips.tables.codes]
    if any(len(column) != len(clips) for column in (*columns, clips.lines, clips.audio_keys)):  # type: ignore[arg-type]
        raise ValueError("columns of different lengths")


def _check_codes(codes: np.ndarray, size: int) -> None:
    if len(codes) and not (codes.min() >= 0 and codes.max() < size):
        raise ValueError("a number beyond its column")
