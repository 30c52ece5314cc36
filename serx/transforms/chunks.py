"""A batch a few clips at a time on a CPU, where more would leave the cache; all at once on an accelerator."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def by_chunks(function: Callable[..., Tensor], chunk: int, size: int, waveform: Tensor, *per_clip: Tensor) -> Tensor:
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
