"""The audit counts what a corpus holds, and names speakers with another channel, level or missing emotions."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from serx.augment import LowPass
from serx.cli.audit import probe_lines
from serx.config.loader import load_config
from serx.data.audit import Audit, audit_dataset
from serx.data.batches import make_batch_source
from serx.data.dataset import load_dataset
from serx.seeding import ClipRandom
from tests.conftest import RATE

SCRIPT = Path(__file__).parents[2] / "scripts" / "audit.py"


@pytest.fixture(scope="module")
def odd_root(tmp_path_factory, tiny_root):
    """The tiny corpus, with low-pass filtered clips of speaker 3, no angry clips of 4, and 60 dB softer clips of 5."""
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


def audit_of(root, tmp_path) -> Audit:
    path = tmp_path / "any.yaml"
    path.write_text(f"data: {{root: {root}, cache: {tmp_path / 'cache'}}}\nmodel: {{kind: cnn1d}}\n")
    dataset = load_dataset(load_config(path).data, progress=False)
    return audit_dataset(dataset, make_batch_source(dataset.audio_cache, torch.device("cpu")), RATE)


def test_clips_speakers_minutes_and_levels_are_counted(tiny_root, tmp_path):
    found = audit_of(tiny_root, tmp_path)
    assert found.counts == {label: {"ravdess": (24, 6)} for label in ("neutral", "happy", "angry")}
    assert [speaker.speaker_id for speaker in found.speakers] == [f"ravdess/{n:02d}" for n in range(1, 7)]
    first = found.speakers[0]
    waves = [soundfile.read(path)[0] for path in (tiny_root / "Actor_01").iterdir()]
    assert (first.clips, first.sex, first.missing) == (12, "male", ())
    assert first.minutes == pytest.approx(sum(map(len, waves)) / RATE / 60)
    levels = [10 * np.log10(np.mean(wave**2)) for wave in waves]
    assert first.level_db == pytest.approx(np.median(levels), abs=0.1)
    assert len(found.seconds) == 72 and found.warnings == []


def test_warnings_name_speakers_with_another_channel_a_missing_emotion_or_a_low_level(odd_root, tmp_path):
    found = audit_of(odd_root, tmp_path)
    outliers = {speaker.speaker_id: speaker.outliers for speaker in found.speakers}
    assert outliers.pop("ravdess/03") > 0.9 and max(outliers.values()) < 0.5
    assert found.counts["angry"] == {"ravdess": (20, 5)}
    channel, emotion, level = found.warnings
    assert channel.startswith("ravdess/03 was recorded differently from all other speakers (100 % of the clips)")
    assert emotion == "ravdess/04 has no clip of angry"
    assert level.startswith("ravdess/05 has a level of -") and "re full scale" in level


def test_a_warning_names_an_emotion_with_a_single_speaker(odd_root, tess_root, tmp_path):
    assert audit_of(tess_root, tmp_path).warnings == []  # two speakers: one can test the other
    only = shutil.copytree(odd_root / "Actor_01", tmp_path / "one" / "Actor_01")
    for number in ("02", "04"):
        folder = only.parent / f"Actor_{number}"
        folder.mkdir()
        for path in (odd_root / f"Actor_{number}").glob("03-01-03-*"):
            shutil.copy(path, folder)
    warnings = audit_of(only.parent, tmp_path).warnings
    assert [line for line in warnings if "one speaker only" in line] == [
        f"{label} has clips of one speaker only: a speaker-independent test of it is impossible"
        for label in ("neutral", "angry")
    ]


def output_of_command(root, protocol: str, tmp_path) -> str:
    """What `serx audit` prints about a corpus."""
    config = tmp_path / "net.yaml"
    cache = f"cache: {tmp_path / 'cache'}"
    config.write_text(f"data: {{root: {root}, protocol: {protocol}, folds: 3, {cache}}}\nmodel: {{kind: cnn1d}}\n")
    command = [sys.executable, str(SCRIPT), "--config", str(config)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_channel_tells_corpora_apart_that_were_recorded_differently(odd_root, tmp_path):
    """Low-pass filtered clips of two speakers, under the name of another corpus."""
    rows = ["path,emotion,speaker,corpus"]
    for number, corpus in ((1, "plain"), (2, "plain"), (6, "plain"), (3, "dull")):
        for i, path in enumerate(sorted((odd_root / f"Actor_{number:02d}").iterdir())):
            emotion = {"01": "neutral", "03": "happy", "05": "angry"}[path.name[6:8]]
            rows.append(f"{path},{emotion},{number if corpus == 'plain' else f'dull{i % 2}'},{corpus}")
    (tmp_path / "two.csv").write_text("\n".join(rows))
    found = audit_of(tmp_path / "two.csv", tmp_path)
    assert found.corpus_probe["balanced_accuracy"] > 0.9 and found.corpus_probe["chance"] == 0.5
    assert "tells the corpus of clips from their recording channel" in " ".join(" ".join(probe_lines(found)).split())
    plain = audit_of(odd_root, tmp_path)
    assert plain.corpus_probe is None and probe_lines(plain) == []


def test_the_command_prints_counts_folds_and_warnings_and_does_not_train(odd_root, tmp_path):
    output = output_of_command(odd_root, "kfold", tmp_path)
    assert "68 clips" in output and "24 (6)" in output and "20 (5)" in output
    assert "known corpus ravdess: 68 of 1440 clips" in output
    assert output.count("  fold ") == 3 and "test: ravdess/" in output
    assert "warning: ravdess/04 has no clip of angry" in output
    assert {path.name for path in tmp_path.iterdir()} == {"net.yaml", "cache"}


def test_the_command_says_why_a_fold_is_impossible(tiny_root, tmp_path):
    output = output_of_command(tiny_root, "luna5", tmp_path)
    assert "fold 2: luna5 fold 2: RAVDESS speakers 10 11 12 19 20 are all missing" in output
