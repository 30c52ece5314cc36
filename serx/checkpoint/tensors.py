"""Whether the tensors of a checkpoint fit its configuration, and how they get into a recognizer."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from serx.checkpoint.header import Place
from serx.config.schema import Config
from serx.errors import CheckpointError, ConfigError
from serx.models.backbone import build_model
from serx.recognizer import Recognizer
from serx.terminal import printable

MAX_SMALL_BYTES = 256 << 20  # of all tensors whose sizes do not follow from the configuration of the model
MAX_SUPPORT_VECTORS = 1_000_000
# The first parts of the names of a run's tensors.
GROUPS = ("model", "ema", "optimizer", "scaler", "epoch", "ood", "speaker")
NOT_NEGATIVE = ("running_var", "num_batches_tracked")  # last parts of names
POSITIVE = ("deviation",)


def check_sizes(path: Path, config: Config, outputs: int, places: Mapping[str, Place]) -> None:
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


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with NaN or infinity."""
    bad = (n for n, t in tensors.items() if t.is_floating_point() and not bool(torch.isfinite(t.float()).all()))
    return next(bad, None)


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
