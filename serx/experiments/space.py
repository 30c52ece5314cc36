"""What `--try` names: a setting of the recipe with the values, or the range of numbers, that a sweep tries."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from serx.config.yaml_lines import parse
from serx.data.audio.config import AudioConfig
from serx.errors import ConfigError
from serx.experiments.folds import FREE

_NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*\.\.\s*({_NUMBER})\s*(,\s*log)?\s*")


@dataclass(frozen=True)
class Choice:
    """Some values of a setting.

    Attributes:
        key: `section.key`.
        values: as JSON, so that 1, 1.0, "1" and true stay apart.
    """

    key: str
    values: tuple[str, ...]

    @property
    def overrides(self) -> tuple[str, ...]:
        """Every value as `section.key=value`."""
        return tuple(f"{self.key}={value}" for value in self.values)


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`, both included.

    Attributes:
        key: `section.key`.
        integer: whole numbers only.
        log: drawn evenly in the logarithm.
    """

    key: str
    low: float
    high: float
    integer: bool
    log: bool

    @property
    def overrides(self) -> tuple[str, ...]:
        """Both ends as `section.key=value`."""
        ends = (self.low, self.high)
        return tuple(f"{self.key}={int(end) if self.integer else end}" for end in ends)


Dimension = Choice | Range


def parse_space(tried: Sequence[str]) -> list[Dimension]:
    """The settings of `--try`, such as `optim.lr=[1e-3,3e-3]`, `optim.lr=1e-4..1e-2,log` or `model.layers=2..6`.

    Raises:
        ConfigError: a key that cannot be tried or occurs twice, or a text that names neither values nor a range.

    >>> parse_space(["optim.lr=[0.001, 0.003]", "model.depth=2..6"])[1]
    Range(key='model.depth', low=2.0, high=6.0, integer=True, log=False)
    """
    space = [_dimension(text) for text in tried]
    keys = [dimension.key for dimension in space]
    if twice := sorted(key for key in set(keys) if keys.count(key) > 1):
        raise ConfigError(f"--try {twice[0]} occurs twice; write its values into one list")
    return space


def _dimension(text: str) -> Dimension:
    key, _, listed = text.partition("=")
    section, _, name = key.partition(".")
    if key == "train.seed":
        raise ConfigError("--try train.seed: a seed is not a setting to choose; average several with --seeds")
    if key in FREE or (section == "data" and name not in AudioConfig.model_fields):
        raise ConfigError(
            f"--try {key}: this changes the speakers or where the run takes place, not the recipe; set it for all "
            "settings"
        )
    if limits := _RANGE.fullmatch(listed):
        return _range(text, key, *limits.groups())
    values = parse(listed, f"--try {text}")[0] if listed else None
    if not isinstance(values, tuple) or not values:
        raise ConfigError(
            f"--try {text}: give a list of values, such as optim.lr=[1e-3,3e-3], or a range, such as "
            "optim.lr=1e-4..1e-2,log"
        )
    return Choice(key, tuple(dict.fromkeys(_json(value) for value in values)))


def _range(text: str, key: str, low: str, high: str, log: str | None) -> Range:
    integer = all(re.fullmatch("[-+]?[0-9]+", end) for end in (low, high))
    result = Range(key, float(low), float(high), integer, log is not None)
    if not result.low < result.high:
        raise ConfigError(f"--try {text}: the first number of a range must be smaller than the second")
    if result.log and result.low <= 0:
        raise ConfigError(f"--try {text}: a range with log must begin above 0")
    return result


def _json(value: Any) -> str:
    return json.dumps(value)
