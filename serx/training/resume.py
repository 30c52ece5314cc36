"""Which checkpoint a run goes on from, and what may differ between the two."""

import os
from pathlib import Path
from typing import Any

from serx import checkpoint
from serx.errors import CheckpointError, ConfigError
from serx.training.run_folder import LAST, PREVIOUS

# Keys that move or name things and change no result; all others would make the run a different one.
FREE = {
    "data.root", "data.cache", "data.placement", "train.device", "train.threads", "train.output", "train.patience",
}  # fmt: skip


def load_newest(folder: Path) -> tuple[checkpoint.Checkpoint, list[str]]:
    """The last checkpoint of a run folder, or the one before when that is missing or damaged; and what to say of it.

    A damaged one is renamed: the next save must not put it in the place of the one that reads.

    Raises:
        CheckpointError: neither can be used; says why of both.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    try:
        return checkpoint.load_run_checkpoint(last), []
    except CheckpointError as newest:
        if not previous.exists():
            raise
        try:
            saved = checkpoint.load_run_checkpoint(previous)
        except CheckpointError as older:
            raise CheckpointError(f"{newest}; and the one before: {older}") from newest
        aside = last.with_suffix(".damaged")
        if last.exists():
            os.replace(last, aside)
        place = f"epoch {saved.metadata['progress']['epoch']}"
        return saved, [f"WARNING: {newest}; going on from the save before it, {PREVIOUS} ({place})"]


def differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs and may; `key: before -> now` a line.

    Raises:
        ConfigError: lists what differs and may not: settings, labels, or the clips of a part.
    """
    try:
        lines = changed(saved["config"], now["config"])
    except RecursionError as error:
        raise CheckpointError("--resume: the saved configuration is nested without end; use another one") from error
    broken = [line for key, line in lines.items() if key not in FREE]
    for what in ("labels", "protocol", "digests"):
        if saved[what] != now[what]:
            broken.append(
                "the clips of train, valid or test" if what == "digests" else f"{what}: {saved[what]} -> {now[what]}"
            )
    if broken:
        raise ConfigError(
            "--resume: this is not the run that was saved; put it back, or start a new one without --resume:\n  "
            + "\n  ".join(broken)
        )
    old, new = saved["environment"], now["environment"]
    told = [f"{key}: {old.get(key)} -> {new[key]} (bits may differ)" for key in new if old.get(key) != new[key]]
    return [line for key, line in lines.items() if key in FREE] + told


def changed(before: dict[str, Any], after: dict[str, Any]) -> dict[str, str]:
    """The dotted keys in which two configurations, as JSON has them, differ: `key -> "key: before -> after"`."""
    old, new = _flat(before), _flat(after)
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    return {key: f"{key}: {old.get(key)} -> {new.get(key)}" for key in keys}


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
