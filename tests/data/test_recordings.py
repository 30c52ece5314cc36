"""Folders of noises and rooms: everything readable is read, and a mistake is named."""

import numpy as np
import pytest
import soundfile
import torch

from serx.augment.recordings import TransformWithRecordings
from serx.data.audio import read_folder
from serx.errors import DataError
from serx.training.state import Run


def test_a_folder_is_read_in_the_order_of_names_at_the_rate_asked_for(tmp_path):
    (tmp_path / "b").mkdir()
    soundfile.write(tmp_path / "b" / "rain.flac", np.full(8000, 0.25), 8000)
    soundfile.write(tmp_path / "a.WAV", np.full(80, 0.5), 16_000, format="WAV")
    (tmp_path / "LICENSE.txt").write_text("free")
    short, rain = read_folder(str(tmp_path), 16_000)
    assert len(short) == 80 and len(rain) == 16_000
    assert float(short[40]) == pytest.approx(0.5, abs=1e-3) and float(rain[8000]) == pytest.approx(0.25, abs=1e-3)


@pytest.mark.parametrize(("name", "what"), [("missing", "is no folder"), (".", "holds no audio file")])
def test_a_folder_without_recordings_is_refused(name, what, tmp_path):
    with pytest.raises(DataError, match=what):
        read_folder(str(tmp_path / name), 16_000)


def test_a_broken_recording_is_named(tmp_path):
    (tmp_path / "rain.wav").write_bytes(b"RIFF nothing")
    with pytest.raises(DataError, match=r"rain\.wav"):
        read_folder(str(tmp_path), 16_000)


def test_a_run_binds_its_recordings_to_the_transforms_that_want_them(tiny_config, tmp_path):
    soundfile.write(tmp_path / "hum.wav", 0.1 * np.sin(np.arange(9000)), 16_000)
    config = tiny_config(f"augment.waveform=[{{kind: background_noise, folder: {tmp_path}}}, {{kind: gain}}]")
    first, second = Run(config, ("angry", "sad"), torch.device("cpu"), pretrained=False).waveform_transforms
    assert isinstance(first, TransformWithRecordings) and first.bank.longest == 9000
    assert second.kind == "gain"
