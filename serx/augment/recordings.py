"""Recordings that transforms mix in: background noises and impulse responses.

A `RecordingTransform` is settings with a `folder`; it holds no audio. `load_recordings` joins it with the recordings of
that folder, on the device where clips are augmented, which makes a `Transform` of it. `Compose` does this by itself.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from serx.augment.transform import Transform, WaveformTransform
from serx.base_config import FilePath
from serx.seeding import ClipRandom

Waveforms = Sequence[Tensor] | Sequence[np.ndarray]


@dataclass(frozen=True)
class Recordings:
    """K recordings end to end.

    Attributes:
        samples: `(n,)` float32, all recordings after each other.
        starts: `(K,)` int64, the first sample of each.
        sizes: `(K,)` int64, the number of samples of each.
        longest: the largest size, a Python int.

    >>> recordings = Recordings.of([torch.tensor([1.0, 2, 3]), torch.tensor([9.0])], torch.device("cpu"))
    >>> recordings.loop(choice=torch.tensor([0, 1]), offset=torch.tensor([2, 0]), size=4)
    tensor([[3., 1., 2., 3.],
            [9., 9., 9., 9.]])
    """

    samples: Tensor
    starts: Tensor
    sizes: Tensor
    longest: int

    @classmethod
    def of(cls, recordings: Sequence[Tensor], device: torch.device) -> "Recordings":
        """The recordings, at least one waveform `(T,)`, on a device.

        Raises:
            ValueError: there is none, or one of them is empty or not one-dimensional.
        """
        if not recordings:
            raise ValueError("there are no recordings; give at least one waveform (T,)")
        for recording in recordings:
            if recording.ndim != 1 or not len(recording):
                raise ValueError(f"a recording has shape {tuple(recording.shape)}; give waveforms (T,) with samples")
        sizes = torch.tensor([len(recording) for recording in recordings])
        samples = torch.cat(list(recordings)).float()
        return cls(samples.to(device), (sizes.cumsum(0) - sizes).to(device), sizes.to(device), int(sizes.max()))

    def to(self, device: torch.device) -> "Recordings":
        """A copy on another device."""
        return replace(
            self, samples=self.samples.to(device), starts=self.starts.to(device), sizes=self.sizes.to(device)
        )

    def read(self, choice: Tensor, size: int) -> Tensor:
        """The first `size` samples `(B, size)` of the recordings `choice (B,)`, modulo K; zeros beyond their ends."""
        choice = choice % len(self.starts)
        position = torch.arange(size, device=choice.device)
        index = self.starts[choice][:, None] + position
        inside = position < self.sizes[choice][:, None]
        return self.samples[index.clamp(max=len(self.samples) - 1)] * inside

    def loop(self, choice: Tensor, offset: Tensor, size: int) -> Tensor:
        """`(B, size)` samples of the recordings `choice (B,)`, modulo K, from `offset (B,)` on; they repeat."""
        choice = choice % len(self.starts)
        sizes = self.sizes[choice][:, None]
        position = (offset[:, None] % sizes + torch.arange(size, device=choice.device)) % sizes
        return self.samples[self.starts[choice][:, None] + position]


class RecordingTransform(WaveformTransform):
    """A waveform transform that uses the audio files of `folder`, at any depth.

    Instead of `apply` it implements `apply_with`, which also gets the recordings.

    >>> from serx.augment import BackgroundNoise
    >>> isinstance(BackgroundNoise(folder="noises"), RecordingTransform)
    True
    """

    folder: FilePath

    def prepare(self, recording: Tensor) -> Tensor:
        """What is kept of a recording `(T,)`."""
        return recording

    @abstractmethod
    def apply_with(self, recordings: Recordings, x: Tensor, lengths: Tensor, params: Any) -> tuple[Tensor, Tensor]:
        """`apply`, with the prepared recordings of the folder on the device of `x`."""

    def apply(self, x: Tensor, lengths: Tensor, params: Any) -> tuple[Tensor, Tensor]:
        raise ValueError(f"{self.kind} has no recordings yet; use it in Compose, or call load_recordings first")


@dataclass(frozen=True)
class TransformWithRecordings:
    """A `RecordingTransform` together with its recordings."""

    transform: RecordingTransform
    recordings: Recordings

    @property
    def kind(self) -> str:
        return self.transform.kind

    def to(self, device: torch.device) -> "TransformWithRecordings":
        """The same with the recordings on another device."""
        return replace(self, recordings=self.recordings.to(device))

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> Any:
        return self.transform.draw(lengths, random, rate)

    def apply(self, x: Tensor, lengths: Tensor, params: Any) -> tuple[Tensor, Tensor]:
        return self.transform.apply_with(self.recordings, x, lengths, params)


def load_recordings(
    transforms: Sequence[Transform], load: Callable[[str], Waveforms], device: torch.device
) -> tuple[Transform, ...]:
    """The transforms, each `RecordingTransform` joined with its recordings.

    Args:
        load: returns the waveforms `(T,)` of a folder, at the sample rate of the clips.
        device: where the clips are augmented.

    >>> from serx.augment import BackgroundNoise, Gain
    >>> noises = {"noises": [torch.randn(16000), torch.randn(8000)]}
    >>> transforms = [BackgroundNoise(folder="noises"), Gain()]
    >>> noise, gain = load_recordings(transforms, noises.__getitem__, torch.device("cpu"))
    >>> noise.recordings.longest
    16000
    """

    def loaded(transform: Transform) -> Transform:
        if not isinstance(transform, RecordingTransform):
            return transform
        prepared = [transform.prepare(torch.as_tensor(wave)) for wave in load(transform.folder)]
        return TransformWithRecordings(transform, Recordings.of(prepared, device))

    return tuple(loaded(transform) for transform in transforms)
