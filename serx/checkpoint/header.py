"""The header of a safetensors file: its metadata, where each tensor lies, and the sha256 of the whole file.

A file may come from a stranger, so each step is bounded by the one before it: the length of the header, the places of
the tensors, the sha256 (in blocks), and only then the tensors. The sha256 finds damage, not forgery.
"""

import hashlib
import json
import math
import re
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from serx.errors import CheckpointError
from serx.terminal import printable

MAX_HEADER_BYTES = 16 << 20  # half of it metadata: the digests of 200,000 clips
MAX_TENSORS = 50_000
MAX_DIMENSIONS = 8
MAX_NAME = 4096
BLOCK_BYTES = 1 << 20
NO_SHA256 = "0" * 64  # fills the place of the sha256 while it is computed
DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32,
    "I64": torch.int64, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64,
}  # fmt: skip


class Place(NamedTuple):
    """Where a tensor is: its type, its shape, and its bytes behind the header."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: Path, file: BufferedReader, size: int) -> bytes:
    """The header of a safetensors file: its length in 8 bytes, then JSON."""
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise CheckpointError(f"{path}: not a checkpoint of serx, or damaged in its header: it is longer than the file")
    if length > MAX_HEADER_BYTES:
        raise CheckpointError(
            f"{path}: not a checkpoint of serx: its header has {length} bytes, at most {MAX_HEADER_BYTES} are read"
        )
    return file.read(length)


def parse_header(path: Path, header: bytes, data_bytes: int) -> tuple[dict[str, Place], dict[str, Any]]:
    """Where each tensor is, and the JSON under `serx`. The tensors must fill the `data_bytes` behind the header."""
    try:
        table = _parse_json(header.decode())
        metadata = _parse_json(table.pop("__metadata__")["serx"])
        signed = re.fullmatch("[0-9a-f]{64}", metadata["sha256"]) is not None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        signed = False
    if not signed:
        raise CheckpointError(f"{path}: not a checkpoint of serx, or damaged in its header")
    places: dict[str, Place] = {}
    position = 0
    try:
        entries = sorted(table.items(), key=lambda item: item[1]["data_offsets"])
        for name, entry in entries:
            place = _parse_place(entry)
            if place.start != position or len(name) > MAX_NAME or printable(name) != name:
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


def _parse_place(entry: Any) -> Place:
    """One tensor of the header, if its type is known and its bytes fit its shape."""
    (start, end), shape = entry["data_offsets"], entry["shape"]
    if len(entry) != 3 or len(shape) > MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in (*shape, start, end)):
        raise ValueError("a shape or place that is not made of whole numbers")
    if entry["dtype"] not in DTYPES:
        raise ValueError(f"type {entry['dtype']} is unknown")
    dtype = DTYPES[entry["dtype"]]
    if math.prod(shape) * dtype.itemsize != end - start:
        raise ValueError(f"a tensor of shape {tuple(shape)} in {end - start} bytes")
    return Place(dtype, tuple(shape), start, end)


def verify_sha256(path: Path, file: BufferedReader, header: bytes, sha256: str) -> None:
    """Raises unless `sha256` is that of the whole file with zeros in its place."""
    digest = hashlib.sha256(len(header).to_bytes(8, "little"))
    digest.update(header.replace(sha256.encode(), NO_SHA256.encode(), 1))
    file.seek(8 + len(header))
    while block := file.read(BLOCK_BYTES):
        digest.update(block)
    if digest.hexdigest() != sha256:
        raise CheckpointError(f"{path}: damaged: its sha256 does not match; use another checkpoint or train again")


def read_tensor(path: Path, file: BufferedReader, base: int, name: str, place: Place) -> Tensor:
    file.seek(base + place.start)
    content = bytearray(place.end - place.start)
    if file.readinto(content) != len(content):
        raise CheckpointError(f"{path}: has become shorter while it was read")
    if not content:
        return torch.empty(place.shape, dtype=place.dtype)
    if place.dtype == torch.bool and max(content) > 1:
        raise CheckpointError(f"{path}: damaged: {name} is boolean and holds other numbers than 0 and 1")
    return torch.frombuffer(content, dtype=place.dtype).reshape(place.shape)
