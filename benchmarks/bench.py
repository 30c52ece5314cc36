"""One run of the benchmark: each stage is timed with every library that is installed, and the report is written."""

import argparse
import os
import platform
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

import serx
from serx.device import choose_device
from serx.errors import ConfigError

from . import memory
from .inputs import Inputs, load_inputs
from .libraries import LIBRARIES, installed
from .report import Row, as_json, judge, write
from .stages import Stage, stages
from .timing import Workload, measure, record_trace
from .training import TrainingStages, step_shares

PACKAGES = ("torch", "numpy", "librosa", *dict.fromkeys(package for _, package in LIBRARIES.values()))
MEMORY_STAGES = ("mfcc_mel_warp", "mfcc_two_passes", "step")
MEMORY_CLIPS = 64
CLOCKS = {
    "wall": "wall-clock time",
    "cpu": "CPU time of the process, since the cores are shared",
    "cuda": "time between CUDA events, with a synchronization after each run",
}


def benchmark(arguments: argparse.Namespace, command: str) -> tuple[Path, Path]:
    """Measures what the command line asks for, writes the report, and returns the paths of the page and the JSON file.

    Raises:
        ConfigError: a stage of `--only` is unknown, or the device is not available.
        DataError: there is no audio below `--root`.
    """
    device = choose_device(arguments.device, "--device")
    torch.set_num_threads(arguments.threads)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # events and memory belong to the current device
    count = arguments.clips or (256 if device.type == "cuda" else 64)
    training = TrainingStages(arguments.config)
    chosen = choose([*stages(), *training.stages()], arguments.only)
    inputs = load_inputs(arguments.root, count, arguments.seconds, device)
    if arguments.profile:
        _profile(chosen, inputs, Path(arguments.profile))
    workloads, absent = installed(inputs)
    for library, reason in absent.items():
        print(f"{library} is not measured: {reason}")
    clock = "cuda" if device.type == "cuda" else arguments.clock
    rows = [_row(stage, inputs, workloads, arguments.rounds, clock) for stage in chosen]
    has_step = any(stage.name == "step" for stage in chosen)
    peaks = {
        stage.name: peak
        for stage in chosen
        if stage.name in MEMORY_STAGES and (peak := _peak(stage, inputs, arguments))
    }
    extra = {
        "targets": judge(rows, peaks, device.type, inputs.count),
        "shares": step_shares(training.run_on(inputs), arguments.rounds, clock) if has_step else {},
        "memory": peaks,
        "memory_clips": inputs.count if device.type == "cuda" else MEMORY_CLIPS,
        "absent": absent,
    }
    name = "cpu" if device.type == "cpu" else _machine(device).lower().replace(" ", "-")
    paths = write(Path(arguments.out), name, as_json(_metadata(arguments, inputs, command), rows, extra))
    print(f"written: {paths[0]} and {paths[1]}")
    return paths


def choose(known: list[Stage], names: list[str]) -> list[Stage]:
    """The stages with these names or in groups with these names; all stages if there are no names.

    Raises:
        ConfigError: a name is unknown.
    """
    valid = {stage.name for stage in known} | {stage.group for stage in known}
    for name in names:
        if name not in valid:
            raise ConfigError(f"--only {name}: unknown stage or group; known are {', '.join(sorted(valid))}")
    return [stage for stage in known if not names or {stage.name, stage.group} & set(names)]


def _row(stage: Stage, inputs: Inputs, others: dict[str, dict[str, Workload]], rounds: int, clock: str) -> Row:
    workloads = {"serx": stage.workload(inputs)}
    workloads |= {library: theirs[stage.name] for library, theirs in others.items() if stage.name in theirs}
    timings, failed = measure(workloads, rounds, clock)
    medians = ", ".join(f"{library} {timing.median * 1e3:.3f}" for library, timing in timings.items())
    print(f"{stage.name}: {medians} ms per clip{''.join(f'; {name} failed' for name in failed)}", flush=True)
    return Row(stage.name, stage.group, stage.about, timings, failed)


def _peak(stage: Stage, inputs: Inputs, arguments: argparse.Namespace) -> dict[str, float] | None:
    if inputs.device.type == "cuda":
        return memory.peak_on_gpu(stage, inputs)
    return memory.peak_megabytes(stage.name, arguments.root, MEMORY_CLIPS, arguments.seconds, arguments.config)


def _profile(chosen: list[Stage], inputs: Inputs, folder: Path) -> None:
    stage = next((stage for stage in chosen if stage.name == "step"), chosen[-1])
    record_trace(stage.workload(inputs), folder, inputs.device.type)
    print(f"trace of {stage.name}: tensorboard --logdir {folder}")


def _metadata(arguments: argparse.Namespace, inputs: Inputs, command: str) -> dict[str, Any]:
    versions = {"serx": serx.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    clock = "cuda" if inputs.device.type == "cuda" else arguments.clock
    return {
        "command": command,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": _machine(inputs.device),
        "device": str(inputs.device),
        "clock": CLOCKS[clock],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": versions,
        "clips": inputs.count,
        "seconds": arguments.seconds,
        "source": inputs.source,
        "rounds": arguments.rounds,
        "config": arguments.config,
        "only": arguments.only,
    }


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
