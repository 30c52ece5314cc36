"""What a corpus holds is counted, and who was recorded otherwise or lacks an emotion is named."""

import shutil
import sys

import numpy as np
import pytest
import soundfile
import torch

from serx.augment.compose import LowPass
from serx.config.loader import load
from serx.data.audit import Audit, audit
from serx.data.batches import make_batch_source
from serx.data.dataset import load_dataset
from serx.seeding import ClipRandom
from tests.conftest import RATE
from tests.experiments.test_cross_validation import ROOT, run_script


@pytest.fixture(scope="module")
def odd_root(tmp_path_factory, tiny_root):
    """The tiny corpus, but speaker 3 by a dull microphone, 4 without angry clips, 5 hardly to be heard."""
    root = shutil.copytree(tiny_root, tmp_path_factory.mktemp("odd") / "corpus")
    low = LowPass(p=1, cutoff_hz=(1500, 1500))
    for path in (root / "Actor_03").iterdir():
        wave = torch.from_numpy(soundfile.read(path, dtype="float32")[0])[None]
        lengths = torch.tensor([wave.shape[1]])
        dull, _ = low.apply(wave, lengths, low.draw(lengths, ClipRandom(torch.tensor([0]), 0), float(RATE)))
        soundfile.write(path, dull[0].numpy(), RATE, subtype="PCM_16")
    for path in (root / "Actor_04").glob("03-01-05-*"):
        path.unlink()
    for path in (root / "Actor_05").iterdir():
        soundfile.write(path, 1e-3 * soundfile.read(path)[0], RATE, subtype="FLOAT")
    return root


def surveyed(root, tmp_path) -> Audit:
    path = tmp_path / "any.yaml"
    path.write_text(f"data: {{root: {root}, cache: {tmp_path / 'cache'}}}\nmodel: {{kind: cnn1d}}\n")
    dataset = load_dataset(load(path).data, progress=False)
    return audit(dataset, make_batch_source(dataset.audio_cache, torch.device("cpu")), RATE)


def test_clips_speakers_minutes_and_levels_are_counted(tiny_root, tmp_path):
    found = surveyed(tiny_root, tmp_path)
    assert found.counts == {label: {"ravdess": (24, 6)} for label in ("neutral", "happy", "angry")}
    assert [one.speaker_id for one in found.speakers] == [f"ravdess/{n:02d}" for n in range(1, 7)]
    first = found.speakers[0]
    waves = [soundfile.read(path)[0] for path in (tiny_root / "Actor_01").iterdir()]
    assert (first.clips, first.sex, first.missing) == (12, "male", ())
    assert first.minutes == pytest.approx(sum(map(len, waves)) / RATE / 60)
    levels = [10 * np.log10(np.mean(wave**2)) for wave in waves]
    assert first.level_db == pytest.approx(np.median(levels), abs=0.1)
    assert len(found.seconds) == 72 and found.warnings == []


def test_whoever_is_recorded_otherwise_or_lacks_an_emotion_is_named(odd_root, tmp_path):
    found = surveyed(odd_root, tmp_path)
    odd = {one.speaker_id: one.odd for one in found.speakers}
    assert odd.pop("ravdess/03") > 0.9 and max(odd.values()) < 0.5
    assert found.counts["angry"] == {"ravdess": (20, 5)}
    told = found.warnings
    assert len(told) == 3
    assert told[0].startswith("ravdess/03 was recorded unlike everybody else (100 % of the clips)")
    assert told[1] == "ravdess/04 has no clip of angry"
    assert told[2].startswith("ravdess/05 is at -") and "of full scale" in told[2]


def test_an_emotion_of_one_speaker_is_named_and_one_of_two_is_not(odd_root, tess_root, tmp_path):
    assert surveyed(tess_root, tmp_path).warnings == []  # two women, who can learn from each other
    only = shutil.copytree(odd_root / "Actor_01", tmp_path / "one" / "Actor_01")
    for number in ("02", "04"):
        folder = only.parent / f"Actor_{number}"
        folder.mkdir()
        for path in (odd_root / f"Actor_{number}").glob("03-01-03-*"):
            shutil.copy(path, folder)
    told = surveyed(only.parent, tmp_path).warnings
    assert [line for line in told if "one speaker alone" in line] == [
        f"{label} is told by one speaker alone: whoever learns it cannot be tested on it"
        for label in ("neutral", "angry")
    ]


def prepare(root, protocol: str, tmp_path) -> str:
    """What scripts/audit.py says of a corpus."""
    config = tmp_path / "net.yaml"
    cache = f"cache: {tmp_path / 'cache'}"
    config.write_text(f"data: {{root: {root}, protocol: {protocol}, folds: 3, {cache}}}\nmodel: {{kind: cnn1d}}\n")
    done = run_script([sys.executable, str(ROOT / "scripts/audit.py"), "--config", str(config)])
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_script_tells_counts_folds_and_warnings_and_trains_nothing(odd_root, tmp_path):
    said = prepare(odd_root, "kfold", tmp_path)
    assert "68 clips" in said and "24 (6)" in said and "20 (5)" in said
    assert said.count("  fold ") == 3 and "test: ravdess/" in said
    assert "warning: ravdess/04 has no clip of angry" in said
    assert {path.name for path in tmp_path.iterdir()} == {"net.yaml", "cache"}


def test_folds_that_cannot_be_made_are_told_why(tiny_root, tmp_path):
    assert "fold 2: luna5 fold 2: none of RAVDESS speakers" in prepare(tiny_root, "luna5", tmp_path)
