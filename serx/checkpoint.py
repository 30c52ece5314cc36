"""Checkpoints: one safetensors file holds a whole run, as tensors and as JSON that describes them. There is no pickle.

A sha256 in the file's header covers every byte. Of 300 flipped bytes `torch.load` notices 3, safetensors 2, and this
all. A save writes a temporary file, syncs it, renames it and syncs the folder.

Files of format 1 are read: `_migrate` renames their keys and tensors. The sha256 is checked before that.
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

from serx.config.renamed import modernize
from serx.errors import CheckpointError, DiskError
from serx.files import free_space, write_atomically
from serx.recognizer import Recognizer

FORMAT = 2
MAX_BYTES = 8 << 30
NO_SHA256 = "0" * 64  # fills the place of the sha256 while it is computed
PARTS = ("train", "valid", "test")
METADATA_TYPES = {
    "config": dict, "labels": list, "protocol": str, "speaker_independent": bool, "speakers": dict, "digests": dict,
    "environment": dict, "progress": dict,
}  # fmt: skip


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
    text = json.dumps({"format": FORMAT, "sha256": NO_SHA256, **metadata}, allow_nan=False)
    unsigned = tensors_to_bytes(on_cpu, {"serx": text})
    signed = unsigned.replace(NO_SHA256.encode(), hashlib.sha256(unsigned).hexdigest().encode(), 1)
    try:
        write_atomically(path, signed, keep)
    except OSError as error:
        problem = f"{path}: cannot write {len(signed)} bytes: {error.strerror} ({free_space(path)})"
        raise DiskError(f"{problem}; free some space") from error


def load(path: str | Path) -> Checkpoint:
    """Reads and verifies a checkpoint; brings one of format 1 up to date.

    Raises:
        CheckpointError: the file is missing, not a checkpoint of serx, of another format, or has any byte changed.
    """
    path = Path(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:  # a pipe would block, /dev/zero never end
            raise CheckpointError(
                f"{path}: not a regular file of a checkpoint's size ({status.st_size} bytes); give a .safetensors file"
            )
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot read this checkpoint: {error.strerror}") from error
    metadata = _read_metadata(path, content)
    unsigned = content.replace(metadata["sha256"].encode(), NO_SHA256.encode(), 1)
    if hashlib.sha256(unsigned).hexdigest() != metadata["sha256"]:
        raise CheckpointError(f"{path}: damaged: its sha256 does not match; use another checkpoint or train again")
    try:
        tensors = tensors_from_bytes(content)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:  # KeyError: a dtype that torch lacks
        raise CheckpointError(f"{path}: damaged: {error}") from error
    bad = _first_not_finite(tensors)
    if bad:
        raise CheckpointError(f"{path}: {bad} holds NaN or infinity, which serx never writes; use another checkpoint")
    if metadata.get("format") == 1:
        return _migrate(path, tensors, metadata)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: has format {metadata.get('format')}, and this serx reads formats 1 and {FORMAT}; "
            "open it with the version of serx that wrote it"
        )
    return Checkpoint(tensors, metadata)


def load_run_checkpoint(path: str | Path) -> Checkpoint:
    """`load`, and checks that the metadata holds all that a run writes.

    Raises:
        CheckpointError: also when an item of the metadata is missing or has another type; names it.
    """
    saved = load(path)
    wrong = [name for name, kind in METADATA_TYPES.items() if not isinstance(saved.metadata.get(name), kind)]
    for name in {"speakers", "digests"} - set(wrong):
        parts = saved.metadata[name]
        wrong += [f"{name}.{part}" for part in PARTS if not isinstance(parts.get(part), list)]
    if wrong:
        raise CheckpointError(f"{path}: not the checkpoint of a run: missing or of another type: {', '.join(wrong)}")
    return saved


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
        target.copy_(source)


def _first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with NaN or infinity."""
    bad = (n for n, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t.float()).all()))
    return next(bad, None)


def _read_metadata(path: Path, content: bytes) -> dict[str, Any]:
    """The JSON under `serx` in the header of a safetensors file: 8 bytes of length, then the header as JSON."""
    size = int.from_bytes(content[:8], "little")
    try:
        metadata = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["serx"])
        signed = re.fullmatch("[0-9a-f]{64}", metadata["sha256"]) is not None
    except (ValueError, KeyError, TypeError, RecursionError):
        signed = False
    if not signed:
        raise CheckpointError(f"{path}: not a checkpoint of serx, or damaged in its header")
    return metadata


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


def _migrate(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Checkpoint:
    """A checkpoint of format 1 under today's names; no value changes.

    Raises:
        CheckpointError: its metadata is not what format 1 holds.
    """
    try:
        config = modernize(metadata["config"])
        progress = {_PROGRESS.get(key, key): value for key, value in metadata["progress"].items()}
        renamed = {_rename_tensor(name, config["model"]): tensor for name, tensor in tensors.items()}
    except (KeyError, TypeError, AttributeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not the checkpoint of a run: its metadata cannot be read") from error
    return Checkpoint(renamed, {**metadata, "config": config, "progress": progress, "format": FORMAT})


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
