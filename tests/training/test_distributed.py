"""Several processes train as one does; a process that is lost ends the others; a run is resumed by another number."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from serx import checkpoint
from serx.errors import ConfigError, ProcessLostError
from serx.models.classical import ClassicalConfig
from serx.models.mlp import MlpConfig
from serx.training.distributed import ClipDropout, Rows, World, share_gradients
from serx.training.run_folder import LAST
from serx.training.state import TrainingState
from tests.reliability.killing import records

ROOT = Path(__file__).parents[2]
PLAIN = ["model.dropout=0", "train.batch_size=5", "train.epochs=2"]  # 24 clips: batches of five and of four
ALL = [*PLAIN[1:], "model.dropout=0.5", "train.accumulation_steps=2", "augment.mixup=0.3", "augment.cutmix=0.3",
       "augment.mixstyle=0.5", "train.sampling=class_balanced"]  # fmt: skip
FILTERS = [*PLAIN[:2], "train.epochs=1", "features.trainable=true"]
JOBS = {
    "alone": (0, PLAIN),
    "all, one": (1, ALL),
    "all, two": (2, ALL),
    "filters, one": (1, FILTERS),
    "filters, two": (2, FILTERS),
    "killed": (2, PLAIN, {"signal": [signal.SIGKILL, [1]]}),
    "stopped": (2, PLAIN, {"signal": [signal.SIGTERM, [1]]}),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_root):
    """Every job of `JOBS`, run once: name -> what became of it, and its run folder."""
    root = tmp_path_factory.mktemp("processes")
    recipe = root / "tiny.yaml"
    recipe.write_text(
        f"data: {{root: {tiny_root}, protocol: speakers, test_speakers: [5, 6], valid_speakers: [3, 4]}}\n"
        "features: {n_mels: 24, n_fft: 512, front_end: nnaudio}\n"
        "augment: {waveform: [{kind: noise}, {kind: speed}], spectrogram: [{kind: time_mask}]}\n"
        "model: {kind: cnn2d, stem: 8, widths: [8, 16], strides: [[2, 2], [2, 1]], embedding: 24}\n"
        "train: {ema_decay: 0.9, device: cpu, threads: 1}\n"
    )
    jobs = []
    for name, (processes, overrides, *more) in JOBS.items():
        jobs.append({"config": str(recipe), "overrides": overrides, "folder": str(root / name), "processes": processes})
        jobs[-1] |= more[0] if more else {}
    for name, processes in (("killed", 0), ("stopped", 3)):  # another number of processes continues
        jobs.append({**jobs[list(JOBS).index(name)], "processes": processes, "resume": True, "signal": None})
    path = root / "jobs.json"
    path.write_text(json.dumps(jobs))
    subprocess.run([sys.executable, "-m", "tests.training.processes", path], cwd=ROOT, check=True, timeout=500)
    done = json.loads(path.with_suffix(".json.done").read_text())
    names = [*JOBS, "killed, resumed", "stopped, resumed"]
    return {
        name: {**result, "folder": Path(job["folder"])} for name, job, result in zip(names, jobs, done, strict=True)
    }


def lines(run) -> list[dict]:
    return records(run["folder"])


def assert_same_curve(first, second, tolerance=1e-5) -> None:
    for a, b in zip(lines(first), lines(second), strict=True):
        for name in ("loss", "uar"):
            assert a["train"][name] == pytest.approx(b["train"][name], rel=tolerance)
            assert a["valid"][name] == pytest.approx(b["valid"][name], rel=tolerance)
        assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=10 * tolerance)
        assert a["skipped_steps"] == b["skipped_steps"] == 0


@pytest.mark.slow
def test_dropout_accumulation_and_mixtures_do_not_depend_on_the_number_of_processes(runs):
    assert_same_curve(runs["all, one"], runs["all, two"])


@pytest.mark.slow
def test_filters_that_are_trained_get_the_gradient_of_all_processes(runs):
    assert_same_curve(runs["filters, one"], runs["filters, two"], 1e-2)  # a step of theirs amplifies rounding
    assert lines(runs["filters, one"])[0]["grad_norm"] > 1e3  # nearly all of it is theirs


@pytest.mark.slow
def test_only_the_first_process_prints_and_writes(runs):
    first, *others = runs["stopped, resumed"]["said"]
    assert "epoch 2/2" in first
    assert others == ["", ""]
    assert checkpoint.load(runs["stopped, resumed"]["folder"] / LAST).metadata["environment"]["processes"] == 3
    assert "processes" not in checkpoint.load(runs["alone"]["folder"] / LAST).metadata["environment"]


@pytest.mark.slow
def test_a_killed_process_ends_the_others_with_one_line_and_one_process_resumes(runs):
    assert runs["killed"]["codes"] == [ProcessLostError.exit_code, -signal.SIGKILL]
    assert runs["killed"]["seconds"] < 60
    errors = [line for line in runs["killed"]["said"][0].splitlines() if "error" in line]
    assert len(errors) == 1 and errors[0].startswith("error: process 0 of 2: another process of this run has ended")
    assert "Traceback" not in runs["killed"]["said"][0]
    assert runs["killed, resumed"]["codes"] == [0]
    assert_same_curve(runs["alone"], runs["killed, resumed"])


@pytest.mark.slow
def test_a_signal_to_one_process_stops_two_after_the_same_step_and_three_resume_as_one_would_have_trained(runs):
    assert runs["stopped"]["codes"] == [128 + signal.SIGTERM] * 2
    assert runs["stopped, resumed"]["codes"] == [0, 0, 0]
    assert_same_curve(runs["alone"], runs["stopped, resumed"])


@pytest.mark.parametrize(("clips", "size"), [(8, 2), (5, 2), (2, 3), (7, 4), (6, 1)])
def test_the_shares_of_a_batch_have_the_same_size_and_every_clip_counts_once(clips, size):
    batch = np.arange(100, 100 + clips)
    shares = [World(rank, size, joined=True).share(batch) for rank in range(size)]
    assert len({len(share.positions) for share in shares}) == 1
    counted = [share.positions[share.weights > 0] for share in shares]
    assert np.concatenate(counted).tolist() == batch.tolist()
    assert [share.first for share in shares] == [i * len(shares[0].positions) for i in range(size)]


def test_a_single_process_takes_the_batch_as_it_is():
    batch = np.array([4, 2, 7])
    share = World().share(batch)
    assert share.positions is batch and share.weights is None


def test_dropout_of_a_clip_does_not_depend_on_its_batch():
    rows = Rows(key=3)
    layer = ClipDropout(0.4)
    layer.rows, layer.number = rows, 1
    rows.clips = torch.tensor([5, 9, 2])
    together = layer(torch.ones(3, 4, 500))
    rows.clips = torch.tensor([9])
    assert torch.equal(layer(torch.ones(1, 4, 500)), together[1:2])
    torch.testing.assert_close(together.unique(), torch.tensor([0.0, 1 / 0.6]))
    assert together.mean().item() == pytest.approx(1, abs=0.03)
    rows.key = 4
    assert not torch.equal(layer(torch.ones(1, 4, 500)), together[1:2])
    assert torch.equal(layer.eval()(torch.ones(1, 4, 500)), torch.ones(1, 4, 500))


def test_a_batch_norm_of_an_unknown_kind_is_refused():
    class Mine(nn.BatchNorm1d):
        pass

    with pytest.raises(ConfigError, match="torchrun: 1 is a Mine, whose statistics cannot be shared"):
        share_gradients(World(joined=True), nn.Sequential(nn.Linear(2, 2), Mine(2)), nn.Identity(), torch.device("cpu"))


@pytest.mark.parametrize(
    ("dimensions", "kind", "words"), [((), ClassicalConfig(), "classical"), (("arousal",), MlpConfig(), "arousal")]
)
def test_what_needs_the_whole_batch_is_refused(dimensions, kind, words):
    state = SimpleNamespace(config=SimpleNamespace(model=kind), recognizer=SimpleNamespace(dimensions=dimensions))
    with pytest.raises(ConfigError, match=f"{words}.*leave torchrun out"):
        TrainingState.join(state, World(joined=True))


def test_other_commands_are_refused_under_torchrun(monkeypatch, capsys):
    from serx.cli import verbs

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit) as end:
        verbs.run("sweep", ["--help"])
    assert end.value.code == 2
    assert "error: torchrun: sweep runs in one process; start it without torchrun" in capsys.readouterr().err
