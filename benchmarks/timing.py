"""How long work takes: warmed up, synchronised, the median of rounds in which the tools take turns."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

WARM_UP = {"cuda": 3}  # rounds not counted: they fill caches, build tables and compile


@dataclass(frozen=True)
class Work:
    """A piece of work over `clips` clips.

    Attributes:
        run: what is timed.
        before: gives the arguments of `run`; not timed.
    """

    run: Callable[..., object]
    clips: int
    before: Callable[[], tuple[Any, ...]] = tuple


@dataclass(frozen=True)
class Timing:
    """Seconds a clip: the median of the rounds, the fastest and the slowest; and over how many clips each went."""

    median: float
    fastest: float
    slowest: float
    clips: int


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def measure(works: Mapping[str, Work], rounds: int, clock: str) -> tuple[dict[str, Timing], dict[str, str]]:
    """Times each tool's work, one after the other in each round, so that a noisy moment meets them all.

    Args:
        clock: `wall`, `cpu` (the process's own time: right where others share the cores) or `cuda`.

    Returns:
        The timings, and the reasons of those tools that broke down. serx's own work may not.
    """
    seconds: dict[str, list[float]] = {tool: [] for tool in works}
    failed: dict[str, str] = {}
    warm_up = WARM_UP.get(clock, 1)
    for number in range(warm_up + rounds):
        for tool, work in works.items():
            if tool in failed:
                continue
            try:
                spent = elapsed(work, clock)
            except Exception as error:  # whatever another library may raise
                if tool == "serx":
                    raise
                failed[tool] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                continue
            if number >= warm_up:
                seconds[tool].append(spent / work.clips)
    return {tool: summary(seconds[tool], works[tool].clips) for tool in works if tool not in failed}, failed


def summary(seconds: list[float], clips: int) -> Timing:
    return Timing(statistics.median(seconds), min(seconds), max(seconds), clips)


def elapsed(work: Work, clock: str) -> float:
    """Seconds of one run. On a GPU between two CUDA events: the clock is the device's, which has nothing else to do."""
    arguments = work.before()
    if clock != "cuda":
        begun = CLOCKS[clock]()
        work.run(*arguments)
        return CLOCKS[clock]() - begun
    import torch

    fit_normalizer, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    fit_normalizer.record()
    work.run(*arguments)
    end.record()
    end.synchronize()
    return fit_normalizer.elapsed_time(end) / 1e3
