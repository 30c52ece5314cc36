"""Save and load a checkpoint: the one place where a checkpoint's file is written and read.

A save writes a temporary file, syncs it, renames it and syncs the folder. A load checks each part before it uses it:
the header, the sha256, the metadata, the sizes of the tensors, and their values.
"""

import hashlib
import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from serx.checkpoint import format_1
from serx.checkpoint.header import NO_SHA256, Place, parse_header, read_header, read_tensor, verify_sha256
from serx.checkpoint.metadata import FORMAT, check_metadata, unsigned_metadata
from serx.checkpoint.tensors import check_sizes, first_not_finite
from serx.errors import CheckpointError, DiskError, is_out_of_memory
from serx.files import why_not_written, write_atomically
from serx.terminal import printable

MAX_BYTES = 8 << 30


@dataclass(frozen=True)
class Checkpoint:
    """`tensors` by dotted name (`model.…`, `ema.…`, `optimizer.…`) and `metadata`, the JSON that describes the run.

    >>> import torch
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

    >>> import tempfile, torch
    >>> path = Path(tempfile.mkdtemp()) / "best.safetensors"
    >>> save(path, {"model.bias": torch.zeros(3)}, {"labels": ["angry", "happy", "sad"]})
    >>> load(path).metadata["labels"]
    ['angry', 'happy', 'sad']
    """
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    bad = first_not_finite(on_cpu)
    if bad:
        raise CheckpointError(f"{path}: not written: {bad} holds NaN or infinity")
    text = json.dumps(unsigned_metadata(metadata), allow_nan=False)
    unsigned = tensors_to_bytes(on_cpu, {"serx": text})
    signed = unsigned.replace(NO_SHA256.encode(), hashlib.sha256(unsigned).hexdigest().encode(), 1)
    try:
        write_atomically(path, signed, keep)
    except OSError as error:
        raise DiskError(f"{path}: cannot write {len(signed)} bytes: {why_not_written(error, path)}") from error


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
            header = read_header(path, file, status.st_size)
            places, metadata = parse_header(path, header, status.st_size - 8 - len(header))
            verify_sha256(path, file, header, metadata["sha256"])
            places, metadata = _up_to_date(path, places, metadata)
            if of_run:
                config = check_metadata(path, metadata)
                check_sizes(path, config, len(metadata["labels"]) + len(metadata.get("dimensions", ())), places)
            tensors = {name: read_tensor(path, file, 8 + len(header), name, place) for name, place in places.items()}
    except (OSError, ValueError) as error:  # ValueError: a zero byte in its name
        if is_out_of_memory(error):
            raise
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{path}: cannot read this checkpoint: {reason}") from error
    bad = first_not_finite(tensors)
    if bad:
        raise CheckpointError(f"{path}: {bad} holds NaN or infinity, which serx never writes; use another checkpoint")
    return Checkpoint(tensors, metadata)


def _up_to_date(
    path: Path, places: dict[str, Place], metadata: dict[str, Any]
) -> tuple[dict[str, Place], dict[str, Any]]:
    """Tensors and metadata under today's names."""
    version = metadata.get("format")
    if version == 1 and version is not True:
        return format_1.migrate(path, places, metadata)
    if version != FORMAT:
        shown = printable(version)[:50]
        raise CheckpointError(
            f"{path}: has format {shown}, and this serx reads formats 1 and {FORMAT}; "
            "open it with the version of serx that wrote it"
        )
    return places, metadata
