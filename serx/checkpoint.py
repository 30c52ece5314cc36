"""One safetensors file that holds a whole run: tensors, and JSON that says what they are. No pickle, ever.

Every byte is covered by a sha256 kept in the file's own header: `torch.load` notices 3 of 300 flipped bytes,
safetensors 2 of 300, this all of them. Saving is temporary file, fsync, rename, fsync of the folder.
"""

import hashlib
import json
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from serx.errors import CheckpointError, DiskError
from serx.files import free_space, write_atomically
from serx.recognizer import Recognizer

FORMAT = 1
MAX_BYTES = 8 << 30
_UNSIGNED = "0" * 64
PARTS = ("train", "valid", "test")
METADATA_TYPES = {
    "config": dict, "labels": list, "protocol": str, "speaker_independent": bool, "speakers": dict, "digests": dict,
    "environment": dict, "progress": dict,
}  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """`tensors` by dotted name (`model.…`, `ema.…`, `optimizer.…`) and `facts`, the JSON beside them."""

    tensors: dict[str, Tensor]
    metadata: dict[str, Any]

    def group(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under `prefix.`, without it."""
        return {name[len(prefix) + 1 :]: t for name, t in self.tensors.items() if name.startswith(f"{prefix}.")}


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], keep: Path | None = None) -> None:
    """Writes a checkpoint whole or not at all; the one it replaces goes to `keep`.

    Raises:
        CheckpointError: a tensor is not finite; such weights are never written.
        DiskError: no room, or no right to write; the checkpoint there is whole, the old one or the new.
    """
    host = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    bad = _not_finite(host)
    if bad:
        raise CheckpointError(f"{path}: not written: {bad} holds NaN or infinity")
    text = json.dumps({"format": FORMAT, "sha256": _UNSIGNED, **metadata}, allow_nan=False)
    unsigned = tensors_to_bytes(host, {"serx": text})
    signed = unsigned.replace(_UNSIGNED.encode(), hashlib.sha256(unsigned).hexdigest().encode(), 1)
    try:
        write_atomically(path, signed, keep)
    except OSError as error:
        where = f"{path}: cannot write {len(signed)} bytes: {error.strerror} ({free_space(path)})"
        raise DiskError(f"{where}; the last checkpoint written is whole: make room and add --resume") from error


def load(path: str | Path) -> Checkpoint:
    """Reads and verifies a checkpoint.

    Raises:
        CheckpointError: missing, not serx's, of another format, or with any byte changed.
    """
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:  # a pipe would wait, /dev/zero never end
            raise CheckpointError(f"{path}: no plain file of a checkpoint's size ({status.st_size} bytes)")
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read this checkpoint: {error.strerror}") from error
    metadata = _metadata(path, content)
    unsigned = content.replace(metadata["sha256"].encode(), _UNSIGNED.encode(), 1)
    if hashlib.sha256(unsigned).hexdigest() != metadata["sha256"]:
        raise CheckpointError(f"{path}: damaged: its sha256 does not match; use another checkpoint or train again")
    try:
        tensors = tensors_from_bytes(content)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:  # KeyError: a type that torch has not
        raise CheckpointError(f"{path}: damaged: {error}") from error
    bad = _not_finite(tensors)
    if bad:
        raise CheckpointError(f"{path}: {bad} holds NaN or infinity, which serx never writes; use another checkpoint")
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: format {metadata.get('format')}, this serx reads {FORMAT}; use the serx it names"
        )
    return Checkpoint(tensors, metadata)


def load_run_checkpoint(path: str | Path) -> Checkpoint:
    """`load`, of a file that says all that a run's checkpoint says of itself.

    Raises:
        CheckpointError: also when a fact is missing or of another type; named.
    """
    saved = load(path)
    wrong = [name for name, kind in METADATA_TYPES.items() if not isinstance(saved.metadata.get(name), kind)]
    for name in {"speakers", "digests"} - set(wrong):
        parts = saved.metadata[name]
        wrong += [f"{name}.{part}" for part in PARTS if not isinstance(parts.get(part), list)]
    if wrong:
        raise CheckpointError(f"{path}: not the checkpoint of a run: it does not rightly say {', '.join(wrong)}")
    return saved


def _not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The first tensor with a NaN or an infinity, by name."""
    wrong = (n for n, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t.float()).all()))
    return next(wrong, None)


def _metadata(path: Path, content: bytes) -> dict[str, Any]:
    """The JSON under `serx` in the header of a safetensors file: 8 bytes of length, then the header's own JSON."""
    size = int.from_bytes(content[:8], "little")
    try:
        metadata = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["serx"])
        signed = re.fullmatch("[0-9a-f]{64}", metadata["sha256"]) is not None
    except (ValueError, KeyError, TypeError, RecursionError):
        signed = False
    if not signed:
        raise CheckpointError(f"{path}: not a checkpoint of serx, or damaged in its header")
    return metadata


def fill(module: Recognizer, tensors: dict[str, Tensor], what: str) -> None:
    """Copies tensors into a recognizer, every one and no other.

    Raises:
        CheckpointError: names the first that is missing, left over, or of another shape or type.
    """
    module.resize_for(tensors)
    expected = module.state_dict()
    for name in expected.keys() ^ tensors.keys():
        raise CheckpointError(f"checkpoint: {what}.{name} is {'missing' if name in expected else 'left over'}")
    for name, here in expected.items():
        there = tensors[name]
        if here.shape != there.shape or here.dtype != there.dtype:
            raise CheckpointError(
                f"checkpoint: {what}.{name} is {there.dtype} {tuple(there.shape)}, "
                f"its own configuration wants {here.dtype} {tuple(here.shape)}"
            )
        here.copy_(there)
