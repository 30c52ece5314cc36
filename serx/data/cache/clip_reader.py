"""`ClipReader`: clips read from the shards of an `AudioCache`, without their pages staying in the process's memory.

Corpora larger than `WINDOW_BYTES` are read by blocks: neighbors in the list of clips, `BLOCK_BYTES` of audio. An epoch
takes `WINDOW_BYTES // BLOCK_BYTES` blocks at a time, drawn at random, and their clips in random order, so that the disk
reads blocks, and not single clips at random places. The system's cache of the disk holds a window meanwhile.
"""

import os
import weakref
from contextlib import ExitStack
from io import FileIO
from threading import Lock

import numpy as np
import torch
from torch import Tensor

from serx.data.cache.audio_cache import AudioCache
from serx.errors import DiskError

BLOCK_BYTES = 1 << 25
WINDOW_BYTES = 1 << 31  # 18.6 hours at 16 kHz; smaller corpora are one window, which is a shuffle of all clips


class ClipReader:
    """Reads clips; two threads may share it.

    >>> reader = ClipReader(AudioCache.in_memory(np.arange(5, dtype=np.int16), np.array([3, 2])))
    >>> out = np.zeros(2, np.int16)
    >>> reader.read(1, out)
    >>> out.tolist()
    [3, 4]
    """

    def __init__(self, audio_cache: AudioCache) -> None:
        self._cache, self._lock = audio_cache, Lock()
        self._blocks: np.ndarray | None = None
        self._files: dict[int, FileIO] = {}
        self._opened = ExitStack()
        weakref.finalize(self, self._opened.close)

    def read(self, clip: int, out: np.ndarray) -> None:
        """Fills `out (T,)` int16 with a clip of T samples.

        Raises:
            DiskError: the shard cannot be read, or has become shorter.
        """
        shard = self._cache.shards[self._cache.shard[clip]]
        if not isinstance(shard, np.memmap):
            out[:] = self._cache.clip(clip)
            return
        try:
            with self._lock:
                file = self._file(int(self._cache.shard[clip]))
                file.seek(2 * int(self._cache.starts[clip]))
                view, done = out.view(np.uint8).data, 0
                while done < out.nbytes and (count := file.readinto(view[done:])):
                    done += count
        except OSError as error:
            raise DiskError(
                f"{shard.filename}: cannot read decoded audio: {error.strerror}; check the disk, or choose another "
                "with data.cache=DIR"
            ) from error
        if done < out.nbytes:
            raise DiskError(
                f"{shard.filename}: has become shorter while it was read; start again, which decodes what is lacking"
            )

    def request(self, clips: np.ndarray, requested: set[int]) -> None:
        """Asks the system to read the blocks of these clips from the disk, in the background and from front to back.

        Args:
            clips: `(B,)` that are about to be read.
            requested: blocks that were asked for before; these clips' blocks are added.
        """
        if not hasattr(os, "posix_fadvise") or self._cache.nbytes <= WINDOW_BYTES:
            return
        if self._blocks is None:
            self._blocks = blocks_of(self._cache.lengths)
        for block in np.unique(self._blocks[clips]).tolist():
            if block not in requested:
                requested.add(block)
                for shard, start, length in self._extents(*np.searchsorted(self._blocks, (block, block + 1)).tolist()):
                    if isinstance(self._cache.shards[shard], np.memmap):
                        with self._lock:
                            file = self._file(shard)
                        os.posix_fadvise(file.fileno(), 2 * start, 2 * length, os.POSIX_FADV_WILLNEED)

    def _extents(self, first: int, end: int) -> list[tuple[int, int, int]]:
        """Where the clips from `first` to `end` lie: shard, start and length in samples; neighbors are joined."""
        shards, starts, lengths = (
            part[first:end] for part in (self._cache.shard, self._cache.starts, self._cache.lengths)
        )
        order = np.lexsort((starts, shards))
        shards, starts, ends = shards[order], starts[order], (starts + lengths)[order]
        begins = np.flatnonzero(np.r_[True, (shards[1:] != shards[:-1]) | (starts[1:] != ends[:-1])])
        lasts = np.r_[begins[1:] - 1, len(order) - 1]
        columns = shards[begins], starts[begins], ends[lasts] - starts[begins]
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def _file(self, shard: int) -> FileIO:
        if shard not in self._files:
            mapped = self._cache.shards[shard]
            assert isinstance(mapped, np.memmap)
            self._files[shard] = self._opened.enter_context(FileIO(str(mapped.filename)))
        return self._files[shard]


def blocks_of(lengths: np.ndarray) -> np.ndarray:
    """The block of each clip of `lengths (n,)`, in samples: `(n,)` int64, which never falls.

    >>> blocks_of(np.array([BLOCK_BYTES // 2, 10, 10])).tolist()
    [0, 1, 1]
    """
    return 2 * (np.cumsum(lengths, dtype=np.int64) - lengths) // BLOCK_BYTES


def by_windows(order: Tensor, blocks: np.ndarray, random: torch.Generator) -> Tensor:
    """An order of an epoch that takes a few blocks at a time.

    Args:
        order: `(n,)` int64 positions in random order.
        blocks: the block of each position.
        random: draws which blocks make a window.

    >>> order = by_windows(torch.tensor([3, 0, 2, 1]), np.array([0, 0, 900, 900]), torch.Generator().manual_seed(1))
    >>> sorted(order.tolist())
    [0, 1, 2, 3]
    """
    place = torch.randperm(int(blocks.max(initial=0)) + 1, generator=random)
    windows = place[torch.from_numpy(blocks)] // (WINDOW_BYTES // BLOCK_BYTES)
    return order[windows[order].argsort(stable=True)]
