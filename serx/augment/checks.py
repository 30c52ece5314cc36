"""`check_transform`: does a transform of your own treat each clip by itself, and is it the identity at p = 0?"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from serx.augment.compose import Compose
from serx.augment.recordings import RecordingTransform, TransformWithRecordings, Waveforms
from serx.augment.transform import SpectrogramTransform, Transform

TOLERANCE = 1e-5  # of differences, relative to values above 1
SEED = 0
_FAKE_GPU = torch.device("cuda", 7)


def check_transform(
    transform: Transform,
    sample_rate: float = 16_000,
    recordings: Mapping[str, Waveforms] | None = None,
    lengths: Sequence[int] | None = None,
    epochs: int = 4,
    tolerance: float = TOLERANCE,
) -> None:
    """Checks a transform in the way that training uses it, on random clips of unequal length and level.

    1. The result of a clip depends neither on its padding nor on the other clips of its batch.
    2. With `p=0`, if the transform has a `p`, the result is the input bit for bit.
    3. The result is finite, float32, and zero beyond its length; the lengths are between 1 and the width.
    4. `apply` leaves its input unchanged and returns the same when it is called twice.
    5. `draw` follows from its `random`: a clip draws the same again.
    6. On a GPU, `draw` and `apply` mix no devices and never wait: no `.item()`, no boolean index. Without a GPU this is
       checked with torch's fake tensors, which have a device and a shape, but no values.

    Args:
        transform: an instance, with the settings to check.
        sample_rate: samples per second, or frames per second for a `SpectrogramTransform`.
        recordings: waveforms for the folder of a `RecordingTransform`; white noise if None.
        lengths: of the clips to try, in samples or frames.
        epochs: how often all clips draw.
        tolerance: the largest difference allowed, relative to magnitudes above 1.

    Raises:
        AssertionError: says which rule is broken, by which clip, and by how much.

    >>> from serx.augment import Noise
    >>> check_transform(Noise(p=0.5, snr_db=(0, 20)))
    """
    on_spectrograms = isinstance(transform, SpectrogramTransform)
    if isinstance(transform, RecordingTransform) and recordings is None:
        noise = torch.Generator().manual_seed(SEED)
        recordings = {transform.folder: [torch.randn(size, generator=noise) for size in (300, 5000, 40_000)]}
    counts = torch.tensor(lengths or ((61, 17, 1, 100, 96) if on_spectrograms else (9600, 16_000, 5920, 1, 20_960)))
    x = _clips(counts, rows=24 if on_spectrograms else None)
    name = f"{type(transform).__name__} ({transform.kind})"
    composed = Compose([transform], sample_rate, recordings)
    ids = torch.arange(len(counts)) * 1009 + 7
    for epoch in range(epochs):
        before = x.clone()
        together, new = composed(x, counts, clips=ids, seed=SEED, epoch=epoch)
        assert torch.equal(x, before), f"{name}: apply changes its input; return a new tensor"
        assert together.isfinite().all(), f"{name}: the result has values that are not finite"
        again, _ = composed(x, counts, clips=ids, seed=SEED, epoch=epoch)
        assert torch.equal(together, again), f"{name}: a second call differs; draw all random numbers from `random`"
        assert together.dtype == torch.float32, f"{name}: the result is {together.dtype}; float32 is expected"
        assert (new.dtype, new.shape) == (torch.int64, counts.shape), f"{name}: lengths must be (B,) int64, got {new}"
        for i, count in enumerate(counts.tolist()):
            subject, size = f"a clip of length {count}", int(new[i])
            assert 1 <= size <= together.shape[-1], (
                f"{name}: {subject} gets length {size} in a width of {together.shape[-1]}"
            )
            assert not together[i, ..., size:].any(), (
                f"{name}: {subject} is not zero beyond its new length {size}; mask it"
            )
            clip, own, number = x[i : i + 1], counts[i : i + 1], ids[i : i + 1]
            alone, alone_size = composed(clip[..., :count], own, clips=number, seed=SEED, epoch=epoch)
            padded, padded_size = composed(clip, own, clips=number, seed=SEED, epoch=epoch)
            assert int(alone_size[0]) == int(padded_size[0]) == size, (
                f"{name}: {subject} gets length {int(alone_size[0])} alone, {int(padded_size[0])} with padding and "
                f"{size} in a batch; compute lengths from lengths and params"
            )
            kept = padded[0, ..., :size]
            _assert_close(alone[0, ..., :size], kept, tolerance, f"{name}: {subject} depends on its padding")
            _assert_close(kept, together[i, ..., :size], tolerance, f"{name}: {subject} depends on the other clips")
    _check_identity(composed, x, counts, ids, name)
    _check_on_gpu(composed, x, counts, ids, name)


def _check_on_gpu(composed: Compose, x: Tensor, counts: Tensor, ids: Tensor, name: str) -> None:
    real = torch.cuda.is_available()
    device = torch.device("cuda", torch.cuda.current_device()) if real else _FAKE_GPU
    try:
        with nullcontext() if real else FakeTensorMode(allow_non_fake_inputs=True):
            batch, sizes, clips = x.to(device), counts.to(device), ids.to(device)
            y, new = composed(batch, sizes, clips=clips, seed=SEED)
            if real:
                with _no_waiting():  # only from the second call on: constants have been copied to the device
                    composed(batch, sizes, clips=clips, seed=SEED)
    except Exception as error:  # torch raises many types for mixed devices and values that must be read
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise AssertionError(f"{name}: on a GPU it mixes devices or waits for a value: {message}") from error
    assert y.device == new.device == device, (
        f"{name}: on a GPU the result is on {y.device}, its lengths on {new.device}"
    )


@contextmanager
def _no_waiting() -> Iterator[None]:
    """An error for each operation that waits for the GPU."""
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def _check_identity(composed: Compose, x: Tensor, counts: Tensor, ids: Tensor, name: str) -> None:
    (transform,) = composed.transforms
    recordings = transform.recordings if isinstance(transform, TransformWithRecordings) else None
    settings = transform.transform if isinstance(transform, TransformWithRecordings) else transform
    if not hasattr(settings, "p"):
        return
    off = settings.model_copy(update={"p": 0.0})  # type: ignore[attr-defined]
    if recordings is not None:
        off = TransformWithRecordings(off, recordings)
    same, new = Compose([off], composed.sample_rate)(x, counts, clips=ids, seed=SEED)
    width = x.shape[-1]
    assert torch.equal(new, counts), f"{name}: with p=0 the lengths change; use torch.where(on, new, lengths)"
    assert torch.equal(same, F.pad(x, (0, same.shape[-1] - width))), (
        f"{name}: with p=0 the result is not the input bit for bit; use torch.where(on, new, x)"
    )


def _clips(counts: Tensor, rows: int | None) -> Tensor:
    """Noise `(B, T)` or `(B, rows, N)`, each clip three times as loud as the one before, zero beyond `counts`."""
    random = torch.Generator().manual_seed(SEED)
    shape = (len(counts), int(counts.max()) + 30) if rows is None else (len(counts), rows, int(counts.max()) + 30)
    loudness = (0.5 / 3.0 ** torch.arange(len(counts) - 1, -1, -1)).reshape(-1, *[1] * (len(shape) - 1))
    valid = torch.arange(shape[-1]) < counts.reshape(-1, *[1] * (len(shape) - 1))
    return (torch.rand(shape, generator=random) * 2 - 1) * loudness * valid


def _assert_close(before: Tensor, after: Tensor, tolerance: float, what: str) -> None:
    difference = float((before - after).abs().max())
    allowed = tolerance * max(1.0, float(before.abs().max()))
    assert difference <= allowed, f"{what}: it changes by {difference:.2g}; take no statistic over padding or the batch"
