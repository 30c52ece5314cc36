"""Every audio format gives the same label; a bad file gets an error of its own and the others are predicted."""

import json
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
import torch

from serx.inference.predictor import Predictor
from serx.training.run_folder import BEST
from tests.conftest import PITCHES, RATE, speechlike

ROOT = Path(__file__).parents[2]
LABELS = {"01": "neutral", "03": "happy", "05": "angry"}
WAVS = product(("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"), (8_000, 16_000, 22_050, 44_100, 96_000))
FORMATS = [
    *(("wav", subtype, rate) for subtype, rate in WAVS),
    *(("flac", subtype, rate) for subtype, rate in product(("PCM_16", "PCM_24"), (8_000, 16_000, 48_000, 96_000))),
    *(("ogg", "VORBIS", rate) for rate in (8_000, 16_000, 44_100, 48_000)),
    *(("mp3", "MPEG_LAYER_III", rate) for rate in (8_000, 16_000, 44_100, 48_000)),
    *(("aiff", "PCM_16", rate) for rate in (16_000, 48_000)),
]


def test_format_bit_depth_rate_and_channels_do_not_change_the_label(trained, tmp_path):
    # This model uses frequencies up to 3.7 kHz, which a file of 8 kHz holds. A model that uses more loses half of them.
    predictor = Predictor.load(trained / "run" / BEST, torch.device("cpu"))
    wrong = []
    for code, pitch in PITCHES.items():
        wave = speechlike(0.6, pitch * 1.08, 77)
        for (kind, subtype, rate), channels in product(FORMATS, (1, 2)):
            samples = soxr.resample(wave, RATE, rate) if rate != RATE else wave
            path = tmp_path / f"{code}-{subtype}-{rate}-{channels}.{kind}"
            soundfile.write(path, np.stack([samples] * channels, 1), rate, subtype=subtype)
            [prediction] = predictor([path])
            if prediction.label != LABELS[code]:
                wrong.append((path.name, prediction.label, prediction.error))
    assert not wrong


BAD = {
    "empty": b"",
    "not_audio": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "noise": bytes(range(256)) * 40,
}


@pytest.mark.slow
def test_thirty_bad_files_among_a_hundred_get_errors_and_the_others_predictions(trained, tmp_path):
    for i in range(70):
        soundfile.write(tmp_path / f"good {i:02d} ü.wav", speechlike(0.4, 120 + 2 * i, i), RATE)
    content = (tmp_path / "good 00 ü.wav").read_bytes()
    for i in range(10):
        (tmp_path / f"bad{i}-0.wav").write_bytes(list(BAD.values())[i % 3])
        (tmp_path / f"bad{i}-1.wav").write_bytes(content[: 2000 + i])
        soundfile.write(tmp_path / f"bad{i}-2.wav", np.zeros(RATE), RATE)
    files = sorted(tmp_path.glob("*.wav"))
    (tmp_path / "bad9-2.wav").unlink()  # one is missing
    command = [sys.executable, str(ROOT / "scripts/predict.py"), "--checkpoint", trained / "run" / BEST, "--json"]
    done = subprocess.run([*map(str, command), *map(str, files)], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr and done.stderr.count("\n") == 30
    rows = json.loads(done.stdout)
    assert [row["path"] for row in rows] == [str(path) for path in files]
    for row in rows:
        bad = Path(row["path"]).name.startswith("bad")
        assert (row["label"] is None) == bad == bool(row["error"])
        assert bad or abs(sum(row["probabilities"].values()) - 1) < 1e-4
    reasons = {row["error"].split(":")[0] for row in rows if row["error"]}
    assert reasons == {"empty", "not_audio", "truncated", "silent", "unreadable"}
