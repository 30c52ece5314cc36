"""Commands side by side: how many, in which slot, what comes of those that fail, and signals."""

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
from serx.experiments.processes import Job, run_side_by_side


def job(name, folder, *programs, arguments=lambda slot: []) -> Job:
    commands = [[sys.executable, "-S", "-c", program] for program in programs]
    return Job(name, lambda slot: [[*command, *arguments(slot)] for command in commands], folder / name / "log.txt")


def run(jobs, slots, threads=1):
    ended = []
    stopped = run_side_by_side(jobs, slots, threads, lambda one, code, seconds: ended.append((one.name, code)))
    return ended, stopped


def test_a_job_runs_its_commands_in_turn_until_one_fails(tmp_path):
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


def test_a_terminals_ctrl_c_reaches_a_job_through_us_alone(tmp_path):
    run([job("own", tmp_path, "import os; print(os.getsid(0) == os.getpid())")], slots=1)
    assert (tmp_path / "own/log.txt").read_text() == "True\n"


def test_no_more_run_at_a_time_than_there_are_slots_and_each_slot_has_one(tmp_path):
    program = (
        "import glob, os, sys, time\n"
        "os.mkdir(sys.argv[1])\n"  # fails where another job is in the same slot
        "time.sleep(0.3)\n"
        "print(len(glob.glob(sys.argv[1][:-1] + '*')))\n"
        "os.rmdir(sys.argv[1])\n"
    )
    jobs = [job(f"{i}", tmp_path, program, arguments=lambda slot: [str(tmp_path / f"slot{slot}")]) for i in range(5)]
    ended, _ = run(jobs, slots=2)
    assert sorted(ended) == [(f"{i}", 0) for i in range(5)]
    beside = [int((tmp_path / f"{i}/log.txt").read_text()) for i in range(5)]  # how many each saw, itself among them
    assert max(beside) <= 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_once_and_nothing_else_begins(number, tmp_path):
    program = (
        "import signal, sys, time\n"
        "def note(number, frame):\n"
        "    print('told', number, flush=True)\n"
        "    time.sleep(0.5)\n"  # saving takes its time; a second signal would show
        "    sys.exit(128 + number)\n"
        "for s in (2, 15): signal.signal(s, note)\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    jobs = [job(f"{i}", tmp_path, program, "print('next')") for i in range(3)]
    logs = [tmp_path / f"{i}/log.txt" for i in range(2)]

    def tell():
        while not all(log.exists() and "ready" in log.read_text() for log in logs):
            time.sleep(0.02)
        os.kill(os.getpid(), number)

    threading.Thread(target=tell, daemon=True).start()
    ended, stopped = run(jobs, slots=2)
    assert stopped == number and ended == []
    assert [log.read_text() for log in logs] == [f"ready\ntold {int(number)}\n"] * 2
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


def test_a_script_stops_as_if_told_to_when_who_asked_for_it_is_killed(tmp_path):
    script = (
        "import time\n"
        "from serx.cli import common as commands\n"
        "from serx.training.signals import catch_signals\n"
        "def main(arguments):\n"
        "    with catch_signals() as signals:\n"
        "        print('ready', flush=True)\n"
        "        while not signals: time.sleep(0.02)\n"
        "    print('saved', signals[0], flush=True)\n"
        "commands.run(main, None)\n"
    )
    log = tmp_path / "log.txt"
    asking = (
        "import sys\n"
        "from pathlib import Path\n"
        "from serx.experiments.processes import Job, run_side_by_side\n"
        f"job = Job('one', lambda slot: [[sys.executable, '-c', {script!r}]], Path({str(log)!r}))\n"
        "run_side_by_side([job], 1, 1, print)\n"
    )
    with subprocess.Popen([sys.executable, "-c", asking], cwd=Path(serx.__file__).parents[1]) as parent:
        wait_for(log, "ready")
        parent.kill()
    wait_for(log, f"saved {int(signal.SIGTERM)}")


def wait_for(log, words, seconds=60):
    end = time.monotonic() + seconds
    while not (log.exists() and words in log.read_text()):
        assert time.monotonic() < end, f"{log} never said {words!r}"
        time.sleep(0.02)
