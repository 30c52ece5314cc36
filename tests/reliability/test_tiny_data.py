"""Very little data: training works, or raises one line."""

import shutil

import numpy as np
import pytest
import soundfile

from serx.errors import ConfigError, DataError
from serx.training.run_folder import METRICS
from serx.training.trainer import fit
from tests.conftest import RATE
from tests.reliability.killing import records

MODELS = {
    "cnn1d": "model={kind: cnn1d, stem: 8, widths: [8, 8, 8]}",
    "cnn2d": "model={kind: cnn2d, stem: 8, widths: [8, 8], strides: [[2, 2], [2, 1]], embedding: 8}",
    "mlp": "model={kind: mlp, widths: [8]}",
}


@pytest.fixture
def corpus(tiny_root, tmp_path):
    """A corpus of three speakers with two clips each, one of each emotion."""
    root = tmp_path / "six"
    for actor in ("01", "03", "05"):
        (root / actor).mkdir(parents=True)
        for emotion in ("03", "05"):
            name = f"03-01-{emotion}-01-01-01-{actor}.wav"
            shutil.copy(tiny_root / f"Actor_{actor}" / name, root / actor)
    return root


@pytest.mark.parametrize("model", MODELS)
def test_batches_of_two_clips_and_a_last_batch_of_one_train_and_stay_finite(model, corpus, tiny_config, tmp_path):
    shutil.copy(corpus / "01" / "03-01-03-01-01-01-01.wav", corpus / "01" / "03-01-03-01-01-02-01.wav")  # a third clip
    statistics = ["features.statistics=[mean, std]", "augment.spectrogram=[]"] if model == "mlp" else []
    config = tiny_config(f"data.root={corpus}", "data.test_speakers=[5]", "data.valid_speakers=[3]", MODELS[model],
                         "train.batch_size=2", "train.epochs=2", *statistics)  # fmt: skip
    fit(config, tmp_path / "run", progress=False)
    assert [line["skipped_steps"] for line in records(tmp_path / "run")] == [0, 0]


def test_clips_shorter_than_a_window_train_and_stay_finite(corpus, tiny_config, tmp_path):
    for i, path in enumerate(sorted(corpus.rglob("*.wav"))):
        noise = 0.1 * np.random.default_rng(i).standard_normal(200 + 20 * i)  # 13 ms; an analysis window has 32 ms
        soundfile.write(path, noise, RATE)
    config = tiny_config(f"data.root={corpus}", "data.test_speakers=[5]", "data.valid_speakers=[3]",
                         "data.min_seconds=0.001", "train.epochs=2")  # fmt: skip
    fit(config, tmp_path / "run", progress=False)
    assert [line["skipped_steps"] for line in records(tmp_path / "run")] == [0, 0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.label_map={angry: null}"], "two classes"),
        (["data.valid_speakers=[3, 1]"], "training needs|train"),
        (["data.test_speakers=[9]"], "9"),
    ],
)
def test_one_class_or_an_empty_part_raises_one_line(overrides, message, corpus, tiny_config, tmp_path):
    config = tiny_config(f"data.root={corpus}", "data.test_speakers=[5]", "data.valid_speakers=[3]", *overrides)
    with pytest.raises(DataError, match=message) as caught:
        fit(config, tmp_path / "run", progress=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / METRICS).exists()


def test_a_batch_size_of_one_raises_with_its_key(tiny_config):
    with pytest.raises(ConfigError, match=r"train\.batch_size.*greater than or equal to 2"):
        tiny_config("train.batch_size=1")
