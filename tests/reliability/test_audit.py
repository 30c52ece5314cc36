"""Bandit finds nothing in the package: no pickle, no torch.load, no shell, no eval."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BANDIT = [sys.executable, "-m", "bandit", "-q", "-c", "pyproject.toml", "-r"]
pytestmark = pytest.mark.skipif(importlib.util.find_spec("bandit") is None, reason="bandit is not installed")


def test_bandit_finds_nothing_in_the_package_and_the_scripts():
    done = subprocess.run([*BANDIT, "serx", "scripts"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout[-3000:]


@pytest.mark.parametrize("line", ["torch.load('x')", "pickle.loads(b'')", "os.system('ls ' + x)", "eval(x)"])
def test_bandit_finds_a_planted_flaw(line, tmp_path):
    (tmp_path / "bad.py").write_text(f"import os\nimport pickle\nimport torch\nx = input()\n{line}\n")
    done = subprocess.run([*BANDIT, str(tmp_path)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1, done.stdout[-2000:]
