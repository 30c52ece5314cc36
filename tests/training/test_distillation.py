"""Distillation: targets come from teachers that do not know the speaker; who taught counts as training data."""

import numpy as np
import pytest
import torch

from serx.data.batches import make_batch_source
from serx.data.dataset import load_dataset
from serx.errors import ConfigError, LeakError
from serx.inference.predictor import Predictor
from serx.training.distillation import teacher_probabilities
from serx.training.trainer import fit

CPU = torch.device("cpu")


def without_validation(test_speakers: str) -> list[str]:
    """Settings that train on all other speakers."""
    return [
        "data.protocol=speakers",
        f"data.test_speakers=[{test_speakers}]",
        "data.valid_speakers=[]",
        "data.valid_fraction=0",
        "train.select=last",
    ]


@pytest.fixture(scope="module")
def _trained() -> list[str]:
    return []


@pytest.fixture
def teachers(tiny_config, tmp_path_factory, _trained):
    """Checkpoints trained on speakers 3 to 6, and on 1, 2, 5, 6."""
    paths = _trained
    for test in ("'01','02'", "'03','04'") if not paths else ():
        parts = without_validation(test)
        folder = tmp_path_factory.mktemp("teacher")
        paths.append(str(fit(tiny_config(*parts, "train.epochs=1"), folder / "run", progress=False).checkpoint))
    return paths


def test_a_clip_learns_from_the_teachers_that_were_not_trained_on_its_speaker(tiny_config, teachers):
    config = tiny_config(f"train.teachers={teachers}", "train.teacher_temperature=2.0")
    dataset = load_dataset(config.data, progress=False)
    source, clips = make_batch_source(dataset.audio_cache, CPU), np.arange(len(dataset.targets))
    taught = teacher_probabilities(config, dataset, clips, source, CPU)
    first, second = (Predictor.load(path, CPU).recognizer for path in teachers)
    speakers = np.array([utterance.speaker for utterance in dataset.utterances])
    for names, used in ((("01", "02"), [first]), (("03", "04"), [second]), (("05", "06"), [first, second])):
        for i in np.flatnonzero(np.isin(speakers, names))[:3]:
            waveform, lengths = source.batch(np.array([i]))
            logs = torch.stack([teacher.probabilities(waveform, lengths).log() for teacher in used]).mean(0)
            torch.testing.assert_close(taught[[i]], (logs / 2.0).softmax(-1), atol=1e-5, rtol=1e-5)


def test_with_full_weight_only_the_teachers_teach(tiny_config, teachers, tmp_path, monkeypatch):
    parts = without_validation("'01'")
    constant = torch.tensor([0.2, 0.3, 0.5])
    monkeypatch.setattr(
        "serx.training.training_clips.teacher_probabilities", lambda c, d, clips, *_: constant.expand(len(clips), 3)
    )
    config = tiny_config(*parts, "train.teacher_weight=1", "train.epochs=30", "augment={}", "train.ema_decay=0")
    run = fit(config, tmp_path / "run", progress=False)
    recognizer = Predictor.load(run.checkpoint, CPU).recognizer
    dataset = load_dataset(config.data, progress=False)
    source = make_batch_source(dataset.audio_cache, CPU)
    probabilities = recognizer.probabilities(*source.batch(np.arange(20, 60))).mean(0)
    torch.testing.assert_close(probabilities, constant, atol=0.1, rtol=0)


def test_a_teacher_may_not_know_a_test_speaker(tiny_config, teachers, tmp_path):
    parts = without_validation("'03'")
    with pytest.raises(LeakError, match=r"train\.teachers.*Actor|train\.teachers.*03"):
        fit(tiny_config(*parts, f"train.teachers=['{teachers[0]}']"), tmp_path / "run", progress=False)


def test_the_checkpoint_of_a_pupil_names_whom_its_teachers_were_trained_on(tiny_config, teachers, tmp_path):
    parts = without_validation("'01'")
    config = tiny_config(*parts, f"train.teachers=['{teachers[0]}']", "train.epochs=1")
    run = fit(config, tmp_path / "run", progress=False)
    metadata = Predictor.load(run.checkpoint, CPU).metadata
    assert "taught by models trained on 48 clips of 4 speakers" in metadata["protocol"]
    assert [source["role"] for source in metadata["init_from"]] == ["teacher"]


def test_a_teacher_that_decodes_otherwise_or_lacks_a_class_is_refused(tiny_config, teachers, tmp_path):
    for override, message in (("data.trim_db=30.0", "data.trim_db=None"), ("data.label_map={angry: sad}", "not know")):
        parts = without_validation("'01'")
        config = tiny_config(*parts, f"train.teachers=['{teachers[0]}']", override)
        with pytest.raises(ConfigError, match=message):
            fit(config, tmp_path / override.replace(":", ""), progress=False)
