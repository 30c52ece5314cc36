"""Commands side by side in processes: so many at a time, each job's one after the other, signals passed on."""

import os
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from serx.errors import DiskError
from serx.files import free_space
from serx.system import PARENT_PROCESS
from serx.training.signals import catch_signals

POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Job:
    """Commands to run in turn until one fails.

    Attributes:
        name: for the people who wait.
        commands: from the slot that is free (0, 1, ...), which may mean a device, to the command lines.
        log: where all that they print goes, after what is there.
    """

    name: str
    commands: Callable[[int], Sequence[Sequence[str]]]
    log: Path


@dataclass
class _Running:
    job: Job
    rest: deque[Sequence[str]]
    began: float = field(default_factory=time.monotonic)
    process: subprocess.Popen[bytes] = field(init=False)

    def start_next(self, environment: dict[str, str]) -> None:
        try:
            self.job.log.parent.mkdir(parents=True, exist_ok=True)
            with self.job.log.open("ab") as log:
                # A session of its own: Ctrl-C in the terminal would reach it twice, and the second one does not wait.
                self.process = subprocess.Popen(
                    self.rest.popleft(), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                    start_new_session=True,
                )  # fmt: skip
        except OSError as error:
            where = f"{self.job.log}: cannot write here: {error.strerror} ({free_space(self.job.log)})"
            raise DiskError(f"{where}; choose another --out") from error


def run_side_by_side(
    jobs: Sequence[Job], slots: int, threads: int, on_end: Callable[[Job, int, float], None]
) -> int | None:
    """Runs the jobs, at most `slots` at a time; one that fails stops no other.

    The first SIGINT, SIGTERM or SIGHUP is passed on to all that run, which may save and stop; no other job begins. A
    second one ends them at once. Where we are killed outright, scripts of serx among them stop as if told to.

    Args:
        jobs: in the order in which they begin.
        slots: how many at a time.
        threads: CPU threads of each, told by the environment.
        on_end: called with each job that ended, its exit code and its seconds, but not with those that were stopped.

    Returns:
        The signal that stopped it, or None.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), PARENT_PROCESS: str(os.getpid())}
    waiting, running = deque(jobs), dict[int, _Running]()
    with catch_signals() as signals:
        passed_on = False
        try:
            while running or (waiting and not signals):
                for slot in sorted(set(range(slots)) - running.keys()):
                    if waiting and not signals:
                        job = waiting.popleft()
                        one = _Running(job, deque(job.commands(slot)))
                        one.start_next(environment)
                        running[slot] = one
                if signals and not passed_on:
                    _tell(running, signals[0])
                    passed_on = True
                time.sleep(POLL_SECONDS)
                for slot, one in list(running.items()):
                    code = one.process.poll()
                    if code == 0 and one.rest and not signals:
                        one.start_next(environment)
                    elif code is not None:
                        del running[slot]
                        if not signals:
                            on_end(one.job, code, time.monotonic() - one.began)
        finally:
            _tell(running, signal.SIGTERM)
            for one in running.values():
                one.process.wait()
    return signals[0] if signals else None


def _tell(running: dict[int, _Running], number: int) -> None:
    for one in running.values():
        if one.process.poll() is None:
            one.process.send_signal(number)
