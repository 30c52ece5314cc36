"""A recording unlike those of training is reported by every command that predicts."""

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
from serx.training.state import TrainingState
from serx.training.trainer import fit
from tests.conftest import RATE
from tests.experiments.test_cross_validation import ROOT, run_script

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(tiny_root, tmp_path_factory):
    """A run that was trained on four speakers; the other two are its test part."""
    folder = tmp_path_factory.mktemp("ood")
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
    """The output of a command, which must succeed."""
    done = run_script([sys.executable, str(ROOT / f"scripts/{name}.py"), *map(str, arguments)])
    assert done.returncode == 0, done.stderr
    return done.stdout


def through_telephone(path, folder):
    """A file with the recording of `path` as it sounds on the telephone."""
    wave = torch.from_numpy(soundfile.read(path, dtype="float32")[0])[None]
    lengths = torch.tensor([wave.shape[1]])
    transform = Telephone(p=1)
    filtered, _ = transform.apply(wave, lengths, transform.draw(lengths, ClipRandom(torch.tensor([0]), 0), RATE))
    soundfile.write(folder / "phone.wav", filtered[0].numpy(), RATE)
    return folder / "phone.wav"


def test_a_telephone_is_out_of_distribution_and_new_speakers_are_not(run, tiny_root, tmp_path):
    predictor = Predictor.load(run / BEST, CPU)
    files = sorted((tiny_root / "Actor_05").iterdir())
    phone = through_telephone(files[0], tmp_path)
    *of_new_speaker, of_phone = predictor([*files, phone])
    # Four speakers are too few to call a clip usual, but enough to flag a telephone.
    unknown = "unknown: fitted on 4 speakers; 8 are needed to know how much new speakers differ from those of training"
    assert predictor.ood_unknown == unknown
    assert [(prediction.ood, prediction.is_ood) for prediction in of_new_speaker] == [(unknown, None)] * len(files)
    assert of_phone.is_ood and "Hz" in of_phone.ood
    assert predictor(phone).ood == predictor(*soundfile.read(phone)).ood == of_phone.ood
    table = script("predict", "--checkpoint", run / BEST, files[0], phone)
    assert table.count("unlike the recordings it was trained on: ") == 1
    rows = json.loads(script("predict", "--checkpoint", run / BEST, "--json", files[0], phone))
    assert [row["ood"] for row in rows] == [unknown, of_phone.ood]
    predictor.ood_unknown = None  # as of eight speakers or more
    usual = predictor(files[0])
    assert usual.ood is None and usual.is_ood is False


def test_each_segment_of_running_speech_is_checked(run, tmp_path):
    make_corpus(tmp_path / "speaker", 1, 1, 0, progress=False)
    clip = soundfile.read(sorted((tmp_path / "speaker").rglob("*.wav"))[0])[0]
    quiet = 1e-4 * np.random.default_rng(0).standard_normal(RATE)
    soundfile.write(tmp_path / "talk.wav", np.concatenate([quiet, clip, quiet]), RATE)
    table = script("listen", "--checkpoint", run / BEST, tmp_path / "talk.wav")
    assert "\n" + 22 * " " + "unlike the recordings it was trained on: " in table
    [line] = script("listen", "--checkpoint", run / BEST, "--json", tmp_path / "talk.wav").splitlines()
    assert "Hz" in json.loads(line)["ood"]


def test_evaluation_and_stress_test_report_the_fraction_of_clips(run, tmp_path):
    report = script("evaluate", "--checkpoint", run / BEST, "--out", tmp_path / "test", "--device", "cpu")
    fraction = json.loads((tmp_path / "test/evaluation.json").read_text())["ood_fraction"]
    assert 0 <= fraction < 0.2 and f"clips flagged as out-of-distribution: {100 * fraction:.1f} %" in report
    table = script("stress", "--checkpoint", run / BEST, "--out", tmp_path / "stress", "--device", "cpu")
    rows = json.loads((tmp_path / "stress/stress.json").read_text())["conditions"]
    fractions = {row["condition"]: row["ood_fraction"] for row in rows}
    assert rows[0]["ood_fraction"] == fraction and fractions["telephone"] > 0.9 > fractions["gain"]
    assert "flagged OOD, %" in table


def test_a_resumed_run_keeps_its_detector(run):
    saved = checkpoint.load_run_checkpoint(run / LAST)
    state = TrainingState(load_config(run / "config.yaml"), tuple(saved.metadata["labels"]), CPU, pretrained=False)
    state.start_average()
    state.load_state_dict(saved)
    for tensors in (state.state_dict(), state.best_state_dict(), checkpoint.load(run / BEST).tensors):
        of_detector = {name: tensor for name, tensor in tensors.items() if name.startswith("ood.")}
        assert of_detector.keys() == {"ood.mean", "ood.covariance", "ood.limit"}
        assert all(torch.equal(tensor, saved.tensors[name]) for name, tensor in of_detector.items())


def test_a_model_of_two_speakers_has_no_detector_and_says_so(tiny_config, tiny_root, tmp_path, capsys):
    fit(tiny_config("train.epochs=1"), tmp_path / "run", progress=False)
    phone = through_telephone(sorted((tiny_root / "Actor_05").iterdir())[0], tmp_path)
    predictor = Predictor.load(tmp_path / "run" / BEST, CPU)
    assert predictor.ood_detector is None and predictor(phone).is_ood is None
    assert predictor(phone).ood.startswith("unknown: fitted on 2 speakers; 8 are needed")
    report = script("evaluate", "--checkpoint", tmp_path / "run" / BEST, "--out", tmp_path / "test", "--device", "cpu")
    written = json.loads((tmp_path / "test/evaluation.json").read_text())
    assert written["ood_fraction"] is None and written["ood_unknown"] == predictor.ood_unknown
    assert "whether other clips are out-of-distribution is unknown: fitted on 2 speakers" in " ".join(report.split())
    printed = capsys.readouterr().out
    assert "note: whether a recording is out-of-distribution will be unknown: fitted on 2 speakers" in printed
