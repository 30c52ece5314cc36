"""Predictions for many clips of a batch source, in batches of similar length: validation and evaluation use it."""

from collections.abc import Sequence

import numpy as np
import torch

from serx.data.batches import BatchSource
from serx.data.read_ahead import reading_ahead
from serx.recognizer import Recognizer
from serx.terminal import ProgressBar

CPU_BATCH, GPU_BATCH = 16, 128  # 64 clips at once leave a CPU's cache and take twice as long per clip


def classify(
    recognizer: Recognizer, source: BatchSource, clips: np.ndarray, lengths: np.ndarray, progress: bool = False
) -> np.ndarray:
    """Probabilities `(n, C)` float64 of `clips (n,)`, in their order; arguments are those of `predict`."""
    return predict(recognizer, source, clips, lengths, progress)[0]


def predict(
    recognizer: Recognizer, source: BatchSource, clips: np.ndarray, lengths: np.ndarray, progress: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities `(n, C)` and values of the dimensions `(n, D)`, float64, of `clips (n,)`, in their order.

    Sorting by length keeps the padding short. It changes no result, because results do not depend on neighbors.

    Args:
        recognizer: is put into evaluation mode.
        source: holds the audio.
        clips: indices into `source`.
        lengths: `(n,)`, samples of each clip.
        progress: shows a bar on a terminal.
    """
    recognizer.eval()
    batches = length_batches(source, lengths)
    results = []
    announced = [clips[batch] for batch in batches]
    with (
        ProgressBar("predict", len(clips), "clips", progress) as bar,
        reading_ahead(source, announced) as ahead,
    ):
        for batch in announced:
            results.append(recognizer.predictions(*ahead.batch(batch)))
            bar.update(len(batch))

    def in_given_order(parts: Sequence[torch.Tensor]) -> np.ndarray:
        values = torch.cat(list(parts)).double().cpu().numpy()
        ordered = np.empty_like(values)
        ordered[np.concatenate(batches)] = values
        return ordered

    probabilities, values = zip(*results, strict=True)
    return in_given_order(probabilities), in_given_order(values)


def length_batches(source: BatchSource, lengths: np.ndarray) -> list[np.ndarray]:
    """Batches of similar length, as positions in `lengths (n,)`, of a size that suits the device of `source`."""
    batch = CPU_BATCH if source.device.type == "cpu" else GPU_BATCH
    order = np.argsort(lengths, kind="stable")
    return [order[start : start + batch] for start in range(0, len(order), batch)]
