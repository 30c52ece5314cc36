"""Checkpoints: one safetensors file holds a whole run, as tensors and as JSON that describes them. There is no pickle.

A sha256 in the file's header covers every byte. Of 300 flipped bytes `torch.load` notices 3, safetensors 2, and this
all. A save writes a temporary file, syncs it, renames it and syncs the folder.

The sha256 finds damage, not forgery. A file is read in an order in which each step is bounded by the one before it:
the length of the header, the places of the tensors, the sha256 (in blocks), the metadata by `RunMetadata`, the sizes of
the tensors by the configuration, and only then the tensors. No path in a checkpoint decides where anything is written.

Files of format 1 are read: `_migrate` renames their keys and tensors. The sha256 is checked before that.
"""

import hashlib
import json
import math
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
from pydantic import AfterValidator, Field, ValidationError, model_validator
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from serx.base_config import BaseConfig
from serx.config.loader import Config, from_tree, tuples
from serx.config.renamed import modernize
from serx.data.dataset import DataConfig
from serx.errors import CheckpointError, ConfigError, DiskError, is_out_of_memory
from serx.files import why_not_written, write_atomically
from serx.models.backbone import build_model
from serx.recognizer import Dimension, Recognizer
from serx.terminal import printable

FORMAT = 2
MAX_BYTES = 8 << 30
MAX_HEADER_BYTES = 16 << 20  # half of it metadata: the digests of 200,000 clips
MAX_TENSORS = 50_000
MAX_DIMENSIONS = 8
MAX_SMALL_BYTES = 256 << 20  # of all tensors whose sizes do not follow from the configuration of the model
MAX_SUPPORT_VECTORS = 1_000_000
MAX_DEPTH, MAX_VALUES, MAX_TEXT, MAX_NUMBER = 16, 20_000, 4096, 1 << 53  # of the configuration
BLOCK_BYTES = 1 << 20
NO_SHA256 = "0" * 64  # fills the place of the sha256 while it is computed
PARTS = ("train", "valid", "test")
GROUPS = (
    "model",
    "ema",
    "optimizer",
    "scaler",
    "epoch",
    "ood",
    "speaker",
)  # the first parts of the names of a run's tensors
NOT_NEGATIVE = ("running_var", "num_batches_tracked")  # last parts of names
POSITIVE = ("deviation",)
DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32,
    "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64,
}  # fmt: skip


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


class _Place(NamedTuple):
    """Where a tensor is: its type, its shape, and its bytes behind the header."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Checkpoint:
    """`tensors` by dotted name (`model.…`, `ema.…`, `optimizer.…`) and `metadata`, the JSON that describes the run.

    >>> saved = Checkpoint({"model.bias": torch.zeros(3), "ema.bias": torch.ones(3)}, {"labels": ["angry"]})
    >>> saved.group("ema")
    {'bias': tensor([1., 1., 1.])}
    """

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `prefix.`, by the rest of their names."""
        return {name[len(prefix) + 1 :]: t for name, t in self.tensors.items() if name.startswith(f"{prefix}.")}


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], keep: Path | None = None) -> None:
    """Writes a whole checkpoint or none; moves the checkpoint that it replaces to `keep`, if given.

    Raises:
        CheckpointError: a tensor holds NaN or infinity; such weights are never written.
        DiskError: the disk is full or not writable; the checkpoint at `path` is whole, either the old or the new one.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "best.safetensors"
    >>> save(path, {"model.bias": torch.zeros(3)}, {"labels": ["angry", "happy", "sad"]})
    >>> load(path).metadata["labels"]
    ['angry', 'happy', 'sad']
    """
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    bad = _first_not_finite(on_cpu)
    if bad:
        raise CheckpointError(f"{path}: not written: {bad} holds NaN or infinity")
    text = json.dumps(unsigned_metadata(metadata), allow_nan=False)
    unsigned = tensors_to_bytes(on_cpu, {"serx": text})
    signed = unsigned.replace(NO_SHA256.encode(), hashlib.sha256(unsigned).hexdigest().encode(), 1)
    try:
        write_atomically(path, signed, keep)
    except OSError as error:
        raise DiskError(f"{path}: cannot write {len(signed)} bytes: {why_not_written(error, path)}") from error


def unsigned_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata with today's format and zeros for the sha256, as `save` signs it."""
    return {"format": FORMAT, "sha256": NO_SHA256, **metadata}


def load(path: str | Path) -> Checkpoint:
    """Reads and verifies a checkpoint; brings one of format 1 up to date.

    Raises:
        CheckpointError: the file is missing, not a checkpoint of serx, of another format, or has any byte changed.
    """
    return _load(Path(path), of_run=False)


def load_run_checkpoint(path: str | Path) -> Checkpoint:
    """`load`, and checks that the metadata is what a run writes, by `RunMetadata`, and that the tensors fit it.

    Raises:
        CheckpointError: also when an item of the metadata is missing, of another type or out of its range, or a tensor
            is larger than the configuration needs; names it.
    """
    return _load(Path(path), of_run=True)


def _load(path: Path, of_run: bool) -> Checkpoint:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:  # a pipe would block, /dev/zero never end
            raise CheckpointError(
                f"{path}: not a regular file of a checkpoint's size ({status.st_size} bytes); give a .safetensors file"
            )
        with path.open("rb") as file:
            header = _read_header(path, file, status.st_size)
            places, metadata = _parse_header(path, header, status.st_size - 8 - len(header))
            _verify_sha256(path, file, header, metadata["sha256"])
            places, metadata = _up_to_date(path, places, metadata)
            if of_run:
                config = check_metadata(path, metadata)
                _check_sizes(path, config, len(metadata["labels"]) + len(metadata.get("dimensions", ())), places)
            tensors = {name: _read_tensor(path, file, 8 + len(header), name, place) for name, place in places.items()}
    except (OSError, ValueError) as error:  # ValueError: a zero byte in its name
        if is_out_of_memory(error):
            raise
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path}: cannot read this checkpoint: {reason}") from error
    bad = _first_not_finite(tensors)
    if bad:
        raise CheckpointError(f"{path}: {bad} holds NaN or infinity, which serx never writes; use another checkpoint")
    return Checkpoint(tensors, metadata)


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
        _check_tree({"config": metadata["config"], "init_from": [s["data"] for s in metadata.get("init_from", ())]})
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


def fill(module: Recognizer, tensors: dict[str, Tensor], what: str) -> None:
    """Copies `tensors` into a recognizer. Every tensor of the recognizer must be there, and no other.

    Raises:
        CheckpointError: a tensor is missing, left over, or of another shape or dtype; names `what` and the first one.
    """
    module.resize_for(tensors)
    expected = module.state_dict()
    for name in expected.keys() ^ tensors.keys():
        raise CheckpointError(f"checkpoint: {what}.{name} is {'missing' if name in expected else 'left over'}")
    for name, target in expected.items():
        source = tensors[name]
        if target.shape != source.shape or target.dtype != source.dtype:
            raise CheckpointError(
                f"checkpoint: {what}.{name} is {source.dtype} {tuple(source.shape)}, "
                f"but its configuration needs {target.dtype} {tuple(target.shape)}"
            )
        last = name.rpartition(".")[2]
        if (last in NOT_NEGATIVE and bool((source < 0).any())) or (last in POSITIVE and bool((source <= 0).any())):
            raise CheckpointError(f"checkpoint: {what}.{name} is not positive, and training never makes it so")
        target.copy_(source)


def _first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with NaN or infinity."""
    bad = (n for n, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t.float()).all()))
    return next(bad, None)


def _read_header(path: Path, file: BufferedReader, size: int) -> bytes:
    """The header of a safetensors file: its length in 8 bytes, then JSON."""
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise CheckpointError(f"{path}: not a checkpoint of serx, or damaged in its header: it is longer than the file")
    if length > MAX_HEADER_BYTES:
        raise CheckpointError(
            f"{path}: not a checkpoint of serx: its header has {length} bytes, at most {MAX_HEADER_BYTES} are read"
        )
    return file.read(length)


def _parse_header(path: Path, header: bytes, data_bytes: int) -> tuple[dict[str, _Place], dict[str, Any]]:
    """Where each tensor is, and the JSON under `serx`. The tensors must fill the `data_bytes` behind the header."""
    try:
        table = _parse_json(header.decode())
        metadata = _parse_json(table.pop("__metadata__")["serx"])
        signed = re.fullmatch("[0-9a-f]{64}", metadata["sha256"]) is not None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        signed = False
    if not signed:
        raise CheckpointError(f"{path}: not a checkpoint of serx, or damaged in its header")
    places: dict[str, _Place] = {}
    position = 0
    try:
        entries = sorted(table.items(), key=lambda item: item[1]["data_offsets"])
        for name, entry in entries:
            place = _parse_place(entry)
            if place.start != position or len(name) > MAX_TEXT or printable(name) != name:
                raise ValueError("overlaps another tensor, leaves a gap, or has no plain name")
            places[name], position = place, place.end
        if position != data_bytes:
            raise ValueError(f"has {position} bytes of tensors in its header and {data_bytes} behind it")
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged in the header of its tensors: {printable(error)[:200]}") from error
    return places, metadata


def _parse_json(text: str) -> Any:
    """JSON of no more lists and dicts than the header of `MAX_TENSORS` has: these cost the most memory."""
    if text.count("[") + text.count("{") > 4 * MAX_TENSORS:
        raise ValueError("too many lists")
    return json.loads(text)


def _parse_place(entry: Any) -> _Place:
    """One tensor of the header, if its type is known and its bytes fit its shape."""
    (start, end), shape = entry["data_offsets"], entry["shape"]
    if len(entry) != 3 or len(shape) > MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in (*shape, start, end)):
        raise ValueError("a shape or place that is not made of whole numbers")
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"type {entry['dtype']} is unknown")
    dtype = DTYPES[entry["dtype"]]
    if math.prod(shape) * dtype.itemsize != end - start:
        raise ValueError(f"a tensor of shape {tuple(shape)} in {end - start} bytes")
    return _Place(dtype, tuple(shape), start, end)


def _verify_sha256(path: Path, file: BufferedReader, header: bytes, sha256: str) -> None:
    """Raises unless `sha256` is that of the whole file with zeros in its place."""
    digest = hashlib.sha256(len(header).to_bytes(8, "little"))
    digest.update(header.replace(sha256.encode(), NO_SHA256.encode(), 1))
    file.seek(8 + len(header))
    while block := file.read(BLOCK_BYTES):
        digest.update(block)
    if digest.hexdigest() != sha256:
        raise CheckpointError(f"{path}: damaged: its sha256 does not match; use another checkpoint or train again")


def _read_tensor(path: Path, file: BufferedReader, base: int, name: str, place: _Place) -> Tensor:
    file.seek(base + place.start)
    content = bytearray(place.end - place.start)
    if file.readinto(content) != len(content):
        raise CheckpointError(f"{path}: has become shorter while it was read")
    if not content:
        return torch.empty(place.shape, dtype=place.dtype)
    if place.dtype == torch.bool and max(content) > 1:
        raise CheckpointError(f"{path}: damaged: {name} is boolean and holds other numbers than 0 and 1")
    return torch.frombuffer(content, dtype=place.dtype).reshape(place.shape)


def _up_to_date(
    path: Path, places: dict[str, _Place], metadata: dict[str, Any]
) -> tuple[dict[str, _Place], dict[str, Any]]:
    """Tensors and metadata under today's names."""
    version = metadata.get("format")
    if version == 1 and version is not True:
        return _migrate(path, places, metadata)
    if version != FORMAT:
        shown = printable(version)[:50]
        raise CheckpointError(
            f"{path}: has format {shown}, and this serx reads formats 1 and {FORMAT}; "
            "open it with the version of serx that wrote it"
        )
    return places, metadata


def _check_tree(tree: Mapping[str, Any]) -> None:
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


def _check_sizes(path: Path, config: Config, outputs: int, places: Mapping[str, _Place]) -> None:
    """Raises before memory is taken if the tensors and the configuration ask for different amounts of it."""
    if unknown := [name for name in places if name.partition(".")[0] not in GROUPS or "." not in name[:-1]]:
        raise CheckpointError(f"{path}: {unknown[0]} is left over")
    try:
        with torch.device("meta"):
            expected = build_model(config.model, config.features.bins, outputs).state_dict()
    except (ConfigError, RuntimeError, ValueError, ArithmeticError, MemoryError) as error:
        reason = printable(str(error).partition("\n")[0])
        raise CheckpointError(f"{path}: config: the model cannot be built: {reason}") from error
    shapes = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    averaged = any(name.startswith("ema.") for name in places)
    for group in ("model", "ema") if averaged else ("model",):
        for name, shape in shapes.items():
            saved = places.get(f"{group}.backbone.{name}")
            if saved is None or not _fits(saved.shape, shape):
                found = "missing" if saved is None else str(saved.shape)
                raise CheckpointError(f"{path}: backbone.{name} is {found}, its configuration needs {shape}")
    small = 0
    for name, place in places.items():
        needed = shapes.get(name.partition("backbone.")[2])
        if needed is None or name.startswith("optimizer.step."):
            small += place.end - place.start
        elif not _fits(place.shape, needed):
            raise CheckpointError(f"{path}: {name} is {place.shape}, its configuration needs {needed}")
    if small > MAX_SMALL_BYTES:
        raise CheckpointError(f"{path}: {small} bytes of its tensors are left over")


def _fits(saved: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """Whether a tensor has the shape that is expected; training sets the number of support vectors, 0 before it."""
    return len(saved) == len(expected) and all(
        n == m or (m == 0 and n <= MAX_SUPPORT_VECTORS) for n, m in zip(saved, expected, strict=True)
    )


# Format 1: other names of configuration keys, progress, tensors and modules.

_PROGRESS = {"place": "step", "stale": "epochs_since_best", "plateau_stale": "epochs_on_plateau"}
_GROUPS = {"familiar": "ood"}
_MODULES = {
    "embed": "embedding",
    "embed_norm": "embedding_norm",
    "classify": "classifier",
    "over_time.onward": "gru.forward_gru",
    "over_time.back": "gru.backward_gru",
}
_STAGES = {name: f"stages.{name}" for name in ("stem", "norm", "blocks")}
# By kind: the modules of a network that have other names now. timm's networks keep theirs.
_MODULES_OF_KIND = {
    "cnn1d": _MODULES,
    "cnn2d": _MODULES | _STAGES,
    "sequential": _MODULES,
}


def _migrate(
    path: Path, places: Mapping[str, _Place], metadata: Mapping[str, Any]
) -> tuple[dict[str, _Place], dict[str, Any]]:
    """A checkpoint of format 1 under today's names; no value changes.

    Raises:
        CheckpointError: its metadata is not what format 1 holds.
    """
    try:
        _check_tree(metadata["config"])
        config = modernize(metadata["config"])
        progress = {_PROGRESS.get(key, key): value for key, value in metadata["progress"].items()}
        renamed = {_rename_tensor(name, config["model"]): place for name, place in places.items()}
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not the checkpoint of a run: its metadata cannot be read") from error
    if len(renamed) < len(places):
        raise CheckpointError(f"{path}: not the checkpoint of a run: two of its tensors have one name")
    return renamed, {**metadata, "config": config, "progress": progress, "format": FORMAT}


def _rename_tensor(name: str, model: Mapping[str, Any]) -> str:
    """`model.backbone.embed.weight` -> `model.backbone.members.0.embedding.weight`, of a single network."""
    group, _, rest = name.partition(".")
    prefix, backbone, module = rest.partition("backbone.")  # the prefix of an optimizer's tensor is such as `exp_avg.`
    group = _GROUPS.get(group, group)
    if not backbone:
        return f"{group}.{rest}"
    if model["relaxed_freq_norm"] > 0:
        module = module.removeprefix("net.")
    if module.startswith("trunk."):
        return f"{group}.{prefix}backbone.shared.{module.removeprefix('trunk.')}"
    if model["ensemble_size"] == 1:
        module = f"members.0.{module}"
    members, number, inner = module.split(".", 2)
    for old, new in _MODULES_OF_KIND.get(model["kind"], {}).items():
        if inner.startswith(f"{old}."):
            inner = new + inner.removeprefix(old)
            break
    return f"{group}.{prefix}backbone.{members}.{number}.{inner}"
