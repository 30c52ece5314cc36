"""Predictions for speakers that a model was not trained on, from which its `SpeakerModel` is fitted.

The head of a frozen encoder trains in seconds, so it is trained anew without each group of training speakers in turn.
With three corpora or more the groups are the corpora, since new recordings come from a new one. Other models take too
long for that: for them the validation clips serve, if they are of enough speakers.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from serx import checkpoint
from serx.data.batches import BatchSource
from serx.data.dataset import Dataset
from serx.inference.classify import classify
from serx.recognizer import Recognizer
from serx.seeding import derive
from serx.speaker_model import SpeakerModel
from serx.training.epoch import run_epoch
from serx.training.sampling import TrainingClips, plan_epoch
from serx.training.state import EpochSums, TrainingState

GROUPS = 3  # of training speakers, if there are fewer corpora


def fit_speaker_model(
    state: TrainingState,
    training: TrainingClips,
    dataset: Dataset,
    valid: tuple[int, ...],
    source: BatchSource,
    kept: Path,
) -> SpeakerModel | None:
    """The speaker model of a finished run; None if there are too few held-out speakers.

    Args:
        state: of the run.
        training: its training clips.
        dataset: their labels and speakers.
        valid: the validation clips.
        source: makes their waveforms.
        kept: the checkpoint of the kept epoch.
    """
    if training.vectors is not None and state.recognizer.backbone.constant_part is not None:
        clips = np.unique(training.clips)
        log_probabilities = _cross_fitted(state, training, dataset, source)[: len(clips)]
        clips = training.clips[: len(clips)]  # the clips themselves come before their augmented copies
    elif valid:
        clips = np.asarray(valid)
        recognizer = _kept_recognizer(state, kept)
        probabilities = classify(recognizer, source, clips, dataset.audio_cache.lengths[clips])
        log_probabilities = torch.from_numpy(probabilities).clamp(min=1e-12).log()
    else:
        return None
    has_class = ~dataset.tied[clips]
    log_probabilities, clips = log_probabilities[torch.from_numpy(has_class)], clips[has_class]
    chosen = [dataset.utterances[i] for i in clips]
    return SpeakerModel.fit(
        log_probabilities,
        dataset.targets[clips],
        [clip.speaker_id for clip in chosen],
        [clip.corpus for clip in chosen],
        derive(state.config.train.seed, "speaker model"),
    )


def _kept_recognizer(state: TrainingState, kept: Path) -> Recognizer:
    """The recognizer of the kept epoch, on the device of the run, with the temperature 1."""
    config = state.config
    recognizer = Recognizer(config.features, config.model, state.recognizer.labels, config.data.sample_rate)
    checkpoint.fill(recognizer, checkpoint.load(kept).group("model"), "model")
    return recognizer.to(state.device).eval()


def _cross_fitted(state: TrainingState, training: TrainingClips, dataset: Dataset, source: BatchSource) -> Tensor:
    """Log-probabilities `(n, C)` of the training clips by heads that were trained without their speakers."""
    assert training.vectors is not None
    groups = _groups(training, dataset)
    results = torch.zeros(len(groups), len(dataset.labels))
    for group in np.unique(groups):
        part = _part(training, groups != group)
        twin = TrainingState(state.config, dataset.labels, state.device, pretrained=False)
        for _ in range(state.progress.best_epoch or 0, -1, -1):
            steps = plan_epoch(part, state.config, twin.progress.epoch)
            twin.sums = EpochSums(len(dataset.labels), state.device, len(steps))
            run_epoch(twin, part, source, steps, _go_on)
            twin.progress.epoch, twin.progress.step = twin.progress.epoch + 1, 0
        twin.recognizer.eval()
        held_out = torch.from_numpy(np.flatnonzero(groups == group))
        with torch.inference_mode():
            vectors = training.vectors[held_out.to(state.device)]
            logits = twin.head_logits(vectors[..., None], torch.ones(len(vectors), device=state.device))
            results[held_out] = logits.float().softmax(-1).mean(1).clamp(min=1e-12).log().cpu()
    return results


def _groups(training: TrainingClips, dataset: Dataset) -> np.ndarray:
    """The group `(n,)` of each clip: its corpus, or one of `GROUPS` into which the speakers are dealt."""
    chosen = [dataset.utterances[i] for i in training.clips]
    if len({clip.corpus for clip in chosen}) >= GROUPS:
        return np.unique([clip.corpus for clip in chosen], return_inverse=True)[1]
    names = sorted({clip.speaker_id for clip in chosen}, key=lambda name: derive(0, f"group {name}"))
    number = {name: i % GROUPS for i, name in enumerate(names)}
    return np.array([number[clip.speaker_id] for clip in chosen])


def _part(training: TrainingClips, kept: np.ndarray) -> TrainingClips:
    """The clips where `kept (n,)` is true."""
    index = torch.from_numpy(np.flatnonzero(kept))

    def rows(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[index.to(values.device)]

    return replace(
        training,
        clips=training.clips[kept],
        targets=training.targets[kept],
        vectors=rows(training.vectors),
        corpora=None if training.corpora is None else training.corpora[kept],
        possible=rows(training.possible),
        taught=rows(training.taught),
        shares=rows(training.shares),
        tied=rows(training.tied),
        weights=rows(training.weights),
    )


def _go_on() -> bool:
    return False
