"""The training step on a GPU, stage by stage, next to what the hardware would need for it at least.

The floor of a stage is the sum over its operations of the longer of two times: its bytes at the card's bandwidth, and
its multiplications and additions at the card's rate for that number format. Each operation reads its inputs once and
writes its outputs once. Bandwidth and rates are measured on the same card, by copies and matrix products. A stage that
is faster than its floor has joined operations, as a compiled network does, or found its inputs in a cache.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import log2, prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from serx.errors import is_out_of_memory

from .inputs import Inputs
from .timing import Workload, measure
from .training import STEPS, BenchmarkRun, TrainingStages

MODES = {"eager": "false", "compiled": "true", "CUDA graphs": "reduce-overhead"}
FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
FRONT, NETWORK = ("batch", "augmentation", "features"), ("forward", "backward", "step")
_NO_WORK = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "lift_fresh", "set_"}
_READS_PART = {"index", "index_select", "gather", "embedding"}  # of its first input, as much as it writes
NOT_MEASURED = (
    "# Speed on a GPU\n\n"
    "Nothing has been measured: no GPU was at hand. `make gpu` on a machine with one tests serx there and writes this "
    "page.\n"
)


@dataclass(frozen=True)
class Peaks:
    """What the hardware reaches: `bytes_per_second`, and operations per second of matrix products in each format."""

    bytes_per_second: float
    operations_per_second: Mapping[torch.dtype, float]


@dataclass
class Work:
    """What a stage moves and computes.

    Attributes:
        kernels: number of operations that do something.
        bytes: read and written by all of them.
        operations: multiplications and additions, by number format.
        parts: `(bytes, operations, format)` of each operation.
    """

    parts: list[tuple[int, float, torch.dtype]] = field(default_factory=list)

    @property
    def kernels(self) -> int:
        return len(self.parts)

    @property
    def bytes(self) -> int:
        return sum(moved for moved, _, _ in self.parts)

    @property
    def operations(self) -> float:
        return sum(operations for _, operations, _ in self.parts)

    def floor(self, peaks: Peaks) -> float:
        """Seconds that the hardware needs at least, one operation after the other."""
        rates = peaks.operations_per_second
        return sum(
            max(moved / peaks.bytes_per_second, operations / rates.get(dtype, rates[torch.float32]))
            for moved, operations, dtype in self.parts
        )


class WorkCounter(TorchDispatchMode):
    """Counts the work of everything that is computed within it.

    >>> with WorkCounter() as counter:
    ...     product = torch.ones(4, 8) @ torch.ones(8, 2)
    >>> counter.work.parts[-1]  # 4 * (32 + 16 + 8) bytes; 4 * 2 products of 8 pairs, of two operations each
    (224, 128.0, torch.float32)
    """

    def __init__(self) -> None:
        super().__init__()
        self.work = Work()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        returns = func._schema.returns
        is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in returns)
        if not is_view and func.overloadpacket.__name__ not in _NO_WORK:
            inputs, outputs = list(_tensors((args, kwargs))), list(_tensors(result))
            if inputs or outputs:
                dtype = (inputs or outputs)[0].dtype
                self.work.parts.append(
                    (_bytes(func, inputs, outputs), _operations(func, args, kwargs, result, inputs, outputs), dtype)
                )
        return result


def _tensors(tree: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def _size(tensor: Tensor) -> int:
    """Bytes of a tensor; of an expanded one, and of windows that overlap, only what is stored."""
    stored = prod(size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride)
    return min(stored * tensor.element_size(), tensor.untyped_storage().nbytes())


def _bytes(func: Any, inputs: list[Tensor], outputs: list[Tensor]) -> int:
    written = sum(map(_size, outputs))
    read = [_size(tensor) for tensor in {id(tensor): tensor for tensor in inputs}.values()]
    if func.overloadpacket.__name__ in _READS_PART and read:
        read[0] = min(read[0], written)
    return sum(read) + written


def _operations(func: Any, args: Any, kwargs: Any, result: Any, inputs: list[Tensor], outputs: list[Tensor]) -> float:
    count = flop_registry.get(func.overloadpacket)
    if count is not None:
        return float(count(*args, **kwargs, out_val=result))
    read = [_size(tensor) // tensor.element_size() for tensor in inputs]
    if func.overloadpacket.__name__ in _READS_PART:
        read = []
    largest = max([*read, *(tensor.numel() for tensor in outputs)], default=0)
    if func.overloadpacket.__name__.startswith("_fft"):
        length = max(max(tensor.shape[d] for d in args[1]) for tensor in [inputs[0], outputs[0]])
        return (
            2.5 * largest * log2(max(2, length))
        )  # Frigo and Johnson 2005: 5 n log2 n of complex, half of real numbers
    return float(largest)


def measure_peaks(device: torch.device, megabytes: int, size: int, rounds: int, clock: str) -> Peaks:
    """Copies `megabytes` and multiplies square matrices of `size` in each format; the fastest round counts."""

    def fastest(run: Callable[[], object]) -> float:
        return measure({"serx": Workload(run, 1)}, rounds, clock)[0]["serx"].fastest

    source = torch.zeros(megabytes << 20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    bandwidth = 2 * source.numel() / fastest(lambda: target.copy_(source))
    rates = {}
    for dtype in FORMATS.values():
        matrix = torch.ones(size, size, dtype=dtype, device=device)
        product = torch.empty_like(matrix)
        rates[dtype] = 2 * size**3 / fastest(lambda a=matrix, out=product: torch.mm(a, a, out=out))
    return Peaks(bandwidth, rates)


@dataclass(frozen=True)
class Row:
    """A measured stage; `seconds` is the median for a batch, None if it did not fit into memory."""

    stage: str
    clips: int
    precision: str
    mode: str
    seconds: float | None
    work: Work | None


def measure_front(run: BenchmarkRun, rounds: int, clock: str) -> list[Row]:
    """The stages before the network, which depend neither on the precision nor on the compiler."""
    clips = run.inputs.count
    waveform = run.augment(*run.batch())
    stages: dict[str, Callable[[], object]] = {
        "batch": run.batch,
        "augmentation": lambda: run.augment(run.inputs.waveform.clone(), run.inputs.lengths),
        "features": lambda: run.features(*waveform),
    }
    return [_row(name, clips, "fp32", "eager", Workload(stages[name], 1), rounds, clock) for name in FRONT]


def measure_network(run: BenchmarkRun, precision: str, mode: str, rounds: int, clock: str) -> list[Row]:
    """The network forward with its loss, backward, and the whole training step."""
    clips, steps = run.inputs.count, STEPS.get(run.state.device.type, 1)
    features = run.features(*run.augment(*run.batch()))
    stages = {
        "forward": Workload(lambda: run.loss(*features), 1),
        "backward": Workload(lambda loss: loss.backward(), 1, lambda: (run.loss(*features),)),
        "step": Workload(lambda: run.train(steps), steps),
    }
    counted = mode == "eager"  # a compiled network hides its operations
    return [_row(name, clips, precision, mode, stages[name], rounds, clock, counted) for name in NETWORK]


def _row(
    stage: str, clips: int, precision: str, mode: str, workload: Workload, rounds: int, clock: str, counted: bool = True
) -> Row:
    seconds = measure({"serx": workload}, rounds, clock)[0]["serx"].median
    if not counted:
        return Row(stage, clips, precision, mode, seconds, None)
    arguments = workload.before()
    with WorkCounter() as counter:
        workload.run(*arguments)
    work = counter.work
    return Row(stage, clips, precision, mode, seconds, Work(work.parts[: len(work.parts) // workload.clips]))


def measure_all(
    config: str,
    inputs_of: Callable[[int], Inputs],
    batches: Sequence[int],
    precisions: Sequence[str],
    modes: Sequence[str],
    rounds: int,
    clock: str,
    overrides: Sequence[str] = (),
) -> list[Row]:
    """Every stage for every batch size, precision and mode; a combination that does not fit into memory has no time."""
    rows: list[Row] = []
    for clips in batches:
        inputs = inputs_of(clips)
        for precision in precisions:
            for mode in modes:
                torch._dynamo.reset()
                try:
                    keys = (f"train.precision={precision}", f"train.compile={MODES[mode]}", *overrides)
                    run = TrainingStages(config, keys).run_on(inputs)
                    if (precision, mode) == (precisions[0], modes[0]):
                        rows += measure_front(run, rounds, clock)
                    rows += measure_network(run, precision, mode, rounds, clock)
                except Exception as error:  # of many classes
                    if not is_out_of_memory(error):
                        raise
                    rows.append(Row("step", clips, precision, mode, None, None))
                print(_progress(rows[-1]), flush=True)
    return rows


def _progress(row: Row) -> str:
    rate = "out of memory" if row.seconds is None else f"{row.clips / row.seconds:,.0f} clips/s"
    return f"{row.clips} clips, {row.precision}, {row.mode}: {rate}"


def page(rows: Sequence[Row], peaks: Peaks, head: Sequence[str]) -> str:
    """The measurements as Markdown: one table of whole steps, and one of the stages in eager mode."""
    rates = ", ".join(
        f"{name} {peaks.operations_per_second[dtype] / 1e12:.3g} TFLOPS" for name, dtype in FORMATS.items()
    )
    lines = [
        *head,
        f"- measured on it: {peaks.bytes_per_second / 1e9:,.0f} GB/s by copies; matrix products: {rates}",
        "",
        "## Training steps, clips per second",
        "",
    ]
    steps = [row for row in rows if row.stage == "step"]
    columns = list(dict.fromkeys((row.precision, row.mode) for row in steps))
    lines += ["| clips in a batch | " + " | ".join(f"{precision}, {mode}" for precision, mode in columns) + " |"]
    lines += ["|" + "---|" * (1 + len(columns))]
    rate = {(row.clips, row.precision, row.mode): row for row in steps}
    for clips in dict.fromkeys(row.clips for row in steps):
        cells = [rate.get((clips, *column)) for column in columns]
        lines.append(f"| {clips} | " + " | ".join(map(_rate, cells)) + " |")
    lines += [
        "",
        "## Stages and their floor",
        "",
        "Milliseconds for a batch, without the compiler. The floor is what the bytes and operations of the stage need",
        "at the measured bandwidth and rates (`benchmarks/gpu.py`).",
        "",
        "| clips | precision | stage | ms | floor, ms | floor / ms | kernels | MB | GFLOP |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.work is not None and row.seconds:
            floor = row.work.floor(peaks)
            lines.append(
                f"| {row.clips} | {row.precision} | {row.stage} | {1e3 * row.seconds:.3f} | {1e3 * floor:.3f} | "
                f"{100 * floor / row.seconds:.0f} % | {row.work.kernels} | {row.work.bytes / 1e6:,.1f} | "
                f"{row.work.operations / 1e9:,.2f} |"
            )
    return "\n".join(lines) + "\n"


def _rate(row: Row | None) -> str:
    if row is None:
        return ""
    return "out of memory" if row.seconds is None else f"{row.clips / row.seconds:,.0f}"
