"""A batch a few clips at a time on a CPU, where more would leave the cache; all at once on an accelerator."""

from collections.abc import Callable

from torch import Tensor


def by_chunks(function: Callable[..., Tensor], chunk: int, size: int, waveform: Tensor, *per_clip: Tensor) -> Tensor:
    """`function(waveform, *per_clip)`, which treats each clip by itself, as `(B, size)`.

    Args:
        function: maps `(b, T)` and any number of `(b, ...)` to `(b, size)`.
        chunk: clips at a time on a CPU; it also bounds the memory of what happens in between.
    """
    if waveform.device.type != "cpu":
        return function(waveform, *per_clip)
    result = waveform.new_empty(len(waveform), size)
    for start in range(0, len(waveform), chunk):
        part = slice(start, start + chunk)
        result[part] = function(*(tensor[part] for tensor in (waveform, *per_clip)))
    return result
