"""Parallel commands: how many at a time, in which slot, what a failure does, and signals."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import serx
from serx.errors import DiskError
from serx.experiments.processes import Job, run_in_parallel


def job(name, folder, *programs, arguments=lambda slot: []) -> Job:
    commands = [[sys.executable, "-S", "-c", program] for program in programs]
    return Job(name, lambda slot: [[*command, *arguments(slot)] for command in commands], folder / name / "log.txt")


def run(jobs, slots, threads=1):
    ended = []
    stopped = run_in_parallel(
        jobs, slots, threads, lambda ended_job, code, seconds: ended.append((ended_job.name, code))
    )
    return ended, stopped


def test_a_job_runs_its_commands_one_after_another_until_one_fails(tmp_path):
    jobs = [
        job("good", tmp_path, "print('one')", "print('two')"),
        job("bad", tmp_path, "print('three')", "raise SystemExit(4)", "print('never')"),
        job("after", tmp_path, "import os; print(os.environ['OMP_NUM_THREADS'])"),
    ]
    ended, stopped = run(jobs, slots=1, threads=3)
    assert (ended, stopped) == ([("good", 0), ("bad", 4), ("after", 0)], None)
    assert (tmp_path / "good/log.txt").read_text() == "one\ntwo\n"
    assert (tmp_path / "bad/log.txt").read_text() == "three\n"
    assert (tmp_path / "after/log.txt").read_text() == "3\n"


def test_a_job_has_its_own_session_so_that_ctrl_c_does_not_reach_it_twice(tmp_path):
    run([job("own", tmp_path, "import os; print(os.getsid(0) == os.getpid())")], slots=1)
    assert (tmp_path / "own/log.txt").read_text() == "True\n"


def test_each_slot_runs_one_job_at_a_time(tmp_path):
    program = (
        "import glob, os, sys, time\n"
        "os.mkdir(sys.argv[1])\n"  # fails if another job uses the same slot
        "time.sleep(0.3)\n"
        "print(len(glob.glob(sys.argv[1][:-1] + '*')))\n"
        "os.rmdir(sys.argv[1])\n"
    )
    jobs = [job(f"{i}", tmp_path, program, arguments=lambda slot: [str(tmp_path / f"slot{slot}")]) for i in range(5)]
    ended, _ = run(jobs, slots=2)
    assert sorted(ended) == [(f"{i}", 0) for i in range(5)]
    running = [int((tmp_path / f"{i}/log.txt").read_text()) for i in range(5)]  # how many each saw, itself included
    assert max(running) <= 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_once_and_no_further_job_starts(number, tmp_path):
    program = (
        "import signal, sys, time\n"
        "def note(number, frame):\n"
        "    print('received', number, flush=True)\n"
        "    time.sleep(0.5)\n"  # as long as saving takes; a second signal would be printed
        "    sys.exit(128 + number)\n"
        "for s in (2, 15): signal.signal(s, note)\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    jobs = [job(f"{i}", tmp_path, program, "print('next')") for i in range(3)]
    logs = [tmp_path / f"{i}/log.txt" for i in range(2)]

    def send():
        while not all(log.exists() and "ready" in log.read_text() for log in logs):
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()
    ended, stopped = run(jobs, slots=2)
    assert stopped == number and ended == []
    assert [log.read_text() for log in logs] == [f"ready\nreceived {int(number)}\n"] * 2
    assert not (tmp_path / "2").exists()


def test_an_error_leaves_no_process_behind(tmp_path):
    (tmp_path / "late").write_text("in the way of the folder of its log")
    program = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    wait = f"import os, time\nwhile not os.path.exists({str(tmp_path / 'pid')!r}): time.sleep(0.02)"
    jobs = [job("long", tmp_path, program), job("short", tmp_path, wait), job("late", tmp_path, "pass")]
    with pytest.raises(DiskError, match="--out"):
        run(jobs, slots=2)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_command_stops_as_on_sigterm_when_its_parent_is_killed(tmp_path):
    script = (
        "import time\n"
        "from serx.cli.execution import run_main\n"
        "from serx.training.signals import catch_signals\n"
        "def main(arguments):\n"
        "    with catch_signals() as signals:\n"
        "        print('ready', flush=True)\n"
        "        while not signals: time.sleep(0.02)\n"
        "    print('saved', signals[0], flush=True)\n"
        "run_main(main, None)\n"
    )
    log = tmp_path / "log.txt"
    parent_program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from serx.experiments.processes import Job, run_in_parallel\n"
        f"job = Job('one', lambda slot: [[sys.executable, '-c', {script!r}]], Path({str(log)!r}))\n"
        "run_in_parallel([job], 1, 1, print)\n"
    )
    with subprocess.Popen([sys.executable, "-c", parent_program], cwd=Path(serx.__file__).parents[1]) as parent:
        wait_for(log, "ready")
        parent.kill()
    wait_for(log, f"saved {int(signal.SIGTERM)}")


def wait_for(log, words, seconds=60):
    end = time.monotonic() + seconds
    while not (log.exists() and words in log.read_text()):
        assert time.monotonic() < end, f"{log} never contained {words!r}"
        time.sleep(0.02)
