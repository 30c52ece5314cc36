"""Peak memory of a stage: of a process of its own on a CPU, of torch's allocator on a GPU."""

import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from .given import Given, give
from .stages import Stage, stages
from .training import training_stages

STATUS = Path("/proc/self/status")  # Linux
PATIENCE_SECONDS = 600


def peak_megabytes(stage: str, root: str | None, count: int, seconds: float, config: str) -> dict[str, float] | None:
    """MB of a fresh process that does the stage twice: `process` in all, `batch` beyond what stood before.

    None where the system does not tell.
    """
    if not STATUS.exists():
        return None
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(there, stage, root, count, seconds, config))
    process.start()
    there.close()  # so that a child that breaks down ends the wait
    try:
        return here.recv() if here.poll(PATIENCE_SECONDS) else None
    except EOFError:
        return None
    finally:
        process.join(timeout=10)
        if process.is_alive():
            process.kill()


def peak_on_gpu(stage: Stage, given: Given) -> dict[str, float]:
    """MB that torch's allocator held at most while the stage ran, corpus and network included."""
    work = stage.work(given)
    work.run(*work.before())
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work.run(*work.before())
    peak = torch.cuda.max_memory_allocated()
    return {"process": peak / 1e6, "batch": (peak - before) / 1e6}


def _child(answer: Connection, name: str, root: str | None, count: int, seconds: float, config: str) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    given = give(root, count, seconds, torch.device("cpu"))
    stage = next(stage for stage in [*stages(), *training_stages(config)] if stage.name == name)
    work = stage.work(given)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins here, not in the imports
    for _ in range(2):
        work.run(*work.before())
    peak = _status("VmHWM")
    answer.send({"process": peak, "batch": peak - before})


def _status(key: str) -> float:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024 / 1e6
