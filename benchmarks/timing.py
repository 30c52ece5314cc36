"""How long work takes: warm-up, rounds in which the libraries alternate, and the median; or a profiler's trace."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

WARM_UP = {"cuda": 3}  # rounds that are not counted: they fill caches, build tables and compile
TRACED_STEPS = 3
SHORTEST_SECONDS, MOST_CALLS = 0.01, 1000  # a shorter workload is repeated within a round, at most so often


@dataclass(frozen=True)
class Workload:
    """Work on a number of clips.

    Attributes:
        run: is timed.
        clips: the number of clips that `run` processes.
        before: returns the arguments of `run`; is not timed.
        inference: whether it runs in torch's inference mode, which is entered before the clock starts.
    """

    run: Callable[..., object]
    clips: int
    before: Callable[[], tuple[Any, ...]] = tuple
    inference: bool = False


@dataclass(frozen=True)
class Timing:
    """Seconds per clip: the median, the fastest and the slowest round; and the number of clips of a round."""

    median: float
    fastest: float
    slowest: float
    clips: int


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def measure(workloads: Mapping[str, Workload], rounds: int, clock: str) -> tuple[dict[str, Timing], dict[str, str]]:
    """Times the workload of each library, one after the other in each round, so that a slow moment affects all.

    Args:
        workloads: by library; "serx" is one of them.
        clock: `wall`, `cpu` (the process's own time, for shared cores) or `cuda`.

    Returns:
        The timings, and for each library that failed the reason. A failure of serx is raised.
    """
    seconds: dict[str, list[float]] = {library: [] for library in workloads}
    failed: dict[str, str] = {}
    warm_up = WARM_UP.get(clock, 1)
    for number in range(warm_up + rounds):
        for library, workload in workloads.items():
            if library in failed:
                continue
            try:
                spent = elapsed(workload, clock)
            except Exception as error:  # whatever another library may raise
                if library == "serx":
                    raise
                failed[library] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                continue
            if number >= warm_up:
                seconds[library].append(spent / workload.clips)
    return {name: summary(seconds[name], workloads[name].clips) for name in workloads if name not in failed}, failed


def summary(seconds: list[float], clips: int) -> Timing:
    return Timing(statistics.median(seconds), min(seconds), max(seconds), clips)


def elapsed(workload: Workload, clock: str) -> float:
    """Seconds of one run, the mean of several short ones; on a GPU between two CUDA events, the device's own time."""
    with torch.inference_mode(workload.inference):
        return _elapsed(workload, clock)


def _elapsed(workload: Workload, clock: str) -> float:
    if clock != "cuda":
        spent, calls = 0.0, 0
        while spent < SHORTEST_SECONDS and calls < MOST_CALLS:
            arguments = workload.before()
            start = CLOCKS[clock]()
            workload.run(*arguments)
            spent += CLOCKS[clock]() - start
            calls += 1
        return spent / calls
    arguments = workload.before()
    start_event, end_event = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start_event.record()
    workload.run(*arguments)
    end_event.record()
    end_event.synchronize()
    return start_event.elapsed_time(end_event) / 1e3


class PartTimer:
    """The time that the functions of a larger computation take within it.

    On a CPU the clock is read around each call. On a GPU CUDA events are recorded around it, which does not wait for
    the device. The functions must not call each other.
    """

    def __init__(self, clock: str) -> None:
        self._clock = clock
        self._spans: dict[str, list[tuple[Any, Any]]] = {}

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, whose calls are added to a part."""

        def run(*args: Any, **kwargs: Any) -> Any:
            start = self._now()
            result = function(*args, **kwargs)
            self._spans.setdefault(part, []).append((start, self._now()))
            return result

        return run

    def reset(self) -> None:
        """Forgets all calls."""
        self._spans.clear()

    def seconds(self) -> dict[str, float]:
        """The total of each part. On a GPU call it after the device has finished."""
        return {part: sum(self._between(*span) for span in spans) for part, spans in self._spans.items()}

    def _now(self) -> Any:
        if self._clock != "cuda":
            return CLOCKS[self._clock]()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def _between(self, start: Any, end: Any) -> float:
        return start.elapsed_time(end) / 1e3 if self._clock == "cuda" else end - start


def record_trace(workload: Workload, folder: Path, device: str) -> None:
    """Writes torch's profile of a few runs: a trace, and the slowest operations as text for TensorBoard.

    https://ui.perfetto.dev opens the trace. TensorBoard's tab PYTORCH_PROFILER needs the plugin torch-tb-profiler,
    which is no longer developed; version 0.4.3 still works with TensorBoard 2.21.
    """
    from torch.profiler import ProfilerActivity, profile, schedule, tensorboard_trace_handler
    from torch.utils.tensorboard import SummaryWriter

    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (device == "cuda")
    handler = tensorboard_trace_handler(str(folder))
    plan = schedule(wait=0, warmup=1, active=TRACED_STEPS)
    with profile(activities=activities, schedule=plan, on_trace_ready=handler, acc_events=True) as profiler:
        for _ in range(1 + TRACED_STEPS):
            workload.run(*workload.before())
            profiler.step()
    table = profiler.key_averages().table(sort_by=f"self_{device}_time_total", row_limit=30)
    with SummaryWriter(str(folder)) as writer:
        writer.add_text("profile/training step", "".join(f"    {line}\n" for line in table.splitlines()))
