"""Runs stop and resume without what only Linux has: fcntl, SIGHUP, CPU affinity, hard links, mallopt."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import serx
from serx.errors import RunInUseError
from serx.training.run_folder import lock_run_folder
from tests.conftest import TINY

ROOT = Path(__file__).parents[2]

BARE = """
import json, os, signal, sys
from pathlib import Path

# Other libraries may use what the system has; only serx has to do without.
import ctypes, multiprocessing, subprocess
import filelock, matplotlib.pyplot, scipy, sklearn.linear_model, tensorboard, torch, torch._dynamo, torchaudio

sys.modules["fcntl"] = None
for module, name in ((signal, "SIGHUP"), (os, "sched_getaffinity"), (os, "fork"), (os, "link")):
    delattr(module, name)
os.link = lambda *_: (_ for _ in ()).throw(PermissionError(1, "Operation not permitted"))

class NoLibraryWithoutName(ctypes.CDLL):  # as on Windows
    def __init__(self, name, *rest, **named):
        if name is None:
            raise TypeError("LoadLibrary() argument 1 must be str, not None")
        super().__init__(name, *rest, **named)

ctypes.CDLL = NoLibraryWithoutName

import pkgutil, importlib
import serx
for module in pkgutil.walk_packages(serx.__path__, "serx."):
    if module.name != "serx.__main__":
        importlib.import_module(module.name)

from serx import system
from serx.config import load_config
from serx.training.run_folder import METRICS
from serx.training.trainer import Trainer, fit

config, folder = load_config(sys.argv[1], sys.argv[3:]), Path(sys.argv[2])
original = Trainer._save_last

def stop_after_the_first_epoch(self):
    original(self)
    if self.state.progress.epoch == 1:
        signal.raise_signal(signal.SIGTERM)

Trainer._save_last = stop_after_the_first_epoch
stopped = fit(config, folder, progress=False)
Trainer._save_last = original
resumed = fit(config, folder, resume=True, progress=False)
print(json.dumps({
    "cpus": system.cpu_count(), "stopped_by": stopped.stopped_by, "best": resumed.kept["epoch"],
    "epochs": len((folder / METRICS).read_text().splitlines()),
    "files": sorted(path.name for path in folder.glob("*.safetensors")),
}))
"""


@pytest.mark.slow
def test_a_run_stops_and_resumes_on_a_system_without_the_calls_of_linux(tiny_config, tmp_path):
    tiny_config()
    command = [sys.executable, "-c", BARE, str(tmp_path / "tiny.yaml"), str(tmp_path / "run"), *TINY]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["cpus"] >= 1
    assert (result["stopped_by"], result["epochs"]) == (15, 3)
    assert result["files"] == ["best.safetensors", "last.safetensors", "previous.safetensors"]


UNIX_MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
UNIX_NAMES = {
    "os": {"chown", "fork", "forkpty", "geteuid", "getpgid", "getuid", "killpg", "mkfifo", "nice", "sched_getaffinity",
           "sched_setaffinity", "setsid", "statvfs", "uname", "wait"},
    "signal": {"SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGUSR1", "SIGUSR2", "alarm", "pause",
               "setitimer"},
}  # fmt: skip


def unix_only(node: ast.AST, available: frozenset[str] = frozenset()) -> list[str]:
    """What a program uses that Windows lacks. Names within `if hasattr(os, "name")` are `available`."""
    if isinstance(node, ast.If):
        checked = {
            call.args[1].value
            for call in ast.walk(node.test)
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "hasattr"
        }
        inside = [name for child in node.body for name in unix_only(child, available | checked)]
        return inside + [name for child in (node.test, *node.orelse) for name in unix_only(child, available)]
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names if alias.name in UNIX_MODULES]
    elif isinstance(node, ast.ImportFrom):
        imported = {alias.name for alias in node.names}
        unix = UNIX_NAMES.get(node.module or "", set())
        names = [node.module] if node.module in UNIX_MODULES else sorted(imported & unix)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        names = [node.attr] if node.attr in UNIX_NAMES.get(node.value.id, set()) - available else []
    return names + [name for child in ast.iter_child_nodes(node) for name in unix_only(child, available)]


def test_the_package_uses_nothing_that_windows_lacks_without_a_check():
    sources = sorted(Path(serx.__file__).parent.rglob("*.py"))
    used = {str(path): unix_only(ast.parse(path.read_text())) for path in sources}
    assert len(sources) > 50
    assert not {file: names for file, names in used.items() if names}


@pytest.mark.parametrize(
    ("program", "names"),
    [
        ("import fcntl", ["fcntl"]),
        ("def f():\n    from resource import getrusage", ["resource"]),
        ("from os import fork, getpid", ["fork"]),
        ("os.kill(os.getpid(), signal.SIGHUP)", ["SIGHUP"]),
        ("if hasattr(os, 'sched_getaffinity'):\n    os.sched_getaffinity(0)", []),
        ("if hasattr(os, 'fork'):\n    os.fork()\nelse:\n    os.fork()", ["fork"]),
        ("getattr(signal, 'SIGHUP', None)", []),
    ],
)
def test_what_windows_lacks_is_found_in_a_program(program, names):
    assert unix_only(ast.parse(program)) == names


HOLD = """
import sys, time
from pathlib import Path
from serx.training.run_folder import lock_run_folder

with lock_run_folder(Path(sys.argv[1]), sys.argv[2], "--out"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("purpose", ["training", "cross-validation", "sweep"])
def test_the_error_of_a_folder_in_use_names_the_process_and_what_it_does(purpose, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path), purpose], stdout=subprocess.PIPE, cwd=ROOT)
    try:
        process.stdout.readline()
        message = f"process {process.pid} is running a {purpose} here"
        with pytest.raises(RunInUseError, match=message), lock_run_folder(tmp_path):
            pass
    finally:
        process.kill()
        process.wait()
    with lock_run_folder(tmp_path):  # the lock of a killed process is free
        pass
