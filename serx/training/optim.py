"""AdamW with decay where it belongs, the learning-rate schedules, the loss scale of float16, and averaged weights."""

import math
from copy import deepcopy
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import AdamW

from serx.config.training import OptimConfig
from serx.errors import CheckpointError

M = TypeVar("M", bound=nn.Module)
ONECYCLE_START = 1 / 25  # the first learning rate of `onecycle`, as a share of the highest


@runtime_checkable
class Layered(Protocol):
    """A module that asks for smaller learning rates for some of its parameters."""

    def rate_scales(self) -> dict[nn.Parameter, float]: ...


def make_optimizer(module: nn.Module, config: OptimConfig) -> AdamW:
    """AdamW that decays matrices and kernels, but no norms and biases.

    Each parameter group has a `rate_scale`, the share of the learning rate that its parameters ask for (`Layered`);
    the first two groups have 1. The fused kernel skips a step with non-finite gradients without asking the host.

    >>> [group["weight_decay"] for group in make_optimizer(nn.Linear(2, 2), OptimConfig()).param_groups]
    [0.02, 0.0]
    """
    scales: dict[nn.Parameter, float] = {}
    for part in module.modules():
        if isinstance(part, Layered):
            scales |= part.rate_scales()
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = []
    for scale in sorted({1.0, *scales.values()}, reverse=True):
        scaled = [p for p in trained if scales.get(p, 1.0) == scale]
        decayed, undecayed = [p for p in scaled if p.dim() > 1], [p for p in scaled if p.dim() <= 1]
        groups.append({"params": decayed, "weight_decay": config.weight_decay, "rate_scale": scale})
        groups.append({"params": undecayed, "weight_decay": 0.0, "rate_scale": scale})
    return AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


def learning_rate(config: OptimConfig, step: int, steps: int, plateau_scale: float = 1.0) -> float:
    """The learning rate of `step` (from 0) of `steps`.

    `plateau_scale` is the factor to which the `plateau` schedule has come down; the other schedules ignore it.

    >>> config = OptimConfig(lr=0.1, schedule="cosine", warmup_ratio=0.2)
    >>> [round(learning_rate(config, step, 10), 3) for step in range(10)]
    [0.05, 0.1, 0.1, 0.096, 0.085, 0.069, 0.05, 0.031, 0.015, 0.004]
    """
    warmup = round(config.warmup_ratio * steps)
    if step < warmup:
        rise = (step + 1) / warmup
        if config.schedule == "onecycle":
            rise = ONECYCLE_START + (1 - ONECYCLE_START) * (1 - math.cos(math.pi * rise)) / 2
        return config.lr * rise
    if config.schedule == "plateau":
        return config.lr * plateau_scale
    if config.schedule == "constant":
        return config.lr
    done = (step - warmup) / max(1, steps - warmup)
    return config.lr * (config.final_lr_ratio + (1 - config.final_lr_ratio) * (1 + math.cos(math.pi * done)) / 2)


class Moments:
    """The state of an AdamW by the names of the parameters of `module`, for checkpoints."""

    def __init__(self, optimizer: AdamW, module: nn.Module) -> None:
        self._optimizer, self._module = optimizer, module

    def state_dict(self) -> dict[str, Tensor]:
        """`exp_avg.NAME`, `exp_avg_sq.NAME` and `step.NAME` of every parameter that has had a step."""
        state = self._optimizer.state
        return {f"{key}.{name}": t for name, p in self._trained() for key, t in state.get(p, {}).items()}

    def load_state_dict(self, tensors: dict[str, Tensor], /) -> None:
        """Copies the tensors into new moments, which have the memory order of their parameters.

        The fused kernel reads moments in that order; contiguous ones would give another run for channels-last kernels.

        Raises:
            CheckpointError: a moment is missing or has another shape or type; names it.
        """
        for name, parameter in self._trained():
            state = self._optimizer.state[parameter]
            state["step"] = torch.zeros((), device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
            for key, target in state.items():
                saved = checked(tensors, f"{key}.{name}", target, "optimizer")
                if key != "exp_avg" and bool((saved < 0).any()):
                    raise CheckpointError(f"checkpoint: optimizer.{key}.{name} is negative")
                target.copy_(saved)

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self._module.named_parameters() if p.requires_grad]


class LossScaler(GradScaler):
    """The factor of the loss that keeps small gradients in the range of float16; always 1 at other precisions.

    It never falls below 1, since it would not return from 0.
    """

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._in_half, self._one = dtype == torch.float16, torch.ones((), device=device)
        super().__init__(device.type, init_scale=2.0**14 if self._in_half else 1.0, growth_interval=500)

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Adapts the scale after a step."""
        super().update(new_scale)
        scale = self.scale(self._one)
        super().update(scale.clamp(min=1.0) if self._in_half else self._one)

    def state_dict(self) -> dict[str, Any]:
        """`scale`, and `growth`: the steps since the scale last changed."""
        return {
            "scale": self.scale(self._one),
            "growth": torch.tensor(super().state_dict()["_growth_tracker"]),
        }

    def load_state_dict(self, tensors: dict[str, Any], /) -> None:
        """Restores what `state_dict` returned.

        Raises:
            CheckpointError: a tensor is missing or has another shape or type.
        """
        current = self.state_dict()
        scale = checked(tensors, "scale", current["scale"], "scaler")
        growth = checked(tensors, "growth", current["growth"], "scaler")
        if not (float(scale) > 0 and int(growth) >= 0):
            raise CheckpointError("checkpoint: scaler.scale or scaler.growth is negative")
        super().load_state_dict({**super().state_dict(), "scale": float(scale), "_growth_tracker": int(growth)})


class AveragedWeights(Generic[M]):
    """An exponential moving average of a module's parameters and running statistics.

    The decay starts low and rises to its value, so that the random initial weights do not count. Adam's bias correction
    serves the same purpose.
    """

    def __init__(self, module: M, decay: float) -> None:
        self.module = deepcopy(module).requires_grad_(False).eval()
        self._decay = decay
        self._averages, self._live = _floats(self.module), _floats(module)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves the average toward the module, after `step` (from 0)."""
        weight = 1 - min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._live, weight)


def checked(tensors: dict[str, Tensor], name: str, expected: Tensor, part: str, any_length: bool = False) -> Tensor:
    """The tensor of that name, if it has the shape and type of `expected`; a vector may have `any_length`.

    Raises:
        CheckpointError: it is missing or has another shape or type; names `part` and `name`.
    """
    saved = tensors.get(name)
    fits = saved is not None and saved.dtype == expected.dtype and saved.dim() == expected.dim()
    if saved is None or not fits or not (any_length or saved.shape == expected.shape):
        raise CheckpointError(f"checkpoint: {part}.{name} is missing or has another shape or type")
    return saved


def _floats(module: nn.Module) -> list[Tensor]:
    return [tensor for tensor in module.state_dict(keep_vars=True).values() if tensor.is_floating_point()]
