"""The device path without a GPU: features, augmentation and training on fake tensors of `cuda:0`.

They find tensors that are left on the CPU, values that are read and shapes that depend on values. What a step moves
between host and device is counted. `tests/test_cuda.py` checks the numbers on a real GPU.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorDeviceMismatchError,
)

from serx.augment import Compose, MelWarp
from serx.augment.compose import augment
from serx.augment.recordings import RecordingTransform, TransformWithRecordings
from serx.augment.transform import BaseTransform, WaveformTransform, registered_transforms
from serx.config import load_config
from serx.features import FeaturesConfig, FeatureStack, feature_names
from serx.inference.classify import classify
from serx.seeding import ClipRandom
from serx.training import epoch, trainer
from serx.training.trainer import Trainer
from tests.fake_gpu import CLIPS, GPU, Run, Transfers, fake_copy, fake_gpu, on_meta
from tests.reliability.test_determinism import Watch

CONFIGS = sorted((Path(__file__).parents[1] / "configs").rglob("*.yaml"))
RATE = 16_000
KINDS = sorted(kind for kind, cls in registered_transforms(BaseTransform).items() if cls.__module__.startswith("serx."))


def recipe(path, encoder_folder, *overrides):
    """The recipe with one step an epoch, as few networks as it can have, and a tiny encoder in place of a large one."""
    more = ["train.batch_size=64", f"train.device={GPU}", *overrides]
    if path.stem == "timm_pretrained":
        more.append("model.pretrained=false")
    if path.stem.startswith("encoder"):
        more.append(f"model.source={encoder_folder('whisper')}")
    config = load_config(path, more)
    size = 2 if getattr(config.model, "shared_stages", 0) else 1
    return config.model_copy(update={"model": config.model.resolved().model_copy(update={"ensemble_size": size})})


def check_step(config) -> Transfers:
    """Trains for a step on the fake GPU; an error where the host reads, waits or mixes devices."""
    with fake_gpu():
        run = Run(config, GPU)
        if config.model.fits is not None:
            with Transfers() as transfers, Watch() as watch:
                run.fitted()
        else:
            training = run.training_clips()
            with Transfers() as transfers, Watch() as watch:
                assert run.epoch(training) == 1
    transfers.check()
    assert not watch.denied
    return transfers


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_recipe_trains_on_a_gpu_and_never_waits_for_it(path, encoder_folder):
    transfers = check_step(recipe(path, encoder_folder, "train.precision=fp16"))
    assert len(transfers.to_device) <= 4  # numbers of clips: their indices, targets, positions and rows
    assert set(transfers.to_device) <= {f"_to_copy of ({CLIPS},)", f"_to_copy of ({5 * CLIPS},)"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_backward_pass_of_a_recipe_reads_no_value_and_is_deterministic(path, encoder_folder):
    config = recipe(path, encoder_folder, "train.precision=fp32")
    if config.model.fits is not None:
        pytest.skip("has no backward pass")
    with on_meta():
        run = Run(config, torch.device("meta"))
        training = run.training_clips()
        with Transfers(torch.device("meta")) as transfers, Watch() as watch:
            run.epoch(training)
    assert not transfers.to_host
    assert not watch.denied
    gradients = [p.grad for p in run.state.recognizer.parameters() if p.requires_grad]
    assert gradients and all(gradient is not None for gradient in gradients)


@pytest.mark.parametrize("name", feature_names())
def test_a_feature_is_computed_on_a_gpu_without_waiting_for_it(name):
    check_features(FeaturesConfig(stack=(name,), deltas=1, statistics=("mean", "std", "median", "range")))


@pytest.mark.parametrize("front_end", ["torch", "torchaudio", "nnaudio"])
def test_every_front_end_runs_on_a_gpu_without_waiting_for_it(front_end):
    check_features(FeaturesConfig(stack=("logmel", "mfcc"), front_end=front_end), MelWarp(p=1.0))


def check_features(config: FeaturesConfig, warp: MelWarp | None = None) -> None:
    stack = FeatureStack(config, RATE)
    with fake_gpu():
        on_gpu = fake_copy(stack).to(GPU)
        waveform, lengths, clips = torch.zeros(3, 12_000, device=GPU), torch.full((3,), 9000, device=GPU), ids()
        with Transfers() as transfers, Watch() as watch:
            drawn = warp.draw(lengths, ClipRandom(clips, 3), RATE) if warp else None
            features, frames = on_gpu(waveform, lengths, drawn)
    transfers.check()
    assert not watch.denied
    assert features.device == frames.device == GPU


def ids() -> torch.Tensor:
    return torch.arange(3, device=GPU)


@pytest.mark.parametrize("kind", KINDS)
def test_a_transform_runs_on_a_gpu_without_waiting_for_it(kind):
    cls = registered_transforms(BaseTransform)[kind]
    given = {"p": 1.0} if "p" in cls.model_fields else {}
    if issubclass(cls, RecordingTransform):
        given["folder"] = "folder"
    recordings = {"folder": [torch.randn(4000), torch.randn(9000)]}
    (transform,) = Compose([cls(**given)], RATE, recordings).transforms
    shape = (3, 12_000) if issubclass(cls, WaveformTransform) else (3, 40, 90)
    with fake_gpu():
        if isinstance(transform, TransformWithRecordings):
            tensors = {name: getattr(transform.recordings, name) for name in ("samples", "starts", "sizes")}
            transform = replace(transform, recordings=replace(transform.recordings, **fake_copy(tensors))).to(GPU)
        x, lengths, clips = torch.zeros(shape, device=GPU), torch.full((3,), 80, device=GPU), ids()
        with Transfers() as transfers, Watch() as watch:
            y, new = augment((transform,), x, lengths, clips, RATE, seed=0, epoch=1)
    transfers.check()
    assert not watch.denied
    assert y.device == new.device == GPU


MIXTURES = ["augment.mixup=0.2", "augment.cutmix=0.2", "augment.mixstyle=0.5", "augment.mel_warp={p: 0.5}"]
DEMO = next(path for path in CONFIGS if path.stem == "demo")


@pytest.mark.parametrize("mixture", MIXTURES)
def test_a_mixture_of_clips_never_waits_for_a_gpu(mixture, encoder_folder):
    transfers = check_step(recipe(DEMO, encoder_folder, mixture))
    assert len(transfers.to_device) <= 9  # partners, weights and positions are drawn on the host


def test_the_host_reads_only_at_the_logged_steps(encoder_folder, monkeypatch):
    config = recipe(DEMO, encoder_folder, "train.batch_size=2")
    monkeypatch.setattr(trainer, "CHECK_EVERY", 2)
    with fake_gpu():
        run = Run(config, GPU)
        training = run.training_clips()
        check = partial(Trainer._check_divergence, SimpleNamespace(state=run.state))
        loop = SimpleNamespace(state=run.state, _check_divergence=check)
        with Transfers() as transfers:
            after_step = Trainer._after_step(
                loop, [[np.arange(2)]] * 3, SimpleNamespace(update=lambda _: None), lambda: 0
            )
            assert run.epoch(training, after_step) == 3
    assert transfers.to_host == ["_to_copy"] * 2  # after step 2, and at the end of the epoch
    assert not transfers.waiting


def test_validation_reads_its_probabilities_and_dimensions_at_its_end(encoder_folder):
    config = recipe(DEMO, encoder_folder)
    with fake_gpu():
        run = Run(config, GPU)
        with Transfers() as transfers:
            classify(run.state.evaluated, run.source, np.arange(CLIPS), run.lengths)
    assert 1 <= len(transfers.to_host) <= 2
    assert not transfers.waiting


ONE = np.ones(1, np.float32)
FAULTS = {
    "a tensor copied to the CPU": (lambda x, frames: (x.cpu().to(GPU, non_blocking=True), frames), AssertionError),
    "a value that is read": (lambda x, frames: (x * x.abs().max().item(), frames), DataDependentOutputException),
    "a condition on a value": (lambda x, frames: (x if frames.max() > 3 else -x, frames), DataDependentOutputException),
    "a list of values": (lambda x, frames: (x[:, :, : max(frames.tolist())], frames), DataDependentOutputException),
    "a boolean index": (lambda x, frames: (x * x[x > 0].mean(), frames), DynamicOutputShapeException),
    "a tensor left on the CPU": (lambda x, frames: (x * torch.ones(1, 1, 1), frames), FakeTensorDeviceMismatchError),
    "an index left on the CPU": (lambda x, frames: (x[torch.arange(len(x))], frames), AssertionError),
    "a copy that waits": (lambda x, frames: (x * torch.from_numpy(ONE).to(GPU), frames), AssertionError),
    "a constant made on the host": (lambda x, frames: (x * torch.tensor([2.0], device=GPU), frames), AssertionError),
    "a list that becomes a tensor": (lambda x, frames: (x[[1, 0, 2, 3, 4, 5]], frames), AssertionError),
    "a cumulative sum": (lambda x, frames: (x.cumsum(-1), frames), AssertionError),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_the_check_of_a_step_finds(fault, encoder_folder, monkeypatch):
    change, expected = FAULTS[fault]
    normalized = epoch.augmented_features

    def changed(*arguments):
        return change(*normalized(*arguments))

    monkeypatch.setattr(epoch, "augmented_features", changed)
    with pytest.raises(expected):
        check_step(recipe(DEMO, encoder_folder))
