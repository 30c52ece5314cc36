"""AdamW with decay where it belongs, the learning rate as a function of the step, and averaged weights."""

import math
from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from serx.training.settings import OptimConfig

M = TypeVar("M", bound=nn.Module)
ONECYCLE_START = 1 / 25  # the rate of the first step, as a share of the highest


def make_optimizer(module: nn.Module, config: OptimConfig) -> AdamW:
    """AdamW that decays matrices and kernels, never norms and biases.

    The fused kind skips a step with non-finite gradients by itself, on a flag that stays on the device.
    """
    decayed = [p for p in module.parameters() if p.requires_grad and p.dim() > 1]
    plain = [p for p in module.parameters() if p.requires_grad and p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


def learning_rate(config: OptimConfig, step: int, steps: int, plateau_scale: float = 1.0) -> float:
    """The rate of `step` (from 0) of `steps`; `plateau_scale` is what the plateau schedule has come down to."""
    warmup = round(config.warmup * steps)
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
    return config.lr * (config.final + (1 - config.final) * (1 + math.cos(math.pi * done)) / 2)


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
        """Moves the average towards the module after `step` (from 0)."""
        weight = 1 - min(self._decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._live, weight)


def _floats(module: nn.Module) -> list[Tensor]:
    return [tensor for tensor in module.state_dict(keep_vars=True).values() if tensor.is_floating_point()]
