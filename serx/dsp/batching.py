"""How a batch is computed: masks, running sums, cached constants, and a few clips at a time on a CPU.

Every function of `serx.dsp` treats each clip by itself, so a batch may be cut into pieces anywhere. A GPU takes the
whole batch in one launch. A CPU takes a few clips at a time, because more of them leave its cache.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from serx.seeding import is_plain_on_cpu

R = TypeVar("R")


def cached(make: Callable[..., R]) -> Callable[..., R]:
    """Decorator that caches the constant tensors that a function makes.

    They are made outside inference mode: a tensor made within it can never take part in training.
    """
    return lru_cache(maxsize=16)(torch.inference_mode(False)(make))


def valid_mask(counts: Tensor, size: int) -> Tensor:
    """Mask `(B, size)` bool, true at the positions before each clip's count.

    Args:
        counts: `(B,)`, valid samples or frames of each clip.
        size: T or N of the batch.

    >>> valid_mask(torch.tensor([1, 3]), 3).int().tolist()
    [[1, 0, 0], [1, 1, 1]]
    """
    return torch.arange(size, device=counts.device) < counts[:, None]


def read_from(samples: Tensor, start: Tensor, size: int) -> Tensor:
    """Windows `(B, size)` of `samples (n,)` that begin at `start (B,)`; each must lie within the samples.

    On a CPU each row is one copy, forty times faster than a gather by sample. Where a gradient is needed the gather is
    used, since the gradient of all possible windows would be kept otherwise.
    """
    if samples.device.type == "cpu" and not samples.requires_grad:
        return samples.unfold(0, size, 1).index_select(0, start)
    return samples[start[:, None] + torch.arange(size, device=start.device)]


def zero_beyond(x: Tensor, lengths: Tensor) -> Tensor:
    """`x (B, T)` with zeros beyond `lengths (B,)`. It is written into `x`, which must be a new tensor.

    On a CPU only the samples beyond are touched: a product with a mask would read and write all of them.

    >>> zero_beyond(torch.ones(2, 3), torch.tensor([1, 3])).int().tolist()
    [[1, 0, 0], [1, 1, 1]]
    """
    if not is_plain_on_cpu(x):
        return x * valid_mask(lengths, x.shape[1])
    for row, length in zip(x.numpy(), lengths.tolist(), strict=True):
        row[length:] = 0
    return x


def change_rows(change: Callable[..., object], chosen: Tensor, x: Tensor, *per_clip: Tensor) -> Tensor:
    """A copy of `x (B, T)` on a CPU with the `chosen (B,)` clips changed by NumPy, one after the other.

    Args:
        change: gets a clip `(T,)`, the row `(T,)` to write to, and the clip's values as Python numbers.
        per_clip: `(B,)` each.

    >>> import numpy as np
    >>> change_rows(np.negative, torch.tensor([True, False]), torch.ones(2, 3))
    tensor([[-1., -1., -1.],
            [ 1.,  1.,  1.]])
    """
    result = x.new_empty(x.shape)
    rows = zip(x.numpy(), result.numpy(), chosen.tolist(), *(values.tolist() for values in per_clip), strict=True)
    for clip, row, is_chosen, *values in rows:
        if is_chosen:
            change(clip, row, *values)
        else:
            row[:] = clip
    return result


def map_chosen(
    function: Callable[..., Tensor],
    chunk: int,
    chosen: Tensor,
    x: Tensor,
    lengths: Tensor,
    *per_clip: Tensor,
    in_place: bool = False,
) -> Tensor:
    """`function(x, *per_clip)` for the `chosen (B,)` clips of `x (B, T)`, zero beyond `lengths`; the others unchanged.

    A CPU computes the chosen clips alone.

    Args:
        function: maps `(b, T)` and any number of `(b, ...)` to new samples `(b, T)`.
        chunk: clips at a time on a CPU.
        in_place: a CPU may write the result into `x`.
    """
    if not is_plain_on_cpu(x):
        return torch.where(chosen[:, None], function(x, *per_clip) * valid_mask(lengths, x.shape[1]), x)
    result = x if in_place else x.new_empty(x.shape)
    rows, given, ends, is_chosen = result.numpy(), x.numpy(), lengths.tolist(), chosen.tolist()
    for clip, is_changed in enumerate(is_chosen):
        if not is_changed and not in_place:
            rows[clip] = given[clip]
    clips = [clip for clip, is_changed in enumerate(is_chosen) if is_changed]
    for start in range(0, len(clips), chunk):
        part = clips[start : start + chunk]
        index: slice | Tensor = slice(part[0], part[-1] + 1) if part[-1] - part[0] < len(part) else torch.tensor(part)
        changed = function(x[index], *(values[index] for values in per_clip)).numpy()
        for clip, samples in zip(part, changed, strict=True):
            rows[clip, : ends[clip]] = samples[: ends[clip]]
            rows[clip, ends[clip] :] = 0
    return result


def running_sum(x: Tensor) -> Tensor:
    """Cumulative sums over the last axis. `cumsum` is not deterministic on a GPU, so a matrix product replaces it."""
    return x.cumsum(-1) if x.device.type == "cpu" else sum_by_product(x)


def sum_by_product(x: Tensor) -> Tensor:
    """`running_sum` as a GPU computes it."""
    return x @ _triangle(x.shape[-1], x.device)


@cached
def _triangle(size: int, device: torch.device) -> Tensor:
    """`(size, size)`, ones on and above the diagonal."""
    return torch.ones(size, size).triu().to(device)


def map_in_chunks(
    function: Callable[..., Tensor], chunk: int, size: int, waveform: Tensor, *per_clip: Tensor
) -> Tensor:
    """Computes `function(waveform, *per_clip)` in chunks of clips and pads the result to `(B, size)` with zeros.

    Args:
        function: maps `(b, T)` and any number of `(b, ...)` to at most `size` samples a clip, `(b, samples)`.
        chunk: clips at a time on a CPU. It also bounds the memory of intermediate results.
    """
    if waveform.device.type != "cpu":
        whole = function(waveform, *per_clip)
        return F.pad(whole, (0, size - whole.shape[1]))
    result = waveform.new_empty(len(waveform), size)
    for start in range(0, len(waveform), chunk):
        part = slice(start, start + chunk)
        piece = function(*(tensor[part] for tensor in (waveform, *per_clip)))
        result[part, : piece.shape[1]] = piece
        result[part, piece.shape[1] :] = 0
    return result


def map_similar_ratios(
    change: Callable[..., Tensor],
    chunk: int,
    ratio: Tensor,
    bounds: tuple[float, float],
    unchanged: Tensor,
    waveform: Tensor,
    lengths: Tensor,
    new_lengths: Tensor,
    size: int,
    *per_clip: Tensor,
) -> Tensor:
    """Computes `change(waveform, bounds, size, *per_clip)` as `(B, size)`, zero beyond `new_lengths`.

    On a CPU, reading a tensor's values costs nothing. There this function skips unchanged clips and padding, and puts
    clips of similar ratio into one chunk, since the work of a chunk grows with the range of its ratios.

    Args:
        change: maps `(b, T)`, the bounds of the ratios within it, the number of samples wanted and any number of
            `(b, ...)` to `(b, samples)`. A clip's result must not depend on the other clips or the bounds.
        chunk: clips at a time on a CPU.
        ratio: `(B,)`, the factor by which each clip is changed.
        bounds: least and greatest possible ratio, as Python numbers.
        unchanged: `(B,)` bool, clips that are copied.
        lengths: `(B,)` samples before the change, at most T.
        new_lengths: `(B,)` samples after it, at most `size`.
    """
    if not _reads_without_waiting(waveform):
        changed = change(waveform, bounds, size, *per_clip)
        copied = F.pad(waveform, (0, size - waveform.shape[1]))  # cuts where every clip gets shorter and none is copied
        return torch.where(unchanged[:, None], copied, changed) * valid_mask(new_lengths, size)
    result = waveform.new_empty(len(waveform), size)
    ratios, old_ends, ends, copies = (values.tolist() for values in (ratio, lengths, new_lengths, unchanged))
    for clip, end in enumerate(ends):
        result[clip, end:] = 0
        if copies[clip]:
            result[clip, :end] = waveform[clip, :end]
    by_ratio = sorted((clip for clip, copy in enumerate(copies) if not copy), key=lambda clip: ratios[clip])
    for start in range(0, len(by_ratio), chunk):
        clips = by_ratio[start : start + chunk]
        index, chunk_bounds = torch.tensor(clips), (ratios[clips[0]], ratios[clips[-1]])
        part = waveform.index_select(0, index)[:, : max(old_ends[clip] for clip in clips)]
        parameters = (values.index_select(0, index) for values in per_clip)
        changed = change(part, chunk_bounds, max(ends[clip] for clip in clips), *parameters)
        for clip, samples in zip(clips, changed, strict=True):
            result[clip, : ends[clip]] = samples[: ends[clip]]
    return result


def _reads_without_waiting(tensor: Tensor) -> bool:
    """Whether the host can read the tensor's values without waiting for a device."""
    return tensor.device.type == "cpu"


def shape_of(value: object) -> str:
    """What a caller gave instead of a tensor that fits, for a message.

    >>> shape_of(torch.zeros(2, 3)), shape_of([1, 2])
    ('shape (2, 3) of torch.float32', 'list')
    """
    if isinstance(value, Tensor):
        return f"shape {tuple(value.shape)} of {value.dtype}"
    return type(value).__name__


def check_lengths(lengths: Tensor, clips: int, size: int) -> None:
    """Checks the lengths of a batch that a caller gives, as far as that waits for no device.

    Args:
        lengths: of each clip, in samples or frames.
        clips: of the batch.
        size: width of the batch, in samples or frames.

    Raises:
        ValueError: they are no integers `(clips,)`, or on a CPU, some are negative or longer than the batch.

    >>> check_lengths(torch.tensor([3, 5]), clips=2, size=4)
    Traceback (most recent call last):
    ValueError: lengths: from 3 to 5; a batch 4 wide has clips of 0 to 4
    """
    if not isinstance(lengths, Tensor):
        raise ValueError(f"lengths: expected a tensor ({clips},) of integers, got {type(lengths).__name__}")
    if lengths.shape != (clips,) or lengths.is_floating_point():
        raise ValueError(f"lengths: got {shape_of(lengths)}; ({clips},) integers expected")
    if lengths.device.type == "cpu" and clips and not torch.compiler.is_compiling():
        shortest, longest = int(lengths.min()), int(lengths.max())
        if shortest < 0 or longest > size:
            raise ValueError(f"lengths: from {shortest} to {longest}; a batch {size} wide has clips of 0 to {size}")
