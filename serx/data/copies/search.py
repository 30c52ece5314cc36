"""The search for copies among the clips of audio caches, with its results stored beside the audio."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from serx.data.batches import StreamedAudio
from serx.data.cache.audio_cache import AudioCache
from serx.data.copies.candidates import DIMENSIONS, fingerprints, nominate
from serx.data.copies.pairs import RULES, Copy, copies_among
from serx.data.read_ahead import reading_ahead
from serx.errors import DiskError
from serx.files import seal, unseal, why_not_written, write_atomically
from serx.terminal import ProgressBar

FINGERPRINT_BATCH = 8  # clips; more do not fit a CPU's cache


def find_duplicates(audio_cache: AudioCache, groups: np.ndarray, sample_rate: int, progress: bool) -> list[Copy]:
    """Pairs of clips of different groups that hold the same recording, by `copies_among` or by equal samples."""
    copies = {(c.first, c.second): c for c in find_copies(audio_cache, groups, sample_rate, progress)}
    equal: dict[str, list[int]] = {}  # silence has no fingerprint, and many equal files crowd each other out
    for i, digest in enumerate(audio_cache.digests):
        equal.setdefault(digest, []).append(i)
    for first, *others in equal.values():
        for i in others:
            if groups[i] != groups[first]:
                copies.setdefault((first, i), Copy(first, i, 1.0))
    return sorted(copies.values(), key=lambda copy: (-copy.correlation, copy.first, copy.second))


def find_common(
    first: AudioCache,
    first_clips: Sequence[int],
    second: AudioCache,
    second_clips: Sequence[int],
    sample_rate: int,
    progress: bool = True,
) -> list[tuple[int, int]]:
    """Copies between two caches, however encoded: pairs of one of `first_clips` and one of `second_clips`.

    Both are decoded at `sample_rate`. A pair is a copy by the criteria of `serx.data.copies.pairs`.
    """
    chosen = [(first, i) for i in first_clips] + [(second, i) for i in second_clips]
    segments = {id(cache): segments_of(cache, sample_rate, progress) for cache in (first, second)}
    groups = [0] * len(first_clips) + [1] * len(second_clips)
    candidates = nominate([segments[id(cache)][i] for cache, i in chosen], groups)
    copies = copies_among(candidates, lambda k: chosen[k][0].clip(chosen[k][1]), sample_rate)
    return [(chosen[copy.first][1], chosen[copy.second][1]) for copy in copies]


def find_copies(audio_cache: AudioCache, groups: np.ndarray, sample_rate: int, progress: bool) -> list[Copy]:
    """Copies among clips of different groups, searched once and stored with the cache."""
    numbers = np.asarray(groups, "<i8")
    key = hashlib.sha256(_settings(audio_cache, sample_rate) + numbers.tobytes()).digest()
    path = audio_cache.folder / f"copies-{key.hex()[:16]}.sealed"
    rows = _stored(path, key, "<f8", 3)
    if rows is None or not np.isin(rows[:, :2], np.arange(len(groups))).all():
        candidates = nominate(segments_of(audio_cache, sample_rate, progress), numbers.tolist())
        found = copies_among(candidates, audio_cache.clip, sample_rate)
        rows = np.asarray([(copy.first, copy.second, copy.correlation) for copy in found], "<f8").reshape(-1, 3)
        _store(path, key, rows)
    return [Copy(int(first), int(second), float(correlation)) for first, second, correlation in rows]


def segments_of(audio_cache: AudioCache, sample_rate: int, progress: bool) -> list[Tensor]:
    """`copies.fingerprints` of every clip of the cache, computed once and stored with it by the digest of the clip.

    Each file holds those that were new when it was written: digests, how many segments each has, and the segments.
    """
    key = hashlib.sha256(f"{RULES}|{sample_rate}".encode()).digest()
    name = f"fingerprints-{key.hex()[:8]}"
    every = list(audio_cache.digests)
    clip_of = {digest: i for i, digest in reversed(list(enumerate(every)))}
    known: dict[str, Tensor] = {}
    for path in sorted(audio_cache.folder.glob(f"{name}-*.sealed")):
        if len(known) < len(clip_of):
            known |= _stored_segments(path, key, clip_of)
    missing = np.array(sorted(i for digest, i in clip_of.items() if digest not in known), np.int64)
    if len(missing):
        source, found = StreamedAudio(audio_cache, torch.device("cpu")), []
        batches = np.array_split(missing, -(-len(missing) // FINGERPRINT_BATCH))
        with ProgressBar("compare", len(missing), "clips", progress) as bar, reading_ahead(source, batches) as ahead:
            for batch in batches:
                found += fingerprints(*ahead.batch(batch), sample_rate)
                bar.update(len(batch))
        new = [every[i] for i in missing.tolist()]
        digests, counts = bytes.fromhex("".join(new)), np.array([len(clip) for clip in found], "<u4")
        head = key + len(new).to_bytes(8, "little") + digests + counts.tobytes()
        own = hashlib.sha256(digests).hexdigest()[:16]
        _store(audio_cache.folder / f"{name}-{own}.sealed", head, torch.cat(found).numpy().astype("<f2"))
        known |= dict(zip(new, found, strict=True))
    return [known[digest] for digest in every]


def _stored_segments(path: Path, key: bytes, wanted: Mapping[str, int]) -> dict[str, Tensor]:
    """Those of the wanted digests that a file holds; none if it is of other settings or damaged."""
    content = unseal(path)
    start = len(key) + 8
    if content is None or content[: len(key)] != key or len(content) < start:
        return {}
    clips = int.from_bytes(content[len(key) : start], "little")
    end = start + 20 * clips
    if end > len(content) or (len(content) - end) % (2 * DIMENSIONS):
        return {}
    digests = content[start : start + 16 * clips].hex()
    counts = np.frombuffer(content, "<u4", clips, offset=start + 16 * clips).astype(np.int64)
    rows = np.frombuffer(bytearray(content[end:]), "<f2").reshape(-1, DIMENSIONS)
    if counts.sum() != len(rows) or not np.isfinite(rows).all():
        return {}
    parts = torch.from_numpy(rows).split(counts.tolist())
    named = zip((digests[32 * i : 32 * i + 32] for i in range(clips)), parts, strict=True)
    return {digest: part for digest, part in named if digest in wanted}


def _settings(audio_cache: AudioCache, sample_rate: int) -> bytes:
    return f"{RULES}|{sample_rate}|{'|'.join(audio_cache.digests)}".encode()


def _stored(path: Path, key: bytes, dtype: str, columns: int) -> np.ndarray | None:
    """`(n, columns)` numbers; None if the file is of other audio or damaged. Nothing in it is interpreted."""
    content = unseal(path)
    row = columns * np.dtype(dtype).itemsize
    if content is None or content[: len(key)] != key or (len(content) - len(key)) % row:
        return None
    numbers = np.frombuffer(bytearray(content), dtype, offset=len(key)).reshape(-1, columns)
    return numbers if np.isfinite(numbers).all() else None


def _store(path: Path, key: bytes, rows: np.ndarray) -> None:
    try:
        write_atomically(path, seal(key + rows.tobytes()))
    except OSError as error:
        what = f"{path}: cannot write the result of the leak check: {why_not_written(error, path)}"
        raise DiskError(f"{what}, or choose another folder with data.cache=DIR or SERX_CACHE") from error
