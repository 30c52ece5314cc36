"""Constant tables that transforms read, made once a device, so that no step builds a tensor on the host."""

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=16)
def hann_window(size: int, device: torch.device) -> Tensor:
    """Periodic Hann window `(size,)`."""
    return torch.hann_window(size).to(device)
