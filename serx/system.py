"""What differs between operating systems: usable CPUs, signals, child and parent processes, the C library's memory.

Also what C libraries print.
"""

import ctypes
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
LIMITED_THREADS = "SERX_LIMITED_THREADS"  # environment variable: OMP_NUM_THREADS is of `limit_threads`, not the user's
PARENT_PROCESS = "SERX_PARENT_PROCESS"  # environment variable: id of the process with which this one ends
WATCH_SECONDS = 0.5
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
KEPT_BYTES = 2**30
WINDOWS = sys.platform == "win32"


def cpu_count() -> int:
    """The number of CPUs that this process may use.

    >>> cpu_count() >= 1
    True
    """
    return cpu_limit()[0]


def cpu_limit(root: Path = Path("/"), environment: Mapping[str, str] = os.environ) -> tuple[int, str]:
    """The number of CPUs that this process may use, and what limits it.

    The smallest of its CPU affinity (all of the machine where the system does not say), Slurm's SLURM_CPUS_PER_TASK,
    and the CPU quota of its container or of another control group above it, at least 1.

    Args:
        root: of the file system with `proc` and `sys`.
        environment: variables of the process.
    """
    affinity = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        affinity = len(os.sched_getaffinity(0))
    limits = [(affinity, "CPUs of this process")]
    slurm = _count(environment.get("SLURM_CPUS_PER_TASK", ""))
    if slurm is not None:
        limits.append((slurm, "SLURM_CPUS_PER_TASK"))
    quota = cpu_quota(root)
    if quota is not None:
        limits.append((max(1, int(quota)), "CPU quota of the container"))
    return min(limits, key=lambda limit: limit[0])


def cpu_quota(root: Path = Path("/")) -> float | None:
    """The smallest CPU quota of the control groups (versions 1 and 2) that this process is in; None without one.

    Within a container the paths of `/proc/self/cgroup` may be those of the host, while the files lie at the root of the
    mount: each group and all above it are read, as far as they are there.
    """
    quotas = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        names = controllers.split(",")
        if controllers and "cpu" not in names:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for mount in ("cpu", "cpu,cpuacct", controllers) if controllers else ("", "unified"):
            for depth in range(len(parts) + 1):
                folder = (root / "sys/fs/cgroup" / mount).joinpath(*parts[:depth])
                if controllers:
                    pair = [_text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")]
                else:
                    pair = _text(folder / "cpu.max").split()
                with suppress(ValueError, ZeroDivisionError):  # `max`, or no such file
                    quota, period = map(int, pair)
                    if quota > 0:  # -1 is no limit
                        quotas.append(quota / period)
    return min(quotas, default=None)


def threads_of_user(environment: Mapping[str, str] = os.environ) -> tuple[int, str] | None:
    """The number of threads that the user asked for with an environment variable, and its name; None if with none."""
    if LIMITED_THREADS in environment:
        return None
    for name in THREAD_VARIABLES:
        count = _count(environment.get(name, "").partition(",")[0])  # a list is for nested teams of threads
        if count is not None:
            return count, name
    return None


def limit_threads(environment: MutableMapping[str, str] = os.environ, root: Path = Path("/")) -> None:
    """Sets environment variables for the libraries that compute in threads; must come before these are imported.

    Threads wait passively: where other programs use the same CPUs, threads that spin keep the others from finishing. If
    a quota or Slurm allows fewer CPUs than the affinity, from which the libraries count, the number is set as well.
    What the user has set stays.
    """
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    count, why = cpu_limit(root, environment)
    if threads_of_user(environment) is None and why != "CPUs of this process":
        environment["OMP_NUM_THREADS"] = str(count)
        environment[LIMITED_THREADS] = why


def child_environment(threads: int) -> dict[str, str]:
    """The environment of a child process that computes in so many threads and ends with this process."""
    kept = {name: value for name, value in os.environ.items() if name != LIMITED_THREADS}
    own = {"OMP_NUM_THREADS": str(threads), PARENT_PROCESS: str(os.getpid())}
    return {"OMP_WAIT_POLICY": "PASSIVE", **kept, **own}


def _count(text: str) -> int | None:
    return int(text) if text.strip().isdecimal() and int(text) > 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def is_running(process: int) -> bool:
    """Whether a process with this id runs on this machine; on Windows, where asking would end it, always True.

    >>> is_running(os.getpid())
    True
    """
    if WINDOWS:
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it runs, and belongs to someone else
        return True
    return True


def memory_bytes() -> int | None:
    """The memory that this process may use: that of the machine, or the limit of its container or its `ulimit -v`.

    None where the system does not say (Windows).

    >>> (memory_bytes() or 2**40) > 2**24
    True
    """
    limits = []
    with suppress(AttributeError, ValueError, OSError):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(ValueError, OSError):  # "max" is no limit
            limits.append(int(Path(path).read_text()))
    with suppress(ImportError, ValueError, OSError):  # Windows has no such module
        resource = import_module("resource")
        limits.append(resource.getrlimit(resource.RLIMIT_AS)[0])
    return min((limit for limit in limits if limit > 0), default=None)


def stop_signals() -> list[signal.Signals]:
    """The signals that ask a run to stop, as far as this system has them.

    SIGTERM and SIGINT everywhere; SIGHUP (a closed terminal) on Linux and macOS; SIGBREAK (Ctrl-Break) on Windows.

    >>> signal.SIGTERM in stop_signals()
    True
    """
    names = ("SIGTERM", "SIGINT", "SIGHUP", "SIGBREAK")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


def own_group() -> dict[str, Any]:
    """Keyword arguments of `subprocess.Popen` for a child that Ctrl-C in this terminal does not reach.

    `send_stop` then decides when the child stops; otherwise it would receive the signal twice.
    """
    if WINDOWS:
        return {"creationflags": getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)}
    return {"start_new_session": True}


def send_stop(process: subprocess.Popen[Any], number: int = signal.SIGTERM) -> None:
    """Asks a running child, started with `own_group()`, to save and stop; does nothing if it has ended.

    Windows delivers no signal but Ctrl-Break to another process, so Ctrl-Break takes the place of `number` there.
    """
    if process.poll() is None:
        process.send_signal(getattr(signal, "CTRL_BREAK_EVENT", number) if WINDOWS else number)


def end_with_parent() -> None:
    """Watches the parent process that `PARENT_PROCESS` names; when it is gone, this process gets SIGTERM.

    So training saves and ends even if the parent was killed, and its run folder is free for the next process. On
    Windows a process keeps the id of a parent that has ended, so nothing is watched there.
    """
    parent = os.environ.pop(PARENT_PROCESS, None)
    if parent and not WINDOWS:
        threading.Thread(target=_watch, args=(int(parent),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next training step instead of returning large blocks to the system.

    The system zeroes each new page: some 5 % of a CPU's training step. Nothing happens with other C libraries.
    """
    with suppress(AttributeError, TypeError, OSError):  # no mallopt (macOS, musl); no library of that kind (Windows)
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)


class _StandardError:
    """File descriptor 2 while threads keep C libraries quiet: it leads to a temporary file until the last is done."""

    def __init__(self) -> None:
        self._lock, self._threads = threading.Lock(), 0
        self._saved = self._messages = -1  # file descriptors

    def divert(self) -> None:
        """Raises OSError if there is no standard error."""
        with self._lock:
            if self._threads == 0:
                _flush_errors()
                self._saved = os.dup(2)
                self._messages = _temporary_file()
                os.dup2(self._messages, 2)
            self._threads += 1

    def restore(self) -> None:
        with self._lock:
            self._threads -= 1
            if self._threads:
                return
            _flush_errors()
            os.dup2(self._saved, 2)
            os.close(self._saved)
            with open(self._messages, "rb", buffering=0) as file:
                file.seek(0)
                messages = file.read()
            if messages:
                with suppress(OSError):
                    os.write(2, _MPG123.sub(b"", messages))


def _temporary_file() -> int:
    """The descriptor of a file without a name, in memory where there are such files (Linux): they take less time."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("messages")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _flush_errors() -> None:
    with suppress(AttributeError, OSError, ValueError):  # there is no sys.stderr, or it is closed
        sys.stderr.flush()


# What libmpg123 prints about a file that is damaged or has another length than its header says.
_MPG123 = re.compile(
    rb"\n?(\[[^]\n]*libmpg123|(Note|Warning|Illegal|Hint|Info)\b[^\n]*(resync|[Ss]kipp|MPEG|Xing|frame|stream|header|ID3))"
    rb"[^\n]*\n"
)
_standard_error = _StandardError()


@contextmanager
def without_messages() -> Iterator[None]:
    """Keeps back what libmpg123 prints to the terminal in this block; it cannot be asked to be quiet.

    Whatever else is written to standard error meanwhile, by any thread, appears afterwards.

    >>> with without_messages():
    ...     _ = os.write(2, b"Note: Trying to resync...\\n")
    """
    try:
        _standard_error.divert()
    except OSError:
        yield
        return
    try:
        yield
    finally:
        _standard_error.restore()


def source_commit(package: Path) -> str | None:
    """The git commit of the checkout whose folder `package` is, with `+changes` if files were edited since.

    None without git, and for a package that was installed: a repository around it would be another project's.

    >>> source_commit(Path("/no such folder")) is None
    True
    """
    root, program = package.parent, shutil.which("git")
    if program is None:
        return None

    def git(*words: str) -> list[str]:
        command = [program, "-C", str(root), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
        return done.stdout.splitlines()

    try:
        top, commit = git("rev-parse", "--show-toplevel", "HEAD")
        if Path(top).resolve() != root.resolve():
            return None
        return commit + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
