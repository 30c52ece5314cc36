"""Peak memory of a stage: of a separate process on a CPU, of torch's allocator on a GPU."""

import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from .inputs import Inputs, load_inputs
from .stages import Stage, stages
from .training import TrainingStages

STATUS = Path("/proc/self/status")  # Linux
TIMEOUT_SECONDS = 600


def peak_megabytes(stage: str, root: str | None, count: int, seconds: float, config: str) -> dict[str, float] | None:
    """MB of a new process that runs the stage twice: `process` in total, `batch` beyond what it had before.

    None if the system does not report it.
    """
    if not STATUS.exists():
        return None
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, stage, root, count, seconds, config))
    process.start()
    sender.close()  # so that a crash of the child ends the wait
    try:
        return receiver.recv() if receiver.poll(TIMEOUT_SECONDS) else None
    except EOFError:
        return None
    finally:
        process.join(timeout=10)
        if process.is_alive():
            process.kill()


def peak_on_gpu(stage: Stage, inputs: Inputs) -> dict[str, float]:
    """MB of torch's allocator while the stage runs: `process` in total with audio and network, `batch` beyond that."""
    workload = stage.workload(inputs)
    workload.run(*workload.before())
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    workload.run(*workload.before())
    peak = torch.cuda.max_memory_allocated()
    return {"process": peak / 1e6, "batch": (peak - before) / 1e6}


def _child(sender: Connection, name: str, root: str | None, count: int, seconds: float, config: str) -> None:
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    inputs = load_inputs(root, count, seconds, torch.device("cpu"))
    stage = next(stage for stage in [*stages(), *TrainingStages(config).stages()] if stage.name == name)
    workload = stage.workload(inputs)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak, so that imports do not count
    for _ in range(2):
        workload.run(*workload.before())
    peak = _status("VmHWM")
    sender.send({"process": peak, "batch": peak - before})


def _status(key: str) -> float:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024 / 1e6
