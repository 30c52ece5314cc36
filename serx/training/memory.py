"""Whether a run fits into memory, computed from shapes before anything is allocated; and what to say if it did not.

A size that the system refuses raises an error that can be explained. A size that it grants and cannot keep ends in the
kernel's out-of-memory killer, which explains nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from serx.config import Config
from serx.data.dataset import Dataset
from serx.data.splits.protocols import Split
from serx.errors import OutOfMemoryError, SerxError, is_out_of_memory
from serx.features.stack import CPU_CHUNK
from serx.models.backbone import backbone_bytes, build_model
from serx.system import memory_bytes

SPECTRUM_BYTES = 16  # of each frame and bin: windowed samples, a complex spectrum and its power
WEIGHT_COPIES = 4  # the weights, their gradients and the two moments of AdamW


def check_memory(config: Config, dataset: Dataset, split: Split, device: torch.device) -> None:
    """Refuses a run whose network, activations or spectra are larger than the memory of its device.

    Counted is what must be in memory at the same time; a run needs some more. A network of your own that computes with
    its weights while it is built is not checked.

    Raises:
        OutOfMemoryError: names the largest part, and what to lower.
    """
    memory = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else memory_bytes()
    lengths = dataset.audio_cache.lengths[list(split.train)]
    if memory is None or not len(lengths):
        return
    crops = [t.seconds for t in config.augment.waveform if t.kind == "crop"]  # type: ignore[attr-defined]
    rate, batch = config.data.sample_rate, min(config.train.batch_size, len(lengths))
    longest = int(min([float(np.max(lengths)), *(seconds * rate for seconds in crops)]))
    outputs = len(dataset.labels) + len(dataset.dimensions)
    weights = backbone_bytes(config.model, config.features.bins, outputs) or 0
    parts = {
        "the weights of the model": (1 + WEIGHT_COPIES if config.train.ema_decay else WEIGHT_COPIES) * weights,
        "the activations of a batch": activation_bytes(config, outputs, batch, longest),
        "the spectra of a few clips": spectrum_bytes(config, batch if device.type == "cuda" else CPU_CHUNK, longest),
    }
    if sum(parts.values()) > memory:
        largest = max(parts, key=lambda name: parts[name])
        remedies = (
            "lower the widths or the number of networks of the model",
            "lower train.batch_size (train.accumulation_steps keeps the step's size), crop the clips "
            "(augment.waveform: [{kind: crop, seconds: 3}]) or lower the widths of the model",
            "raise features.hop_length, lower features.n_fft or data.max_seconds",
        )
        remedy = dict(zip(parts, remedies, strict=True))[largest]
        raise OutOfMemoryError(
            f"{device}: out of memory: {largest} would take {parts[largest] / 1e9:.1f} GB of {memory / 1e9:.1f} GB: "
            f"train.batch_size={config.train.batch_size}, longest clip {longest / rate:.1f} s; {remedy}"
        )


def spectrum_bytes(config: Config, clips: int, samples: int) -> int:
    """The bytes of the spectra of clips of so many samples, which the features are computed from."""
    if config.features.stack == ("waveform",):
        return 0
    return SPECTRUM_BYTES * clips * (1 + samples // config.features.hop_length) * (config.features.n_fft // 2 + 1)


def activation_bytes(config: Config, classes: int, clips: int, samples: int) -> int:
    """The bytes that the backbone keeps for its gradients, from a forward pass that has shapes only.

    Half precision may keep half of them. 0 where the network cannot run without numbers.
    """
    features = config.features
    vectors, waveform = bool(features.statistics), features.stack == ("waveform",)
    frames = 1 if vectors else samples if waveform else 1 + samples // features.hop_length
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()  # views share one
        kept[storage._cdata] = storage.nbytes()
        return tensor

    try:
        with torch.device("meta"), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            backbone = build_model(config.model, features.bins, classes).train()
            loss = backbone.member_logits(torch.empty(clips, features.bins, frames), torch.full((clips,), frames)).sum()
            total = sum(kept.values())
            del loss
    except Exception:  # a network that reads numbers raises any class
        return 0
    return total if config.train.precision in ("fp32", "auto") else total // 2


@contextmanager
def explain_out_of_memory(config: Config, device: torch.device, lengths: np.ndarray) -> Iterator[None]:
    """Turns an out-of-memory error within the block into one line that says what to lower. Nothing is saved.

    Args:
        config: of the run.
        device: where it trains.
        lengths: `(n,)` samples of every clip; a batch is as long as its longest clip.

    Raises:
        OutOfMemoryError: the run does not fit its device.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, SerxError) or not is_out_of_memory(error):
            raise
        longest = float(np.max(lengths, initial=0)) / config.data.sample_rate
        peak = f", {torch.cuda.max_memory_allocated(device) / 1e9:.2f} GB at its peak" if device.type == "cuda" else ""
        raise OutOfMemoryError(
            f"{device}: out of memory: train.batch_size={config.train.batch_size}, longest clip {longest:.1f} s{peak}. "
            "Lower train.batch_size (train.accumulation_steps keeps the step's size), "
            "data.max_seconds or the model, or leave the audio on the host with data.placement=stream"
        ) from error
