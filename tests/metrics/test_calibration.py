"""Temperature scaling: against a general minimiser, what it recovers, and what it never touches."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch
from scipy.optimize import minimize_scalar

from serx import checkpoint
from serx.evaluation.held_out import evaluate_checkpoint
from serx.evaluation.report import format_report, write_report
from serx.metrics import classification as metrics
from serx.metrics.calibration import COLDEST, HOTTEST, fit_temperature, tempered
from serx.training.run_folder import BEST, LAST
from serx.training.trainer import fit
from tests.conftest import RATE, speechlike
from tests.reliability.killing import differences, records


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def drawn(count: int, sharpness: float, seed: int, classes: int = 5):
    """Truths drawn from probabilities, and what a classifier says that is `sharpness` times too sure of its logits."""
    random = np.random.default_rng(seed)
    logits = 2 * random.standard_normal((count, classes))
    targets = np.array([random.choice(classes, p=row) for row in softmax(logits)])
    return targets, softmax(sharpness * logits)


@pytest.mark.parametrize("seed", range(5))
def test_the_temperature_is_the_one_a_general_minimiser_finds(seed):
    targets, probabilities = drawn(150, [0.4, 0.9, 1.7, 3.0, 6.0][seed], seed)
    logits = np.log(probabilities)

    def loss(temperature: float) -> float:
        scaled = logits / temperature
        return float((np.logaddexp.reduce(scaled, 1) - scaled[np.arange(len(targets)), targets]).mean())

    reference = minimize_scalar(loss, bounds=(COLDEST, HOTTEST), method="bounded", options={"xatol": 1e-10})
    found = fit_temperature(targets, probabilities)
    assert loss(found) <= reference.fun + 1e-12
    assert found == pytest.approx(reference.x, abs=1e-6)


def test_a_classifier_that_is_three_times_too_sure_gets_a_temperature_of_three_and_an_honest_confidence():
    targets, probabilities = drawn(20_000, 3.0, 7)
    temperature = fit_temperature(targets, probabilities)
    assert temperature == pytest.approx(3, rel=0.03)
    others, said = drawn(20_000, 3.0, 8)  # other clips
    assert metrics.ece(others, said) > 0.1
    assert metrics.ece(others, tempered(said, temperature)) < 0.01


def test_no_guess_changes_and_the_inverse_undoes_it():
    _, probabilities = drawn(300, 2.0, 3)
    cooler = tempered(probabilities, 2.5)
    assert (cooler.argmax(1) == probabilities.argmax(1)).all()
    np.testing.assert_allclose(tempered(cooler, 1 / 2.5), probabilities, atol=1e-12)


def test_a_part_without_a_mistake_or_without_a_right_guess_gets_the_bounds():
    min_confidence = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert fit_temperature(np.array([0, 1]), min_confidence) == COLDEST
    assert fit_temperature(np.array([1, 0]), min_confidence) == HOTTEST


def test_what_says_nothing_leaves_the_confidence_alone():
    assert fit_temperature(np.array([0]), np.full((1, 2), np.nan)) == 1
    assert fit_temperature(np.zeros(0, int), np.zeros((0, 2))) == 1


def test_certainty_in_single_precision_is_no_error():
    targets, certain = np.array([0, 0, 1]), np.array([[1, 0], [1, 0], [1, 0]], np.float32)
    assert fit_temperature(targets, certain) == HOTTEST
    assert np.isfinite(tempered(certain, 2.0)).all()


@pytest.mark.slow
def test_the_best_checkpoint_carries_the_temperature_of_its_validation_speakers_into_every_probability(
    tiny_config, tmp_path
):
    fit(tiny_config("train.epochs=3"), tmp_path / "run", progress=False)
    told = checkpoint.load(tmp_path / "run" / BEST).metadata
    best = records(tmp_path / "run")[told["progress"]["best_epoch"]]
    assert told["temperature"] == best["temperature"] != 1
    cpu = torch.device("cpu")
    valid = evaluate_checkpoint(tmp_path / "run" / BEST, None, "valid", cpu, progress=False)
    before = tempered(valid.predictions.probabilities, 1 / told["temperature"])
    targets = valid.predictions.targets
    assert fit_temperature(targets, before) == pytest.approx(told["temperature"], rel=1e-4)
    assert metrics.nll(targets, before) == pytest.approx(best["valid"]["loss"], abs=1e-5)
    assert valid.extra["calibration_before"]["ece"] == pytest.approx(best["valid"]["ece"], abs=1e-4)
    assert metrics.nll(targets, valid.predictions.probabilities) < best["valid"]["loss"]
    assert "temperature" not in checkpoint.load(tmp_path / "run" / LAST).metadata


@pytest.mark.slow
def test_other_test_files_change_neither_weights_nor_normaliser_nor_scores_nor_temperature(
    tiny_config, tiny_root, tmp_path
):
    other = shutil.copytree(tiny_root, tmp_path / "other")
    for actor in ("05", "06"):
        for i, path in enumerate(sorted((other / f"Actor_{actor}").iterdir())):
            soundfile.write(path, speechlike(0.9, 90 + 7 * i, 10_000 + 100 * int(actor) + i, level=0.9), RATE)
    runs = {root: tmp_path / f"run{i}" for i, root in enumerate((tiny_root, other))}
    for root, run in runs.items():
        config = tiny_config(f"data.root={root}", "features.normalize=training", "train.class_weights=balanced",
                             "train.epochs=2")  # fmt: skip
        fit(config, run, progress=False)
    digests = [checkpoint.load(run / BEST).metadata["digests"]["test"] for run in runs.values()]
    assert not set(digests[0]) & set(digests[1])
    assert differences(*runs.values()) == []


@pytest.mark.slow
def test_the_report_tells_the_calibration_before_and_after(tiny_config, tmp_path):
    fit(tiny_config("train.epochs=2"), tmp_path / "run", progress=False)
    result = evaluate_checkpoint(tmp_path / "run" / BEST, None, "test", torch.device("cpu"), progress=False)
    report = json.loads(write_report(tmp_path, result.predictions, result.stamp, result.extra).read_text())
    assert report["calibration_before"].keys() == report["calibration"].keys() == {"nll", "brier", "ece"}
    assert f"before its temperature of {report['temperature']:.2f}" in format_report(report)
