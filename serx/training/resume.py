"""What may differ between a checkpoint and the run that goes on from it."""

from typing import Any

from serx.errors import ConfigError

# Keys that move or name things and change no result; all others would make the run a different one.
FREE = {
    "data.root", "data.cache", "data.placement", "train.device", "train.threads", "train.output", "train.patience",
}  # fmt: skip


def differences(saved: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What differs and may; `key: before -> now` a line.

    Raises:
        ConfigError: lists what differs and may not: settings, labels, or the clips of a part.
    """
    before, after = _flat(saved["config"]), _flat(now["config"])
    changed = [key for key in sorted(before.keys() | after.keys()) if before.get(key) != after.get(key)]
    lines = {key: f"{key}: {before.get(key)} -> {after.get(key)}" for key in changed}
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


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
