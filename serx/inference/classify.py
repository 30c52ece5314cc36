"""Probabilities of many clips of a batch source, in batches of similar length: validation and evaluation use it."""

import numpy as np
import torch

from serx.data.batches import BatchSource
from serx.recognizer import Recognizer

CPU_BATCH, GPU_BATCH = 16, 128  # 64 clips at once leave a CPU's cache and take twice as long per clip


def classify(recognizer: Recognizer, source: BatchSource, clips: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Probabilities `(n, C)` float64 of `clips (n,)`, in their order.

    Sorting by length keeps the padding short. It changes no result, because results do not depend on neighbors.

    Args:
        recognizer: is put into evaluation mode.
        source: holds the audio.
        clips: indices into `source`.
        lengths: `(n,)`, samples of each clip.
    """
    recognizer.eval()
    batches = length_batches(source, lengths)
    results = [recognizer.probabilities(*source.batch(clips[batch])) for batch in batches]
    probabilities = torch.cat(results).double().cpu().numpy()
    in_given_order = np.empty_like(probabilities)
    in_given_order[np.concatenate(batches)] = probabilities
    return in_given_order


def length_batches(source: BatchSource, lengths: np.ndarray) -> list[np.ndarray]:
    """Batches of similar length, as positions in `lengths (n,)`, of a size that suits the device of `source`."""
    batch = CPU_BATCH if source.device.type == "cpu" else GPU_BATCH
    order = np.argsort(lengths, kind="stable")
    return [order[start : start + batch] for start in range(0, len(order), batch)]
