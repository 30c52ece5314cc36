"""The corpus where batches are made: whole on the device when it fits, else streamed from the flat file.

Both give `waveform (B, T)` float32, zero beyond `lengths (B,)`; T is the longest clip of the batch, rounded up to
`T_MULTIPLE` so that a GPU's memory pool sees few different sizes.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from serx.data.audio_cache import AudioCache

T_MULTIPLE = 2048
DEVICE_SHARE = 0.5  # of the free device memory that `auto` gives to audio
Placement = Literal["auto", "device", "stream"]


class BatchSource(Protocol):
    """Clips by their numbers."""

    device: torch.device

    def batch(self, clips: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        """Waveforms `(B, T)`, zero beyond `lengths (B,)`, of these clips."""
        ...


class DeviceAudio:
    """All audio in device memory; a batch is one gather there."""

    def __init__(self, audio_cache: AudioCache, device: torch.device) -> None:
        self._samples = torch.from_numpy(np.array(audio_cache.samples)).to(device)
        self._offsets = torch.from_numpy(audio_cache.offsets).to(device)
        self._scales = torch.from_numpy(audio_cache.scales).to(device)
        self._host_lengths = audio_cache.lengths
        self.device = device

    def batch(self, clips: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        """Waveforms and lengths of these clips. The sizes come from the host's index: nothing waits for the device."""
        rows = torch.as_tensor(np.asarray(clips, np.int64)).to(self.device, non_blocking=True)
        start, end = self._offsets[rows], self._offsets[rows + 1]
        time = torch.arange(_width(self._host_lengths[clips]), device=self.device)
        index = start[:, None] + time
        valid = index < end[:, None]
        samples = self._samples[torch.where(valid, index, 0)]
        return torch.where(valid, samples * self._scales[rows, None], 0.0), end - start


class StreamedAudio:
    """Audio stays in the mapped file; a batch is copied through (pinned) host memory. Also the fast way on a CPU."""

    def __init__(self, audio_cache: AudioCache, device: torch.device) -> None:
        self._pack, self.device = audio_cache, device
        self._lengths = audio_cache.lengths
        self._pin = device.type == "cuda"

    def batch(self, clips: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        """Waveforms and lengths of these clips."""
        lengths = self._lengths[clips]
        host = torch.zeros(len(clips), _width(lengths), dtype=torch.int16, pin_memory=self._pin)
        for row, (clip, length) in enumerate(zip(clips, lengths, strict=True)):
            start = self._pack.offsets[clip]
            host.numpy()[row, :length] = self._pack.samples[start : start + length]
        scales = torch.from_numpy(self._pack.scales[clips]).to(self.device, non_blocking=True)
        waveform = host.to(self.device, non_blocking=True).float().mul_(scales[:, None])
        return waveform, torch.from_numpy(lengths).to(self.device, non_blocking=True)


def make_batch_source(audio_cache: AudioCache, device: torch.device, placement: Placement = "auto") -> BatchSource:
    """Puts a pack where its batches are made; `auto` takes the device when audio fills under half its free memory."""
    if placement == "auto":
        fits = device.type == "cuda" and audio_cache.samples.nbytes < DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]
        placement = "device" if fits else "stream"
    return DeviceAudio(audio_cache, device) if placement == "device" else StreamedAudio(audio_cache, device)


def _width(lengths: np.ndarray) -> int:
    return int(-(-lengths.max(initial=1) // T_MULTIPLE) * T_MULTIPLE)
