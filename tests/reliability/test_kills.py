"""SIGKILL at any moment: no checkpoint is lost or unreadable, and the resumed run ends with the same bits."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import TINY
from tests.reliability.killing import differences

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


def kill(config: Path, folder: Path, kills: int, seed: int) -> dict:
    command = [sys.executable, "-m", "tests.reliability.killing", config, folder, kills, seed, *TINY, "train.epochs=6"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    print(done.stdout, done.stderr)
    return json.loads(done.stdout)


def check(result: dict, kills: int) -> None:
    assert result["kills"] == kills, result
    counts = ("lost", "unreadable", "failed", "differ", "litter")
    assert not any(result[key] for key in counts), result


def test_a_killed_run_resumes_to_the_same_bits(tiny_config, tmp_path):
    tiny_config()
    check(kill(tmp_path / "tiny.yaml", tmp_path, 12, 0), 12)


@pytest.mark.long
def test_two_hundred_kills_lose_nothing(tiny_config, tmp_path, record_figure):
    tiny_config()
    result = kill(tmp_path / "tiny.yaml", tmp_path, 200, 1)
    files = f"{result['lost']} lost and {result['unreadable']} unreadable checkpoints"
    counts = f"{files}, {len(result['differ'])} differing tensors"
    record_figure(f"{result['kills']} SIGKILLs over {result['runs']} runs: {counts}")
    check(result, 200)


@pytest.mark.long
def test_twenty_killed_train_scripts_resume_to_the_same_bits(tiny_config, tmp_path, record_figure):
    tiny_config()
    command = [sys.executable, str(ROOT / "scripts/train.py"), "--config", str(tmp_path / "tiny.yaml"), *TINY,
               "train.epochs=6"]  # fmt: skip
    began = time.monotonic()
    subprocess.run([*command, f"train.output={tmp_path / 'whole'}"], check=True, capture_output=True, cwd=tmp_path)
    seconds, choose, kills = time.monotonic() - began, random.Random(2), 0
    run = 0
    while kills < 20:
        folder, finished = tmp_path / f"run{run}", False
        while not finished:
            resume = ["--resume"] if (folder / "last.safetensors").exists() else []
            process = subprocess.Popen(
                [*command, f"train.output={folder}", *resume], cwd=tmp_path, stdout=subprocess.DEVNULL
            )
            if kills < 20:
                time.sleep(choose.uniform(seconds / 2, 1.1 * seconds))  # the first half is imports
                process.send_signal(signal.SIGKILL)
            code = process.wait()
            finished = code == 0
            assert code in (0, -signal.SIGKILL)
            kills += code != 0
        assert differences(tmp_path / "whole", folder) == []
        run += 1
    record_figure(f"{kills} SIGKILLs of scripts/train.py over {run} runs: the same bits")
