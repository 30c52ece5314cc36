"""Several processes that train one model: `torchrun --nproc-per-node N -m serx train ...`, one process for each GPU.

The processes together compute what one process would. `train.batch_size` is the number of clips in a batch of all of
them; each takes an equal share of every batch, and where the clips do not divide evenly, the last ones have rows with
weight 0. Gradients are averaged by DistributedDataParallel (Li et al. 2020, "PyTorch distributed: experiences on
accelerating data parallel training"), batch norms use the mean and variance of all shares, dropout follows from (seed,
step, layer, clip), and clips are mixed across shares. So neither the result nor a checkpoint depends on the number of
processes, up to rounding, and a run may be resumed with another number.

The first process alone validates, writes the run folder and prints.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from serx.errors import ConfigError, ProcessLostError, SerxError
from serx.models.backbone import Backbone
from serx.seeding import ClipRandom, derive

T = TypeVar("T")
WAIT = timedelta(days=1)  # for the first process, which may decode a corpus; a lost process is noticed at once
# What gloo and NCCL say when another process has ended.
_LOST = ("connection closed", "connection reset", "broken pipe", "connection refused", "remote process exited", "nccl")


@dataclass(frozen=True)
class Share:
    """The part of a batch that a process computes.

    Attributes:
        positions: `(b,)` positions in `TrainingClips`.
        weights: `(b,)` float32: 0 for a row that only fills the share up, else 1; None if all rows count.
        first: the row of the whole batch with which the share begins.
    """

    positions: np.ndarray
    weights: np.ndarray | None = None
    first: int = 0


@dataclass
class Rows:
    """What layers need to know of the rows of the current batch: see `GlobalBatchNorm` and `ClipDropout`.

    Attributes:
        weights: `(b,)` float32, 0 for rows that do not count.
        clips: `(b,)` int64 dataset indices.
        key: of this step's random numbers, from `derive`.
    """

    weights: Tensor | None = None
    clips: Tensor | None = None
    key: int = 0


@dataclass(frozen=True)
class World:
    """The processes of a run; by default one, which was not started by torchrun.

    Attributes:
        rank: the number of this process, from 0.
        size: how many there are.
        local_rank: the number of this process on its machine, which is the number of its GPU.
        joined: whether torchrun started them; then layers are exchanged for those of this module.

    >>> World().share(np.array([4, 2, 7])).positions.tolist()
    [4, 2, 7]
    >>> share = World(rank=1, size=2, joined=True).share(np.array([4, 2, 7]))
    >>> share.positions.tolist(), share.weights.tolist()
    ([7, 7], [1.0, 0.0])
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    joined: bool = False
    rows: Rows = field(default_factory=Rows)

    @property
    def is_first(self) -> bool:
        """Whether this process validates, writes and prints."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """The name of this process's device: of several GPUs of a machine each process takes its own.

        Raises:
            ConfigError: the machine has fewer GPUs than processes.
        """
        if not self.joined or name not in ("auto", "cuda") or not torch.cuda.is_available():
            return name
        if self.local_rank >= torch.cuda.device_count():
            raise ConfigError(
                f"torchrun: {self.local_rank + 1} processes or more on this machine, which has "
                f"{torch.cuda.device_count()} GPUs; give --nproc-per-node {torch.cuda.device_count()}"
            )
        torch.cuda.set_device(self.local_rank)
        return f"cuda:{self.local_rank}"

    def share(self, batch: np.ndarray) -> Share:
        """This process's part of a batch of `(n,)` positions: `ceil(n / size)` rows."""
        if not self.joined:
            return Share(batch)
        count = -(-len(batch) // self.size)
        rows = np.arange(self.rank * count, (self.rank + 1) * count)
        weights = (rows < len(batch)).astype(np.float32)
        return Share(batch[rows.clip(max=len(batch) - 1)], weights, self.rank * count)

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` returns in the first process, in all of them; what it raises ends all of them.

        The others end without a message, since the first prints it.
        """
        if not self.joined:
            return make()
        outcome: list[Any] = [None, None]
        raised: SerxError | None = None
        if self.is_first:
            try:
                outcome[0] = make()
            except SerxError as error:
                raised, outcome[1] = error, error.exit_code
        dist.broadcast_object_list(outcome, src=0)
        if raised is not None:
            raise raised
        if outcome[1] is not None:
            raise SystemExit(outcome[1])
        return outcome[0]

    def from_each(self, make: Callable[[], T]) -> T:
        """What `make` returns in this process; what it raises in any of them ends all, and one prints its message."""
        if not self.joined:
            return make()
        made: list[T] = []
        raised: SerxError | None = None
        try:
            made.append(make())
        except SerxError as error:
            raised = error
        codes: list[int] = [0] * self.size
        dist.all_gather_object(codes, raised.exit_code if raised else 0)
        failed = [rank for rank, code in enumerate(codes) if code]
        if not failed:
            return made[0]
        if raised is not None and failed[0] == self.rank:
            raise raised
        raise SystemExit(codes[failed[0]])

    def after_first(self, make: Callable[[], T]) -> T:
        """What `make` returns in this process. The first process is ahead, so that the others find files and caches."""
        made: list[T] = []
        self.from_first(lambda: made.append(make()))
        if not made:
            made.append(make())
        return made[0]

    def largest(self, number: int) -> int:
        """The largest of the processes' numbers. It is on the host, so that no device is waited for."""
        if not self.joined:
            return number
        numbers = torch.tensor(number)
        dist.all_reduce(numbers, dist.ReduceOp.MAX)
        return int(numbers)

    def gather(self, tensor: Tensor) -> Tensor:
        """The rows of all shares in their order: `(b, ...)` -> `(size * b, ...)`."""
        return _Gather.apply(tensor)

    def collect(self, sums: list[Tensor]) -> None:
        """In place: moves the sums of all processes into the first one; the others have zeros then."""
        self.rows.clips = self.rows.weights = None  # layers compute for this process alone, as in validation
        if not self.joined:
            return
        for tensor in sums:
            dist.all_reduce(tensor)
            if not self.is_first:
                tensor.zero_()

    def begin_step(self, seed: int, step: int) -> int:
        """The seed of torch's own generator for a step; each process draws other numbers from it."""
        self.rows.key = derive(seed, "dropout/clips", step)
        return derive(seed, "dropout", step, *((self.rank,) if self.joined else ()))

    def begin_batch(self, clips: Tensor, weights: Tensor | None) -> None:
        """Tells the layers which clips they are about to compute, and which rows count."""
        self.rows.clips, self.rows.weights = clips, weights

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """Prints nothing, except in the first process."""
        with open(os.devnull, "w") as nowhere, nullcontext() if self.is_first else redirect_stdout(nowhere):
            yield


def join_world() -> World:
    """The processes that torchrun started together with this one; a World of one if it did not start this process."""
    if not {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= os.environ.keys():
        return World()
    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=WAIT)
    return World(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")), joined=True)


@contextmanager
def explain_lost_process() -> Iterator[None]:
    """Turns what gloo or NCCL raise when another process has ended into one line.

    Raises:
        ProcessLostError: another process has ended.
    """
    try:
        yield
    except RuntimeError as error:
        if not dist.is_initialized() or not any(words in str(error).lower() for words in _LOST):
            raise
        raise ProcessLostError(
            f"process {dist.get_rank()} of {dist.get_world_size()}: another process of this run has ended; it may have "
            "said why. Continue with --resume, with any number of processes"
        ) from error


class Logits(nn.Module):
    """The backbone as DistributedDataParallel wants it: one forward for both of its methods."""

    def __init__(self, backbone: Backbone, member_logits: Callable[..., Tensor]) -> None:
        super().__init__()
        self.backbone, self._member_logits = backbone, member_logits

    def forward(self, features: Tensor, frames: Tensor, encoded: bool) -> Tensor:
        return self.backbone.head_logits(features, frames) if encoded else self._member_logits(features, frames)


def share_gradients(
    world: World, backbone: Backbone, member_logits: Callable[..., Tensor], device: torch.device
) -> DistributedDataParallel:
    """The logits of `backbone`, whose gradients are averaged over all processes.

    Its batch norms and dropouts are exchanged first (`GlobalBatchNorm`, `ClipDropout`); they keep their parameters.

    Raises:
        ConfigError: a batch norm of a kind that cannot be exchanged.
    """
    for number, (name, layer) in enumerate(backbone.named_modules()):
        if isinstance(layer, _BatchNorm):
            _exchange(layer, name, world.rows)
        elif type(layer) is nn.Dropout:
            layer.__class__ = ClipDropout
            dropout = cast(ClipDropout, layer)
            dropout.rows, dropout.number = world.rows, number
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # broadcast_buffers has another name in newer versions of torch
        return DistributedDataParallel(
            Logits(backbone, member_logits),
            device_ids=[device] if device.type == "cuda" else None,
            broadcast_buffers=False,  # they are the same everywhere
        )


def without_sync(model: nn.Module | None, last: bool) -> AbstractContextManager:
    """Within it gradients are summed up in this process; those of the `last` batch of a step are exchanged."""
    return nullcontext() if last or not isinstance(model, DistributedDataParallel) else model.no_sync()


def average_gradients(parameters: list[nn.Parameter]) -> None:
    """In place: the mean of all processes, for parameters that DistributedDataParallel does not know."""
    for parameter in parameters:
        assert parameter.grad is not None
        dist.all_reduce(parameter.grad)
        parameter.grad /= dist.get_world_size()


class _AllReduce(torch.autograd.Function):
    """The sum over all processes. Each of their losses depends on it, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(_: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


class _Gather(torch.autograd.Function):
    """The rows of all processes, in the order of their ranks."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        tensor = tensor.contiguous()
        context.rows = len(tensor)
        parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, tensor)
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        first = context.rows * dist.get_rank()
        return total[first : first + context.rows]


class ClipDropout(nn.Dropout):
    """Dropout whose mask follows from (seed, step, layer, clip), and not from the batch in which the clip is."""

    rows: Rows
    number: int

    def forward(self, x: Tensor) -> Tensor:
        clips = self.rows.clips
        if not self.training or self.p == 0 or clips is None:
            return super().forward(x)
        start = ClipRandom(clips, self.rows.key).bits()[:, None]
        element = torch.arange(x[0].numel(), device=x.device)
        random = ClipRandom(start + element, derive(0, "layer", self.number))
        kept = random.uniform().view_as(x) >= self.p
        return x * kept / (1 - self.p)


def _exchange(layer: _BatchNorm, name: str, rows: Rows) -> None:
    """Makes a batch norm a `GlobalBatchNorm` in place. timm's batch norms with an activation keep it."""
    plain = type(layer) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    with_activation = hasattr(layer, "act") and hasattr(layer, "drop")
    if not plain and not with_activation:
        raise ConfigError(
            f"torchrun: {name} is a {type(layer).__name__}, whose statistics cannot be shared between processes; use "
            "nn.BatchNorm1d or nn.BatchNorm2d, or train in one process"
        )
    local = type(layer)
    layer.__class__ = type(f"Global{local.__name__}", (GlobalBatchNorm, local), {"local": local})
    cast(GlobalBatchNorm, layer).rows = rows


class GlobalBatchNorm(_BatchNorm):
    """A batch norm whose mean and variance in training are those of the rows of all processes that count.

    torch's SyncBatchNorm needs a GPU, and has no rows that do not count.
    """

    rows: Rows
    local: type[_BatchNorm]
    act: nn.Module  # of a batch norm of timm
    drop: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        weights = self.rows.weights
        if not self.training or weights is None:
            return self.local.forward(self, x)
        normalized = self._normalize(x, weights).to(x.dtype)
        return self.act(self.drop(normalized)) if hasattr(self, "act") else normalized

    def _normalize(self, x: Tensor, weights: Tensor) -> Tensor:
        per_channel = (1, -1, *[1] * (x.dim() - 2))
        others = [0, *range(2, x.dim())]
        weights = weights.view(-1, *[1] * (x.dim() - 1))
        values = x.float()
        sums = torch.cat([(values * weights).sum(others), weights.sum()[None] * values[0, 0].numel()])
        sums = _AllReduce.apply(sums)
        count = sums[-1]
        mean = sums[:-1] / count
        centered = values - mean.view(per_channel)
        variance = _AllReduce.apply((centered.square() * weights).sum(others)) / count
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            self._update(mean.detach(), (variance * count / (count - 1)).detach())
        result = centered * (variance + self.eps).rsqrt().view(per_channel)
        if self.weight is None:
            return result
        return result * self.weight.view(per_channel) + self.bias.view(per_channel)

    @torch.no_grad()
    def _update(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)
