"""Classical models: an epoch is a regularization strength, only training speakers count, checkpoints hold tensors."""

import json

import numpy as np
import pytest
import torch

from serx import checkpoint
from serx.checkpoint import fill
from serx.data.batches import make_batch_source
from serx.data.dataset import load_dataset, split_dataset
from serx.errors import CheckpointError, ConfigError
from serx.inference.classify import classify
from serx.inference.predictor import Predictor
from serx.training.classical import ClassicalTraining
from serx.training.run_folder import BEST, LAST, METRICS
from serx.training.trainer import fit

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")


@pytest.fixture
def classical_config(tiny_config):
    def make(classifier: str = "logistic_regression", *more: str):
        return tiny_config(
            "augment={}",
            "train.ema_decay=0",
            "train.epochs=30",
            "features={stack: [mfcc, pitch, rms], n_fft: 512, statistics: [mean, std]}",
            f"model={{kind: classical, classifier: {classifier}, c: [0.0001, 0.1, 10.0]}}",
            *more,
        )

    return make


def lines(folder) -> list[dict]:
    return [json.loads(text) for text in (folder / METRICS).read_text().splitlines()]


@pytest.mark.parametrize("classifier", ["logistic_regression", "svm"])
def test_each_candidate_is_a_line_and_the_best_on_validation_is_kept(classifier, classical_config, tmp_path):
    outcome = fit(classical_config(classifier), tmp_path / "run", progress=False)
    records = lines(tmp_path / "run")
    assert [record["c"] for record in records] == [0.0001, 0.1, 10.0]
    best = max(records, key=lambda record: record["valid"]["uar"])
    assert outcome.best["c"] == best["c"]
    assert outcome.best["valid"]["uar"] > 0.9  # the tiny corpus's emotion is its pitch
    assert checkpoint.load_run_checkpoint(tmp_path / "run" / BEST).metadata["progress"]["epoch"] == best["epoch"] + 1


@pytest.mark.parametrize("classifier", ["logistic_regression", "svm"])
def test_a_checkpoint_predicts_what_was_validated_and_holds_tensors_only(classifier, classical_config, tmp_path):
    config = classical_config(classifier)
    outcome = fit(config, tmp_path / "run", progress=False)
    predictor = Predictor.load(tmp_path / "run" / BEST, CPU)
    dataset = load_dataset(config.data, progress=False)
    valid = np.asarray(split_dataset(dataset, config.data, progress=False).valid)
    assert predictor.recognizer.temperature == outcome.best["temperature"]
    predictor.recognizer.temperature = 1.0  # the loss was taken before the temperature was known
    heard = classify(
        predictor.recognizer,
        make_batch_source(dataset.audio_cache, CPU, "auto"),
        valid,
        dataset.audio_cache.lengths[valid],
    )
    chosen = heard[np.arange(len(valid)), dataset.targets[valid]]
    assert -np.log(chosen).mean() == pytest.approx(outcome.best["valid"]["loss"], abs=1e-6)
    files = predictor([dataset.utterances[i].path for i in valid[:5]])
    for i, prediction in enumerate(files):
        assert list(prediction.probabilities.values()) == pytest.approx(heard[i].tolist(), abs=1e-5)


@pytest.mark.parametrize("classifier", ["logistic_regression", "svm"])
def test_a_finished_run_resumed_changes_nothing_and_one_cut_short_ends_the_same(
    classifier, classical_config, tmp_path, monkeypatch
):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    fit(classical_config(classifier), whole, progress=False)
    before = (whole / BEST).read_bytes(), lines(whole)
    fit(classical_config(classifier), whole, resume=True, progress=False)
    assert before == ((whole / BEST).read_bytes(), lines(whole))
    fitted = ClassicalTraining.run

    def killed(self, *arguments):
        if self.c == 10.0:
            raise KeyboardInterrupt
        fitted(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ClassicalTraining, "run", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(classical_config(classifier), cut, progress=False)
    fit(classical_config(classifier), cut, resume=True, progress=False)
    ends = [checkpoint.load(folder / LAST) for folder in (whole, cut)]
    assert ends[0].metadata["progress"] == ends[1].metadata["progress"]
    for name, tensor in ends[0].tensors.items():
        assert torch.equal(tensor, ends[1].tensors[name]), name


def test_normaliser_and_fit_know_the_training_speakers_alone(classical_config, tmp_path):
    """Other validation and test speakers, the same training speakers: the same bits."""
    fit(classical_config(), tmp_path / "a", progress=False)
    swapped = ("data.test_speakers=[3, 4]", "data.valid_speakers=[5, 6]")
    fit(classical_config("logistic_regression", *swapped), tmp_path / "b", progress=False)
    one, two = (checkpoint.load(tmp_path / name / LAST).group("model") for name in "ab")
    assert {"normalizer.mean", "backbone.members.0.weight"} <= one.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


def test_support_vectors_of_a_wrong_shape_are_refused_by_name(classical_config, tmp_path):
    fit(classical_config("svm"), tmp_path / "run", progress=False)
    predictor = Predictor.load(tmp_path / "run" / BEST, CPU)
    good = checkpoint.load_run_checkpoint(tmp_path / "run" / BEST).group("model")
    support = good["backbone.members.0.kernel.support"]
    assert 0 < len(support) <= 24
    for bad in (support[0], support[:, :-1], support.double(), support[:-1]):
        with pytest.raises(CheckpointError, match="support|weight"):
            fill(predictor.recognizer, {**good, "backbone.members.0.kernel.support": bad}, "model")
    fill(predictor.recognizer, good, "model")


@pytest.mark.parametrize(
    "override",
    ["augment.mixup=0.3", "train.ema_decay=0.9", "augment.waveform=[{kind: gain}]", "train.sampling=class_balanced"],
)
def test_what_a_fit_cannot_do_is_refused_by_name(override, classical_config):
    with pytest.raises(ConfigError, match=override.split("=")[0]):
        classical_config("svm", override)
