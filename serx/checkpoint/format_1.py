"""Checkpoints of format 1, which had other names for settings, progress, tensors and modules."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serx.checkpoint.header import Place
from serx.checkpoint.metadata import FORMAT, check_tree
from serx.config.renamed import modernize
from serx.errors import CheckpointError

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


def migrate(
    path: Path, places: Mapping[str, Place], metadata: Mapping[str, Any]
) -> tuple[dict[str, Place], dict[str, Any]]:
    """A checkpoint of format 1 under today's names; no value changes.

    Raises:
        CheckpointError: its metadata is not what format 1 holds.
    """
    try:
        check_tree(metadata["config"])
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
