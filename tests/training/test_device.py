"""The process that trains: its memory is asked of the system once, not at each step."""

import platform
import subprocess
import sys

import pytest

PAGES = (
    "import resource, sys, torch\n"
    "from serx.training.device import keep_freed\n"
    "if sys.argv[1] == 'keep': keep_freed()\n"
    "def step(): return torch.ones(16, 2**20)\n"  # 64 MiB, written and let go
    "for _ in range(16): step()\n"
    "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
    "for _ in range(8): step()\n"
    "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_what_a_step_frees_is_there_for_the_next():
    faults = {
        mode: int(
            subprocess.run([sys.executable, "-c", PAGES, mode], check=True, capture_output=True, text=True).stdout
        )
        for mode in ("keep", "give back")
    }
    assert faults["give back"] > 4096  # at least an eighth of 8 times 64 MiB in pages of 4 KiB
    assert faults["keep"] < faults["give back"] / 50
