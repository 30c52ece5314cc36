"""Notes on a configuration: settings that have no effect, or another one than they seem to."""

import math
from collections.abc import Iterator

from serx.augment.crop import Crop, Shift
from serx.augment.masks import FrequencyMask, TimeMask
from serx.config.schema import Config
from serx.config.training import ENDLESS_SCHEDULES
from serx.features.stack import why_rows_are_empty
from serx.models.cnn2d import Cnn2dConfig
from serx.models.sequential import SequentialConfig

# Ranges of transforms, and the value that changes nothing.
_UNCHANGED = {"gain_db": 0.0, "semitones": 0.0, "tempo": 1.0, "ratio": 1.0, "seconds": 0.0}


def notes(config: Config) -> list[str]:
    """One line for each setting that does not do what it says, for the user of a run."""
    return [text for text in (*_notes(config), *_notes_without_emotions(config)) if text]


def _notes(config: Config) -> Iterator[str | None]:
    model, train, optim, data = config.model, config.train, config.optim, config.data
    yield why_rows_are_empty(config.features, data.sample_rate)
    if isinstance(model, Cnn2dConfig):
        if model.shared_stages and model.ensemble_size == 1:
            yield f"model.shared_stages: {model.shared_stages} has no effect: model.ensemble_size is 1"
        rows = math.prod(stride for stride, _ in (model.stem_stride, *model.strides))
        if rows > config.features.bins:
            yield f"model.strides: strides of {rows} over frequency leave one row of {config.features.bins}; lower them"
    if isinstance(model, SequentialConfig) and config.features.statistics and (model.frames or 1) > 1:
        yield f"model.frames: {model.frames}, but features.statistics make one frame of each clip; the others are zeros"
    if train.patience is not None and train.patience >= train.epochs:
        yield f"train.patience: {train.patience} is never reached in train.epochs: {train.epochs}"
    if optim.schedule == "plateau" and optim.plateau_patience >= train.epochs:
        yield (
            f"optim.plateau_patience: {optim.plateau_patience} is never reached in train.epochs: {train.epochs}, so "
            "that the learning rate stays"
        )
    if optim.lr * optim.weight_decay >= 1:
        yield (
            f"optim.lr x optim.weight_decay is {optim.lr * optim.weight_decay:g}: a step turns the sign of the "
            "weights; lower them"
        )
    if train.logit_adjustment > 0 and train.sampling == "class_balanced":
        yield "train.logit_adjustment has no effect: with train.sampling: class_balanced all classes are as frequent"
    if train.temperature != 1 and (data.valid_fraction > 0 or data.valid_speakers):
        yield "train.temperature has no effect where there is validation: the temperature is fitted to it"
    yield from _notes_on_transforms(config)
    yield from _notes_on_keys_that_are_not_read(config)
    if len(set(model.tta_speeds)) < len(model.tta_speeds):
        yield "model.tta_speeds lists a speed more than once, which counts as often; list each once"
    if len(set(model.tta_shifts)) < len(model.tta_shifts):
        yield "model.tta_shifts lists a shift more than once, which counts as often; list each once"


def _notes_on_keys_that_are_not_read(config: Config) -> Iterator[str]:
    """Settings that differ from their defaults, and that another setting switches off."""
    data, train, optim = config.data, config.train, config.optim
    plateau = optim.schedule == "plateau"
    unread = {
        "data.folds": data.protocol != "kfold" and f"data.protocol is {data.protocol}, not kfold",
        "data.test_fraction": data.protocol not in ("holdout", "random")
        and f"data.protocol is {data.protocol}, not holdout or random",
        "optim.plateau_factor": not plateau and f"optim.schedule is {optim.schedule}, not plateau",
        "optim.plateau_patience": not plateau and f"optim.schedule is {optim.schedule}, not plateau",
        "optim.final_lr_ratio": optim.schedule in ENDLESS_SCHEDULES and f"optim.schedule is {optim.schedule}",
        "train.teacher_weight": not train.teachers and "train.teachers lists none",
        "train.teacher_temperature": not train.teachers and "train.teachers lists none",
    }
    for key, why in unread.items():
        section, _, name = key.partition(".")
        settings = getattr(config, section)
        value = getattr(settings, name)
        if why and value != type(settings).model_fields[name].default:
            yield f"{key}: {value:g} has no effect: {why}"
    if train.teachers and train.teacher_weight == 0:
        yield "train.teachers have no effect: train.teacher_weight is 0"


def _notes_on_transforms(config: Config) -> Iterator[str]:
    data, features = config.data, config.features
    longest = min(data.max_seconds, data.duration_seconds or data.max_seconds)
    for i, transform in enumerate(config.augment.waveform):
        name = f"augment.waveform.{i} ({transform.kind})"
        ranges = [(key, _UNCHANGED[key]) for key in _UNCHANGED if key in type(transform).model_fields]
        if getattr(transform, "p", 1) == 0:
            yield f"{name} has no effect: p is 0"
        elif isinstance(transform, Crop):
            if transform.seconds >= longest:
                yield f"{name}: {transform.seconds:g} s cut nothing off clips of up to {longest:g} s"
        elif ranges and all(tuple(getattr(transform, key)) == (same, same) for key, same in ranges):
            yield f"{name} has no effect: {' and '.join(f'{key} is always {same:g}' for key, same in ranges)}"
        if isinstance(transform, Shift) and max(map(abs, transform.seconds)) >= longest:
            yield f"{name}: a shift by {longest:g} s or more leaves only silence of every clip; lower seconds"
    for i, mask in enumerate(config.augment.spectrogram):
        name = f"augment.spectrogram.{i} ({mask.kind})"
        if getattr(mask, "p", 1) == 0:
            yield f"{name} has no effect: p is 0"
        elif isinstance(mask, FrequencyMask) and mask.count * mask.width >= features.bins > mask.width:
            yield f"{name}: {mask.count} masks of width {mask.width} may mask all {features.bins} rows; lower one"
        elif isinstance(mask, TimeMask) and mask.count * mask.max_fraction >= 1:
            yield f"{name}: {mask.count} masks of {mask.max_fraction:g} of a clip may mask all of it; lower one"


def _notes_without_emotions(config: Config) -> Iterator[str]:
    of_classes = {"class_weights": "none", "logit_adjustment": 0.0, "label_smoothing": 0.0, "temperature": 1.0}
    for key, default in of_classes.items():
        if "emotions" not in config.data.tasks and getattr(config.train, key) != default:
            yield f"train.{key} has no effect without emotions in data.tasks"
