"""Classical models: an epoch fits one regularization strength on training speakers; checkpoints hold tensors only."""

import json

import numpy as np
import pytest
import torch

from serx import checkpoint
from serx.checkpoint.tensors import fill
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
def test_each_strength_is_an_epoch_and_the_best_on_validation_is_kept(classifier, classical_config, tmp_path):
    outcome = fit(classical_config(classifier), tmp_path / "run", progress=False)
    records = lines(tmp_path / "run")
    assert [record["c"] for record in records] == [0.0001, 0.1, 10.0]
    best = max(records, key=lambda record: record["valid"]["uar"])
    assert outcome.kept["c"] == best["c"]
    assert outcome.kept["valid"]["uar"] > 0.9  # the tiny corpus's emotion is its pitch
    assert checkpoint.load_run_checkpoint(tmp_path / "run" / BEST).metadata["progress"]["epoch"] == best["epoch"] + 1


@pytest.mark.parametrize("classifier", ["logistic_regression", "svm"])
def test_a_checkpoint_predicts_the_probabilities_that_were_validated(classifier, classical_config, tmp_path):
    config = classical_config(classifier)
    outcome = fit(config, tmp_path / "run", progress=False)
    predictor = Predictor.load(tmp_path / "run" / BEST, CPU)
    dataset = load_dataset(config.data, progress=False)
    valid = np.asarray(split_dataset(dataset, config.data, progress=False).valid)
    assert predictor.recognizer.temperature == outcome.kept["temperature"]
    predictor.recognizer.temperature = 1.0  # the loss was taken before the temperature was known
    probabilities = classify(
        predictor.recognizer,
        make_batch_source(dataset.audio_cache, CPU, "auto"),
        valid,
        dataset.audio_cache.lengths[valid],
    )
    of_truth = probabilities[np.arange(len(valid)), dataset.targets[valid]]
    assert -np.log(of_truth).mean() == pytest.approx(outcome.kept["valid"]["loss"], abs=1e-6)
    predictions = predictor([dataset.utterances[i].path for i in valid[:5]])
    for i, prediction in enumerate(predictions):
        assert list(prediction.probabilities.values()) == pytest.approx(probabilities[i].tolist(), abs=1e-5)


@pytest.mark.parametrize("classifier", ["logistic_regression", "svm"])
def test_resuming_a_finished_run_changes_nothing_and_an_interrupted_run_ends_with_the_same_bits(
    classifier, classical_config, tmp_path, monkeypatch
):
    whole, interrupted = tmp_path / "whole", tmp_path / "interrupted"
    fit(classical_config(classifier), whole, progress=False)
    before = (whole / BEST).read_bytes(), lines(whole)
    fit(classical_config(classifier), whole, resume=True, progress=False)
    assert before == ((whole / BEST).read_bytes(), lines(whole))
    original = ClassicalTraining.run

    def killed(self, *arguments):
        if self.c == 10.0:
            raise KeyboardInterrupt
        original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ClassicalTraining, "run", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(classical_config(classifier), interrupted, progress=False)
    fit(classical_config(classifier), interrupted, resume=True, progress=False)
    ends = [checkpoint.load(folder / LAST) for folder in (whole, interrupted)]
    assert ends[0].metadata["progress"] == ends[1].metadata["progress"]
    for name, tensor in ends[0].tensors.items():
        assert torch.equal(tensor, ends[1].tensors[name]), name


def test_normalizer_and_classifier_depend_on_the_training_speakers_only(classical_config, tmp_path):
    """Swapping validation and test speakers changes no bit."""
    fit(classical_config(), tmp_path / "a", progress=False)
    swapped = ("data.test_speakers=[3, 4]", "data.valid_speakers=[5, 6]")
    fit(classical_config("logistic_regression", *swapped), tmp_path / "b", progress=False)
    first, second = (checkpoint.load(tmp_path / name / LAST).group("model") for name in "ab")
    assert {"normalizer.mean", "backbone.members.0.weight"} <= first.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), name


def test_support_vectors_of_a_wrong_shape_are_refused(classical_config, tmp_path):
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
def test_settings_that_classical_models_do_not_support_are_refused_with_their_name(override, classical_config):
    with pytest.raises(ConfigError, match=override.split("=")[0]):
        classical_config("svm", override)
