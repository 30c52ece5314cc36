"""The state of a new run: new or given weights, and a normalizer fitted on the training clips."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from serx.config import Config, without_validation
from serx.data.batches import BatchSource
from serx.data.dataset import Dataset
from serx.data.read_ahead import reading_ahead
from serx.data.splits.protocols import Split
from serx.errors import ConfigError, DataError
from serx.models.encoder_config import EncoderConfig
from serx.recognizer import Dimension
from serx.training.console import echo
from serx.training.init_from import check_sources, load_initial_weights, load_teachers, take_weights
from serx.training.state import TrainingState

FIT_BATCH = 64  # clips at a time when the normalizer is fitted


def new_state(
    config: Config, dataset: Dataset, split: Split, source: BatchSource, device: torch.device, progress: bool = True
) -> TrainingState:
    """The state of a new run: with the normalizer fitted on its training clips, or begun from `train.init_from`.

    What is taken from that checkpoint is printed. `progress` shows bars.

    Raises:
        ConfigError: the recipe chooses something by validation clips, and the split has none; or no weight of
            `train.init_from` fits the model.
        CheckpointError: `train.init_from` cannot be read.
        LeakError: its model was trained on validation or test clips of this run.
        DataError: there are too few training clips or classes.
    """
    dimensions = dimension_ranges(dataset, split)
    classes = _trained_classes(dataset, split)
    if len(split.train) < 2 or (dataset.labels and classes < 2):
        counts = f"{len(split.train)} training clips of {classes} classes"
        raise DataError(f"{split.stamp}: {counts}; training needs at least two clips of two classes")
    for name, part in (("training", split.train), ("validation", split.valid)):
        if part and dataset.labels and not dataset.has_class[list(part)].any():
            raise DataError(f"{split.stamp}: no {name} clip has a class, or the votes of all tie; no score counts one")
    for problem in without_validation(config) if not split.valid else ():
        raise ConfigError(problem.message)
    teachers = load_teachers(config.train.teachers)
    initial = None if config.train.init_from is None else load_initial_weights(config.train.init_from)
    sources = [*(initial.sources if initial else []), *teachers]
    notes = check_sources(dataset, split, sources, progress, config.data.cache) if sources else []
    # a published encoder is there in any case: its architecture is needed, and weights that the checkpoint lacks
    pretrained = initial is None or isinstance(config.model, EncoderConfig)
    state = TrainingState(config, dataset.labels, device, pretrained, dimensions)
    state.sources = sources
    if initial is None:
        for note in notes:
            echo(f"note: {note}")
        fit_normalizer(state, split, source)
        return state
    lines, normalizer_taken = take_weights(state.recognizer, initial, state.config)
    for line in [*(f"note: {note}" for note in notes), *lines]:
        echo(line)
    if normalizer_taken:
        state.start_average()
    else:
        fit_normalizer(state, split, source)
    return state


def dimension_ranges(dataset: Dataset, split: Split) -> tuple[Dimension, ...]:
    """The dimensions of the data with the lowest and the highest rating of the training clips.

    Raises:
        DataError: a dimension has no two different ratings in training, or one in validation.
    """
    ranges = []
    for name, column in zip(dataset.dimensions, dataset.ratings.T, strict=True):
        train, valid = column[list(split.train)], column[list(split.valid)]
        found = np.unique(train[~np.isnan(train)])
        if len(found) < 2:
            rated = f"all are rated {found[0]:g}" if len(found) else "none is rated"
            raise DataError(f"{split.stamp}: nothing to learn about {name} from the training clips: {rated}")
        if len(valid) and np.isnan(valid).all():
            raise DataError(f"{split.stamp}: no validation clip has a rating of {name}; take it out of data.dimensions")
        ranges.append(Dimension(name, float(found[0]), float(found[-1])))
    return tuple(ranges)


def _trained_classes(dataset: Dataset, split: Split) -> int:
    """How many classes the training clips have, or votes for them."""
    train, shares = list(split.train), dataset.shares
    return len(np.unique(dataset.targets[train])) if shares is None else int(shares[train].any(0).sum())


def fit_normalizer(state: TrainingState, split: Split, source: BatchSource) -> None:
    """Fits the normalizer of a new run on its training clips, and starts the average of the weights."""
    if state.config.features.normalize == "training":
        state.recognizer.normalizer.fit(_plain_features(state, source, np.asarray(split.train)))
    state.start_average()


def _plain_features(state: TrainingState, source: BatchSource, clips: np.ndarray) -> Iterator[tuple[Tensor, Tensor]]:
    """The features of the clips, without augmentation and normalization."""
    batches = np.array_split(clips, -(-len(clips) // FIT_BATCH))
    with torch.inference_mode(), reading_ahead(source, batches) as ahead:
        for batch in batches:
            yield state.recognizer.features(*ahead.batch(batch))
