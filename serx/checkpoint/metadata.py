"""What the JSON in a run's checkpoint must be: `RunMetadata`, checked item by item before anything is built from it."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, model_validator

from serx.base_config import BaseConfig
from serx.checkpoint.header import MAX_HEADER_BYTES, NO_SHA256
from serx.config.loader import Config, from_tree, tuples
from serx.data.dataset import DataConfig
from serx.errors import CheckpointError, ConfigError
from serx.recognizer import Dimension
from serx.terminal import printable

FORMAT = 2
PARTS = ("train", "valid", "test")
MAX_DEPTH, MAX_VALUES, MAX_TEXT, MAX_NUMBER = 16, 20_000, 4096, 1 << 53  # of the configuration


def _as_printed(text: str) -> str:
    if printable(text) != text:
        raise ValueError("has characters that cannot be printed")
    return text


Count = Annotated[int, Field(ge=0, le=MAX_NUMBER)]
Label = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_as_printed)]
Line = Annotated[str, Field(max_length=4000), AfterValidator(_as_printed)]
SpeakerId = Annotated[str, Field(min_length=1, max_length=1000)]  # may hold bytes of a folder's name that are not text
Digest = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


class ProgressMetadata(BaseConfig):
    """How far the run has come; see `serx.training.state.Progress`."""

    epoch: Count
    step: Count
    best: float | None
    best_epoch: Count | None
    epochs_since_best: Count
    plateau_scale: float = Field(gt=0, le=1)
    epochs_on_plateau: Count


class SpeakersMetadata(BaseConfig):
    """The speakers of each part, such as `ravdess/07`."""

    train: tuple[SpeakerId, ...] = Field(min_length=1)
    valid: tuple[SpeakerId, ...]
    test: tuple[SpeakerId, ...]


class DigestsMetadata(BaseConfig):
    """The digests of the decoded clips of each part."""

    train: tuple[Digest, ...] = Field(min_length=1)
    valid: tuple[Digest, ...]
    test: tuple[Digest, ...]


class SourceMetadata(BaseConfig):
    """A checkpoint that the run began from; see `serx.training.init_from`."""

    path: str = Field(min_length=1, max_length=MAX_TEXT)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    protocol: Line = Field(min_length=1)
    speakers: SpeakersMetadata
    digests: DigestsMetadata
    data: DataConfig
    role: Literal["weights", "teacher"] = "weights"


class DimensionMetadata(BaseConfig):
    """A dimension that the model predicts, with the range of its ratings in training; see `serx.recognizer`."""

    name: Label
    low: float = Field(ge=-1e9, le=1e9)
    high: float = Field(ge=-1e9, le=1e9)


class RunMetadata(BaseConfig):
    """What the metadata of a run's checkpoint must be. Everything in it is data: nothing is run, opened or written.

    >>> RunMetadata.model_validate({"labels": [3]})
    Traceback (most recent call last):
    pydantic_core._pydantic_core.ValidationError: ...
    """

    format: Count
    sha256: str
    progress: ProgressMetadata
    config: dict[str, Any]
    labels: tuple[Label, ...] = Field(max_length=1000)
    dimensions: tuple[DimensionMetadata, ...] = Field((), max_length=20)
    protocol: Line = Field(min_length=1)
    speaker_independent: bool
    speakers: SpeakersMetadata
    digests: DigestsMetadata
    duplicates: tuple[Line, ...] = Field((), max_length=1_000_000)  # files left out by `data.duplicates`
    environment: dict[Label, Line | Count | float | bool | None] = Field(max_length=50)
    init_from: tuple[SourceMetadata, ...] = Field((), max_length=50)
    temperature: float = Field(1.0, gt=0.01, lt=100)  # only `best.safetensors` has one
    min_confidence: float = Field(0.0, ge=0, le=1)  # of the model that ships with serx: below it, it says "unsure"

    @model_validator(mode="after")
    def _fits_together(self) -> "RunMetadata":
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("labels: a label is there twice")
        if len(self.labels) < (0 if self.dimensions else 2) or len(self.labels) == 1:
            raise ValueError(f"labels: {len(self.labels)} of them; there are two or more, or dimensions alone")
        if len({dimension.name for dimension in self.dimensions}) < len(self.dimensions):
            raise ValueError("dimensions: a name is there twice")
        if any(dimension.low >= dimension.high for dimension in self.dimensions):
            raise ValueError("dimensions: low is not below high")
        shared = set(self.speakers.train) & set(self.speakers.test)
        if self.speaker_independent and shared:
            raise ValueError("speaker_independent: true, but a speaker is in train and in test")
        if (self.progress.best is None) != (self.progress.best_epoch is None):
            raise ValueError("progress: best and best_epoch must both be null or both be numbers")
        return self


def unsigned_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata with today's format and zeros for the sha256, as `save` signs it."""
    return {"format": FORMAT, "sha256": NO_SHA256, **metadata}


def metadata_fault(metadata: Mapping[str, Any]) -> str | None:
    """The first item of a run's metadata that is not what `RunMetadata` says, and what is wrong with it.

    >>> metadata_fault({"format": 2, "sha256": "", "progress": None})
    'progress: input should be an object: ProgressMetadata'
    """
    try:
        RunMetadata.model_validate(metadata)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
        item = printable(".".join(map(str, fault["loc"])))[:200]
        message = fault["msg"].removeprefix("Value error, ").replace("a valid dictionary or instance of", "an object:")
        return f"{item}: {message[0].lower()}{message[1:]}" if item else message
    except RecursionError:
        return "nested too deep"
    try:
        check_tree({"config": metadata["config"], "init_from": [s["data"] for s in metadata.get("init_from", ())]})
    except ValueError as error:
        return f"config: {error}"
    if len(json.dumps(metadata)) > MAX_HEADER_BYTES // 2:
        return f"more than {MAX_HEADER_BYTES // 2} characters"
    return None


def check_metadata(source: Path | str, metadata: Mapping[str, Any]) -> Config:
    """The configuration in the metadata of a run, after a check of every item.

    Args:
        source: what messages name.
        metadata: of a checkpoint.

    Raises:
        CheckpointError: an item is missing, left over, or not what a run writes; names the first one.
    """
    if fault := metadata_fault(metadata):
        raise CheckpointError(f"{source}: not the checkpoint of a run: {fault}; use another checkpoint")
    try:
        config = from_tree(tuples(metadata["config"]), source=f"{source}: config")
    except ConfigError as error:
        first, _, more = str(error).partition("\n")
        others = f" (and {more.count(chr(10)) + 1} more)" if more else ""
        raise CheckpointError(f"{first}{others}; not readable by this version of serx") from error
    except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        raise CheckpointError(f"{source}: config: not readable by this version of serx: {error}") from error
    names = tuple(dimension["name"] for dimension in metadata.get("dimensions", ()))
    learned = config.data.dimensions if "dimensions" in config.data.tasks else ()
    if names != learned or bool(metadata["labels"]) != ("emotions" in config.data.tasks):
        raise CheckpointError(f"{source}: labels or dimensions are not those of its data.tasks; use another checkpoint")
    return config


def dimensions_of(metadata: Mapping[str, Any]) -> tuple[Dimension, ...]:
    """The dimensions that a run's model predicts.

    >>> dimensions_of({"dimensions": [{"name": "arousal", "low": 1, "high": 7}]})
    (Dimension(name='arousal', low=1.0, high=7.0),)
    """
    return tuple(Dimension(d["name"], float(d["low"]), float(d["high"])) for d in metadata.get("dimensions", ()))


def check_tree(tree: Mapping[str, Any]) -> None:
    """Raises ValueError where a configuration is deeper, longer or larger than any recipe."""
    level: list[Any] = [tree]
    values = 0
    for _ in range(MAX_DEPTH):
        values += len(level)
        if values > MAX_VALUES:
            raise ValueError(f"more than {MAX_VALUES} values")
        inner: list[Any] = []
        for value in level:
            if isinstance(value, str) and len(value) > MAX_TEXT:
                raise ValueError(f"a text of {len(value)} characters")
            if isinstance(value, int) and abs(value) > MAX_NUMBER:
                raise ValueError("a number that is too large")
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{value} is not a finite number")
            inner += [*value.keys(), *value.values()] if isinstance(value, dict) else []
            inner += value if isinstance(value, list) else []
        if not inner:
            return
        level = inner
    raise ValueError("nested too deep")
