"""Where parts run besides in processes of this command: an array of Slurm, by submitit or by a script for `sbatch`."""

import logging
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from serx.errors import ConfigError
from serx.evaluation.report import write_files
from serx.evaluation.tables import count
from serx.training.console import echo

CLUSTERS = {"slurm": "slurm", "submitit-local": "local", "submitit-debug": "debug"}  # executor -> submitit's name
SCRIPT = "array.sbatch"
JOBS = "jobs"  # folder of what submitit writes, or of the logs of the script
POLL_SECONDS = 2.0
MAX_RESTARTS = 100  # of a part whose time is over
SAVE_SECONDS = 90  # before its time is over, a job is asked to save


@dataclass(frozen=True)
class ClusterJob:
    """What a part asks of the cluster.

    Attributes:
        minutes: after which the cluster ends the part; it is started again where it was.
        partition: None is the cluster's default.
        cpus, gpus, memory_gb: of each part.
        at_once: how many parts may run at the same time; None: all.
        options: other options of `sbatch`, such as account=lab.
    """

    minutes: int = 60
    partition: str | None = None
    cpus: int = 1
    gpus: int = 0
    memory_gb: float | None = None
    at_once: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for flag, value in (("--time", self.minutes), ("--cpus", self.cpus), ("--processes", self.at_once)):
            if value is not None and value < 1:
                raise ConfigError(f"{flag} {value}: give at least 1")
        if self.gpus < 0 or (self.memory_gb is not None and self.memory_gb <= 0):
            raise ConfigError("--gpus and --memory cannot be negative")


class PartCommand:
    """The command of a part as a job of submitit: if its time is over, it saves and is submitted again."""

    def __init__(self, words: Sequence[str], folder: str) -> None:
        self.words, self.folder = [*words], folder
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Raises RuntimeError with the exit code, unless it is 0."""
        # a job has one thread, so a function may run in the child
        self._process = subprocess.Popen(self.words, cwd=self.folder, preexec_fn=_ignore_warning)  # noqa: PLW1509
        code = self._process.wait()
        if code:
            raise RuntimeError(f"exit code {code if code > 0 else 128 - code}")

    def checkpoint(self) -> Any:
        """What submitit calls when the time of the job is nearly over: lets the part save, and returns a new job."""
        import submitit  # noqa: PLC0415 (an optional package)

        if self._process is not None and self._process.returncode is None:
            # Not Popen.wait: submitit calls this from a signal handler, which may have interrupted that very function.
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(self._process.pid, signal.SIGTERM)
                os.waitpid(self._process.pid, 0)
        return submitit.helpers.DelayedSubmission(PartCommand(self.words, self.folder))


def _ignore_warning() -> None:
    """In the child: Slurm sends the signal that warns of the end of a job to all processes of it."""
    if hasattr(signal, "SIGUSR2"):
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def check_executor(executor: str) -> None:
    """Raises ConfigError if submitit is not installed and the executor needs it."""
    if executor in CLUSTERS and find_spec("submitit") is None:
        raise ConfigError(f"--executor {executor} needs submitit: pip install 'serx[cluster]'")


def run_on_cluster(executor: str, parts: Mapping[str, Sequence[str]], out: Path, job: ClusterJob) -> dict[str, int]:
    """Submits parts as one array of jobs, and waits for them.

    Args:
        executor: of `CLUSTERS`.
        parts: from the name of a part to its command line.
        out: the folder of the cross-validation or the sweep; submitit's files go into `out/jobs`.
        job: what each part asks for.

    Returns:
        The exit code of each part.

    Raises:
        ConfigError: the cluster refuses the jobs.
    """
    import submitit  # noqa: PLC0415 (an optional package)

    logging.getLogger("submitit").setLevel(logging.ERROR)  # it warns at each look where Slurm keeps no accounts
    here, codes = os.getcwd(), dict[str, int]()
    if not parts:
        return codes
    try:
        pool = submitit.AutoExecutor(out / JOBS, CLUSTERS[executor], slurm_max_num_timeout=MAX_RESTARTS)
        pool.update_parameters(**_parameters(executor, job))
        with pool.batch():
            jobs = {name: pool.submit(PartCommand(words, here)) for name, words in parts.items()}
    except (RuntimeError, ValueError, OSError, AssertionError, submitit.core.utils.FailedJobError) as error:
        reason = " ".join(str(error).split())[:400]
        raise ConfigError(f"--executor {executor}: the cluster refuses the jobs: {reason}") from error
    ids = sorted({one.job_id.partition("_")[0] for one in jobs.values()})
    if executor == "slurm":
        echo(f"submitted: {count(len(jobs), 'part')} as job {', '.join(ids)}; logs in {out / JOBS}")
    waiting = dict(jobs)
    try:
        while waiting:
            for name, one in [*waiting.items()]:
                if executor == "submitit-debug" or one.done():
                    del waiting[name]
                    codes[name] = _exit_code(one)
                    echo(f"{name}: {_words(codes[name])}   {len(codes)} of {len(jobs)}, log {one.paths.stdout}")
            if waiting:
                time.sleep(POLL_SECONDS if executor == "slurm" else POLL_SECONDS / 10)
    except BaseException:
        if executor == "slurm":
            echo(f"job {', '.join(ids)} goes on without this command (scancel ends it); --collect writes the result")
        else:
            for one in waiting.values():
                one.cancel(check=False)
        raise
    return codes


def _parameters(executor: str, job: ClusterJob) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "timeout_min": job.minutes, "cpus_per_task": job.cpus, "gpus_per_node": job.gpus or None,
        "mem_gb": job.memory_gb,
    }  # fmt: skip
    if executor == "slurm":
        asked |= {
            "name": "serx", "slurm_partition": job.partition, "slurm_array_parallelism": job.at_once,
            "slurm_signal_delay_s": SAVE_SECONDS, "slurm_additional_parameters": dict(job.options) or None,
        }  # fmt: skip
    return {key: value for key, value in asked.items() if value is not None}


def _exit_code(job: Any) -> int:
    error = job.exception()
    if error is None:
        return 0
    found = re.search(r"exit code ([0-9]+)", str(error))
    return int(found[1]) if found else 1


def _words(code: int) -> str:
    if code == 0:
        return "done"
    return "run by another process" if code == 3 else f"FAILED with exit code {code}"


def write_script(parts: Sequence[Sequence[str]], out: Path, job: ClusterJob) -> Path:
    """Writes a script for `sbatch`, whose array has one task for each part; returns its path.

    Raises:
        DiskError: it cannot be written.
    """
    here, logs = os.getcwd(), (out / JOBS).absolute()
    limit = f"%{job.at_once}" if job.at_once else ""
    options = {
        "job-name": "serx",
        "array": f"0-{len(parts) - 1}{limit}",
        "output": f"{logs}/%A_%a.log",
        "time": str(job.minutes),
        "cpus-per-task": str(job.cpus),
        "signal": f"B:TERM@{SAVE_SECONDS}",
        **({"partition": job.partition} if job.partition else {}),
        **({"gpus-per-task": str(job.gpus)} if job.gpus else {}),
        **({"mem": f"{round(1024 * job.memory_gb)}M"} if job.memory_gb else {}),
        **job.options,
    }
    lines = ["#!/bin/bash", *(f"#SBATCH --{name}={value}" for name, value in options.items())]
    lines += ["# Submit it again to continue parts that were stopped; parts that are done end at once."]
    lines += [f"cd {shlex.quote(here)}", 'case "$SLURM_ARRAY_TASK_ID" in']
    lines += [f"{number}) exec {shlex.join(words)} ;;" for number, words in enumerate(parts)]
    write_files(logs, {})
    write_files(out, {SCRIPT: "\n".join([*lines, "esac", ""]).encode()})
    return out / SCRIPT
