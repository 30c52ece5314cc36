"""Trains in several processes that share a model, as torchrun starts them, and ends some of them on the way.

    python -m tests.training.processes JOBS.json

runs the jobs of a JSON list in order and writes what became of them to JOBS.json.done. Processes are forked from one
that has imported everything and computed nothing, so that a job takes a second and not the start of interpreters.
"""

import json
import os
import signal
import socket
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import nnAudio.features  # what a run imports, children need not import again
import PIL.Image
import torch
import torch._dynamo

from serx.config.loader import load_config
from serx.errors import SerxError
from serx.training import tensorboard as tracking
from serx.training.run_folder import LAST
from serx.training.trainer import fit
from tests.conftest import blank


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Runs a job: `config`, `overrides`, `folder`, `resume`, the number of `processes`, and who gets which `signal`.

    With `processes` 0 torchrun is left out. `signal` is [number, ranks], sent after the first epoch has been saved.
    """
    folder, count = Path(job["folder"]), job["processes"]
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    children = [fork(job, rank, port) for rank in range(max(1, count))]
    sent = 0.0
    if job.get("signal"):
        number, ranks = job["signal"]
        while not (folder / LAST).exists():
            time.sleep(0.02)
        for rank in ranks:
            os.kill(children[rank], number)
        sent = time.monotonic()
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    said = [Path(f"{folder}.{rank}.txt").read_text() for rank in range(max(1, count))]
    return {"codes": codes, "said": said, "seconds": time.monotonic() - sent}


def fork(job: dict[str, Any], rank: int, port: int) -> int:
    """Starts a process of the job; returns its id."""
    child = os.fork()
    if child:
        return child
    said = os.open(f"{job['folder']}.{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(said, 1)
    os.dup2(said, 2)
    if job["processes"]:
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": job["processes"], "MASTER_PORT": port}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", **{name: str(value) for name, value in names.items()}}
    code = 1
    try:
        config = load_config(job["config"], job["overrides"])
        result = fit(config, job["folder"], resume=job.get("resume", False), progress=False)
        code = 128 + result.stopped_by if result.stopped_by else 0
    except SerxError as error:
        print(f"error: {error}", flush=True)
        code = error.exit_code
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        os._exit(code)


PRELOADED = (nnAudio.features, PIL.Image, torch._dynamo)

if __name__ == "__main__":
    torch.set_num_threads(1)
    tracking.picture = blank
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    path = Path(sys.argv[1])
    done = [run(job) for job in json.loads(path.read_text())]
    path.with_suffix(".json.done").write_text(json.dumps(done))
