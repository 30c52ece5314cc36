"""Faults during training: TensorBoard or printing fails, a score is NaN, memory runs out."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from serx import checkpoint
from serx.errors import ConfigError
from serx.training import epoch, validation
from serx.training import tensorboard as tracking
from serx.training import trainer as loop
from serx.training.console import echo
from serx.training.run_folder import BEST, LAST, METRICS
from serx.training.trainer import Trainer, fit
from tests.conftest import TINY
from tests.reliability.killing import differences, records

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("broken", ["SummaryWriter", "confusion_pixels", "add_scalar", "flush", "close"])
def test_a_failure_of_tensorboard_is_reported_once_and_training_goes_on(
    broken, tiny_config, tmp_path, monkeypatch, capsys
):
    config = tiny_config("train.epochs=2")
    fit(config, tmp_path / "whole", progress=False)

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    owner = tracking if broken in ("SummaryWriter", "confusion_pixels") else tracking.SummaryWriter
    monkeypatch.setattr(owner, broken, fail)
    capsys.readouterr()
    fit(config, tmp_path / "run", progress=False)
    assert capsys.readouterr().out.count("TensorBoard stops here") == 1
    assert differences(tmp_path / "whole", tmp_path / "run") == []


def test_a_line_that_cannot_be_printed_raises_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stdout", open("/dev/full", "w"))  # noqa: SIM115
    echo("text")
    monkeypatch.undo()


def test_training_finishes_when_the_pipe_of_its_output_closes(tiny_config, tmp_path):
    tiny_config()
    command = [sys.executable, str(ROOT / "scripts/train.py"), "--config", "tiny.yaml", *TINY, "train.output=run"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=(tmp_path / "err").open("w"), cwd=tmp_path)
    process.stdout.readline()
    process.stdout.close()
    process.wait(timeout=60)
    assert len(records(tmp_path / "run")) == 3, (tmp_path / "err").read_text()


def test_an_epoch_with_nan_validation_is_never_the_best(tiny_config, tmp_path, monkeypatch):
    original, epochs = validation.predict, []

    def poisoned(*arguments):
        probabilities, values = original(*arguments)
        epochs.append(1)
        return probabilities * (float("nan") if len(epochs) == 1 else 1.0), values

    monkeypatch.setattr(validation, "predict", poisoned)
    for select in ("uar", "loss", "last"):
        epochs.clear()
        outcome = fit(tiny_config(f"train.select={select}"), tmp_path / select, progress=False)
        lines = [json.loads(text) for text in (tmp_path / select / METRICS).read_text().splitlines()]
        assert [line["kept"] for line in lines][:2] == [False, True]
        assert outcome.kept["epoch"] > 0
        assert math.isfinite(checkpoint.load(tmp_path / select / BEST).metadata["progress"]["best"])


def test_a_run_without_a_finite_validation_has_no_best_epoch(tiny_config, tmp_path, monkeypatch):
    nothing = np.full((24, 3), np.nan), np.empty((24, 0))
    monkeypatch.setattr(validation, "predict", lambda *_: nothing)
    outcome = fit(tiny_config("train.epochs=2"), tmp_path / "run", progress=False)
    assert outcome.kept == {} and not (tmp_path / "run" / BEST).exists()


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_out_of_memory_is_one_line_with_what_to_lower_and_leaves_the_saved_state_unchanged(
    error, tiny_config, tmp_path, monkeypatch
):
    config = tiny_config("train.epochs=3")
    fit(config, tmp_path / "whole", progress=False)
    original, steps = epoch.augmented_features, []

    def exhausted(*arguments):
        steps.append(1)
        if len(steps) == 5:  # within the second epoch
            raise error
        return original(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("serx.training.epoch.augmented_features", exhausted)
        with pytest.raises(ConfigError) as caught:
            fit(config, tmp_path / "run", progress=False)
    for part in ("train.batch_size=8", "longest clip 0.5 s", "Lower train.batch_size", "data.placement=stream"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)
    assert checkpoint.load(tmp_path / "run" / LAST).metadata["progress"]["epoch"] == 1
    fit(config, tmp_path / "run", resume=True, progress=False)
    assert differences(tmp_path / "whole", tmp_path / "run") == []


def test_another_environment_is_announced_on_resume(trained, monkeypatch, capsys):
    from serx.config.loader import load_config

    monkeypatch.setattr("serx.device.platform.python_version", lambda: "3.99")
    fit(load_config(trained / "tiny.yaml", [*TINY, "train.epochs=8"]), trained / "run", resume=True, progress=False)
    assert f"python: {sys.version.split()[0]} -> 3.99 (bits may differ)" in capsys.readouterr().out


def test_another_precision_of_the_cpu_is_announced_on_resume(tiny_config, tmp_path, monkeypatch, capsys):
    config = tiny_config("train.epochs=1", "train.precision=bf16_if_native", "model.stem=16", "model.widths=[16, 16]")
    for native in (False, True):
        monkeypatch.setattr("serx.device.multiplies_bf16", lambda native=native: native)
        fit(config, tmp_path / "run", resume=native, progress=False)
    assert "precision: float32 -> bfloat16 (bits may differ)" in capsys.readouterr().out


def test_no_event_is_written_twice_after_a_resume(tiny_config, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config = tiny_config("train.epochs=3")
    original = loop.Metrics.append

    def stop_before_the_save(self, line):
        original(self, line)
        if line["epoch"] == 1:
            self._stopped = True

    def killed(self):
        if getattr(self.metrics, "_stopped", False):
            raise KeyboardInterrupt  # after the curves of epoch 2 are written and before its checkpoint
        saved(self)

    saved = Trainer._save_last
    with monkeypatch.context() as patch:
        patch.setattr(loop.Metrics, "append", stop_before_the_save)
        patch.setattr(Trainer, "_save_last", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(config, tmp_path / "run", progress=False)
    os.sync()
    fit(config, tmp_path / "run", resume=True, progress=False)
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"scalars": 0})
    events.Reload()
    assert [event.step for event in events.Scalars("valid/uar")] == [1, 2, 3]
    assert [line["epoch"] for line in records(tmp_path / "run")] == [0, 1, 2]
