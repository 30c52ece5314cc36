"""How many CPUs and threads a process may use: affinity, Slurm, control groups, and what the user says."""

import os
import subprocess
import sys

import pytest
import torch

from serx import device, system
from serx.device import configure_torch, default_threads
from serx.system import child_environment, cpu_limit, cpu_quota, limit_threads, threads_of_user

V1 = "9:name=systemd:/\n4:cpu,cpuacct:/docker/abc\n0::/\n"
V2 = "0::/user.slice/job_7/step\n"
CPU = "sys/fs/cgroup/cpu,cpuacct"
GROUPS = {
    "version 2, in a container": ("0::/\n", {"sys/fs/cgroup/cpu.max": "250000 100000"}, 2.5),
    "version 2, the host's path": ("0::/../../docker/abc\n", {"sys/fs/cgroup/cpu.max": "300000 100000"}, 3),
    "version 2, no limit": (V2, {"sys/fs/cgroup/cpu.max": "max 100000"}, None),
    "version 2, the smallest of all groups": (
        V2,
        {
            "sys/fs/cgroup/user.slice/cpu.max": "400000 100000",
            "sys/fs/cgroup/user.slice/job_7/cpu.max": "150000 50000",
            "sys/fs/cgroup/user.slice/job_7/step/cpu.max": "max 100000",
        },
        3,
    ),
    "version 1, in a container": (V1, {f"{CPU}/cpu.cfs_quota_us": "50000", f"{CPU}/cpu.cfs_period_us": "100000"}, 0.5),
    "version 1, on the host": (
        V1,
        {
            f"{CPU}/cpu.cfs_quota_us": "-1",
            f"{CPU}/cpu.cfs_period_us": "100000",
            f"{CPU}/docker/abc/cpu.cfs_quota_us": "200000",
            f"{CPU}/docker/abc/cpu.cfs_period_us": "100000",
        },
        2,
    ),
    "version 1, another mount": (
        "1:cpu:/\n",
        {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "400000", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"},
        4,
    ),
    "unreadable": ("nonsense\n0::\n", {"sys/fs/cgroup/cpu.max": "a few"}, None),
    "none": (None, {}, None),
}


def system_files(folder, groups, files):
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        if text is not None:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(f"{text}\n")
    return folder


@pytest.mark.parametrize("kind", GROUPS)
def test_the_quota_is_the_smallest_of_the_control_groups(kind, tmp_path):
    groups, files, expected = GROUPS[kind]
    assert cpu_quota(system_files(tmp_path, groups, files)) == expected


@pytest.mark.parametrize(
    ("quota", "slurm", "expected"),
    [
        (None, None, (16, "CPUs of this process")),
        (2.5, None, (2, "CPU quota of the container")),
        (0.5, "4", (1, "CPU quota of the container")),
        (8, "4", (4, "SLURM_CPUS_PER_TASK")),
        (None, "64", (16, "CPUs of this process")),
        (None, "many", (16, "CPUs of this process")),
    ],
)
def test_the_smallest_limit_counts_and_is_named(quota, slurm, expected, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    files = {} if quota is None else {"sys/fs/cgroup/cpu.max": f"{round(quota * 100_000)} 100000"}
    root = system_files(tmp_path, "0::/", files)
    environment = {} if slurm is None else {"SLURM_CPUS_PER_TASK": slurm}
    assert cpu_limit(root, environment) == expected
    limit_threads(environment, root)
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert environment.get("OMP_NUM_THREADS") == (None if expected[0] == 16 else str(expected[0]))
    assert threads_of_user(environment) is None  # the number is not the user's


def test_what_the_user_set_stays(tmp_path):
    root = system_files(tmp_path, "0::/", {"sys/fs/cgroup/cpu.max": "100000 100000"})
    environment = {"OMP_NUM_THREADS": "6,2", "OMP_WAIT_POLICY": "ACTIVE"}
    limit_threads(environment, root)
    assert environment == {"OMP_NUM_THREADS": "6,2", "OMP_WAIT_POLICY": "ACTIVE"}
    assert threads_of_user(environment) == (6, "OMP_NUM_THREADS")
    assert threads_of_user({"OMP_NUM_THREADS": "0", "MKL_NUM_THREADS": "3"}) == (3, "MKL_NUM_THREADS")


def test_child_processes_wait_passively_and_have_their_number(monkeypatch):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv(system.LIMITED_THREADS, "CPU quota of the container")
    child = child_environment(3)
    assert (child["OMP_NUM_THREADS"], child["OMP_WAIT_POLICY"]) == ("3", "PASSIVE")
    assert system.LIMITED_THREADS not in child and child["PATH"] == os.environ["PATH"]


def test_without_a_setting_torch_keeps_to_the_limit_and_never_takes_more_than_its_own_number(monkeypatch):
    for name in (*system.THREAD_VARIABLES, system.LIMITED_THREADS):
        monkeypatch.delenv(name, raising=False)
    taken = []
    monkeypatch.setattr(torch, "set_num_threads", taken.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    for limit, expected in ((4, (4, "a limit")), (16, (8, "cores of this process"))):
        monkeypatch.setattr(device, "cpu_limit", lambda limit=limit: (limit, "a limit"))
        assert default_threads() == expected
        configure_torch(None, False)
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setattr(device, "cpu_limit", lambda: (1, "a limit"))
    assert default_threads() == (8, "OMP_NUM_THREADS")
    monkeypatch.setattr(device, "cpu_count", lambda: 4)
    configure_torch(3, False)
    configure_torch(5, False)
    assert taken == [4, 8, 3, 4]


@pytest.mark.slow
@pytest.mark.skipif(system.cpu_count() == 1, reason="one CPU cannot be limited further")
def test_a_command_limits_its_threads_before_torch_is_imported():
    program = (
        "import os, sys\n"
        "from serx.cli import main, verbs\n"
        "def run(*_):\n"
        "    assert 'torch' not in sys.modules\n"
        "    print(os.environ['OMP_NUM_THREADS'], os.environ['OMP_WAIT_POLICY'])\n"
        "verbs.run = run\n"
        "main.main('train')\n"
    )
    kept = {name: value for name, value in os.environ.items() if name not in system.THREAD_VARIABLES}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True,
                          env={**kept, "SLURM_CPUS_PER_TASK": "1"})  # fmt: skip
    assert done.stdout == "1 PASSIVE\n", done.stderr
