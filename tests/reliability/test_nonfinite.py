"""NaN and infinity at four points of a half-precision step: the step is skipped, and ten in a row end the state."""

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
STAGES = ("waveform", "features", "logits", "gradient")


def plant(stage: str, when, patch) -> list[dict]:
    """Makes values at a stage non-finite in the steps for which `when(step)`; returns the states before and after."""
    states: list[dict] = []
    waveform, features, original_autocast = epoch.augmented_waveform, epoch.augmented_features, TrainingState.autocast
    seen: list[int] = []

    def is_bad(current: str, state: TrainingState) -> bool:
        return current == stage and when(state.progress.epoch * 1000 + state.progress.step)

    def of_waveform(state, *arguments):
        if not seen or seen[-1] != state.progress.step:
            seen.append(state.progress.step)
            if when(state.progress.epoch * 1000 + state.progress.step) or when(
                state.progress.epoch * 1000 + state.progress.step - 1
            ):
                states.append({name: tensor.clone() for name, tensor in state.state_dict().items()})
        wave, lengths = waveform(state, *arguments)
        return (wave * float("inf") if is_bad("waveform", state) else wave), lengths

    def of_features(state, *arguments):
        values, frames = features(state, *arguments)
        return (values + float("nan") if is_bad("features", state) else values), frames

    def autocast(state):
        if not getattr(state, "hooked", False):
            state.hooked = True
            logits = state.member_logits
            state.member_logits = lambda *batch: logits(*batch) * (float("nan") if is_bad("logits", state) else 1.0)
            first = next(state.recognizer.backbone.parameters())
            first.register_hook(lambda grad: grad * float("inf") if is_bad("gradient", state) else grad)
        return original_autocast(state)

    patch.setattr(epoch, "augmented_waveform", of_waveform)
    patch.setattr(epoch, "augmented_features", of_features)
    patch.setattr(TrainingState, "autocast", autocast)
    return states


PARTS = ("model.", "optimizer.")


@pytest.mark.parametrize("stage", STAGES)
def test_a_non_finite_step_in_half_precision_changes_no_weight_and_no_moment(stage, tiny_config, tmp_path, monkeypatch):
    states = plant(stage, lambda step: step == 1, monkeypatch)
    fit(tiny_config("train.epochs=1", "train.precision=fp16"), tmp_path / "run", progress=False)
    before, after = states
    for name in (name for name in before if name.startswith(PARTS) and "num_batches" not in name):
        assert torch.equal(before[name], after[name]), name
    assert float(after["scaler.scale"]) == float(before["scaler.scale"]) / 2
    line = records(tmp_path / "run")[0]
    assert line["skipped_steps"] == 1
    assert checkpoint.load(tmp_path / "run" / LAST)  # raises unless all tensors are finite


@pytest.mark.parametrize("stage", STAGES)
def test_ten_non_finite_steps_in_a_row_end_the_run_name_clips_and_leave_finite_checkpoints(
    stage, tiny_config, tmp_path, monkeypatch
):
    plant(stage, lambda step: step >= 1000, monkeypatch)  # from the second epoch on
    config = tiny_config("train.epochs=2", "train.precision=fp16", "train.batch_size=2")
    with pytest.raises(DivergedError, match=r"1[0-2] steps in a row .*03-01-0.*\.wav"):
        fit(config, tmp_path / "run", progress=False)
    for name in (LAST, BEST):
        assert checkpoint.load(tmp_path / "run" / name).metadata["progress"]["epoch"] == 1


def test_the_loss_scale_stays_at_least_one_after_two_hundred_overflows_and_the_next_step_is_finite(tiny_config):
    config = tiny_config("train.precision=fp16")
    labels = load_dataset(config.data, progress=False).labels
    state = TrainingState(config, labels, torch.device("cpu"), pretrained=False)
    weight = next(state.recognizer.parameters())
    for step in range(201):
        loss = (weight * (1.0 if step == 200 else float("inf"))).sum()
        state.scaler.scale(loss).backward()
        state.scaler.unscale_(state.optimizer)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.optimizer.zero_grad()
        assert float(state.scaler.scale(torch.ones(()))) >= 1
    assert weight.isfinite().all() and all(p.isfinite().all() for p in state.recognizer.parameters())
