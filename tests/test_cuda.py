"""On a GPU: the same numbers as on the CPU, and training steps that never wait for the device."""

import json
import os

import numpy as np
import pytest
import torch

from serx.augment import (
    BandPass,
    Clipping,
    Codec,
    Crop,
    Equalizer,
    Gain,
    Noise,
    PitchShift,
    PitchTempo,
    PolarityInversion,
    Reverb,
    Shift,
    Speed,
    Telephone,
    TimeStretch,
)
from serx.augment.compose import augment
from serx.augment.mel_warp import MelWarp
from serx.data.batches import DeviceAudio, StreamedAudio, make_batch_source
from serx.data.dataset import load_dataset, split_dataset
from serx.dsp.channel import channel_features
from serx.dsp.mel_warp import Warp
from serx.features import FeaturesConfig, FeatureStack, feature_names
from serx.inference.adaptation import adapted
from serx.models.layers import BidirectionalGru
from serx.models.speech_encoder import SpeechEncoder, SpeechEncoderConfig
from serx.seeding import ClipRandom
from serx.training.epoch import run_epoch
from serx.training.epoch_sums import EpochSums
from serx.training.new_run import new_state
from serx.training.run_folder import METRICS
from serx.training.sampling import TrainingClips, plan_epoch
from serx.training.trainer import fit
from tests.conftest import RATE, batched
from tests.fake_gpu import Run
from tests.inference.untrained import untrained_predictor
from tests.test_fake_gpu import CONFIGS, recipe

OTHER_TRANSFORMS = (
    Noise(p=1.0, color="brown"),
    PitchShift(p=1.0),
    TimeStretch(p=1.0),
    PitchTempo(p=1.0),
    Shift(p=1.0),
    PolarityInversion(p=1.0),
    Clipping(p=1.0, shape="soft"),
    BandPass(p=1.0),
    Equalizer(p=1.0),
    Telephone(p=1.0),
    Codec(p=1.0),
    Reverb(p=1.0),
)
pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]
GPU = torch.device("cuda")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch reads it at the first matrix product of the process


@pytest.mark.parametrize("front_end", ["torch", "torchaudio", "nnaudio"])
def test_features_agree_with_the_cpu(front_end, clips):
    stack = FeatureStack(FeaturesConfig(stack=("logmel", "mfcc"), deltas=2, front_end=front_end), RATE)
    waveform, lengths = batched(clips)
    expected = stack(waveform, lengths)[0]
    actual = stack.to(GPU)(waveform.to(GPU), lengths.to(GPU))[0].cpu()
    assert (actual - expected).abs().max() < 1e-4 * expected.abs().max()


@pytest.mark.parametrize("name", feature_names())
def test_each_feature_agrees_with_the_cpu_and_never_waits_for_the_device(name, clips):
    config = FeaturesConfig(stack=(name,), statistics=("mean", "std", "median", "range"))
    stack, (waveform, lengths) = FeatureStack(config, RATE), batched(clips, extra=700)
    expected = stack(waveform, lengths)[0]
    stack, waveform, lengths = stack.to(GPU), waveform.to(GPU), lengths.to(GPU)
    stack(waveform, lengths)  # fills the caches, and may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        actual = stack(waveform, lengths)[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # rounding may move a roll-off by a bin or the pitch of a frame by an octave
    assert (actual.cpu() - expected).abs().max() < 0.02 * expected.abs().max()


def test_warped_features_agree_with_the_cpu(clips):
    stack, (waveform, lengths) = FeatureStack(FeaturesConfig(stack=("logmel", "mfcc")), RATE), batched(clips)
    random = ClipRandom(torch.arange(len(clips)), 3)
    warp = MelWarp(p=1.0).draw(lengths, random, RATE)
    expected, frames = stack(waveform, lengths, warp)
    gpu_warp = Warp(warp.rate.to(GPU), warp.pitch_steps.to(GPU), warp.slowest)
    actual, counts = stack.to(GPU)(waveform.to(GPU), lengths.to(GPU), gpu_warp)
    assert torch.equal(counts.cpu(), frames)
    assert (actual.cpu() - expected).abs().max() < 1e-4 * expected.abs().max()


def test_augmentation_agrees_with_the_cpu(clips):
    chain = (Speed(p=1.0), Crop(seconds=0.4), Noise(p=1.0), Gain(p=1.0), *OTHER_TRANSFORMS)
    waveform, lengths = batched(clips)
    ids = torch.arange(len(clips))
    expected, counts = augment(chain, waveform, lengths, ids, RATE, seed=0, epoch=1)
    actual, gpu_counts = augment(chain, waveform.to(GPU), lengths.to(GPU), ids.to(GPU), RATE, seed=0, epoch=1)
    assert torch.equal(gpu_counts.cpu(), counts)
    torch.testing.assert_close(actual.cpu(), expected, rtol=1e-4, atol=1e-5)


def test_channel_features_agree_with_the_cpu(clips):
    waveform, lengths = batched(clips)
    actual = channel_features(waveform.to(GPU), lengths.to(GPU), RATE).cpu()
    torch.testing.assert_close(actual, channel_features(waveform, lengths, RATE), atol=1e-2, rtol=1e-4, equal_nan=True)


def test_a_gru_agrees_with_the_cpu_and_never_waits_for_the_device():
    torch.manual_seed(0)
    layer, x, frames = BidirectionalGru(24, 16), torch.randn(3, 24, 40), torch.tensor([40, 7, 23])
    expected = layer(x, frames)
    layer, x, frames = layer.to(GPU), x.to(GPU), frames.to(GPU)
    layer(x, frames)
    torch.cuda.set_sync_debug_mode("error")
    try:
        actual = layer(x, frames)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(actual.cpu(), expected, atol=1e-4, rtol=1e-4)


def test_audio_on_the_device_and_streamed_audio_give_the_same_batches(tiny_config):
    dataset = load_dataset(tiny_config().data, progress=False)
    chosen = np.array([5, 0, 71])
    on_device, streamed = (source(dataset.audio_cache, GPU).batch(chosen) for source in (DeviceAudio, StreamedAudio))
    assert torch.equal(on_device[0], streamed[0]) and torch.equal(on_device[1], streamed[1])
    assert isinstance(make_batch_source(dataset.audio_cache, GPU, "auto"), DeviceAudio)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_training_step_never_waits_for_the_device(precision, tiny_config):
    overrides = ["augment.mixup=0.2", "augment.cutmix=0.2", "augment.mel_warp={p: 0.5}"]
    config = tiny_config(f"train.precision={precision}", "train.device=cuda", *overrides)
    waveform = (*config.augment.waveform, *OTHER_TRANSFORMS)
    config = config.model_copy(update={"augment": config.augment.model_copy(update={"waveform": waveform})})
    dataset = load_dataset(config.data, progress=False)
    split = split_dataset(dataset, config.data, progress=False)
    source = make_batch_source(dataset.audio_cache, GPU)
    state = new_state(config, dataset, split, source, GPU)
    clips = np.asarray(split.train)
    part = TrainingClips(clips, dataset.targets[clips], torch.ones(len(dataset.labels), device=GPU))
    for epoch in range(2):  # the first fills caches and tables, and may wait
        steps = plan_epoch(part, config, epoch)
        state.sums = EpochSums(len(dataset.labels), GPU, len(steps))
        state.progress.step, state.progress.epoch = 0, epoch
        torch.cuda.set_sync_debug_mode("error" if epoch else "default")
        try:
            run_epoch(state, part, source, steps, lambda: False)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert state.sums.finite.all() or precision == "fp16"  # the loss scale of fp16 falls by skipped steps


@pytest.mark.parametrize("kind", ["whisper", "wav2vec2", "wavlm", "data2vec"])
def test_a_speech_encoder_agrees_with_the_cpu_and_never_waits_for_the_device(kind, encoder_folder, clips):
    config = SpeechEncoderConfig(source=str(encoder_folder(kind)), tune="full")
    model = SpeechEncoder.from_pretrained(config, 1, 4).eval()
    waveform, lengths = batched(clips)
    expected = model(waveform[:, None], lengths)
    model, features, lengths = model.to(GPU), waveform[:, None].to(GPU), lengths.to(GPU)
    model(features, lengths)  # fills the caches, and may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        actual = model(features, lengths)
        actual.sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(actual.cpu(), expected, rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("trusted")
def test_speaker_adaptation_agrees_with_the_cpu(clips):
    sizes = {"stem": 4, "widths": (8, 16), "strides": ((2, 2), (2, 2)), "embedding": 8}
    recognizer = untrained_predictor({"kind": "cnn2d", "ensemble_size": 2, **sizes}).recognizer
    waveform, lengths = batched(clips)
    plain, probabilities = recognizer.probabilities(waveform, lengths), []
    for device in (torch.device("cpu"), GPU):
        recognizer.to(device).speaker_model = recognizer.speaker_model.to(device)
        waves = [row[:end].to(device) for row, end in zip(waveform, lengths, strict=True)]
        with adapted(recognizer, waves):
            probabilities.append(recognizer.probabilities(waveform.to(device), lengths.to(device)).cpu())
    torch.testing.assert_close(probabilities[1], probabilities[0], rtol=1e-3, atol=1e-3)
    assert (probabilities[0] - plain).abs().max() > 1e-2


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns(precision, tiny_config, tmp_path):
    config = tiny_config(f"train.precision={precision}", "train.device=cuda", "train.epochs=15", "optim.lr=0.01")
    assert fit(config, tmp_path / "run", progress=False).kept["valid"]["uar"] > 0.8


def test_deterministic_runs_give_the_same_bits(tiny_config, tmp_path):
    config = tiny_config("train.device=cuda", "train.deterministic=true")
    losses = [fit(config, tmp_path / name, progress=False).kept["valid"]["loss"] for name in ("a", "b")]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_deterministic_step_of_every_recipe_never_waits_for_the_device(path, encoder_folder):
    config = recipe(path, encoder_folder, "train.deterministic=true")
    if config.model.fits is not None:
        pytest.skip("is fitted on the host")
    torch.use_deterministic_algorithms(True)
    try:
        run = Run(config, torch.device("cuda", 0))
        training = run.training_clips()
        run.epoch(training)  # fills the caches, and may wait
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        run.epoch(training)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        torch.use_deterministic_algorithms(False)
    assert run.state.sums.finite.all()


@pytest.mark.parametrize("mode", ["true", "reduce-overhead"])
def test_a_compiled_network_trains_as_the_network_does(mode, tiny_config, tmp_path):
    options = ["train.device=cuda", "train.precision=fp32", "train.epochs=2"]
    fit(tiny_config(*options), tmp_path / "eager", progress=False)
    fit(tiny_config(*options, f"train.compile={mode}"), tmp_path / "compiled", progress=False)
    losses = [
        [json.loads(line)["train"]["loss"] for line in (tmp_path / name / METRICS).read_text().splitlines()]
        for name in ("eager", "compiled")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-2)
