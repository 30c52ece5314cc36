"""The shards of an audio cache: flat files of int16 samples, each with an index; what reads and what appends them."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from serx.files import seal, unseal, write_atomically

SHARD_BYTES = 1 << 30
CHECKPOINT_BYTES = 1 << 28  # a decoder that is killed has to repeat at most this much
RECORD = np.dtype([("key", "S16"), ("digest", "V16"), ("start", "<i8"), ("length", "<i8"), ("scale", "<f4")])


@dataclass(frozen=True)
class Shard:
    """A shard and its index. `refused` and `warnings` are by key."""

    folder: Path
    number: int
    records: np.ndarray
    refused: dict[bytes, str]
    warnings: dict[bytes, str]

    @property
    def end(self) -> int:
        """How many samples belong to clips."""
        return int((self.records["start"] + self.records["length"]).max(initial=0))


def _read_shard(folder: Path, number: int) -> Shard | None:
    """A shard, without the clips that its file is too short for; None if its index is damaged."""
    content = unseal(folder / f"{number:04d}.sealed")
    if content is None or len(content) < 8:
        return None
    count = int.from_bytes(content[:8], "little")
    size = 8 + count * RECORD.itemsize
    if size > len(content):
        return None
    records = np.frombuffer(content, RECORD, count, offset=8)
    try:
        said = json.loads(content[size:])
        refused, warnings = (
            {bytes.fromhex(key).rstrip(b"\0"): str(text) for key, text in said[name].items()}
            for name in ("refused", "warnings")
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    starts, lengths = records["start"], records["length"]
    order = np.argsort(starts, kind="stable")
    apart = (starts[order][1:] >= (starts + lengths)[order][:-1]).all()
    limit = 1 << 40
    sound = ((starts >= 0) & (lengths >= 0) & (starts < limit) & (lengths < limit)).all() and apart
    if not sound or not (np.isfinite(records["scale"]) & (records["scale"] > 0)).all():
        return None
    flat = folder / f"{number:04d}.int16"
    held = flat.stat().st_size // 2 if flat.is_file() else 0
    return Shard(folder, number, records[starts + lengths <= held], refused, warnings)


def _read_shards(folder: Path) -> dict[int, Shard | None]:
    """The shards of a folder by their numbers; None where the index is damaged."""
    numbers = {int(p.stem) for p in folder.glob("*.*") if p.stem.isdecimal() and p.suffix in (".int16", ".sealed")}
    return {number: _read_shard(folder, number) for number in sorted(numbers)}


class Store:
    """The shards of a folder, and what is read from other folders.

    Attributes:
        own: the shards of the folder.
        shards: those and the others.
        records: of all shards.
        shard_of: for each record its place in `shards`.
        damaged: numbers of the folder's shards without a readable index.
        refused: key -> why a clip cannot be used.
        warnings: key -> what to say about a clip that is used.
    """

    def __init__(self, folder: Path, others: Sequence[Path] = ()) -> None:
        self.folder = folder
        found = _read_shards(folder)
        self.damaged = [number for number, shard in found.items() if shard is None]
        self.own = [shard for shard in found.values() if shard is not None]
        # Of clips that are held twice, those of the folder itself come last, and are used.
        read = [shard for other in others for shard in _read_shards(other).values() if shard is not None]
        self.shards = [*read, *self.own]
        records = [shard.records for shard in self.shards]
        self.records = np.concatenate(records) if records else np.zeros(0, RECORD)
        self.shard_of = np.repeat(np.arange(len(records), dtype=np.int32), [len(part) for part in records])
        self._order = np.argsort(self.records["key"], kind="stable")
        self._sorted = self.records["key"][self._order]
        self.refused = {key: text for shard in self.shards for key, text in shard.refused.items()}
        self.warnings = {key: text for shard in self.shards for key, text in shard.warnings.items()}

    def find(self, keys: np.ndarray) -> np.ndarray:
        """`(n,)` the record of each key, or -1."""
        place = np.searchsorted(self._sorted, keys, side="right") - 1
        if not len(self._sorted):
            return place
        return np.where(self._sorted[place] == keys, self._order[place], -1)

    def missing(self, keys: np.ndarray) -> list[int]:
        """Which of the keys are neither held nor refused."""
        return [i for i in np.flatnonzero(self.find(keys) < 0).tolist() if keys[i] not in self.refused]

    @staticmethod
    def samples(shard: Shard) -> np.ndarray:
        """All samples of a shard, mapped from disk."""
        flat = shard.folder / f"{shard.number:04d}.int16"
        return np.memmap(flat, np.int16, "r") if flat.stat().st_size > 1 else np.zeros(0, np.int16)

    def remove_unreadable(self) -> None:
        """Deletes shards without an index."""
        for number in self.damaged:
            for ending in ("int16", "sealed"):
                (self.folder / f"{number:04d}.{ending}").unlink(missing_ok=True)
        self.damaged = []

    def without_damaged(self, keys: np.ndarray) -> "Store":
        """The store without those clips of these keys that are not what their digests say."""
        found = self.find(keys)
        for i in np.unique(found[found >= 0]).tolist():
            record, place = self.records[i], self.shard_of[i]
            start, length = int(record["start"]), int(record["length"])
            shard = self.shards[place]
            if digest(self.samples(shard)[start : start + length]) != record["digest"].tobytes():
                kept = shard.records[shard.records["key"] != record["key"]]
                self.shards[place] = replace(shard, records=kept)
                _write_index(self.shards[place])
        return Store(self.folder)


def _write_index(shard: Shard) -> None:
    said = {
        name: {key.ljust(16, b"\0").hex(): text for key, text in entries.items()}
        for name, entries in (("refused", shard.refused), ("warnings", shard.warnings))
    }
    content = len(shard.records).to_bytes(8, "little") + shard.records.tobytes() + json.dumps(said).encode()
    write_atomically(shard.folder / f"{shard.number:04d}.sealed", seal(content))


class Writer:
    """Appends clips to the last shard of a folder, and begins new ones."""

    def __init__(self, folder: Path, store: Store, alone: bool) -> None:
        self._folder = folder
        numbers = [shard.number for shard in store.own]
        last = store.own[-1] if store.own else None
        # Without locks, another process may append to the same shard.
        free = last is not None and last.end * 2 < SHARD_BYTES and alone
        self._begin(
            last if last is not None and free else _empty_shard(folder, max([*numbers, *store.damaged], default=-1) + 1)
        )

    def _begin(self, shard: Shard) -> None:
        self._shard, self._records = shard, [shard.records]
        self._refused, self._warnings = dict(shard.refused), dict(shard.warnings)
        self._end = self._saved = shard.end
        flat = self._folder / f"{shard.number:04d}.int16"
        if flat.is_symlink() or (flat.exists() and not flat.is_file()):
            flat.unlink()
        self._file = flat.open("r+b" if flat.exists() else "w+b")
        self._file.truncate(2 * self._end)  # what a killed process wrote behind
        self._file.seek(2 * self._end)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None or not issubclass(kind, OSError):  # a full disk holds no index either
                self._save()
        finally:
            self._file.close()

    def add(self, key: bytes, samples: np.ndarray, scale: float, warning: str) -> None:
        """Appends a clip."""
        self._file.write(samples.tobytes())
        record = np.zeros(1, RECORD)
        record["key"], record["digest"] = key, np.void(digest(samples))
        record["start"], record["length"], record["scale"] = self._end, len(samples), scale
        self._records.append(record)
        if warning:
            self._warnings[key] = warning
        self._end += len(samples)
        if 2 * self._end >= SHARD_BYTES:
            self._save()
            self._file.close()
            self._begin(_empty_shard(self._folder, self._shard.number + 1))
        elif 2 * (self._end - self._saved) >= CHECKPOINT_BYTES:
            self._save()

    def refuse(self, key: bytes, reason: str) -> None:
        """Notes why a clip cannot be used."""
        self._refused[key] = reason

    def _save(self) -> None:
        """Writes the index, after the samples have reached the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._records = [np.concatenate(self._records)]
        _write_index(replace(self._shard, records=self._records[0], refused=self._refused, warnings=self._warnings))
        self._saved = self._end


def _empty_shard(folder: Path, number: int) -> Shard:
    return Shard(folder, number, np.zeros(0, RECORD), {}, {})


def digest(clip: np.ndarray) -> bytes:
    """16 bytes, equal for equal samples."""
    return hashlib.sha256(clip.tobytes()).digest()[:16]
