"""`ClassicalTraining`: how a classical model trains. An epoch fits one regularization strength to all clips at once.

The trainer validates, records and keeps each fit as it does an epoch of a network (`train.select`).
"""

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from serx.data.batches import BatchSource
from serx.data.read_ahead import reading_ahead
from serx.models.classical import Classical
from serx.training.sampling import Step, TrainingClips
from serx.training.state import TrainingState

BATCH = 64


class ClassicalTraining:
    """Fits scikit-learn's classifier with one value of `model.c` per epoch, on features without augmentation."""

    def __init__(
        self, state: TrainingState, training: TrainingClips, source: BatchSource, speaker_ids: Sequence[str]
    ) -> None:
        """`speaker_ids` are the speakers of the training clips, in their order."""
        classifier = state.recognizer.backbone.members[0]
        assert isinstance(classifier, Classical)
        self.state, self.training, self.source = state, training, source
        self.classifier, self.speaker_ids = classifier, speaker_ids

    @property
    def c(self) -> float:
        """The inverse regularization strength of the current epoch."""
        return self.classifier.config.c[self.state.progress.epoch]

    def plan(self) -> list[Step]:
        """No steps: an epoch is a single fit."""
        return []

    def run(self, steps: list[Step], after_step: Callable[[], bool]) -> None:
        """Fits the classifier, and adds up its loss and confusion on the training clips."""
        targets = torch.from_numpy(self.training.targets).to(self.state.device)
        balanced = self.state.config.train.class_weights == "balanced"
        if self.training.shares is None and self.training.weights is None:
            self.classifier.fit(self._vectors, self.training.targets, self.c, self.speaker_ids, balanced)
        else:
            self._fit_weighted()
        logits = self.classifier(self._vectors[..., None], torch.ones_like(targets))
        truth = targets if self.training.shares is None else self.training.shares
        losses = F.cross_entropy(logits, truth, self.training.class_weights, reduction="none")
        losses = losses if self.training.weights is None else losses * self.training.weights
        self.state.sums.add(losses, logits[:, None], targets, self.training.has_class(torch.arange(len(targets))))

    def _fit_weighted(self) -> None:
        """Fits to each clip as often as it has classes with a share of its votes, which weigh it."""
        truth, clip_weights = self.training.truth, self.training.clip_weights
        class_weights = self.training.class_weights.double().cpu().numpy()
        shares = np.eye(len(class_weights))[truth] if truth.ndim == 1 else truth
        rows, classes = np.nonzero(shares)
        weights = shares[rows, classes] * class_weights[classes] * (1 if clip_weights is None else clip_weights[rows])
        speaker_ids = [self.speaker_ids[row] for row in rows.tolist()]
        self.classifier.fit(self._vectors[torch.from_numpy(rows)], classes, self.c, speaker_ids, False, weights)

    def settings(self) -> dict[str, float]:
        return {"lr": 0.0, "c": self.c}

    @cached_property
    def _vectors(self) -> Tensor:
        """`(n, F)`: the normalized features of the training clips, the same for every fit."""
        recognizer, clips = self.state.recognizer, self.training.clips
        if self.training.vectors is not None:
            frames = torch.ones(len(clips), device=self.state.device)
            normalized = recognizer.normalizer(self.training.vectors[..., None], frames)
            return self.classifier.vectors(normalized, frames)
        vectors = []
        batches = np.array_split(clips, -(-len(clips) // BATCH))
        with torch.no_grad(), reading_ahead(self.source, batches) as ahead:
            for batch in batches:
                features, frames = recognizer.features(*ahead.batch(batch))
                vectors.append(self.classifier.vectors(recognizer.normalizer(features, frames), frames))
        return torch.cat(vectors)
