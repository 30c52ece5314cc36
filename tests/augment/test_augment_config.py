"""The `augment` section: what YAML and Python may say, and what the errors say."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from serx.augment import AugmentConfig, BackgroundNoise, Gain, Noise, PitchShift, TimeMask
from serx.config.loader import dump, load_config
from serx.errors import ConfigError

EVERY = """
data: {root: somewhere}
model: {kind: cnn2d}
augment:
  waveform:
    - {kind: noise, color: pink, snr_db: [5, 20]}
    - {kind: background_noise, folder: noises}
    - {kind: gain}
    - {kind: polarity_inversion}
    - {kind: clipping, shape: soft}
    - {kind: crop, seconds: 2.0}
    - {kind: shift, seconds: [-0.1, 0.1]}
    - {kind: speed, ratio: [0.9, 1.1]}
    - {kind: pitch_shift, semitones: [-2, 2]}
    - {kind: time_stretch, tempo: [0.8, 1.25]}
    - {kind: pitch_tempo, semitones: [-1, 1]}
    - {kind: low_pass, cutoff_hz: [2000, 7000]}
    - {kind: high_pass}
    - {kind: band_pass, low_hz: [60, 300], high_hz: [3000, 7000]}
    - {kind: equalizer, bands: 2}
    - {kind: telephone}
    - {kind: codec, snr_db: [20, 30]}
    - {kind: reverb, rt60_seconds: [0.2, 0.5]}
    - {kind: impulse_response, folder: rooms}
  spectrogram: [{kind: time_mask}, {kind: frequency_mask}]
  mixup: 0.2
  cutmix: 0.4
"""


def test_every_kind_is_read_from_yaml_and_written_back(tmp_path):
    path = tmp_path / "every.yaml"
    path.write_text(EVERY)
    config = load_config(path)
    assert len(config.augment.waveform) == 19 and config.augment.cutmix == 0.4
    path.write_text(dump(config))
    assert load_config(path) == config


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        ("{kind: pitch_shift, semitones: [2, -2]}", "begins above its end"),
        ("{kind: pitch_shift, semitones: [-9, 2]}", "should be greater than or equal to -4.98, got -9"),
        ("{kind: time_stretch, tempo: [0.1, 1]}", "should be greater than or equal to 0.5, got 0.1"),
        ("{kind: reverb, rt60_seconds: [0.0, 1]}", "should be greater than or equal to 0.001, got 0.0"),
        ("{kind: noise, hue: pink}", "unknown key augment.waveform.0.hue"),
        ("{kind: noise, p: 2}", "augment.waveform.0.p: "),
        ("{kind: impulse_response}", "augment.waveform.0.folder is missing"),
        ("{p: 0.5}", "augment.waveform.0.kind is missing"),
        ("noise", "augment.waveform.0: a transform should be keys, such as {kind: noise, p: 0.5}"),
        ("{kind: pich_shift}", "waveform.0.kind: unknown waveform transform 'pich_shift'; did you mean pitch_shift"),
        ("{kind: phaser}", "known kinds are background_noise, .*add --import MODULE"),
        ("{kind: time_mask}", "'time_mask' is a spectrogram transform; move it to augment.spectrogram"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_line(transform, message, tmp_path):
    path = tmp_path / "wrong.yaml"
    path.write_text(f"data: {{root: x}}\nmodel: {{kind: cnn2d}}\naugment:\n  waveform:\n    - {transform}\n")
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(path)
    assert "wrong.yaml:5: " in str(caught.value) and "\n" not in str(caught.value)


def test_python_accepts_lists_for_tuples_and_paths_for_text():
    assert PitchShift(semitones=[-2, 2]) == PitchShift(semitones=(-2.0, 2.0))
    assert BackgroundNoise(folder=Path("noises")) == BackgroundNoise(folder="noises")
    listed = AugmentConfig(waveform=[{"kind": "noise", "snr_db": [5, 30]}, Gain()], spectrogram=[TimeMask()])
    assert listed == AugmentConfig(waveform=(Noise(snr_db=(5.0, 30.0)), Gain()), spectrogram=(TimeMask(),))


@pytest.mark.parametrize(
    "settings",
    [{"semitones": [-2]}, {"semitones": ["-2", 2]}, {"p": "0.5"}, {"p": True}, {"p": float("nan")}, {"P": 0.5}],
)
def test_python_refuses_wrong_types_and_unknown_keys(settings):
    with pytest.raises(ValidationError):
        PitchShift(**settings)


def test_settings_are_frozen():
    with pytest.raises(ValidationError, match="frozen"):
        Noise().p = 0.1
