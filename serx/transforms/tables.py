"""Constant tables that transforms read, made once a device, so that no step builds a tensor on the host."""

import torch
from torch import Tensor

from serx.transforms.functional import cached


@cached
def hann_window(size: int, device: torch.device) -> Tensor:
    """Periodic Hann window `(size,)`."""
    return torch.hann_window(size).to(device)
