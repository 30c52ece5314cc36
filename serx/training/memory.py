"""When memory does not suffice: one message that says how large the batch was and what to lower."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from serx.config.loader import Config
from serx.errors import ConfigError


@contextmanager
def explain_out_of_memory(config: Config, device: torch.device, lengths: np.ndarray) -> Iterator[None]:
    """Turns an out-of-memory error within the block into one line. Nothing is saved on the way out.

    Args:
        lengths: `(clips,)` samples of every clip; a batch is as wide as its longest.

    Raises:
        ConfigError: the run does not fit its device.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        longest = float(np.max(lengths, initial=0)) / config.data.sample_rate
        peak = f", {torch.cuda.max_memory_allocated(device) / 1e9:.2f} GB at its peak" if device.type == "cuda" else ""
        raise ConfigError(
            f"{device}: out of memory: train.batch_size={config.train.batch_size}, longest clip {longest:.1f} s{peak}. "
            "Checkpoints saved before are whole. Lower train.batch_size (train.accumulation_steps keeps the step's size), "
            "data.max_seconds or the model, or leave the audio on the host with data.placement=stream"
        ) from error
