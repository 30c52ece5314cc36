"""`Compose` applies a list of transforms to batches, in training and in any loop; `AugmentConfig` configures a run."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from serx.augment.mel_warp import MelWarp
from serx.augment.recordings import TransformWithRecordings, Waveforms, load_recordings
from serx.augment.transform import (
    AnySpectrogramTransform,
    AnyWaveformTransform,
    BaseTransform,
    SpectrogramTransform,
    Transform,
)
from serx.base_config import BaseConfig
from serx.dsp.batching import check_lengths, shape_of
from serx.seeding import ClipRandom, derive, is_plain_on_cpu

# Random streams keep the names under which they were first derived, so that a resumed or repeated run draws the same.
_FIRST_NAMES = {
    "background_noise": "noise_files",
    "impulse_response": "room_files",
    "polarity_inversion": "polarity",
    "mel_warp": "fused",
}
MAX_SAMPLE_RATE = 384_000
CPU_NUMBERS = 1 << 20  # at a time on a CPU: a whole batch would leave the cache with every transform


@lru_cache(maxsize=1024)  # a list of transforms asks for the same ones at every step of an epoch
def _stream_key(seed: int, kind: str, position: int, epoch: int) -> int:
    """The key of the random streams of a transform, which is at a position of its list."""
    return derive(seed, f"augment/{_FIRST_NAMES.get(kind, kind)}", position, epoch)


def _off_or_drawable(alpha: float) -> float:
    if 0 < alpha < MIN_ALPHA:
        raise ValueError(f"{alpha} is so small that every weight is 0 or 1; write 0 (off), or {MIN_ALPHA} or more")
    return alpha


MIN_ALPHA = 0.01  # of a Beta distribution; NumPy's draws are NaN for a much smaller one
Alpha = Annotated[float, Field(ge=0, le=100), AfterValidator(_off_or_drawable)]


class AugmentConfig(BaseConfig):
    """The `augment` section: what is done to training clips, and to them only.

    Args:
        waveform: transforms of waveforms, applied in order.
        spectrogram: transforms of normalized features, applied in order.
        mel_warp: pitch shift and time stretch inside the mel front end.
        copies: 0 augments anew in each epoch; n adds n augmented copies of each training clip, made once.
        mixstyle: probability that a clip gets statistics of another one; 0 is off.
        mixup: alpha of the Beta distribution of mixup's weights; 0 is off.
        cutmix: the same for cutmix. If both are on, each batch uses one of them.

    >>> config = AugmentConfig(waveform=[{"kind": "noise", "snr_db": [5, 30]}, {"kind": "reverb"}], mixup=0.2)
    >>> [transform.kind for transform in config.waveform]
    ['noise', 'reverb']
    """

    waveform: tuple[AnyWaveformTransform, ...] = Field((), max_length=100)
    spectrogram: tuple[AnySpectrogramTransform, ...] = Field((), max_length=100)
    mel_warp: MelWarp | None = None
    copies: int = Field(
        0,
        ge=0,
        le=100,
        description="0: waveforms are augmented anew in each epoch; n: each training clip and n augmented copies of it "
        "become n + 1 vectors, computed once (needs features.statistics)",
    )
    mixstyle: float = Field(0.0, ge=0, le=1)
    mixup: Alpha = 0.0
    cutmix: Alpha = 0.0


class Compose:
    """Transforms applied one after the other, each clip of a batch with its own random parameters.

    Args:
        transforms: all of waveforms or all of spectrograms.
        sample_rate: samples per second. For spectrograms, frames per second; the shipped masks do not use it.
        recordings: waveforms `(T,)` at `sample_rate` for each folder that a transform names. Other folders are read
            from disk, and resampled.

    Raises:
        ValueError: the list mixes waveform and spectrogram transforms, an item is no transform, or a filter lies above
            half of `sample_rate`.
        serx.errors.DataError: a folder is missing or holds no audio file that can be read.

    >>> from serx.augment import Noise, PitchShift
    >>> augment = Compose([PitchShift(p=0.4, semitones=(-2, 2)), Noise(p=0.5)], sample_rate=16000)
    >>> waveform, lengths = torch.rand(4, 16000), torch.tensor([16000, 12000, 8000, 16000])
    >>> new_waveform, new_lengths = augment(waveform, lengths, generator=torch.Generator().manual_seed(0))
    >>> new_waveform.shape
    torch.Size([4, 16000])

    For epochs that can be repeated, key the random numbers by clip:

    >>> first, _ = augment(waveform, clips=[10, 11, 12, 13], seed=0, epoch=3)
    >>> second, _ = augment(waveform[1:3], clips=[11, 12], seed=0, epoch=3)
    >>> torch.allclose(first[1:3], second, atol=1e-5)
    True
    """

    def __init__(
        self,
        transforms: Sequence[Transform],
        sample_rate: float = 16_000,
        recordings: Mapping[str, Waveforms] | None = None,
    ) -> None:
        for transform in transforms:
            if not (hasattr(transform, "draw") and hasattr(transform, "apply")):
                raise ValueError(f"{transform!r} is no transform: it needs the methods draw and apply")
        if not 0 < sample_rate <= MAX_SAMPLE_RATE:
            raise ValueError(f"sample_rate: {sample_rate} Hz, expected more than 0 and at most {MAX_SAMPLE_RATE}")
        on_spectrograms = [isinstance(transform, SpectrogramTransform) for transform in transforms]
        if any(on_spectrograms) and not all(on_spectrograms):
            raise ValueError("waveform and spectrogram transforms are mixed; make one Compose of each")
        self.sample_rate = float(sample_rate)
        self._ndim = 3 if any(on_spectrograms) else 2
        for transform in transforms if self._ndim == 2 else ():
            fault = transform.why_not_at(self.sample_rate) if isinstance(transform, BaseTransform) else None
            if fault:
                raise ValueError(f"{transform.kind}: {fault}")
        given = dict(recordings or {})

        def load(folder: str) -> Waveforms:
            return given[folder] if folder in given else _read_folder(folder, round(self.sample_rate))

        self.transforms = load_recordings(transforms, load, torch.device("cpu"))
        self._on_device = {torch.device("cpu"): self.transforms}

    def __call__(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        clips: Tensor | Sequence[int] | None = None,
        seed: int = 0,
        epoch: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """The transformed batch and its lengths; `x` is left unchanged.

        Args:
            x: waveforms `(B, T)` or spectrograms `(B, F, N)`, float32, zero beyond `lengths`, on any device.
            lengths: `(B,)` int64, samples or frames of each clip; the whole width if None.
            generator: decides the random numbers; torch's global one if None.
            clips: `(B,)` integers, one id for each clip. The random numbers of a clip then depend on
                `(seed, epoch, id)` only, whatever the batch; no generator is used.

        Raises:
            ValueError: a shape or type does not fit, or both `generator` and `clips` are given.
        """
        if not isinstance(x, Tensor) or x.ndim != self._ndim or x.dtype != torch.float32:
            shape = "waveforms (B, T)" if self._ndim == 2 else "spectrograms (B, F, N)"
            raise ValueError(f"got {shape_of(x)}; {shape} of torch.float32 are expected")
        size, device = x.shape[-1], x.device
        if lengths is None:
            lengths = torch.full((len(x),), size, device=device)
        check_lengths(lengths, len(x), size)
        lengths = lengths.to(device)
        if clips is None:
            ids = torch.empty(len(x), dtype=torch.int64, device="cpu" if generator is None else generator.device)
            ids.random_(generator=generator)
        elif generator is not None:
            raise ValueError("both generator and clips are given; the random numbers follow from one of them")
        else:
            ids = torch.as_tensor(clips)
        if ids.shape != (len(x),) or ids.is_floating_point():
            raise ValueError(f"clips: got {shape_of(ids)}; ({len(x)},) integers expected")
        ids = ids.long().to(device, non_blocking=True)
        return augment(self._loaded(device), x, lengths, ids, self.sample_rate, seed, epoch)

    def _loaded(self, device: torch.device) -> tuple[Transform, ...]:
        """The transforms with their recordings on `device`, which are copied there once."""
        if device not in self._on_device:
            self._on_device[device] = tuple(
                each.to(device) if isinstance(each, TransformWithRecordings) else each for each in self.transforms
            )
        return self._on_device[device]

    def __repr__(self) -> str:
        items = [each.transform if isinstance(each, TransformWithRecordings) else each for each in self.transforms]
        return f"Compose({items}, sample_rate={self.sample_rate:g})"


def augment(
    transforms: Sequence[Transform],
    x: Tensor,
    lengths: Tensor,
    clips: Tensor,
    rate: float,
    seed: int,
    epoch: int,
    in_place: bool = False,
) -> tuple[Tensor, Tensor]:
    """Applies `transforms` in order, each with parameters that follow from (seed, its position, epoch, clip).

    `Compose` and the trainer both call this.

    Args:
        transforms: with their recordings, on the device of `x`.
        x: `(B, T)` waveforms or `(B, F, N)` spectrograms.
        lengths: `(B,)` samples or frames.
        clips: `(B,)` int64, the ids of the clips.
        rate: samples or frames per second.
        in_place: the caller does not need `x` any more, and a CPU may write into it; the result may be `x` itself.
    """

    def in_order(x: Tensor, lengths: Tensor, clips: Tensor) -> tuple[Tensor, Tensor]:
        given = x
        for position, transform in enumerate(transforms):
            random = ClipRandom(clips, _stream_key(seed, transform.kind, position, epoch))
            may_write = (in_place or not _share_memory(x, given)) and x.is_contiguous()
            if may_write and getattr(transform, "changes_rows", False) and is_plain_on_cpu(x):
                transform.change(x, lengths, random, rate)  # type: ignore[attr-defined]
                continue
            params = transform.draw(lengths, random, rate)
            if may_write and getattr(transform, "works_in_place", False):
                x, lengths = transform.apply(x, lengths, params, in_place=True)  # type: ignore[call-arg]
            else:
                x, lengths = transform.apply(x, lengths, params)
        return x, lengths

    is_one_pass = len(transforms) == 1 and getattr(transforms[0], "is_one_pass", False)
    if is_one_pass or not x.is_cpu or x.numel() <= CPU_NUMBERS or len(x) == 1:
        result, new_lengths = in_order(x, lengths, clips)
        result = result.contiguous()  # as `cat` makes it: convolutions round otherwise in another order of memory
        return result.clone() if not in_place and _share_memory(result, x) else result, new_lengths
    chunk = max(1, CPU_NUMBERS // x[0].numel())
    parts = list(zip(x.split(chunk), lengths.split(chunk), clips.split(chunk), strict=True))
    augmented = [in_order(*part) for part in parts]
    if in_place and all(new is part[0] for (new, _), part in zip(augmented, parts, strict=True)):
        return x, torch.cat([lengths for _, lengths in augmented])
    return torch.cat([x for x, _ in augmented]), torch.cat([lengths for _, lengths in augmented])


def _share_memory(x: Tensor, other: Tensor) -> bool:
    if x is other or x.untyped_storage()._cdata == other.untyped_storage()._cdata:
        return True
    if not (is_plain_on_cpu(x) and is_plain_on_cpu(other)):
        return False
    memory = other.untyped_storage()  # NumPy may have made another tensor of it
    return memory.data_ptr() <= x.data_ptr() < memory.data_ptr() + memory.nbytes()


def _read_folder(folder: str, sample_rate: int) -> Waveforms:
    from serx.data.audio.decoding import read_folder  # noqa: PLC0415 - takes a second, and few lists need it

    return read_folder(folder, sample_rate)
