"""How batches are computed: masks of valid samples, running sums, constants made once, a few clips at a time on a CPU."""

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

T = TypeVar("T")


def cached(make: Callable[..., T]) -> Callable[..., T]:
    """Keeps the constants that a function makes; made within inference mode they could never be trained with."""
    return lru_cache(maxsize=16)(torch.inference_mode(False)(make))


def valid_mask(counts: Tensor, size: int) -> Tensor:
    """`(B, size)` bool, true at positions before each clip's count."""
    return torch.arange(size, device=counts.device) < counts[:, None]


def read_from(samples: Tensor, start: Tensor, size: int) -> Tensor:
    """`(B, size)`: the `size` samples of `samples (n,)` from each `start (B,)` on, all of which lie within it.

    On a CPU every row is one copy, forty times faster than a gather sample by sample. Not where a gradient is wanted:
    that of all the windows there could be would be kept.
    """
    if samples.device.type == "cpu" and not samples.requires_grad:
        return samples.unfold(0, size, 1).index_select(0, start)
    return samples[start[:, None] + torch.arange(size, device=start.device)]


def running_sum(x: Tensor) -> Tensor:
    """Cumulative sums over the last axis; on a GPU a matrix product, since `cumsum` there is not deterministic."""
    return x.cumsum(-1) if x.device.type == "cpu" else sum_by_product(x)


def sum_by_product(x: Tensor) -> Tensor:
    """`running_sum` as it is on a GPU."""
    return x @ _triangle(x.shape[-1], x.device)


@cached
def _triangle(size: int, device: torch.device) -> Tensor:
    """`(size, size)` ones on and above the diagonal."""
    return torch.ones(size, size).triu().to(device)


@cached
def hann_window(size: int, device: torch.device) -> Tensor:
    """Periodic Hann window `(size,)`."""
    return torch.hann_window(size).to(device)


def map_in_chunks(
    function: Callable[..., Tensor], chunk: int, size: int, waveform: Tensor, *per_clip: Tensor
) -> Tensor:
    """`function(waveform, *per_clip)`, which treats each clip by itself, as `(B, size)`.

    Args:
        function: maps `(b, T)` and any number of `(b, ...)` to `(b, size)` or less, which zeros follow.
        chunk: clips at a time on a CPU; it also bounds the memory of what happens in between.
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
    still: Tensor,
    waveform: Tensor,
    lengths: Tensor,
    new: Tensor,
    size: int,
    *per_clip: Tensor,
) -> Tensor:
    """`change(waveform, bounds, size, *per_clip)` as `(B, size)`, zero beyond `new`, the `still` clips as they are.

    A CPU reads its own numbers: it leaves out what stays and what is padding, and takes clips of like ratio together,
    which have as much to be done. What a clip becomes may not depend on its company.

    Args:
        change: maps `(b, T)`, the bounds of the ratios in it, the samples wanted and any number of `(b, ...)` to
            `(b, samples)`.
        ratio: `(B,)` by how much each clip is changed, within `bounds`, two host numbers.
        still: `(B,)` bool, clips that stay as they are.
        lengths, new: `(B,)` samples before and after, at most `T` and `size`.
    """
    if not _knows_its_numbers(waveform):
        changed = change(waveform, bounds, size, *per_clip)
        same = F.pad(waveform, (0, size - waveform.shape[1]))  # cuts where every clip is faster, and none the same
        return torch.where(still[:, None], same, changed) * valid_mask(new, size)
    result = waveform.new_empty(len(waveform), size)
    ratios, heard, ends, stays = (numbers.tolist() for numbers in (ratio, lengths, new, still))
    for clip, end in enumerate(ends):
        result[clip, end:] = 0
        if stays[clip]:
            result[clip, :end] = waveform[clip, :end]
    moving = sorted((clip for clip, stay in enumerate(stays) if not stay), key=lambda clip: ratios[clip])
    for start in range(0, len(moving), chunk):
        clips = moving[start : start + chunk]
        index, span = torch.tensor(clips), (ratios[clips[0]], ratios[clips[-1]])
        part = waveform.index_select(0, index)[:, : max(heard[clip] for clip in clips)]
        told = (numbers.index_select(0, index) for numbers in per_clip)
        for clip, samples in zip(clips, change(part, span, max(ends[clip] for clip in clips), *told), strict=True):
            result[clip, : ends[clip]] = samples[: ends[clip]]
    return result


def _knows_its_numbers(tensor: Tensor) -> bool:
    """Whether reading its numbers makes nobody wait."""
    return tensor.device.type == "cpu"
