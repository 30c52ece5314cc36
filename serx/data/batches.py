"""Batches of decoded audio: from device memory if all audio fits there, else streamed from the shards.

Both give `waveform (B, T)` float32, zero beyond `lengths (B,)`. T is the longest clip of the batch, rounded up to
`T_MULTIPLE` so that a GPU's memory pool sees few different sizes.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from serx.data.cache.audio_cache import AudioCache
from serx.data.cache.clip_reader import ClipReader

T_MULTIPLE = 2048
DEVICE_SHARE = 0.5  # fraction of the free device memory that `auto` uses for audio at most
Placement = Literal["auto", "device", "stream"]


class BatchSource(Protocol):
    """Anything that makes batches of clips from their indices.

    >>> class Noise:  # two seconds of noise for every clip
    ...     device = torch.device("cpu")
    ...
    ...     def batch(self, clips):
    ...         return torch.randn(len(clips), 32_000), torch.full((len(clips),), 32_000)
    >>> source: BatchSource = Noise()
    >>> source.batch([4, 2])[0].shape
    torch.Size([2, 32000])
    """

    device: torch.device

    def batch(self, clips: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        """`waveform (B, T)` and `lengths (B,)` of these clips; the waveform is new and may be overwritten."""
        ...


class HostBatch(NamedTuple):
    """A batch in host memory.

    Attributes:
        samples: `(B, T)` int16, zero beyond the lengths.
        lengths: `(B,)` int64.
        scales: `(B,)` float32; samples times scale are the waveform.
    """

    samples: Tensor
    lengths: Tensor
    scales: Tensor


class DeviceAudio:
    """All audio in device memory; a batch is one gather.

    >>> cache = AudioCache.in_memory(np.array([1, 2, 3], np.int16), np.array([1, 2]))
    >>> waveform, lengths = DeviceAudio(cache, torch.device("cpu")).batch([1, 0])
    >>> waveform[:, :3].tolist(), lengths.tolist()
    ([[2.0, 3.0, 0.0], [1.0, 0.0, 0.0]], [2, 1])
    """

    def __init__(self, audio_cache: AudioCache, device: torch.device) -> None:
        self._samples = torch.from_numpy(audio_cache.samples()).to(device)
        starts = np.cumsum(audio_cache.lengths) - audio_cache.lengths
        self._starts = torch.from_numpy(starts).to(device)
        self._lengths = torch.from_numpy(audio_cache.lengths).to(device)
        self._scales = torch.from_numpy(audio_cache.scales).to(device)
        self._host_lengths = audio_cache.lengths
        self.device = device

    def batch(self, clips: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        """`waveform (B, T)` and `lengths (B,)` of these clips; sizes come from host memory, so nothing waits for it."""
        rows = torch.as_tensor(np.asarray(clips, np.int64)).to(self.device, non_blocking=True)
        starts, lengths = self._starts[rows], self._lengths[rows]
        time = torch.arange(width(self._host_lengths[clips]), device=self.device)
        valid = time < lengths[:, None]
        samples = self._samples[torch.where(valid, starts[:, None] + time, 0)]
        return torch.where(valid, samples * self._scales[rows, None], 0.0), lengths


class StreamedAudio:
    """Audio stays on disk; a batch is read into (pinned) host memory. Also the fastest way on a CPU.

    `serx.data.read_ahead` reads its batches in a thread.
    """

    def __init__(self, audio_cache: AudioCache, device: torch.device) -> None:
        self.reader, self.device = ClipReader(audio_cache), device
        self._lengths, self._scales = audio_cache.lengths, audio_cache.scales
        self._pin = device.type == "cuda"

    def batch(self, clips: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        """`waveform (B, T)` and `lengths (B,)` of these clips.

        Raises:
            DiskError: a shard cannot be read.
        """
        return self.to_device(self.host_batch(clips))

    def host_batch(self, clips: Sequence[int] | np.ndarray) -> HostBatch:
        """These clips in host memory."""
        lengths = self._lengths[clips]
        # NumPy fills it with zeros: in another thread, torch would start threads of its own.
        samples = torch.empty(len(clips), width(lengths), dtype=torch.int16, pin_memory=self._pin)
        rows = samples.numpy()
        for row, clip, length in zip(rows, clips, lengths.tolist(), strict=True):
            self.reader.read(clip, row[:length])
            row[length:] = 0
        return HostBatch(samples, torch.from_numpy(lengths), torch.from_numpy(self._scales[clips]))

    def to_device(self, batch: HostBatch) -> tuple[Tensor, Tensor]:
        """`waveform (B, T)` float32 and `lengths (B,)` of a batch in host memory."""
        samples, lengths, scales = (part.to(self.device, non_blocking=True) for part in batch)
        return samples.float().mul_(scales[:, None]), lengths


def make_batch_source(audio_cache: AudioCache, device: torch.device, placement: Placement = "auto") -> BatchSource:
    """A source of batches on `device`.

    Args:
        audio_cache: the decoded clips.
        device: where batches are used.
        placement: `device`: all audio in device memory; `stream`: audio stays on disk; `auto`: `device` on a GPU if
            the audio takes less than half of its free memory.

    >>> cache = AudioCache.in_memory(np.zeros(9, np.int16), np.array([9]))
    >>> waveform, lengths = make_batch_source(cache, torch.device("cpu")).batch([0])
    >>> waveform.shape, lengths.tolist()
    (torch.Size([1, 2048]), [9])
    """
    if placement == "auto":
        fits = device.type == "cuda" and audio_cache.nbytes < DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]
        placement = "device" if fits else "stream"
    return DeviceAudio(audio_cache, device) if placement == "device" else StreamedAudio(audio_cache, device)


def width(lengths: np.ndarray) -> int:
    """T of a batch of clips of these lengths `(B,)`, in samples.

    >>> width(np.array([2000, 2049]))
    4096
    """
    return int(-(-lengths.max(initial=1) // T_MULTIPLE) * T_MULTIPLE)
