"""One run of the benchmark: what is there is timed, stage by stage, and the report written."""

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

from . import memory, trace
from .given import Given, give
from .peers import PEERS, peer_works
from .report import Row, as_json, judge, shares, write
from .stages import Stage, stages
from .timing import Work, measure
from .training import PARTS, training_stages

LIBRARIES = ("torch", "numpy", "librosa", *dict.fromkeys(package for _, package in PEERS.values()))
HEAVY = ("chain_fused", "chain_waveform", "step")  # whose memory is measured
MEMORY_CLIPS = 64
CLOCKS = {
    "wall": "timed by the monotonic clock",
    "cpu": "timed by the process's own CPU time, since others share the cores",
    "cuda": "timed between CUDA events, each run synchronised",
}


def benchmark(arguments: argparse.Namespace, command: str) -> tuple[Path, Path]:
    """Measures and writes what the command line asks for; returns the page and the JSON.

    Raises:
        ConfigError: a stage of `--only` is unknown, or the device is not there.
        DataError: there is no audio where `--root` points.
    """
    device = choose_device(arguments.device, "--device")
    torch.set_num_threads(arguments.threads)
    if device.type == "cuda":
        torch.cuda.set_device(device)  # events and memory are the current device's
    count = arguments.clips or (256 if device.type == "cuda" else 64)
    chosen = choose([*stages(), *training_stages(arguments.config)], arguments.only)
    given = give(arguments.root, count, arguments.seconds, device)
    if arguments.profile:
        _profile(chosen, given, Path(arguments.profile))
    peers, absent = peer_works(given)
    for peer, why in absent.items():
        print(f"{peer} is absent: {why}")
    clock = "cuda" if device.type == "cuda" else arguments.clock
    rows = [_row(stage, given, peers, arguments.rounds, clock) for stage in chosen]
    peaks = {stage.name: peak for stage in chosen if stage.name in HEAVY and (peak := _peak(stage, given, arguments))}
    extra = {
        "targets": judge(rows, peaks, device.type, given.count),
        "shares": shares(rows, PARTS),
        "memory": peaks,
        "memory_clips": given.count if device.type == "cuda" else MEMORY_CLIPS,
        "absent": absent,
    }
    name = "cpu" if device.type == "cpu" else _machine(device).lower().replace(" ", "-")
    paths = write(Path(arguments.out), name, as_json(_metadata(arguments, given, command), rows, extra))
    print(f"written: {paths[0]} and {paths[1]}")
    return paths


def choose(known: list[Stage], wanted: list[str]) -> list[Stage]:
    """The stages named, or those of the groups named; all where nothing is."""
    names = {stage.name for stage in known} | {stage.group for stage in known}
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise ConfigError(f"--only {unknown[0]}: no such stage or group; known are {', '.join(sorted(names))}")
    return [stage for stage in known if not wanted or {stage.name, stage.group} & set(wanted)]


def _row(stage: Stage, given: Given, peers: dict[str, dict[str, Work]], rounds: int, clock: str) -> Row:
    works = {"serx": stage.work(given)}
    works |= {peer: theirs[stage.name] for peer, theirs in peers.items() if stage.name in theirs}
    timings, failed = measure(works, rounds, clock)
    told = ", ".join(f"{tool} {timing.median * 1e3:.3f}" for tool, timing in timings.items())
    print(f"{stage.name}: {told} ms a clip{''.join(f'; {tool} broke down' for tool in failed)}", flush=True)
    return Row(stage.name, stage.group, stage.about, timings, failed)


def _peak(stage: Stage, given: Given, arguments: argparse.Namespace) -> dict[str, float] | None:
    if given.device.type == "cuda":
        return memory.peak_on_gpu(stage, given)
    return memory.peak_megabytes(stage.name, arguments.root, MEMORY_CLIPS, arguments.seconds, arguments.config)


def _profile(chosen: list[Stage], given: Given, folder: Path) -> None:
    stage = next((stage for stage in chosen if stage.name == "step"), chosen[-1])
    trace.record(stage.work(given), folder, given.device.type)
    print(f"trace of {stage.name}: tensorboard --logdir {folder}")


def _metadata(arguments: argparse.Namespace, given: Given, command: str) -> dict[str, Any]:
    versions = {"serx": serx.__version__, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            continue
    clock = "cuda" if given.device.type == "cuda" else arguments.clock
    return {
        "command": command,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "machine": _machine(given.device),
        "device": str(given.device),
        "clock": CLOCKS[clock],
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": versions,
        "clips": given.count,
        "seconds": arguments.seconds,
        "source": given.source,
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
