"""A recording unlike all that a model was trained on is told so, by every script that predicts."""

import json
import sys

import numpy as np
import pytest
import soundfile
import torch

from serx import checkpoint
from serx.augment.telephone import Telephone
from serx.config.loader import from_tree, load_config
from serx.data.synthetic.corpus import make_corpus
from serx.inference.predictor import Predictor
from serx.seeding import ClipRandom
from serx.training.run_folder import BEST, LAST
from serx.training.state import Run
from serx.training.trainer import fit
from tests.conftest import RATE
from tests.experiments.test_cross_validation import ROOT, run_script

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tiny_root, tmp_path_factory):
    """A network trained on four speakers; two others are its test part."""
    folder = tmp_path_factory.mktemp("unlike")
    tree = {
        "data": {"root": str(tiny_root), "protocol": "speakers", "test_speakers": ("5", "6"), "valid_fraction": 0.0,
                 "cache": str(folder / "cache")},
        "features": {"n_mels": 24, "n_fft": 512},
        "model": {"kind": "cnn2d", "stem": 8, "widths": (8, 16), "strides": ((2, 2), (2, 1)), "embedding": 24},
        "train": {"epochs": 2, "batch_size": 8, "select": "last", "device": "cpu", "threads": 1, "ema_decay": 0.9},
    }  # fmt: skip
    fit(from_tree(tree, source="test"), folder / "run", progress=False)
    return folder / "run"


def script(name: str, *arguments) -> str:
    done = run_script([sys.executable, str(ROOT / f"scripts/{name}.py"), *map(str, arguments)])
    assert done.returncode == 0, done.stderr
    return done.stdout


def by_telephone(path, folder):
    wave = torch.from_numpy(soundfile.read(path, dtype="float32")[0])[None]
    lengths = torch.tensor([wave.shape[1]])
    line = Telephone(p=1)
    heard, _ = line.apply(wave, lengths, line.draw(lengths, ClipRandom(torch.tensor([0]), 0), RATE))
    soundfile.write(folder / "phone.wav", heard[0].numpy(), RATE)
    return folder / "phone.wav"


def test_new_voices_are_familiar_and_a_telephone_is_not(run, tiny_root, tmp_path):
    predictor = Predictor(run / BEST, CPU)
    strangers = sorted((tiny_root / "Actor_05").iterdir())
    phone = by_telephone(strangers[0], tmp_path)
    heard = predictor.predict([*strangers, phone])
    assert [one.unlike for one in heard[:-1]] == [None] * len(strangers)
    assert heard[-1].unlike is not None and "Hz" in heard[-1].unlike
    assert predictor.predict([phone])[0].unlike == heard[-1].unlike
    table = script("predict", "--checkpoint", run / BEST, strangers[0], phone)
    assert table.count("UNLIKE the recordings it was trained on: ") == 1
    rows = json.loads(script("predict", "--checkpoint", run / BEST, "--json", strangers[0], phone))
    assert [row["unlike"] for row in rows] == [None, heard[-1].unlike]


def test_running_speech_is_told_unlike_utterance_by_utterance(run, tmp_path):
    make_corpus(tmp_path / "voices", 1, 1, 0, progress=False)
    clip = soundfile.read(sorted((tmp_path / "voices").rglob("*.wav"))[0])[0]
    still = 1e-4 * np.random.default_rng(0).standard_normal(RATE)
    soundfile.write(tmp_path / "talk.wav", np.concatenate([still, clip, still]), RATE)
    assert "\n" + 22 * " " + "UNLIKE the" in script("listen", "--checkpoint", run / BEST, tmp_path / "talk.wav")
    [line] = script("listen", "--checkpoint", run / BEST, "--json", tmp_path / "talk.wav").splitlines()
    assert "Hz" in json.loads(line)["unlike"]


def test_evaluation_and_stress_tell_how_many_clips_are(run, tmp_path):
    said = script("evaluate", "--checkpoint", run / BEST, "--out", tmp_path / "test", "--device", "cpu")
    told = json.loads((tmp_path / "test/evaluation.json").read_text())["ood_fraction"]
    assert 0 <= told < 0.2 and f"clips flagged as out-of-distribution: {100 * told:.1f} %" in said
    said = script("stress", "--checkpoint", run / BEST, "--out", tmp_path / "stress", "--device", "cpu")
    rows = json.loads((tmp_path / "stress/stress.json").read_text())["conditions"]
    shares = {row["condition"]: row["ood_fraction"] for row in rows}
    assert rows[0]["ood_fraction"] == told and shares["telephone"] > 0.9 > shares["gain"]
    assert "flagged OOD, %" in said


def test_a_resumed_run_knows_the_recordings_it_began_with(run):
    saved = checkpoint.load_run_checkpoint(run / LAST)
    again = Run(load_config(run / "config.yaml"), tuple(saved.metadata["labels"]), CPU, pretrained=False)
    again.start_average()
    again.restore(saved)
    for tensors in (again.tensors(), again.evaluated_tensors(), checkpoint.load(run / BEST).tensors):
        known = {name: tensor for name, tensor in tensors.items() if name.startswith("ood.")}
        assert known.keys() == {"ood.mean", "ood.covariance", "ood.limit"}
        assert all(torch.equal(tensor, saved.tensors[name]) for name, tensor in known.items())


def test_of_two_speakers_nothing_is_told(tiny_config, tiny_root, tmp_path):
    fit(tiny_config("train.epochs=1"), tmp_path / "run", progress=False)
    phone = by_telephone(sorted((tiny_root / "Actor_05").iterdir())[0], tmp_path)
    assert Predictor(tmp_path / "run" / BEST, CPU).predict([phone])[0].unlike is None
    script("evaluate", "--checkpoint", tmp_path / "run" / BEST, "--out", tmp_path / "test", "--device", "cpu")
    assert json.loads((tmp_path / "test/evaluation.json").read_text())["ood_fraction"] is None
