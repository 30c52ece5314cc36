"""`LinearProbeTraining`: how a `LinearProbe` trains: one fit to the vectors of all training clips."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from serx.models.linear_probe import LinearProbe, ProbeTargets
from serx.training.losses import cross_entropy
from serx.training.sampling import Step, TrainingClips, sampling_weights
from serx.training.state import TrainingState


class LinearProbeTraining:
    """Fits the probe to vectors that were computed before (`constant_vectors`).

    A fit draws no clips: what `train.sampling` draws more often weighs more.
    """

    def __init__(self, state: TrainingState, training: TrainingClips, speaker_ids: Sequence[str]) -> None:
        """`speaker_ids` are the speakers of the training clips, in their order."""
        probe = state.recognizer.backbone.members[0]
        assert isinstance(probe, LinearProbe)
        self.state, self.training, self.probe = state, training, probe
        rows_per_clip = len(training.clips) // len(speaker_ids)
        self.speakers = np.tile(np.unique(np.asarray(speaker_ids), return_inverse=True)[1], rows_per_clip)
        self.corpora = np.zeros_like(self.speakers) if training.corpora is None else training.corpora

    def plan(self) -> list[Step]:
        """No steps: the epoch is a single fit."""
        return []

    def run(self, steps: list[Step], after_step: Callable[[], bool]) -> None:
        """Fits the probe, and adds up its loss and confusion on the training clips."""
        state, training, train = self.state, self.training, self.state.config.train
        assert training.vectors is not None
        rows, vectors = torch.arange(len(training.clips), device=state.device), training.vectors.flatten(1)
        targets = torch.from_numpy(training.targets).to(state.device)
        columns = training.target_columns(targets, rows)
        truth, possible = columns["truth"], training.possible
        self.probe.fit(
            vectors,
            ProbeTargets(
                truth=truth.double(),
                smoothed=_smoothed(truth, possible, train.label_smoothing).double(),
                possible=possible,
                weights=self._weights(truth),
                speakers=self._on_device(self.speakers),
                corpora=self._on_device(self.corpora),
            ),
        )
        logits = self.probe(vectors[..., None], torch.ones_like(targets))[:, None]
        losses = cross_entropy(logits, truth, training.class_weights, train.label_smoothing, None, possible)
        losses = losses if training.weights is None else losses * training.weights
        state.sums.add(losses, logits, targets, training.has_class(rows))

    def settings(self) -> dict[str, float]:
        return {"lr": 0.0}

    def _weights(self, truth: Tensor) -> Tensor:
        """How much each clip counts: by its own weight, its class and what is sampled, `(n,)` float64."""
        training = self.training
        drawn = sampling_weights(
            self.state.config.train.sampling, training.truth, training.corpora, training.clip_weights
        )
        weights = (truth * training.class_weights).sum(1).double()
        for factor in (drawn, training.clip_weights):
            if factor is not None:
                weights = weights * self._on_device(factor)
        return weights

    def _on_device(self, values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(self.state.device)


def _smoothed(truth: Tensor, possible: Tensor | None, share: float) -> Tensor:
    """`truth (n, C)` with a share of it spread evenly over the possible classes."""
    even = torch.ones_like(truth) if possible is None else possible.to(truth.dtype)
    return torch.lerp(truth, even / even.sum(1, keepdim=True), share)
