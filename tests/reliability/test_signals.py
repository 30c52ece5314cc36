"""SIGTERM and SIGINT: the run finishes its step, saves, and exits with their code; a second signal ends it at once."""

import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from serx import checkpoint
from serx.training import validation
from serx.training.run_folder import BEST, LAST, METRICS
from serx.training.signals import catch_signals
from serx.training.trainer import fit
from tests.conftest import TINY
from tests.reliability.killing import differences

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_is_recorded_and_the_second_ends_the_process(number, capfd):
    before = signal.getsignal(number)

    def twice() -> None:
        with catch_signals() as received:
            os.kill(os.getpid(), number)
            time.sleep(0.01)
            assert received == [number]
            os.kill(os.getpid(), number)
            time.sleep(5)

    with pytest.raises(SystemExit) as caught:
        twice()
    assert caught.value.code == 128 + number
    assert signal.getsignal(number) is before
    assert "again to stop at once" in capfd.readouterr().err


def test_a_signal_within_a_print_is_handled():
    program = (
        "import os, threading, time\n"
        "from serx.training.signals import catch_signals\n"
        "with catch_signals() as received:\n"
        "    threading.Thread(target=lambda: (time.sleep(0.3), os.kill(os.getpid(), 15)), daemon=True).start()\n"
        "    while not received:\n"
        "        print('x' * 100_000, flush=True)\n"
        "print('done')\n"
    )
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", program], **pipes, text=True, cwd=ROOT)
    watch = threading.Timer(20, process.kill)
    watch.start()
    process.stderr.readline()  # an empty line
    message = process.stderr.readline()  # its output has not been read yet, so the process waits within `print`
    out, err = process.communicate(timeout=60)
    watch.cancel()
    assert message.startswith("SIGTERM: finishing"), message + err
    assert process.returncode == 0 and out.endswith("done\n"), err


def test_no_signal_handler_is_set_outside_the_main_thread():
    results = []

    def run():
        with catch_signals() as received:
            results.append((received, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert results == [([], signal.getsignal(signal.SIGTERM))]


@pytest.mark.slow
def test_a_signal_during_validation_stops_the_run_after_it_and_loses_nothing(tiny_config, tmp_path, monkeypatch):
    config = tiny_config("train.epochs=4")
    fit(config, tmp_path / "whole", progress=False)
    original, validated = validation.predict, []

    def interrupted(*arguments):
        validated.append(1)
        if len(validated) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments)

    monkeypatch.setattr(validation, "predict", interrupted)
    outcome = fit(config, tmp_path / "run", progress=False)
    assert outcome.stopped_by == signal.SIGTERM
    assert checkpoint.load(tmp_path / "run" / LAST).metadata["progress"]["epoch"] == 2
    monkeypatch.undo()
    fit(config, tmp_path / "run", resume=True, progress=False)
    assert differences(tmp_path / "whole", tmp_path / "run") == []


@pytest.mark.slow
def test_train_exits_143_soon_after_sigterm_and_prints_how_to_resume(tiny_config, tmp_path, record_figure):
    tiny_config()
    command = [sys.executable, str(ROOT / "scripts/train.py"), "--config", "tiny.yaml", *TINY, "train.epochs=500",
               "train.output=run"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    for line in process.stdout:
        if line.startswith("epoch   3/"):
            break
    sent = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 143, err
    record_figure(f"SIGTERM to exit: {time.monotonic() - sent:.1f} s")
    assert "Traceback" not in err
    saved = checkpoint.load(tmp_path / "run" / LAST)
    epochs = [json.loads(text)["epoch"] for text in (tmp_path / "run" / METRICS).read_text().splitlines()]
    assert epochs == list(range(saved.metadata["progress"]["epoch"]))
    assert len(epochs) < 50  # of 500
    printed = shlex.split(out.rpartition("continue with: ")[2])
    resume = [*command[:2], *printed[printed.index("--config") :]]  # whether it was called as a script or as a command
    process = subprocess.Popen(resume, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    for line in process.stdout:
        if line.startswith(f"epoch {len(epochs) + 2:3d}/500"):
            break
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143, err


@pytest.mark.slow
def test_a_closed_terminal_stops_a_run_after_a_save(tiny_config, tmp_path):
    tiny_config()
    command = [sys.executable, str(ROOT / "scripts/train.py"), "--config", "tiny.yaml", *TINY, "train.epochs=500",
               "train.output=run"]  # fmt: skip
    child, terminal = pty.fork()
    if not child:
        os.chdir(tmp_path)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # these tests may run under nohup
        os.execv(command[0], command)
    printed = b""
    while b"epoch   3/" not in printed:
        printed += os.read(terminal, 1000)
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 129
    saved = checkpoint.load(tmp_path / "run" / LAST).metadata["progress"]
    assert 3 <= saved["epoch"] < 500


def test_an_ignored_sighup_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with catch_signals() as received:
            os.kill(os.getpid(), signal.SIGHUP)
        assert received == []
    finally:
        signal.signal(signal.SIGHUP, before)


def signalled(folder: Path, signals: int, seed: int) -> dict:
    command = [sys.executable, "-m", "tests.reliability.signalling", folder / "tiny.yaml", folder, signals, seed, *TINY]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["signals"] == signals
    assert not (result["wrong"] or result["unreadable"] or result["differ"]), result
    assert result["saved"] > signals / 6
    return result


@pytest.mark.slow
def test_runs_stopped_by_signals_at_random_moments_save_and_end_with_the_same_bits(tiny_config, tmp_path):
    tiny_config()
    signalled(tmp_path, 15, 0)


@pytest.mark.long
def test_runs_stopped_by_sixty_signals_end_with_the_same_bits(tiny_config, tmp_path, record_figure):
    tiny_config()
    result = signalled(tmp_path, 60, 1)
    record_figure(f"{result['signals']} SIGTERMs and SIGINTs over {result['runs']} runs: the same bits")


EVALUATE = """
import signal, sys, time
from serx.evaluation import evaluate_checkpoint

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background processes with SIGINT ignored

def wait(*_):
    print("evaluating", flush=True)
    time.sleep(60)

evaluate_checkpoint.classify = wait
sys.argv[0:1] = []
import runpy
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_evaluation_ends_at_once_and_writes_nothing(number, code, trained):
    before = sorted((trained / "run").iterdir())
    command = [sys.executable, "-c", EVALUATE, str(ROOT / "scripts/evaluate.py"), "--checkpoint", "run/" + BEST]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=trained,
                               env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
    assert process.stdout.readline() == "evaluating\n"
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in err
    assert sorted((trained / "run").iterdir()) == before


COMMANDS = {
    "serx": ["-c", "from serx.cli.main import main; main()", "predict", "--checkpoint", "x", "y"],
    "python -m serx": ["-m", "serx", "train", "--config", "cnn2d"],
    "script": [str(ROOT / "scripts/evaluate.py"), "--checkpoint", "x"],
    "benchmark": [str(ROOT / "scripts/benchmark.py")],
}
# Sends the process a signal within the import of the module that the variable WITHIN names.
SITE = """
import os, sys

class Finder:
    def find_spec(self, name, *_):
        if name == os.environ["WITHIN"]:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), int(os.environ["NUMBER"]))
            for _ in range(1000): pass

sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("command", "within"),
    [
        ("serx", "serx.cli.verbs"),
        ("serx", "torch._C"),
        ("python -m serx", "numpy"),
        ("script", "argparse"),
        ("benchmark", "serx.cli.execution"),
    ],
)
def test_a_signal_within_the_imports_of_a_command_ends_it_without_a_word(command, within, number, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(SITE)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "WITHIN": within, "NUMBER": str(int(number))}
    done = subprocess.run([sys.executable, *COMMANDS[command]], capture_output=True, text=True, env=environment,
                          cwd=tmp_path)  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "")


RUNNING = """
import os, sys
from serx.cli import verbs
from serx.cli.execution import run_main
from serx.cli.main import main as main_of_command

class Careless:
    def __del__(self):
        os.kill(os.getpid(), number)
        for _ in range(1000): pass

def main(arguments):
    print("working")
    if where == "in a destructor":
        Careless()
    try:
        os.kill(os.getpid(), number)
        for _ in range(1000): pass
    except BaseException as error:
        print("cleaned up")
        if where == "behind another error":
            raise ValueError("from a library") from error
        raise

where, number = sys.argv[1], int(sys.argv[2])
if where == "at the end":
    import atexit
    atexit.register(os.kill, os.getpid(), number)
    main = lambda arguments: print("working")
verbs.run = lambda *_: run_main(main, None)
main_of_command()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("where", ["in the work", "behind another error", "in a destructor", "at the end"])
def test_a_signal_ends_a_running_command_with_its_code_and_no_traceback(where, number):
    command = [sys.executable, "-c", RUNNING, where, str(int(number))]
    reset = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)}  # these tests may run under nohup
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, **reset)
    assert (done.returncode, done.stderr) == (128 + number, "")
    assert done.stdout == "working\n" + "cleaned up\n" * (where in ("in the work", "behind another error"))
