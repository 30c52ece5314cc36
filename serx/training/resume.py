"""Resuming: which checkpoint a run continues from, and what may differ from the run that was saved."""

import os
from pathlib import Path
from typing import Any

import torch

from serx import checkpoint
from serx.checkpoint.metadata import check_metadata
from serx.config import Config
from serx.config.training import ENDLESS_SCHEDULES
from serx.data.dataset import Dataset
from serx.data.splits.protocols import Split
from serx.errors import CheckpointError, ConfigError
from serx.training.console import echo
from serx.training.init_from import sources_of, stamped
from serx.training.new_run import dimension_ranges
from serx.training.run_folder import BEST, LAST, PREVIOUS
from serx.training.state import TrainingState, run_metadata

# Keys that change no result. With any other change it would be another run.
FREE = {
    "data.root", "data.cache", "data.placement", "train.device", "train.threads", "train.output", "train.patience",
    "train.loggers",
}  # fmt: skip


def resumed_state(config: Config, dataset: Dataset, split: Split, device: torch.device, folder: Path) -> TrainingState:
    """The state last saved in `folder`. What differs and may differ is printed.

    Raises:
        CheckpointError: the file is damaged.
        ConfigError: the saved run has other settings or clips.
    """
    path, saved, warnings = load_newest(folder)
    then = check_metadata(path, saved.metadata)
    config = config.model_copy(update={"model": config.model.resumed(then.model)})  # what it had read from outside
    state = TrainingState(config, dataset.labels, device, False, dimension_ranges(dataset, split))
    state.start_average()
    split = stamped(split, sources_of(saved.metadata))
    # A key that is newer than the checkpoint has its default in it.
    allowed = differences(
        {**saved.metadata, "config": then.model_dump(mode="json")}, run_metadata(state, dataset, split), folder
    )
    for line in [*warnings, *(f"note: resumed with a difference: {difference}" for difference in allowed)]:
        echo(line)
    try:
        state.load_state_dict(saved)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {str(error).removeprefix('checkpoint: ')}") from error
    return state


def load_newest(folder: Path) -> tuple[Path, checkpoint.Checkpoint, list[str]]:
    """The last checkpoint of a run folder, or the one before if that is missing or damaged, and warnings to print.

    A damaged file is renamed, so that the next save does not move it over the one that can be read.

    Raises:
        CheckpointError: neither can be read; gives the reasons of both.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    try:
        return last, checkpoint.load_run_checkpoint(last), []
    except CheckpointError as newest:
        if not previous.exists():
            raise
        try:
            saved = checkpoint.load_run_checkpoint(previous)
        except CheckpointError as older:
            raise CheckpointError(f"{newest}; and the one before: {older}") from newest
        if last.exists():
            os.replace(last, last.with_suffix(".damaged"))
        epoch = f"epoch {saved.metadata['progress']['epoch']}"
        return previous, saved, [f"WARNING: {newest}; continuing from the save before it, {PREVIOUS} ({epoch})"]


def why_not_longer(config: dict[str, Any]) -> str | None:
    """Why a run of this configuration, as JSON, cannot be continued to another number of epochs; None if it can.

    It can where the learning rate of the steps that are done does not depend on the number of epochs: then it ends with
    the same bits as a run that had this number from the beginning.

    >>> why_not_longer({"model": {"kind": "mlp"}, "optim": {"schedule": "cosine", "warmup_ratio": 0.0}})
    'optim.schedule cosine spreads the learning rate over all epochs'
    """
    optim = config["optim"]
    if config["model"]["kind"] in ("classical", "linear_probe"):
        return None
    if optim["schedule"] not in ENDLESS_SCHEDULES:
        return f"optim.schedule {optim['schedule']} spreads the learning rate over all epochs"
    if optim["warmup_ratio"] > 0:
        return f"optim.warmup_ratio {optim['warmup_ratio']} is a fraction of all epochs"
    return None


def differences(saved: dict[str, Any], now: dict[str, Any], folder: Path) -> list[str]:
    """The allowed differences between two runs' metadata, each as `key: before -> now`.

    Raises:
        ConfigError: lists the differences that are not allowed: in settings, labels, protocol or clips.
    """
    try:
        lines = changed(saved["config"], now["config"])
    except RecursionError as error:
        raise CheckpointError("--resume: the saved configuration is nested too deep; use another checkpoint") from error
    epochs = lines.get("train.epochs")
    reason = why_not_longer(now["config"]) if epochs else None
    done = saved["progress"].get("epoch", 0)
    if epochs and now["config"]["train"]["epochs"] < done:
        reason = f"{done} epochs are done"
    free = FREE | ({"train.epochs"} if reason is None else set())
    broken = [line for key, line in lines.items() if key not in free]
    for item in ("labels", "dimensions", "protocol", "digests"):
        if saved.get(item, []) != now[item]:
            clips = "the clips of train, valid or test"
            broken.append(clips if item == "digests" else f"{item}: {saved.get(item, [])} -> {now[item]}")
    if reason is not None and broken == [epochs]:
        raise ConfigError(
            f"--resume: {epochs}: {reason}, so this would be another run; start a new one from these weights, without "
            f"--resume: train.init_from={folder / BEST} train.output=ANOTHER_FOLDER"
        )
    if broken:
        raise ConfigError(
            "--resume: this is not the run that was saved; undo these changes, or start a new run without --resume:\n  "
            + "\n  ".join(broken)
        )
    old, new = saved["environment"], now["environment"]
    other = [f"{key}: {old.get(key)} -> {new[key]} (bits may differ)" for key in new if old.get(key) != new[key]]
    return [line for key, line in lines.items() if key in free] + other


def changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    """The dotted keys in which two configurations, as JSON, differ: `key -> "key: before -> after"`.

    >>> changed({"optim": {"lr": 0.001}}, {"optim": {"lr": 0.003}})
    {'optim.lr': 'optim.lr: 0.001 -> 0.003'}
    """
    old, new = flat(before), flat(after)
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    return {key: f"{key}: {old.get(key)} -> {new.get(key)}" for key in keys}


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A configuration, as JSON, by dotted keys.

    >>> flat({"optim": {"lr": 0.001}})
    {'optim.lr': 0.001}
    """
    values: dict[str, Any] = {}
    for key, value in tree.items():
        values |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return values
