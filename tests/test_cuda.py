"""On a GPU: the same numbers as on the CPU, and a training step that never waits."""

import os

import numpy as np
import pytest
import torch

from serx.augment import (
    BandPass,
    Clipping,
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
from serx.models.cnn2d import Cnn2dConfig
from serx.models.layers import BidirectionalGru
from serx.models.speech_encoder import SpeechEncoder, SpeechEncoderConfig
from serx.recognizer import Recognizer
from serx.seeding import ClipRandom
from serx.training.epoch import run_epoch
from serx.training.sampling import TrainingClips, plan_epoch
from serx.training.state import EpochSums, new_state
from serx.training.trainer import fit
from tests.conftest import RATE, batched

EVERY_OTHER = (
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
    Reverb(p=1.0),
)
pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]
GPU = torch.device("cuda")
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch reads it once, at the process's first product


@pytest.mark.parametrize("front_end", ["torch", "torchaudio", "nnaudio"])
def test_features_are_the_cpus(front_end, clips):
    stack = FeatureStack(FeaturesConfig(stack=("logmel", "mfcc"), deltas=2, front_end=front_end), RATE)
    waveform, lengths = batched(clips)
    there = stack(waveform, lengths)[0]
    here = stack.to(GPU)(waveform.to(GPU), lengths.to(GPU))[0].cpu()
    assert (here - there).abs().max() < 1e-4 * there.abs().max()


@pytest.mark.parametrize("name", feature_names())
def test_each_feature_is_the_cpus_and_never_waits_for_the_device(name, clips):
    config = FeaturesConfig(stack=(name,), statistics=("mean", "std", "median", "range"))
    stack, (waveform, lengths) = FeatureStack(config, RATE), batched(clips, extra=700)
    there = stack(waveform, lengths)[0]
    stack, waveform, lengths = stack.to(GPU), waveform.to(GPU), lengths.to(GPU)
    stack(waveform, lengths)  # fills the caches, and may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        here = stack(waveform, lengths)[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    # a rolled-off bin or a frame's octave may fall the other way by rounding
    assert (here.cpu() - there).abs().max() < 0.02 * there.abs().max()


def test_warped_features_are_the_cpus(clips):
    stack, (waveform, lengths) = FeatureStack(FeaturesConfig(stack=("logmel", "mfcc")), RATE), batched(clips)
    random = ClipRandom(torch.arange(len(clips)), 3)
    warp = MelWarp(p=1.0).draw(lengths, random, RATE)
    there, frames = stack(waveform, lengths, warp)
    moved = Warp(warp.rate.to(GPU), warp.pitch_steps.to(GPU), warp.slowest)
    here, counts = stack.to(GPU)(waveform.to(GPU), lengths.to(GPU), moved)
    assert torch.equal(counts.cpu(), frames)
    assert (here.cpu() - there).abs().max() < 1e-4 * there.abs().max()


def test_augmentation_is_the_cpus(clips):
    chain = (Speed(p=1.0), Crop(seconds=0.4), Noise(p=1.0), Gain(p=1.0), *EVERY_OTHER)
    waveform, lengths = batched(clips)
    ids = torch.arange(len(clips))
    there, counts = augment(chain, waveform, lengths, ids, RATE, seed=0, epoch=1)
    here, gpu_counts = augment(chain, waveform.to(GPU), lengths.to(GPU), ids.to(GPU), RATE, seed=0, epoch=1)
    assert torch.equal(gpu_counts.cpu(), counts)
    torch.testing.assert_close(here.cpu(), there, rtol=1e-4, atol=1e-5)


def test_what_a_recording_is_like_is_the_cpus(clips):
    waveform, lengths = batched(clips)
    here = channel_features(waveform.to(GPU), lengths.to(GPU), RATE).cpu()
    torch.testing.assert_close(here, channel_features(waveform, lengths, RATE), atol=1e-2, rtol=1e-4, equal_nan=True)


def test_a_gru_over_time_is_the_cpus_and_never_waits():
    torch.manual_seed(0)
    layer, x, frames = BidirectionalGru(24, 16), torch.randn(3, 24, 40), torch.tensor([40, 7, 23])
    there = layer(x, frames)
    layer, x, frames = layer.to(GPU), x.to(GPU), frames.to(GPU)
    layer(x, frames)
    torch.cuda.set_sync_debug_mode("error")
    try:
        here = layer(x, frames)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(here.cpu(), there, atol=1e-4, rtol=1e-4)


def test_device_and_streamed_corpora_give_the_same_batches(tiny_config):
    dataset = load_dataset(tiny_config().data, progress=False)
    chosen = np.array([5, 0, 71])
    one, two = (source(dataset.audio_cache, GPU).batch(chosen) for source in (DeviceAudio, StreamedAudio))
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    assert isinstance(make_batch_source(dataset.audio_cache, GPU, "auto"), DeviceAudio)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_training_step_never_waits_for_the_device(precision, tiny_config):
    overrides = ["augment.mixup=0.2", "augment.cutmix=0.2", "augment.mel_warp={p: 0.5}"]
    config = tiny_config(f"train.precision={precision}", "train.device=cuda", *overrides)
    waveform = (*config.augment.waveform, *EVERY_OTHER)
    config = config.model_copy(update={"augment": config.augment.model_copy(update={"waveform": waveform})})
    dataset = load_dataset(config.data, progress=False)
    split = split_dataset(dataset, config.data, progress=False)
    source = make_batch_source(dataset.audio_cache, GPU)
    run = new_state(config, dataset, split, source, GPU)
    clips = np.asarray(split.train)
    part = TrainingClips(clips, dataset.targets[clips], torch.ones(len(dataset.labels), device=GPU))
    for epoch in range(2):  # the first fills caches and tables, and may wait
        steps = plan_epoch(part, config, epoch)
        run.sums, run.progress.step, run.progress.epoch = EpochSums(len(dataset.labels), GPU, len(steps)), 0, epoch
        torch.cuda.set_sync_debug_mode("error" if epoch else "default")
        try:
            run_epoch(run, part, source, steps, lambda: False)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert run.sums.finite.all() or precision == "fp16"  # whose scale comes down by skipped steps


@pytest.mark.parametrize("bundle", ["WAV2VEC2_BASE", "WAVLM_BASE_PLUS"])
def test_a_speech_encoder_agrees_with_the_cpu_and_never_waits(bundle, small_encoders, clips):
    model = SpeechEncoder(SpeechEncoderConfig(bundle=bundle, tune="full"), 1, 4).eval()
    waveform, lengths = batched(clips)
    there = model(waveform[:, None], lengths)
    model, features, lengths = model.to(GPU), waveform[:, None].to(GPU), lengths.to(GPU)
    model(features, lengths)  # fills the caches, and may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        here = model(features, lengths)
        here.sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.testing.assert_close(here.cpu(), there, rtol=1e-3, atol=1e-3)


def test_an_enrolled_voice_is_heard_as_on_the_cpu(clips):
    torch.manual_seed(0)
    model = Cnn2dConfig(ensemble_size=2, stem=4, widths=(8, 16), strides=((2, 2), (2, 2)), embedding=8)
    recognizer = Recognizer(FeaturesConfig(), model, ("calm", "angry", "sad"), RATE).eval()
    waveform, lengths = batched(clips)
    told = []
    for device in (torch.device("cpu"), GPU):
        recognizer.to(device)
        mine = [row[:end].to(device) for row, end in zip(waveform, lengths, strict=True)]
        with adapted(recognizer, mine):
            told.append(recognizer.probabilities(waveform.to(device), lengths.to(device)).cpu())
    torch.testing.assert_close(told[1], told[0], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_learns(precision, tiny_config, tmp_path):
    config = tiny_config(f"train.precision={precision}", "train.device=cuda", "train.epochs=15", "optim.lr=0.01")
    assert fit(config, tmp_path / "run", progress=False).best["valid"]["uar"] > 0.8


def test_deterministic_runs_give_the_same_bits(tiny_config, tmp_path):
    config = tiny_config("train.device=cuda", "train.deterministic=true")
    losses = [fit(config, tmp_path / name, progress=False).best["valid"]["loss"] for name in ("a", "b")]
    assert losses[0] == losses[1]
