"""Recordings that transforms mix in, noises and rooms: decoded by the run, kept on its device, read by the clip.

A transform that needs files is a `FromFiles`: settings that know how to apply a `Bank` of recordings, but neither
hold nor read any. `bind` joins it with what a loader found, which makes a `Transform` of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from serx.augment.transform import Transform
from serx.seeding import ClipRandom


@dataclass(frozen=True)
class Recordings:
    """Recordings end to end: `samples (n,)`, and each one's first sample and size, `(K,)` int64."""

    samples: Tensor
    starts: Tensor
    sizes: Tensor
    longest: int  # samples, a host number

    @classmethod
    def of(cls, recordings: Sequence[Tensor], device: torch.device) -> "Recordings":
        """A bank on `device` of waveforms `(T,)`, at least one, none of them empty."""
        sizes = torch.tensor([len(recording) for recording in recordings])
        samples = torch.cat(list(recordings)).float()
        return cls(samples.to(device), (sizes.cumsum(0) - sizes).to(device), sizes.to(device), int(sizes.max()))

    def read(self, choice: Tensor, size: int) -> Tensor:
        """The first `size` samples `(B, size)` of recordings `choice (B,)`, zeros past their ends."""
        choice = choice % len(self.starts)
        position = torch.arange(size, device=choice.device)
        index = self.starts[choice][:, None] + position
        heard = position < self.sizes[choice][:, None]
        return self.samples[index.clamp(max=len(self.samples) - 1)] * heard

    def loop(self, choice: Tensor, offset: Tensor, size: int) -> Tensor:
        """`(B, size)` samples of recordings `choice (B,)` from `offset (B,)` on, round and round."""
        choice = choice % len(self.starts)
        sizes = self.sizes[choice][:, None]
        position = (offset[:, None] % sizes + torch.arange(size, device=choice.device)) % sizes
        return self.samples[self.starts[choice][:, None] + position]


@runtime_checkable
class RecordingTransform(Protocol):
    """A transform of the recordings in `folder`."""

    @property
    def kind(self) -> str: ...
    @property
    def folder(self) -> str: ...
    def prepare(self, recording: Tensor) -> Tensor: ...
    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> Any: ...
    def apply_with(self, bank: Recordings, x: Tensor, lengths: Tensor, params: Any) -> tuple[Tensor, Tensor]: ...


@dataclass(frozen=True)
class TransformWithRecordings:
    """A transform from files together with its recordings."""

    settings: RecordingTransform
    bank: Recordings

    @property
    def kind(self) -> str:
        return self.settings.kind

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> Any:
        return self.settings.draw(lengths, random, rate)

    def apply(self, x: Tensor, lengths: Tensor, params: Any) -> tuple[Tensor, Tensor]:
        return self.settings.apply_with(self.bank, x, lengths, params)


def load_recordings(
    transforms: Sequence[Transform | RecordingTransform], load: Callable[[str], Sequence[Tensor]], device: torch.device
) -> tuple[Transform, ...]:
    """The transforms ready for use, those from files with all that `load(folder)` gives on the `device`."""

    def ready(transform: Transform | RecordingTransform) -> Transform:
        if not isinstance(transform, RecordingTransform):
            return transform
        return TransformWithRecordings(
            transform,
            Recordings.of([transform.prepare(torch.as_tensor(wave)) for wave in load(transform.folder)], device),
        )

    return tuple(ready(transform) for transform in transforms)
