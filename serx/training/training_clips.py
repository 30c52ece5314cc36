"""What an epoch trains on: the training clips of a split, with their targets, weights and constant features."""

import numpy as np
import torch
from torch import Tensor

from serx.data.batches import BatchSource
from serx.data.cache.clip_reader import WINDOW_BYTES, blocks_of
from serx.data.dataset import Dataset
from serx.data.read_ahead import reading_ahead
from serx.data.splits.protocols import Split
from serx.errors import DataError
from serx.recognizer import Dimension
from serx.terminal import ProgressBar
from serx.training.distillation import teacher_probabilities
from serx.training.epoch import transformed_waveform, warped_features
from serx.training.losses import class_weights, classes_of_corpora, logit_offsets
from serx.training.sampling import TrainingClips, relative_weights
from serx.training.state import TrainingState

VECTOR_BATCH = 64  # clips at a time in `constant_vectors`


def collect_training_clips(
    state: TrainingState, dataset: Dataset, split: Split, source: BatchSource, progress: bool
) -> TrainingClips:
    """The training clips of a split with the class weights, logit offsets and constant features of the recipe."""
    train, classes, rows_per_clip = state.config.train, len(dataset.labels), 1 + state.config.augment.copies
    unfinished = state.progress.epoch < state.epochs
    vectors = constant_vectors(state, source, np.asarray(split.train), progress) if unfinished else None
    clips = np.tile(np.asarray(split.train), rows_per_clip)
    targets, shares = dataset.targets[clips], dataset.shares
    truth = targets if shares is None else shares[clips]
    cache, has_class, weights = dataset.audio_cache, dataset.has_class[clips], relative_weights(dataset.weights[clips])
    corpora = dataset.utterances.ranks("corpus", clips)
    possible = classes_of_corpora(truth, corpora, classes) if classes else None
    if "class" in train.sampling and not dataset.has_label[clips].all():
        raise DataError(f"train.sampling: {train.sampling} would never draw clips without a class; write shuffle")

    def on_device(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values).to(state.device)

    return TrainingClips(
        clips=clips,
        targets=targets,
        class_weights=class_weights(train.class_weights, truth, classes, weights).to(state.device),
        vectors=vectors,
        corpora=corpora,
        logit_offsets=logit_offsets(train, truth, corpora, classes, weights).to(state.device),
        taught=teacher_probabilities(state.config, dataset, clips, source, state.device) if unfinished else None,
        possible=None if possible is None else on_device(possible),
        shares=None if shares is None else on_device(truth.astype(np.float32)),
        without_class=None if has_class.all() else on_device(~has_class),
        weights=None if weights is None else on_device(weights.astype(np.float32)),
        lengths=cache.lengths[clips],
        ratings=on_device(_relative(dataset, clips, state.recognizer.dimensions)) if dataset.dimensions else None,
        blocks=blocks_of(cache.lengths)[clips] if cache.nbytes > WINDOW_BYTES else None,
    )


def _relative(dataset: Dataset, clips: np.ndarray, dimensions: tuple[Dimension, ...]) -> np.ndarray:
    """The ratings of the clips, `(n, D)` float32: 0 for the lowest rating of training, 1 for the highest."""
    low, high = np.array([d.low for d in dimensions]), np.array([d.high for d in dimensions])
    return ((dataset.ratings[clips] - low) / (high - low)).astype(np.float32)


def constant_vectors(
    state: TrainingState, source: BatchSource, clips: np.ndarray, progress: bool = True
) -> Tensor | None:
    """What the trained part reads, if no epoch changes it: then a hundred epochs cost the features of one.

    That is the vector of a frozen encoder (`Backbone.constant_part`), or features with `statistics`.

    Returns:
        `(n, F)`; with `augment.copies: k`, `(n + k * n, F)`: the clips, then the first copy of each, and so on. Copy k
        has the draws of epoch k - 1. None if each epoch augments the waveform anew, if the filters are trained, or if
        the features are sequences (too large to keep).
    """
    config, part = state.config, state.recognizer.backbone.constant_part
    augmented = bool(config.augment.waveform) or config.augment.mel_warp is not None
    anew = augmented and not config.augment.copies
    if anew or config.features.trainable or not (config.features.statistics or part):
        return None

    def vectors_of(features: Tensor, frames: Tensor) -> Tensor:
        if part is not None:
            features, _ = part(state.recognizer.normalizer(features, frames), frames)
        return features[..., 0]

    batches = np.array_split(clips, -(-len(clips) // VECTOR_BATCH))
    rounds = [None, *range(config.augment.copies)]
    vectors = []
    with (
        torch.no_grad(),
        ProgressBar("encode", len(clips) * len(rounds), "clips", part is not None and progress) as bar,
    ):
        for copy in rounds:
            with reading_ahead(source, batches) as ahead:
                for batch in batches:
                    waveform, lengths = ahead.batch(batch)
                    if copy is None:
                        vectors.append(vectors_of(*state.recognizer.features(waveform, lengths)))
                    else:
                        indices = torch.from_numpy(batch).to(state.device)
                        waveform, lengths = transformed_waveform(state, waveform, lengths, indices, copy)
                        vectors.append(vectors_of(*warped_features(state, waveform, lengths, indices, copy)))
                    bar.update(len(batch))
    return torch.cat(vectors)
