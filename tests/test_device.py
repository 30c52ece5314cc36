"""Precision and memory of the process that trains."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from serx import device
from serx.device import autocast_dtype, choose_device, multiplies_bf16, unsafe_in_bf16
from serx.errors import ConfigError
from serx.models.backbone import build_model
from serx.models.cnn1d import Cnn1dConfig
from serx.models.cnn2d import Cnn2dConfig

CPUINFO = Path("/proc/cpuinfo")
CPU, GPU = torch.device("cpu"), torch.device("cuda")
WIDE, NARROW = Cnn2dConfig(stem=16, widths=(16, 24), strides=((2, 2), (1, 1))), Cnn2dConfig(stem=8)

PAGES = (
    "import resource, sys, torch\n"
    "from serx.device import keep_freed_memory\n"
    "if sys.argv[1] == 'keep': keep_freed_memory()\n"
    "def step(): return torch.ones(16, 2**20)\n"  # 64 MiB, written and freed
    "for _ in range(16): step()\n"
    "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
    "for _ in range(8): step()\n"
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_freed_by_a_step_is_reused_by_the_next():
    faults = {
        mode: int(
            subprocess.run([sys.executable, "-c", PAGES, mode], check=True, capture_output=True, text=True).stdout
        )
        for mode in ("keep", "give back")
    }
    assert faults["give back"] > 4096  # at least an eighth of 8 times 64 MiB in pages of 4 KiB
    assert faults["keep"] < faults["give back"] / 50


@pytest.mark.parametrize(
    ("precision", "where", "config", "expected"),
    [
        ("auto", "cpu", WIDE, torch.float32),
        ("auto", "bf16 cpu", WIDE, torch.float32),
        ("bf16_if_native", "cpu", WIDE, torch.float32),
        ("bf16_if_native", "bf16 cpu", WIDE, torch.bfloat16),
        ("bf16_if_native", "bf16 cpu", NARROW, torch.float32),  # where bf16 is not safe
        ("bf16", "cpu", WIDE, torch.bfloat16),
        ("auto", "old gpu", NARROW, torch.float32),
        ("bf16_if_native", "old gpu", NARROW, torch.float32),
        ("auto", "gpu", NARROW, torch.bfloat16),
        ("bf16_if_native", "gpu", NARROW, torch.bfloat16),
        ("fp32", "gpu", NARROW, torch.float32),
        ("fp16", "cpu", NARROW, torch.float16),
    ],
)
def test_half_precision_is_chosen_where_it_is_native_and_safe(precision, where, config, expected, monkeypatch):
    monkeypatch.setattr(device, "multiplies_bf16", lambda: where == "bf16 cpu")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: where == "gpu")
    chosen = GPU if "gpu" in where else CPU
    assert autocast_dtype(precision, chosen, build_model(config, 24, 3)) == expected


def test_bf16_is_refused_on_a_cpu_where_it_would_corrupt_memory():
    with pytest.raises(ConfigError, match=r"writes beyond its memory at members\.0\.stages\.blocks\.0\.shortcut\.0 "):
        autocast_dtype("bf16", CPU, build_model(Cnn2dConfig(stem=8, ensemble_size=2), 24, 3))
    unsafe = build_model(Cnn1dConfig(stem=12, widths=(16, 24), strides=(2, 1)), 24, 3)
    assert unsafe_in_bf16(unsafe) == "members.0.blocks.0.shortcut.0"
    assert unsafe_in_bf16(build_model(Cnn2dConfig(stem=8, widths=(8, 12), strides=((1, 1), (1, 1))), 24, 3)) is None


@pytest.mark.skipif(platform.machine() != "x86_64" or not CPUINFO.exists(), reason="no /proc/cpuinfo with flags")
def test_native_bf16_agrees_with_the_flags_of_the_cpu():
    flags = {flag for line in CPUINFO.read_text().splitlines() if line.startswith("flags") for flag in line.split()}
    assert multiplies_bf16() == bool(flags & {"avx512_bf16", "amx_bf16"})


def test_more_threads_than_cpus_are_reduced_and_said(monkeypatch, capsys):
    given = []
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    monkeypatch.setattr(device, "cpu_count", lambda: 4)
    device.configure_torch(4, deterministic=False)
    assert capsys.readouterr().out == ""
    device.configure_torch(1000, deterministic=False)
    assert given == [4, 4]
    assert capsys.readouterr().out == "note: train.threads: 1000, but this process may use 4 CPUs; 4 threads\n"


@pytest.mark.parametrize("name", ["meta", "xla", "cpu ", "gpu", "cuda:99999", "x" * 30])
def test_a_device_that_cannot_train_is_refused_in_one_short_line(name):
    with pytest.raises(ConfigError, match="cannot be used on this machine") as caught:
        choose_device(name)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
