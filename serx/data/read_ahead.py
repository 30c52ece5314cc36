"""`reading_ahead`: a thread reads the next batches from the disk while the device computes the current one."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Semaphore, Thread

import numpy as np
import torch
from torch import Tensor

from serx.data.batches import BatchSource, HostBatch, StreamedAudio

DEPTH = 3  # batches in memory beside the current one


@contextmanager
def reading_ahead(source: BatchSource, batches: Iterable[np.ndarray]) -> Iterator[BatchSource]:
    """A source of these batches `(B,)` of clips, asked for in this order; it is of use until the block ends.

    One thread reads them ahead, into pinned memory if they go to a GPU. What it raises is raised where its batch is
    asked for. It has ended when the block has, however that ends. A source in device memory is returned as it is.

    >>> from serx.data.cache.audio_cache import AudioCache
    >>> audio_cache = AudioCache.in_memory(np.arange(5, dtype=np.int16), np.array([3, 2]))
    >>> streamed = StreamedAudio(audio_cache, torch.device("cpu"))
    >>> with reading_ahead(streamed, [np.array([1]), np.array([0])]) as source:
    ...     source.batch(np.array([1]))[1].tolist(), source.batch(np.array([0]))[1].tolist()
    ([2], [3])
    """
    if not isinstance(source, StreamedAudio):
        yield source
        return
    ahead = _ReadAhead(source, batches)
    try:
        yield ahead
    finally:
        ahead.close()


class _ReadAhead:
    """The batches that the thread has read."""

    def __init__(self, source: StreamedAudio, batches: Iterable[np.ndarray]) -> None:
        self.device, self._source, self._batches = source.device, source, batches
        self._read: SimpleQueue[tuple[np.ndarray, HostBatch] | BaseException] = SimpleQueue()
        self._free, self._closed = Semaphore(DEPTH), False
        self._gpu = torch.cuda.current_device() if source.device.type == "cuda" else None
        self._thread = Thread(target=self._run, name="serx-read-ahead", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        requested: set[int] = set()
        try:
            if self._gpu is not None:  # else pinned memory would make this thread's first GPU hold a context
                torch.cuda.set_device(self._gpu)
            for clips in self._batches:
                self._free.acquire()
                if self._closed:
                    return
                self._source.reader.request(clips, requested)
                self._read.put((clips, self._source.host_batch(clips)))
            raise IndexError("more batches were asked for than were announced")
        except BaseException as error:  # for the thread that asks for the batch
            self._read.put(error)

    def batch(self, clips: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        """`waveform (B, T)` and `lengths (B,)` of these clips, which must be the next batch."""
        item = self._read.get()
        if isinstance(item, BaseException):
            self._read.put(item)  # whoever asks again is told again
            raise item
        self._free.release()
        announced, host = item
        if not np.array_equal(announced, clips):
            raise IndexError("another batch was asked for than was announced")
        return self._source.to_device(host)

    def close(self) -> None:
        """Ends the thread, after the batch that it is reading."""
        self._closed = True
        self._free.release()
        self._thread.join()
