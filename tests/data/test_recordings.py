"""Folders of background noises and impulse responses: every audio file is read, and a bad one raises."""

import numpy as np
import pytest
import soundfile
import torch

from serx.augment.recordings import TransformWithRecordings
from serx.data.audio.decoding import read_folder
from serx.data.audio.error import AudioError
from serx.data.audio.paths import LOSSLESS, LOSSY, audio_files
from serx.data.scanning.scanner import scan
from serx.errors import DataError
from serx.training.state import TrainingState


def test_a_folder_is_read_sorted_by_path_at_the_requested_rate(tmp_path):
    (tmp_path / "b").mkdir()
    soundfile.write(tmp_path / "b" / "rain.flac", np.full(8000, 0.25), 8000)
    soundfile.write(tmp_path / "a.WAV", np.full(80, 0.5), 16_000, format="WAV")
    (tmp_path / "LICENSE.txt").write_text("free")
    short, rain = read_folder(str(tmp_path), 16_000)
    assert len(short) == 80 and len(rain) == 16_000
    assert float(short[40]) == pytest.approx(0.5, abs=1e-3) and float(rain[8000]) == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "what"),
    [("missing", "missing: no such folder; set the transform's folder"), (".", "no audio files in this folder")],
)
def test_a_folder_without_recordings_raises(name, what, tmp_path):
    with pytest.raises(DataError, match=what):
        read_folder(str(tmp_path / name), 16_000)


def test_a_broken_recording_raises_with_its_name(tmp_path):
    (tmp_path / "rain.wav").write_bytes(b"RIFF nothing")
    with pytest.raises(DataError, match=r"rain\.wav"):
        read_folder(str(tmp_path), 16_000)


@pytest.mark.parametrize("ending", sorted(LOSSLESS | LOSSY))
def test_training_prediction_and_noise_folders_know_the_same_endings(ending, tmp_path):
    path = tmp_path / f"03-01-05-01-01-01-07{ending}"
    path.write_text("no audio")
    assert audio_files([tmp_path]) == [path]
    with pytest.raises(AudioError, match=ending):
        read_folder(tmp_path, 16_000)
    (tmp_path / "03-01-05-01-01-01-08.wav").touch()
    found = scan(tmp_path)
    assert len(found.utterances) == 2 and found.skipped == ()


def test_a_run_loads_the_recordings_of_its_transforms(tiny_config, tmp_path):
    soundfile.write(tmp_path / "hum.wav", 0.1 * np.sin(np.arange(9000)), 16_000)
    config = tiny_config(f"augment.waveform=[{{kind: background_noise, folder: {tmp_path}}}, {{kind: gain}}]")
    state = TrainingState(config, ("angry", "sad"), torch.device("cpu"), pretrained=False)
    noise, gain = state.waveform_transforms
    assert isinstance(noise, TransformWithRecordings) and noise.recordings.longest == 9000
    assert gain.kind == "gain"
