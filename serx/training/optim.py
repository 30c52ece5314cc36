"""AdamW with decay where it belongs, the learning rate as a function of the step, and averaged weights."""

import math
from copy import deepcopy
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from serx.config.training import OptimConfig

M = TypeVar("M", bound=nn.Module)
ONECYCLE_START = 1 / 25  # the rate of the first step, as a share of the highest


@runtime_checkable
class Layered(Protocol):
    """A module some of whose parameters learn at a share of the learning rate."""

    def rate_scales(self) -> dict[nn.Parameter, float]: ...


def make_optimizer(module: nn.Module, config: OptimConfig) -> AdamW:
    """AdamW that decays matrices and kernels, never norms and biases.

    Each group has a `rate_scale`, the share of the learning rate its parameters asked for (`Layered`), 1 by default
    and for the first groups. The fused kind skips a step with non-finite gradients by itself, on a flag that stays on
    the device.
    """
    scales: dict[nn.Parameter, float] = {}
    for part in module.modules():
        if isinstance(part, Layered):
            scales |= part.rate_scales()
    trained = [p for p in module.parameters() if p.requires_grad]
    groups = []
    for scale in sorted({1.0, *scales.values()}, reverse=True):
        here = [p for p in trained if scales.get(p, 1.0) == scale]
        decayed, plain = [p for p in here if p.dim() > 1], [p for p in here if p.dim() <= 1]
        groups.append({"params": decayed, "weight_decay": config.weight_decay, "rate_scale": scale})
        groups.append({"params": plain, "weight_decay": 0.0, "rate_scale": scale})
    return AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


def learning_rate(config: OptimConfig, step: int, steps: int, plateau_scale: float = 1.0) -> float:
    """The rate of `step` (from 0) of `steps`; `plateau_scale` is what the plateau schedule has come down to."""
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


class AveragedWeights(Generic[M]):
    """An exponential moving average of a module's parameters and running statistics.

    The decay starts low and rises to its value (as in Adam's bias correction), so that the first steps are forgotten.
    """

    def __init__(self, module: M, decay: float) -> None:
        self.module = deepcopy(module).requires_grad_(False).eval()
        self._decay = decay
        self._averages, self._live = _floats(self.module), _floats(module)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves the average toward the module after `step` (from 0)."""
        weight = 1 - min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._live, weight)


def _floats(module: nn.Module) -> list[Tensor]:
    return [tensor for tensor in module.state_dict(keep_vars=True).values() if tensor.is_floating_point()]
