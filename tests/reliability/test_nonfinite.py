"""NaN and infinity at four points of a half-precision step: the step is skipped, and ten in a row end the run."""

import pytest
import torch

from serx import checkpoint
from serx.data.dataset import load_dataset
from serx.errors import DivergedError
from serx.training import epoch
from serx.training.run_folder import BEST, LAST
from serx.training.state import TrainingState
from serx.training.trainer import fit
from tests.reliability.killing import records

pytestmark = pytest.mark.slow
PLACES = ("waveform", "features", "logits", "gradient")


def plant(place: str, when, patch) -> list[dict]:
    """Spoils the `place` of each step for which `when(step)`; returns the states before the spoilt steps and after."""
    states: list[dict] = []
    waveform, features, backbone = epoch.augmented_waveform, epoch.augmented_features, TrainingState.autocast
    begun: list[int] = []

    def spoilt(here: str, run: TrainingState) -> bool:
        return here == place and when(run.progress.epoch * 1000 + run.progress.step)

    def of_waveform(run, *arguments):
        if not begun or begun[-1] != run.progress.step:
            begun.append(run.progress.step)
            if when(run.progress.epoch * 1000 + run.progress.step) or when(
                run.progress.epoch * 1000 + run.progress.step - 1
            ):
                states.append({name: tensor.clone() for name, tensor in run.state_dict().items()})
        wave, lengths = waveform(run, *arguments)
        return (wave * float("inf") if spoilt("waveform", run) else wave), lengths

    def of_features(run, *arguments):
        picture, frames = features(run, *arguments)
        return (picture + float("nan") if spoilt("features", run) else picture), frames

    def autocast(run):
        if not getattr(run, "hooked", False):
            run.hooked = True
            logits = run.member_logits
            run.member_logits = lambda *batch: logits(*batch) * (float("nan") if spoilt("logits", run) else 1.0)
            first = next(run.recognizer.backbone.parameters())
            first.register_hook(lambda grad: grad * float("inf") if spoilt("gradient", run) else grad)
        return backbone(run)

    patch.setattr(epoch, "augmented_waveform", of_waveform)
    patch.setattr(epoch, "augmented_features", of_features)
    patch.setattr(TrainingState, "autocast", autocast)
    return states


PARTS = ("model.", "optimizer.")


@pytest.mark.parametrize("place", PLACES)
def test_a_non_finite_step_in_half_precision_changes_no_weight_and_no_moment(place, tiny_config, tmp_path, monkeypatch):
    states = plant(place, lambda step: step == 1, monkeypatch)
    fit(tiny_config("train.epochs=1", "train.precision=fp16"), tmp_path / "run", progress=False)
    before, after = states
    for name in (name for name in before if name.startswith(PARTS) and "num_batches" not in name):
        assert torch.equal(before[name], after[name]), name
    assert float(after["scaler.scale"]) == float(before["scaler.scale"]) / 2
    line = records(tmp_path / "run")[0]
    assert line["skipped_steps"] == 1
    assert checkpoint.load(tmp_path / "run" / LAST)  # and so finite


@pytest.mark.parametrize("place", PLACES)
def test_ten_non_finite_steps_in_a_row_end_the_run_name_clips_and_leave_finite_checkpoints(
    place, tiny_config, tmp_path, monkeypatch
):
    plant(place, lambda step: step >= 1000, monkeypatch)  # from the second epoch on
    config = tiny_config("train.epochs=2", "train.precision=fp16", "train.batch_size=2")
    with pytest.raises(DivergedError, match=r"1[0-2] steps in a row .*03-01-0.*\.wav"):
        fit(config, tmp_path / "run", progress=False)
    for name in (LAST, BEST):
        assert checkpoint.load(tmp_path / "run" / name).metadata["progress"]["epoch"] == 1


def test_two_hundred_overflows_never_bring_the_scale_below_one_and_a_good_step_then_writes_numbers(tiny_config):
    config = tiny_config("train.precision=fp16")
    labels = load_dataset(config.data, progress=False).labels
    run = TrainingState(config, labels, torch.device("cpu"), pretrained=False)
    weight = next(run.recognizer.parameters())
    for step in range(201):
        loss = (weight * (1.0 if step == 200 else float("inf"))).sum()
        run.scaler.scale(loss).backward()
        run.scaler.unscale_(run.optimizer)
        run.scaler.step(run.optimizer)
        run.scaler.update()
        run.optimizer.zero_grad()
        assert float(run.scaler.scale(torch.ones(()))) >= 1
    assert weight.isfinite().all() and all(p.isfinite().all() for p in run.recognizer.parameters())
