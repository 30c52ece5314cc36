"""Kills a training run with SIGKILL and resumes it, again and again, and compares the result with an undisturbed run.

    python -m tests.reliability.killing CONFIG FOLDER KILLS SEED [section.key=value ...]

prints one JSON object. Each run is forked from a process that has imported everything and trained nothing, so that a
kill costs a tenth of a second and not the start of an interpreter.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # making an optimizer imports it, which would take seconds in each child

from serx import checkpoint
from serx.config.loader import Config, load_config
from serx.errors import CheckpointError
from serx.training import tensorboard as tracking
from serx.training.run_folder import BEST, LAST, METRICS, OWNER, PREVIOUS
from serx.training.trainer import fit
from tests.conftest import blank


def train_in_child(config: Config, folder: Path) -> int:
    """Forks; the child trains or resumes, and exits with 0. Returns its process id."""
    child = os.fork()
    if child:
        return child
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        fit(config, folder, resume=(folder / LAST).exists() or (folder / PREVIOUS).exists(), progress=False)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)
    os._exit(0)


def differences(first: Path, second: Path) -> list[str]:
    """The names of everything that differs between two finished runs: tensors, progress, metrics."""
    differing = []
    for name in (LAST, BEST):
        a, b = checkpoint.load(first / name), checkpoint.load(second / name)
        differing += [f"{name}: {key}" for key in a.tensors.keys() ^ b.tensors.keys()]
        differing += [f"{name}: {key}" for key in a.tensors.keys() & b.tensors.keys() if not _same(a, b, key)]
        if a.metadata["progress"] != b.metadata["progress"]:
            differing.append(f"{name}: progress")
    if records(first) != records(second):
        differing.append(METRICS)
    return differing


def _same(a: checkpoint.Checkpoint, b: checkpoint.Checkpoint, key: str) -> bool:
    return torch.equal(a.tensors[key], b.tensors[key])


def records(folder: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl` without the speed, which depends on the clock."""
    lines = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "clips_per_second"} for line in lines]


def main(config_path: str, folder: str, kills: int, seed: int, overrides: list[str]) -> dict[str, Any]:
    """Kills `kills` running processes, in as many runs as that takes. Each run is resumed until it finishes."""
    config, root, choose = load_config(config_path, overrides), Path(folder), random.Random(seed)
    torch.set_num_threads(1)
    tracking.picture = blank  # drawing clips would take half of the run, and kills should hit training
    began = time.monotonic()
    _, status = os.waitpid(train_in_child(config, root / "whole"), 0)
    seconds = time.monotonic() - began
    result: dict[str, Any] = {
        "kills": 0,
        "runs": 0,
        "lost": 0,
        "unreadable": 0,
        "failed": int(status != 0),
        "differ": [],
    }
    while result["kills"] < kills or result["runs"] == 0:
        run = root / f"run{result['runs']}"
        finished = False
        while not finished:
            had_save = (run / LAST).exists()
            child = train_in_child(config, run)
            if result["kills"] < kills:
                wait_for_lock(run, child)
                time.sleep(choose.uniform(0, 0.8 * seconds))
                os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            finished = os.WIFEXITED(status)
            result["kills"] += not finished
            result["failed"] += finished and os.WEXITSTATUS(status) != 0
            result["lost"] += had_save and not (run / LAST).exists()
            result["unreadable"] += unreadable(run)
        result["differ"] += differences(root / "whole", run)
        result["litter"] = [path.name for path in run.glob(".*.tmp")]
        result["runs"] += 1
    return result | {"seconds": round(time.monotonic() - began, 1)}


def wait_for_lock(run: Path, child: int) -> None:
    """Returns when the child holds the run folder, so that most kills hit training and not what comes before.

    Raises:
        TimeoutError: the child has not locked the folder within a minute.
    """
    owner, until = run / OWNER, time.monotonic() + 60
    while not (owner.exists() and owner.read_text().startswith(f"{child} ")):
        if time.monotonic() > until:
            raise TimeoutError(f"{owner}: process {child} has not locked the folder")
        time.sleep(0.002)


def unreadable(run: Path) -> int:
    """The number of checkpoints of a run that cannot be read."""
    bad = 0
    for path in run.glob("*.safetensors"):
        try:
            checkpoint.load(path)
        except CheckpointError:
            bad += 1
    return bad


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])))
