"""`Familiar`: which recordings a model is used to, so that it can say when one comes from elsewhere.

A recording is described by `transforms.channel`, and training's recordings by their mean and covariance. How far new
voices lie from these, when all else is the same, is measured on training speakers who are left out in turn: beyond what
99 of 100 of their clips keep to, it is the recording that is unlike, not the voice. (Mahalanobis 1936; for networks Lee
et al. 2018, "A simple unified framework for detecting out-of-distribution samples", who measure embeddings.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from serx.dsp.channel import FADE_STEP_SECONDS, FADE_STEPS, channel, names
from serx.errors import CheckpointError

FEWEST_SPEAKERS = 3  # to leave one out of
WITHIN = 0.99  # of the clips of speakers left out
SHRINK = 0.1  # of the covariance's off-diagonal, which few clips tell badly
LEAST_DB = 1.0  # a deviation that every number has at least
MOST_CLIPS = 3000  # that are described, evenly drawn from more
BATCH = 16


ReadBatch = Callable[[np.ndarray], tuple[Tensor, Tensor]]  # clip numbers -> waveform (B, T), lengths (B,)


@dataclass(frozen=True, eq=False)
class OodDetector:
    """Of K numbers of `channel`: `mean (K,)` and `covariance (K, K)`, float64, and the distance that is usual."""

    mean: np.ndarray
    covariance: np.ndarray
    limit: float

    def distances(self, rows: np.ndarray) -> np.ndarray:
        """`(n,)` Mahalanobis distances of `rows (n, K)`; NaN of a clip too short to tell."""
        away = rows - self.mean
        return np.sqrt(np.einsum("ij,ij->i", away @ np.linalg.inv(self.covariance), away))

    def ood_fraction(self, read_batch: ReadBatch, clips: np.ndarray, sample_rate: int) -> float:
        """How many of the `clips (n,)` lie beyond the limit, as a fraction."""
        return float((self.distances(describe(read_batch, clips, sample_rate)) > self.limit).mean())

    def unlike(self, waveform: Tensor, lengths: Tensor, sample_rate: int) -> list[str | None]:
        """Of each clip of `waveform (B, T)`, `lengths (B,)`: in what it is most unlike training's, or None."""
        rows = channel(waveform, lengths, sample_rate).double().cpu().numpy()
        far = self.distances(rows) > self.limit
        return [self._most(row, sample_rate) if beyond else None for row, beyond in zip(rows, far, strict=True)]

    def _most(self, row: np.ndarray, sample_rate: int) -> str:
        away = row - self.mean
        most = int(np.argmax(np.abs(away) / np.sqrt(np.diag(self.covariance))))
        kind, low, high = names(sample_rate)[most]
        band = f"{low} to {high} Hz"
        if kind == "fading":
            span, guess = round(1000 * FADE_STEP_SECONDS * FADE_STEPS), "noise or a room? " if away[most] > 0 else ""
            return f"{guess}in {span} ms it fades by {-row[most]:.0f} dB at {band}, theirs by {-self.mean[most]:.0f}"
        how = f"{abs(away[most]):.0f} dB {'louder' if away[most] > 0 else 'softer'}"
        return f"its {kind} are {how} at {band}, beside the rest, than theirs"

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        kept = {"mean": self.mean, "covariance": self.covariance, "limit": np.array(self.limit)}
        return {name: torch.from_numpy(value) for name, value in kept.items()}


def from_tensors(tensors: Mapping[str, Tensor], sample_rate: int) -> OodDetector | None:
    """What `tensors` gave; None of a checkpoint that holds nothing of it.

    Raises:
        CheckpointError: a piece is missing or of another shape, or the covariance is none.
    """
    if not tensors:
        return None
    count = len(names(sample_rate))
    shapes = {"mean": (count,), "covariance": (count, count), "limit": ()}
    for name, shape in shapes.items():
        if name not in tensors or tuple(tensors[name].shape) != shape or tensors[name].dtype != torch.float64:
            raise CheckpointError(f"checkpoint: ood.{name} is missing or of another shape or type")
    found = OodDetector(tensors["mean"].numpy(), tensors["covariance"].numpy(), float(tensors["limit"]))
    if not (np.linalg.eigvalsh(found.covariance) > 0).all():
        raise CheckpointError("checkpoint: ood.covariance is no covariance")
    return found


def fit_ood_detector(
    read_batch: ReadBatch, clips: np.ndarray, speaker_ids: Sequence[str], sample_rate: int
) -> OodDetector | None:
    """`fit` of the `clips (n,)` of `persons (n,)`, or of as many of them as tell enough."""
    some = np.unique(np.linspace(0, len(clips) - 1, MOST_CLIPS).round().astype(int))
    return fit(describe(read_batch, clips[some], sample_rate), [speaker_ids[i] for i in some])


def fit(rows: np.ndarray, speaker_ids: Sequence[str]) -> OodDetector | None:
    """What recordings `rows (n, K)` of `persons (n,)` have in common; None of fewer than three speakers."""
    told = np.isfinite(rows).all(1)
    rows, speakers = rows[told].astype(np.float64), np.asarray(speaker_ids)[told]
    if len(np.unique(speakers)) < FEWEST_SPEAKERS:
        return None
    found = _fit(rows)
    return OodDetector(found.mean, found.covariance, float(np.quantile(left_out(rows, speakers), WITHIN)))


def left_out(rows: np.ndarray, speaker_ids: np.ndarray) -> np.ndarray:
    """`(n,)` distances of `rows (n, K)` from what the clips of all other `persons (n,)` have in common."""
    found = np.empty(len(rows))
    for speaker_id in np.unique(speaker_ids):
        own = speaker_ids == speaker_id
        found[own] = _fit(rows[~own]).distances(rows[own])
    return found


def describe(read_batch: ReadBatch, clips: np.ndarray, sample_rate: int) -> np.ndarray:
    """`channel` of `clips (n,)`: `(n, K)`."""
    with torch.inference_mode():
        batches = np.array_split(clips, -(-len(clips) // BATCH))
        return np.concatenate([channel(*read_batch(batch), sample_rate).cpu().numpy() for batch in batches])


def _fit(rows: np.ndarray) -> OodDetector:
    covariance = np.cov(rows, rowvar=False, bias=True)
    diagonal = np.diag(np.diag(covariance))
    shrunk = (1 - SHRINK) * covariance + SHRINK * diagonal + LEAST_DB**2 * np.eye(len(covariance))
    return OodDetector(rows.mean(0), shrunk, 0.0)
