"""`OodDetector`: does a recording's channel (microphone, room, noise) differ from those of the training recordings?

`dsp.channel` describes a recording by K numbers that depend on its channel more than on its speaker. The detector
keeps their mean and covariance over the training clips, and measures the Mahalanobis distance of a new clip. How far
unseen speakers lie when the channel is the same is measured on training speakers, each left out of the fit once:
beyond the distance that 99 of 100 of their clips keep, the recording is reported as out of distribution. (Mahalanobis
1936; for networks Lee et al. 2018, "A simple unified framework for detecting out-of-distribution samples", who measure
embeddings.)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from serx.dsp.channel import FADE_STEP_SECONDS, FADE_STEPS, channel_feature_names, channel_features
from serx.errors import CheckpointError

MIN_SPEAKERS = 3  # leaving one out needs at least two others
# With fewer training speakers, that a clip is not flagged means little. The limit rests on speakers who are left out
# of a fit of the others. Two or three others tell so little about a new speaker that the limit exceeds what noise or a
# room changes. For 3 of the 20 speakers of RAVDESS it was 8 to 22: 35 % of the clips of new speakers were flagged with
# noise at 10 dB SNR, and 24 % with a reverberation of 1 s. For 8 speakers it was 8 to 11: 99 % and 85 % were flagged
# (24 clips of each speaker, 12 random choices).
RELIABLE_SPEAKERS = 8
WITHIN = 0.99  # quantile of the distances of left-out speakers that becomes the limit
SHRINK = 0.1  # of the covariance's off-diagonal, which few clips estimate badly
MIN_DEVIATION_DB = 1.0  # added to the deviation of every statistic
MAX_LEVEL_DB = 1000  # of a mean; 32 bits of float32 end at 770 dB
MAX_CLIPS = 3000  # used for a fit; from a larger corpus, evenly spaced ones
BATCH = 16


UNKNOWN = "unknown: "  # how an explanation begins that is none

ReadBatch = Callable[[np.ndarray], tuple[Tensor, Tensor]]  # clip indices -> waveform (B, T), lengths (B,)


def unknown_reason(speakers: int) -> str | None:
    """Why a detector that was fitted on so many speakers cannot call a clip usual; None if it can.

    >>> unknown_reason(3)
    'unknown: fitted on 3 speakers; 8 are needed to know how much new speakers differ from those of training'
    >>> unknown_reason(8) is None
    True
    """
    if speakers >= RELIABLE_SPEAKERS:
        return None
    fitted = f"fitted on {speakers} speaker{'' if speakers == 1 else 's'}"
    return (
        f"{UNKNOWN}{fitted}; {RELIABLE_SPEAKERS} are needed to know how much new speakers differ from those of training"
    )


@dataclass(frozen=True, eq=False)
class OodDetector:
    """Mean and covariance of K channel statistics over the training clips, and the largest usual distance.

    Attributes:
        mean: `(K,)` float64, in dB.
        covariance: `(K, K)` float64.
        limit: Mahalanobis distance beyond which a clip is out of distribution.

    >>> random = np.random.default_rng(0)
    >>> detector = OodDetector.fit(random.normal(size=(60, 4)), ["ann", "bob", "cyd"] * 20)
    >>> (detector.distances(np.array([[0.0, 0, 0, 0], [9.0, 9, 9, 9]])) > detector.limit).tolist()
    [False, True]
    """

    mean: np.ndarray
    covariance: np.ndarray
    limit: float

    @classmethod
    def fit(cls, statistics: np.ndarray, speaker_ids: Sequence[str]) -> "OodDetector | None":
        """Fits `statistics (n, K)` of clips by `speaker_ids (n,)`; None if there are fewer than three speakers.

        Clips with a NaN, which are too short to describe, are ignored.
        """
        finite = np.isfinite(statistics).all(1)
        statistics, speakers = statistics[finite].astype(np.float64), np.asarray(speaker_ids)[finite]
        if len(np.unique(speakers)) < MIN_SPEAKERS:
            return None
        fitted = _gaussian(statistics)
        limit = float(np.quantile(left_out_distances(statistics, speakers), WITHIN))
        return cls(fitted.mean, fitted.covariance, limit)

    @classmethod
    def fit_clips(
        cls, read_batch: ReadBatch, clips: np.ndarray, speaker_ids: Sequence[str], sample_rate: int
    ) -> "OodDetector | None":
        """Fits `clips (n,)`, given by index, of `speaker_ids (n,)`; uses at most 3000 of them."""
        chosen = np.unique(np.linspace(0, len(clips) - 1, MAX_CLIPS).round().astype(int))
        statistics = channel_statistics(read_batch, clips[chosen], sample_rate)
        return cls.fit(statistics, [speaker_ids[i] for i in chosen])

    def distances(self, statistics: np.ndarray) -> np.ndarray:
        """`(n,)` Mahalanobis distances of `statistics (n, K)`; NaN for a clip that is too short to describe."""
        deviation = statistics - self.mean
        return np.sqrt(np.einsum("ij,ij->i", deviation @ np.linalg.inv(self.covariance), deviation))

    def ood_fraction(self, read_batch: ReadBatch, clips: np.ndarray, sample_rate: int) -> float:
        """The fraction of `clips (n,)` that are out of distribution."""
        return float((self.distances(channel_statistics(read_batch, clips, sample_rate)) > self.limit).mean())

    def explain(self, waveform: Tensor, lengths: Tensor, sample_rate: int) -> list[str | None]:
        """For each clip of `waveform (B, T)`, `lengths (B,)`: how it differs most from training, or None if usual."""
        statistics = channel_features(waveform, lengths, sample_rate).double().cpu().numpy()
        is_ood = self.distances(statistics) > self.limit
        return [
            self._largest_deviation(row, sample_rate) if ood else None
            for row, ood in zip(statistics, is_ood, strict=True)
        ]

    def _largest_deviation(self, row: np.ndarray, sample_rate: int) -> str:
        """The statistic of `row (K,)` with the largest deviation from training, in words."""
        deviation = row - self.mean
        largest = int(np.argmax(np.abs(deviation) / np.sqrt(np.diag(self.covariance))))
        kind, low, high = channel_feature_names(sample_rate)[largest]
        band = f"{low} to {high} Hz"
        if kind == "fading":
            milliseconds = round(1000 * FADE_STEP_SECONDS * FADE_STEPS)
            cause = "noise or a room? " if deviation[largest] > 0 else ""
            return (
                f"{cause}at {band} it fades by {-row[largest]:.0f} dB in {milliseconds} ms, "
                f"training clips by {-self.mean[largest]:.0f} dB"
            )
        direction = "louder" if deviation[largest] > 0 else "softer"
        return (
            f"relative to the rest of its spectrum, its {kind} are {abs(deviation[largest]):.0f} dB {direction} at "
            f"{band} than in training clips"
        )

    def tensors(self) -> dict[str, Tensor]:
        """The tensors that a checkpoint stores."""
        arrays = {"mean": self.mean, "covariance": self.covariance, "limit": np.array(self.limit)}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], sample_rate: int) -> "OodDetector | None":
        """Restores what `tensors` returned; None if there are none (a checkpoint without a detector).

        Raises:
            CheckpointError: a tensor is missing or has another shape or type, or the covariance is not positive
                definite.
        """
        if not tensors:
            return None
        count = len(channel_feature_names(sample_rate))
        shapes = {"mean": (count,), "covariance": (count, count), "limit": ()}
        for name in (*shapes, *tensors):
            shape = shapes.get(name)
            if name not in tensors or tuple(tensors[name].shape) != shape or tensors[name].dtype != torch.float64:
                raise CheckpointError(f"checkpoint: ood.{name} is missing, left over, or of another shape or type")
        detector = cls(tensors["mean"].numpy(), tensors["covariance"].numpy(), float(tensors["limit"]))
        if not detector.limit >= 0:
            raise CheckpointError("checkpoint: ood.limit is negative, and it is a distance")
        if not (np.abs(detector.mean) <= MAX_LEVEL_DB).all():
            raise CheckpointError(f"checkpoint: ood.mean has levels beyond {MAX_LEVEL_DB} dB")
        covariance = detector.covariance
        if not np.allclose(covariance, covariance.T) or not (np.linalg.eigvalsh(covariance) > 0).all():
            raise CheckpointError("checkpoint: ood.covariance is not symmetric and positive definite")
        return detector


def left_out_distances(statistics: np.ndarray, speaker_ids: np.ndarray) -> np.ndarray:
    """`(n,)` distances of `statistics (n, K)` from a fit of the clips of all other `speaker_ids (n,)`."""
    distances = np.empty(len(statistics))
    for speaker_id in np.unique(speaker_ids):
        of_speaker = speaker_ids == speaker_id
        distances[of_speaker] = _gaussian(statistics[~of_speaker]).distances(statistics[of_speaker])
    return distances


def channel_statistics(read_batch: ReadBatch, clips: np.ndarray, sample_rate: int) -> np.ndarray:
    """`dsp.channel` of `clips (n,)`, given by index: `(n, K)` float32."""
    with torch.inference_mode():
        batches = np.array_split(clips, -(-len(clips) // BATCH))
        return np.concatenate([channel_features(*read_batch(batch), sample_rate).cpu().numpy() for batch in batches])


def _gaussian(statistics: np.ndarray) -> OodDetector:
    """Mean and shrunken covariance of `statistics (n, K)`, still without a limit."""
    covariance = np.cov(statistics, rowvar=False, bias=True)
    diagonal = np.diag(np.diag(covariance))
    shrunk = (1 - SHRINK) * covariance + SHRINK * diagonal + MIN_DEVIATION_DB**2 * np.eye(len(covariance))
    return OodDetector(statistics.mean(0), shrunk, 0.0)
