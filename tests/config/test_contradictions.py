"""Settings that contradict each other are errors or notes, and no shipped recipe has any."""

import numpy as np
import pytest
import torch

from serx.augment import BandPass, Compose, LowPass
from serx.config import load_config, notes, recipe_names
from serx.errors import ConfigError
from serx.features import FeaturesConfig, FeatureStack, LogMel
from serx.features.stack import empty_rows


@pytest.mark.parametrize("name", recipe_names())
def test_no_shipped_recipe_has_a_note(name):
    assert notes(load_config(name)) == []


PLAIN = [
    "data.protocol=holdout",
    "data.valid_fraction=0.15",
    "train.temperature=1",
    "train.logit_adjustment=0",
    "augment.waveform=[]",
    "augment.spectrogram=[]",
]


@pytest.mark.parametrize(
    ("overrides", "place", "message"),
    [
        (["features.f_min=0", "features.f_max=1"], "features.f_max=1", "64 of 64 mel filters"),
        (["features.f_max=100"], "features.f_max=100", "mel filters from 40 to 100 Hz"),
        (["features.f_max=9000"], "features.f_max", "ends at 8000 Hz"),
        (["features.hop_length=2048"], "features.hop_length", "read by none"),
        (["features.stack=[rms, rms]"], "features.stack", "rms more than once"),
        (["augment.waveform=[{kind: low_pass, cutoff_hz: [9000, 9500]}]"], "augment.waveform", "reaches 9500 Hz"),
        (["augment.waveform=[{kind: high_pass, cutoff_hz: [50, 8001]}]"], "augment.waveform", "ends at 8000 Hz"),
        (["augment.waveform=[{kind: equalizer}]", "data.sample_rate=8000", "features.f_max=null"], "augment.waveform",
         "frequency_hz reaches 6000 Hz"),
        (["augment.waveform=[{kind: band_pass}]", "data.sample_rate=8000", "features.f_max=null"], "augment.waveform",
         "high_hz reaches 7500 Hz"),
        (["augment.waveform=[{kind: telephone}]", "data.sample_rate=6000", "features.f_max=null"], "augment.waveform",
         "a telephone line passes"),
        (["augment.waveform=[{kind: band_pass, low_hz: [50, 3000]}]"], "augment.waveform", "keep low_hz below high_hz"),
        (["augment.waveform=[{kind: crop, seconds: 0.05}]"], "augment.waveform", "fewer than the 1024 of a frame"),
        (["augment.spectrogram=[{kind: frequency_mask, width: 64}]"], "augment.spectrogram", "all 64 rows"),
        (["augment.spectrogram=[{kind: time_mask, width: 9999}]"], "augment.spectrogram", "more than the 3751 frames"),
        (["augment.spectrogram=[{kind: time_mask, width: 100}]", "augment.waveform=[{kind: crop, seconds: 1}]"],
         "augment.spectrogram", "more than the 63 frames"),
        (["augment.spectrogram=[{kind: time_mask}]", "model={kind: mlp}", "features.statistics=[mean]",
          "features.remove_level=false"], "augment.spectrogram", "no frames to mask"),
        (["augment.cutmix=0.5", "model={kind: mlp}", "features.statistics=[mean]", "features.remove_level=false"],
         "augment.cutmix", "one vector"),
        (["train.class_weights=balanced", "train.sampling=class_balanced"], "train.class_weights", "count twice"),
        (["data.min_seconds=5", "data.max_seconds=3"], "data.min_seconds", "every clip is skipped"),
        (["data.duration_seconds=0.05"], "data.duration_seconds", "every clip is skipped"),
        (["data.offset_seconds=60"], "data.offset_seconds", "altogether"),
        (["data.protocol=kfold", "data.fold=5"], "data.fold", "from 0 to 4"),
        (["train.loggers=[tensorboard, tensorboard]"], "train.loggers", "more than once"),
    ],
)  # fmt: skip
def test_settings_that_contradict_each_other_are_refused_in_one_line(overrides, place, message):
    load_config("cnn2d", PLAIN)
    with pytest.raises(ConfigError) as caught:
        load_config("cnn2d", PLAIN, overrides)
    [line] = str(caught.value).splitlines()
    assert place in line and message in line


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["features={n_fft: 256, hop_length: 128, n_mels: 128}"], "13 of 128 mel filters"),
        (["model.ensemble_size=1", "model.shared_stages=2"], "model.shared_stages: 2 has no effect"),
        (["train.patience=36", "train.select=uar"], "train.patience: 36 is never reached"),
        (["optim.schedule=plateau", "optim.plateau_patience=99", "train.select=uar"], "plateau_patience: 99 is never"),
        (["optim.lr=100"], "turns the sign of the weights"),
        (["train.temperature=0.8"], "train.temperature has no effect"),
        (["train.logit_adjustment=1", "train.sampling=class_balanced"], "train.logit_adjustment has no effect"),
        (["augment.waveform=[{kind: crop, seconds: 60}]"], "cut nothing off"),
        (["model.strides=[[8, 1], [8, 1], [8, 1]]"], "leave one row of 64"),
        (["model.tta_speeds=[1, 0.9, 0.9]"], "lists a speed more than once"),
        (["data.protocol=loso", "data.folds=3"], "data.folds: 3 has no effect: data.protocol is loso"),
        (["data.protocol=luna5", "data.test_fraction=0.5"], "data.test_fraction: 0.5 has no effect"),
        (["optim.plateau_factor=0.5"], "optim.plateau_factor: 0.5 has no effect: optim.schedule is onecycle"),
        (["optim.schedule=constant", "optim.final_lr_ratio=0.5"], "optim.final_lr_ratio: 0.5 has no effect"),
        (["train.teacher_weight=0.5"], "train.teacher_weight: 0.5 has no effect: train.teachers lists none"),
        (["train.teacher_temperature=2"], "train.teacher_temperature: 2 has no effect"),
        (["train.teachers=[x]", "train.teacher_weight=0"], "train.teachers have no effect"),
        (["augment.waveform=[{kind: noise, p: 0}]"], "augment.waveform.0 (noise) has no effect: p is 0"),
        (["augment.waveform=[{kind: gain, gain_db: [0, 0]}]"], "(gain) has no effect: gain_db is always 0"),
        (["augment.waveform=[{kind: speed, ratio: [1, 1]}]"], "(speed) has no effect: ratio is always 1"),
        (["augment.waveform=[{kind: pitch_tempo, semitones: [0, 0], tempo: [1, 1]}]"],
         "(pitch_tempo) has no effect: semitones is always 0 and tempo is always 1"),
        (["augment.waveform=[{kind: shift, seconds: [0, 0]}]"], "(shift) has no effect: seconds is always 0"),
        (["augment.waveform=[{kind: shift, seconds: [-2, 0]}]", "data.duration_seconds=2"], "only silence"),
        (["augment.spectrogram=[{kind: time_mask, p: 0}]"], "augment.spectrogram.0 (time_mask) has no effect"),
        (["augment.spectrogram=[{kind: time_mask, count: 5, max_fraction: 0.2}]"], "may mask all of it"),
        (["augment.spectrogram=[{kind: frequency_mask, count: 8, width: 8}]"], "may mask all 64 rows"),
    ],
)  # fmt: skip
def test_settings_without_effect_get_a_note(overrides, message):
    [note] = notes(load_config("cnn2d", PLAIN, overrides))
    assert message in note


def test_a_transform_that_changes_one_of_two_things_gets_no_note():
    assert notes(load_config("cnn2d", PLAIN, "augment.waveform=[{kind: pitch_tempo, semitones: [0, 0]}]")) == []


def test_the_rows_that_are_said_to_be_empty_never_change():
    config = FeaturesConfig(n_fft=256, hop_length=128, n_mels=128)
    assert empty_rows(config, 16_000) == 13
    noise = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 16_000)).astype(np.float32))
    mel, _ = FeatureStack(FeaturesConfig(stack=("mel",), n_fft=256, hop_length=128, n_mels=128), 16_000)(noise)
    assert int((mel == 0).all(2).sum()) == 13
    with pytest.warns(UserWarning, match="13 of 128 mel filters"):
        LogMel(16_000, n_fft=256, hop_length=128, n_mels=128)
    with pytest.raises(ConfigError, match="128 of 128"):
        LogMel(16_000, n_mels=128, f_max=10.0)


def test_compose_refuses_a_filter_above_half_the_sample_rate():
    with pytest.raises(ValueError, match="low_pass: cutoff_hz reaches 7500 Hz, but audio at 8000 Hz ends at 4000 Hz"):
        Compose([LowPass()], sample_rate=8000)
    with pytest.raises(ValueError, match="band_pass: high_hz reaches 7500 Hz"):
        Compose([BandPass()], sample_rate=8000)
    Compose([LowPass(cutoff_hz=(2000, 4000))], sample_rate=8000)
