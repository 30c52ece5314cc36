"""Sends SIGTERM and SIGINT to a run at random moments, resumes it, and compares it with an undisturbed run.

    python -m tests.reliability.signalling CONFIG FOLDER SIGNALS SEED [section.key=value ...]

prints one JSON object. As in `killing.py`, each run is forked from a process that has imported everything.
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

from serx.config.loader import Config, load_config
from serx.training import tensorboard as tracking
from serx.training.run_folder import LAST, PREVIOUS
from serx.training.trainer import fit
from tests.conftest import blank
from tests.reliability.killing import differences, unreadable, wait_for_lock

EXITS = {signal.SIGTERM: 143, signal.SIGINT: 130}


def train_in_child(config: Config, folder: Path) -> int:
    """Forks; the child trains or resumes, and exits with the codes of `serx train`. Returns its process id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        resume = (folder / LAST).exists() or (folder / PREVIOUS).exists()
        code = 128 + (fit(config, folder, resume, progress=False).stopped_by or -128)
    except KeyboardInterrupt:
        code = 130
    finally:
        os._exit(code)


def main(config_path: str, folder: str, count: int, seed: int, overrides: list[str]) -> dict[str, Any]:
    """Ends `count` processes with signals, in as many runs as that takes. Each run is resumed until it finishes."""
    config, root, choose = load_config(config_path, overrides), Path(folder), random.Random(seed)
    torch.set_num_threads(1)
    tracking.picture = blank  # drawing clips would take half of the run, and signals should hit training
    began = time.monotonic()
    os.waitpid(train_in_child(config, root / "whole"), 0)
    seconds = time.monotonic() - began
    result: dict[str, Any] = {"signals": 0, "runs": 0, "saved": 0, "wrong": [], "unreadable": 0, "differ": []}
    slowest = 0.0
    while result["signals"] < count:
        run, finished = root / f"run{result['runs']}", False
        while not finished:
            child = train_in_child(config, run)
            number = (signal.SIGTERM, signal.SIGINT)[result["signals"] % 2]
            if result["signals"] < count:
                wait_for_lock(run, child)
                time.sleep(choose.uniform(0, 0.8 * seconds))
                os.kill(child, number)
            sent = time.monotonic()
            _, status = os.waitpid(child, 0)
            code = os.waitstatus_to_exitcode(status)
            finished = code == 0
            if not finished:
                result["signals"] += 1
                result["saved"] += code == EXITS[number] and (run / LAST).exists()
                slowest = max(slowest, time.monotonic() - sent)
                if code not in (EXITS[number], -number):  # -number: before training had begun
                    result["wrong"].append(code)
            result["unreadable"] += unreadable(run)
        result["differ"] += differences(root / "whole", run)
        result["runs"] += 1
    return result | {"slowest": round(slowest, 2)}


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])))
