"""`Candidates`: how a classical model trains. An epoch is one strength of regularization, fitted to all clips at once.

The loop around it is the nets' own: each candidate is validated, recorded, and kept when it is the best so far.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from serx.data.batches import BatchSource
from serx.models.classical import Classical
from serx.training.sampling import TrainingClips
from serx.training.state import Run

BATCH = 64


class ClassicalFit:
    """The values of `model.c`, of which the epoch chooses one. Clips are heard as they are, without augmentation."""

    def __init__(self, run: Run, part: TrainingClips, source: BatchSource, speaker_ids: Sequence[str]) -> None:
        """`persons` are the speakers of the part's clips, in their order."""
        backbone = run.recognizer.backbone.members[0]
        assert isinstance(backbone, Classical)
        self.run, self.part, self.source, self.speaker_ids, self.backbone = run, part, source, speaker_ids, backbone

    @property
    def c(self) -> float:
        """The candidate of the epoch under way."""
        return self.backbone.config.c[self.run.progress.epoch]

    def fit(self) -> None:
        """Fits the epoch's candidate, and adds up its loss and confusion on the training clips."""
        targets = torch.from_numpy(self.part.targets).to(self.run.device)
        balanced = self.run.config.train.class_weights == "balanced"
        self.backbone.fit(self._vectors, self.part.targets, self.c, self.speaker_ids, balanced)
        logits = self.backbone(self._vectors[..., None], torch.ones_like(targets))
        self.run.sums.add(F.cross_entropy(logits, targets, self.part.class_weights, reduction="none"), logits, targets)

    @cached_property
    def _vectors(self) -> Tensor:
        """`(n, F)`: the training clips as the model hears them, the same for every candidate."""
        recognizer, clips = self.run.recognizer, self.part.clips
        if self.part.vectors is not None:
            alone = torch.ones(len(clips), device=self.run.device)
            return self.backbone.vectors(recognizer.normalizer(self.part.vectors[..., None], alone), alone)
        vectors = []
        with torch.no_grad():
            for batch in np.array_split(clips, -(-len(clips) // BATCH)):
                features, frames = recognizer.features(*self.source.batch(batch))
                vectors.append(self.backbone.vectors(recognizer.normalizer(features, frames), frames))
        return torch.cat(vectors)
