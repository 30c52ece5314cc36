"""A GPU without a GPU: torch's fake tensors on `cuda:0`, and a count of what a computation moves between the devices.

Fake tensors have a device and a shape, but no values. An operation on tensors of two devices, a value that is read, or
a shape that depends on values is an error, on any machine. The backward pass alone needs a real device: autograd asks
CUDA for a stream. `on_meta` runs it on torch's meta device, which has shapes only, too.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes, _get_current_dispatch_mode_stack
from torch.utils._pytree import tree_leaves, tree_map_only

from serx.config import Config
from serx.data.batches import DeviceAudio
from serx.data.cache.audio_cache import AudioCache
from serx.recognizer import Recognizer
from serx.training.epoch import run_epoch
from serx.training.epoch_sums import EpochSums
from serx.training.optim import LossScaler
from serx.training.sampling import TrainingClips, plan_epoch
from serx.training.state import TrainingState
from serx.training.training_clips import constant_vectors

GPU = torch.device("cuda", 0)
LABELS = ("neutral", "happy", "angry")
CLIPS, SECONDS = 6, 0.7
COPIES = ("_to_copy", "copy_", "_copy_from")


class Transfers(TorchDispatchMode):
    """Lists what moves between host and device, and refuses operations on tensors of both.

    Attributes:
        to_host: operations that bring values to the host, which waits for the device.
        waiting: copies to the device that are not `non_blocking`, so that the host waits.
        to_device: copies to the device that do not wait.
    """

    def __init__(self, device: torch.device = GPU) -> None:
        super().__init__()
        self.device = device
        self.to_host: list[str] = []
        self.waiting: list[str] = []
        self.to_device: list[str] = []
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        before = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        result = func(*args, **kwargs)
        after = [t for t in tree_leaves(result) if isinstance(t, Tensor)]
        self.calls += 1
        if name == "_local_scalar_dense" and self._is_there(before[0]):
            self.to_host.append(name)
        elif name in COPIES:
            source, target = before[0] if name == "_to_copy" else before[1], after[0]
            if self._is_there(source) and not self._is_there(target):
                self.to_host.append(name)
            elif self._is_there(target) and not self._is_there(source):
                non_blocking = kwargs.get("non_blocking", len(args) > 2 and args[2])
                (self.to_device if non_blocking else self.waiting).append(f"{name} of {tuple(source.shape)}")
        else:
            on_host = [t for t in before if not self._is_there(t) and t.dim() > 0]
            if on_host and any(self._is_there(t) for t in [*before, *after]):
                shapes = ", ".join(str(tuple(t.shape)) for t in on_host)
                raise AssertionError(f"{name} reads a tensor that was left on the CPU, of shape {shapes}")
        return result

    def check(self) -> None:
        """Asserts that the host has neither read a value nor waited for a copy."""
        assert self.calls, "nothing was computed"
        assert not self.to_host, f"the host reads from the device: {self.to_host}"
        assert not self.waiting, f"the host waits for copies to the device: {self.waiting}"

    def _is_there(self, tensor: Tensor) -> bool:
        return tensor.device.type == self.device.type


class Run:
    """The training of a configuration on a few made-up clips, on any device that torch has shapes for."""

    def __init__(self, config: Config, device: torch.device) -> None:
        random = np.random.default_rng(0)
        lengths = (SECONDS * config.data.sample_rate * random.uniform(0.7, 1.0, CLIPS)).astype(int)
        samples = random.integers(-9000, 9000, lengths.sum()).astype(np.int16)
        cache = AudioCache.in_memory(samples, lengths, np.full(CLIPS, 1 / 32768, np.float32))
        self.state = TrainingState(config, LABELS, device, pretrained=False)
        self.state.start_average()
        self.source = DeviceAudio(cache, device)
        self.config, self.device = config, device
        self.lengths = cache.lengths

    def training_clips(self) -> TrainingClips:
        """All clips, with every kind of target that a recipe may have."""
        clips = np.tile(np.arange(CLIPS), 1 + self.config.augment.copies)
        taught = torch.full((len(clips), len(LABELS)), 1 / len(LABELS)).to(self.device)
        possible = torch.ones(len(clips), len(LABELS), dtype=torch.bool).to(self.device)
        return TrainingClips(
            clips=clips,
            targets=clips % len(LABELS),
            class_weights=torch.ones(len(LABELS)).to(self.device),
            vectors=constant_vectors(self.state, self.source, np.arange(CLIPS), progress=False),
            corpora=clips % 2,
            logit_offsets=torch.zeros(len(LABELS)).to(self.device),
            possible=possible,
            taught=taught,
        )

    def fitted(self) -> None:
        """What a model that is fitted computes on the device: vectors for its fit, and the logits of a batch."""
        constant_vectors(self.state, self.source, np.arange(CLIPS), progress=False)
        self.state.recognizer(*self.source.batch(np.arange(CLIPS)))

    def epoch(self, training: TrainingClips, after_step: Callable[[], bool] = lambda: False) -> int:
        """One epoch of `run_epoch`; returns the number of its steps."""
        with _disable_current_modes():
            steps = plan_epoch(training, self.config, 0)
        self.state.progress.step = 0
        self.state.sums = EpochSums(len(LABELS), self.device, len(steps))
        run_epoch(self.state, training, self.source, steps, after_step)
        return len(steps)


@contextmanager
def fake_gpu() -> Iterator[None]:
    """Within it `cuda:0` exists: every tensor is fake, and modules can be moved there.

    `backward` gives zero gradients, so that what follows it runs as well: the loss scale, clipping, the optimizer.
    """
    mode = FakeTensorMode()
    with pytest.MonkeyPatch.context() as patch:
        _fake_constants(patch, mode)
        patch.setattr(nn.Module, "_apply", _apply_to_fakes)
        patch.setattr("serx.training.state.Recognizer", partial(_fake_recognizer, mode))
        patch.setattr(
            FakeTensorMode, "__deepcopy__", lambda self, _: self, raising=False
        )  # a copy would be another GPU
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(Tensor, "backward", _no_backward)
        of_real_tensor = Tensor.numpy
        patch.setattr(Tensor, "numpy", lambda tensor: _values(tensor, of_real_tensor))
        patch.setattr(nn.GRU, "forward", _gru)
        with mode:
            yield


@contextmanager
def on_meta() -> Iterator[None]:
    """Within it a run on the meta device takes its steps with a real backward pass, and without an optimizer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("serx.training.state.make_optimizer", lambda module, _: _NoOptimizer(module.parameters()))
        for method in ("unscale_", "step", "update"):
            patch.setattr(LossScaler, method, lambda *_: None)
        patch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which knows no meta device
        yield


def _no_backward(loss: Tensor) -> None:
    """Gives each parameter that the loss depends on a gradient, without the values that fake tensors do not have."""
    seen, nodes = set(), [loss.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        nodes += [following for following, _ in node.next_functions]
        if isinstance(getattr(node, "variable", None), nn.Parameter):
            node.variable.grad = torch.zeros_like(node.variable)


def _values(tensor: Tensor, of_real_tensor: Callable[[Tensor], np.ndarray]) -> np.ndarray:
    """Ones in place of the values of a fake tensor; the copy to the host that comes before is counted."""
    return np.ones(tensor.shape) if isinstance(tensor, FakeTensor) else of_real_tensor(tensor)


def _gru(layer: nn.GRU, x: Tensor) -> tuple[Tensor, None]:
    """The shape and the devices of a GRU, whose kernel asks for a real GPU."""
    gates = F.linear(x, layer.weight_ih_l0, layer.bias_ih_l0)[..., : layer.hidden_size]
    return F.linear(gates, layer.weight_hh_l0, layer.bias_hh_l0)[..., : layer.hidden_size], None


class _NoOptimizer:
    """Keeps the gradients, for a test to look at."""

    def __init__(self, parameters: Iterator[nn.Parameter]) -> None:
        self.param_groups = [{"params": list(parameters), "lr": 0.0, "rate_scale": 1.0}]

    def zero_grad(self, set_to_none: bool = True) -> None:
        pass


def _apply_to_fakes(module: nn.Module, function: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
    """`nn.Module._apply` for fake tensors, which torch cannot exchange in place."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(function(parameter.detach()), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = function(buffer)
    return module


def fake_copy(value: Any) -> Any:
    """The tensors in a value, made fake on the CPU; for what is made from values before it goes to the GPU."""
    mode = next(mode for mode in _get_current_dispatch_mode_stack() if isinstance(mode, FakeTensorMode))
    if isinstance(value, nn.Module):
        with _disable_current_modes():
            return _apply_to_fakes(value, mode.from_tensor)
    return tree_map_only(Tensor, mode.from_tensor, value)


def _fake_recognizer(mode: FakeTensorMode, *args: Any) -> nn.Module:
    """A recognizer on the CPU: it is made of real tensors, whose values it may read, and then becomes fake."""
    with _disable_current_modes():
        return _apply_to_fakes(Recognizer(*args), mode.from_tensor)


def _fake_constants(patch: pytest.MonkeyPatch, mode: FakeTensorMode) -> None:
    """Makes each cached constant of serx on the CPU, from values, and lets it be fake on its device.

    On a real GPU it is copied there when it is first used.
    """
    made: dict[Any, Any] = {}
    functions = {}
    for module in [module for name, module in list(sys.modules.items()) if name.startswith("serx.")]:
        for name, function in vars(module).items():
            if hasattr(function, "cache_clear"):
                functions.setdefault(function, partial(_fake_constant, function, mode, made))
                patch.setattr(module, name, functions[function])


def _fake_constant(function: Callable[..., Any], mode: FakeTensorMode, made: dict[Any, Any], *args: Any) -> Any:
    if not _get_current_dispatch_mode_stack():  # another constant is made of this one, from values
        return function(*args)
    devices = [arg for arg in args if isinstance(arg, torch.device)]
    if (function, args) not in made:
        device = devices[0] if devices else torch.device("cpu")
        with _disable_current_modes():
            values = function(*(torch.device("cpu") if arg in devices else arg for arg in args))
            with mode:
                made[function, args] = tree_map_only(Tensor, lambda tensor: mode.from_tensor(tensor).to(device), values)
    return made[function, args]
