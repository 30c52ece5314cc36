"""Run commands in parallel processes: a limited number at a time, the commands of a job one after another."""

import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from serx.errors import DiskError
from serx.files import why_not_written
from serx.system import child_environment, own_group, send_stop
from serx.training.signals import catch_signals

POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Job:
    """Commands to run one after another until one fails.

    Attributes:
        name: for messages.
        commands: from the free slot (0, 1, ...), which can stand for a device, to the command lines.
        log: the file that their output is appended to.
    """

    name: str
    commands: Callable[[int], Sequence[Sequence[str]]]
    log: Path


@dataclass
class _RunningJob:
    job: Job
    remaining: deque[Sequence[str]]
    started: float = field(default_factory=time.monotonic)
    process: subprocess.Popen[bytes] = field(init=False)

    def start_next(self, environment: dict[str, str]) -> None:
        try:
            self.job.log.parent.mkdir(parents=True, exist_ok=True)
            with self.job.log.open("ab") as log:
                # In a group of its own: otherwise Ctrl-C in the terminal would reach the process twice, and a second
                # signal ends it before it has saved.
                self.process = subprocess.Popen(
                    self.remaining.popleft(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    **own_group(),
                )
        except OSError as error:
            where = f"{self.job.log}: cannot write here: {why_not_written(error, self.job.log)}"
            raise DiskError(f"{where}, or choose another --out") from error


def run_in_parallel(
    jobs: Sequence[Job], slots: int, threads: int, on_end: Callable[[Job, int, float], None]
) -> int | None:
    """Runs the jobs, at most `slots` at a time; a job that fails stops no other.

    The first SIGINT, SIGTERM or SIGHUP is passed on to all running processes, which can save and stop; no further job
    starts. A second signal ends them at once. If this process is killed, serx commands among its children stop as on
    SIGTERM.

    Args:
        jobs: in the order in which they start.
        slots: how many at a time.
        threads: CPU threads of each process, set in its environment.
        on_end: called with each job that ended, its exit code and its seconds; not called for jobs that were stopped.

    Returns:
        The signal that stopped the jobs, or None.

    Raises:
        DiskError: a log cannot be written.
    """
    environment = child_environment(threads)
    waiting, running = deque(jobs), dict[int, _RunningJob]()
    with catch_signals() as signals:
        passed_on = False
        try:
            while running or (waiting and not signals):
                for slot in sorted(set(range(slots)) - running.keys()):
                    if waiting and not signals:
                        job = waiting.popleft()
                        running_job = _RunningJob(job, deque(job.commands(slot)))
                        running_job.start_next(environment)
                        running[slot] = running_job
                if signals and not passed_on:
                    _stop_all(running, signals[0])
                    passed_on = True
                time.sleep(POLL_SECONDS)
                for slot, running_job in list(running.items()):
                    code = running_job.process.poll()
                    if code == 0 and running_job.remaining and not signals:
                        running_job.start_next(environment)
                    elif code is not None:
                        del running[slot]
                        if not signals:
                            on_end(running_job.job, code, time.monotonic() - running_job.started)
        finally:
            _stop_all(running, signal.SIGTERM)
            for running_job in running.values():
                running_job.process.wait()
    return signals[0] if signals else None


def _stop_all(running: dict[int, _RunningJob], number: int) -> None:
    for running_job in running.values():
        send_stop(running_job.process, number)
