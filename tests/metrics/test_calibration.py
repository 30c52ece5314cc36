"""Calibration scores agree with plain loops; temperature scaling agrees with a general minimizer."""

import json
import math
import shutil

import numpy as np
import pytest
import soundfile
from scipy.optimize import minimize_scalar
from sklearn import metrics as sk

from serx import checkpoint, metrics
from serx.errors import DataError
from serx.evaluation import evaluate
from serx.metrics.calibration import MAX_TEMPERATURE, MIN_TEMPERATURE, apply_temperature, fit_temperature
from serx.training.run_folder import BEST, LAST
from serx.training.trainer import fit
from tests.conftest import RATE, speechlike
from tests.reliability.killing import differences, records


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def overconfident(count: int, sharpness: float, seed: int, classes: int = 5):
    """Targets drawn from probabilities, and those of a classifier whose logits are `sharpness` times too large."""
    random = np.random.default_rng(seed)
    logits = 2 * random.standard_normal((count, classes))
    targets = np.array([random.choice(classes, p=row) for row in softmax(logits)])
    return targets, softmax(sharpness * logits)


def test_calibration_scores_agree_with_plain_loops_and_scikit_learn():
    generator = np.random.default_rng(2)
    targets, probabilities = generator.integers(0, 4, 300), softmax(2 * generator.standard_normal((300, 4)))
    assert metrics.nll(targets, probabilities) == pytest.approx(sk.log_loss(targets, probabilities), abs=1e-12)

    brier = sum((p[c] - (c == t)) ** 2 for p, t in zip(probabilities, targets, strict=True) for c in range(4)) / 300
    assert metrics.brier(targets, probabilities) == pytest.approx(brier, abs=1e-12)

    ece = 0.0
    for index in range(15):
        inside = [k for k, p in enumerate(probabilities) if index / 15 < max(p) <= (index + 1) / 15]
        if inside:
            correct = np.mean([probabilities[k].argmax() == targets[k] for k in inside])
            ece += len(inside) / 300 * abs(correct - np.mean([max(probabilities[k]) for k in inside]))
    assert metrics.ece(targets, probabilities) == pytest.approx(ece, abs=1e-12)


def test_calibration_scores_worked_out_by_hand():
    # Two clips at confidence 0.8, one of them correct: the one filled bin is off by 0.3.
    targets, probabilities = [0, 1], [[0.8, 0.2], [0.8, 0.2]]
    assert metrics.ece(targets, probabilities) == pytest.approx(0.3)
    assert metrics.brier(targets, probabilities) == pytest.approx((2 * 0.2**2 + 2 * 0.8**2) / 2)
    assert metrics.nll(targets, probabilities) == pytest.approx(-(math.log(0.8) + math.log(0.2)) / 2)


def test_targets_may_be_names_of_labels():
    probabilities, labels = [[0.8, 0.2], [0.3, 0.7]], ["happy", "sad"]
    named = metrics.calibration(["sad", "happy"], probabilities, labels=labels)
    assert named == metrics.calibration([1, 0], probabilities)
    assert fit_temperature(["sad", "happy"], probabilities, labels) == fit_temperature([1, 0], probabilities)


def test_a_confidence_on_the_edge_falls_into_the_lower_bin():
    probabilities = np.array([[0.75, 0.25], [0.5, 0.5], [1.0, 0.0]])
    counts = metrics.calibration_counts(np.array([0, 1, 0]), probabilities, bins=4)
    assert counts.tolist() == [[0, 0, 0], [1, 0.5, 0], [1, 0.75, 1], [1, 1, 1]]


def test_a_certain_mistake_costs_much_but_not_infinity():
    certain = np.array([[1.0, 0.0]], np.float32)
    assert 30 < metrics.nll([1], certain) < 40
    assert metrics.brier([1], certain) == 2
    assert metrics.ece([1], certain) == 1
    assert metrics.ece([0], certain) == metrics.brier([0], certain) == metrics.nll([0], certain) == 0


def test_selective_prediction_counts_as_plain_loops_do():
    random = np.random.default_rng(3)
    probabilities = random.dirichlet([0.5] * 4, 300)
    targets = random.integers(0, 4, 300)
    for row in metrics.selective(targets, probabilities, [0.0, 0.5, 0.8, 1.1]):
        kept = [(p, t) for p, t in zip(probabilities, targets, strict=True) if p.max() >= row["confidence"]]
        assert row["coverage"] == pytest.approx(len(kept) / 300)
        if kept:
            assert row["accuracy"] == pytest.approx(sum(p.argmax() == t for p, t in kept) / len(kept))
        else:
            assert np.isnan(row["accuracy"])
    everything = metrics.selective(targets, probabilities, [0.0])[0]
    assert everything == {"confidence": 0.0, "coverage": 1.0, "accuracy": (probabilities.argmax(1) == targets).mean()}


@pytest.mark.parametrize(
    ("targets", "probabilities", "message"),
    [
        ([], np.zeros((0, 2)), "at least one"),
        ([0], [[np.nan, 0.5]], "1 of 1 rows are not probabilities, such as row 0"),
        ([0, 1], [[0.5, 0.5], [np.inf, 0.0]], "1 of 2 rows are not probabilities, such as row 1"),
        ([0], [[2.0, -1.0]], "not probabilities"),
        ([0], [[3.0, 4.0]], "not probabilities"),
        ([0, 1], [[0.5, 0.5]], "one row of probabilities for each target"),
        ([0], [0.5, 0.5], "one row of probabilities for each target"),
        ([-1], [[0.5, 0.5]], "targets range from -1"),
        ([2], [[0.5, 0.5]], "targets range from 2"),
        ([0.5], [[0.5, 0.5]], "no class index"),
    ],
)
def test_what_is_no_probability_or_no_target_is_refused(targets, probabilities, message):
    for name in ("nll", "brier", "ece", "selective", "calibration"):
        with pytest.raises(DataError, match=message):
            getattr(metrics, name)(targets, probabilities)


def test_a_confidence_equal_to_the_threshold_is_kept():
    assert metrics.selective([0], [[0.75, 0.25]], [0.75])[0]["coverage"] == 1


@pytest.mark.parametrize("seed", range(5))
def test_the_temperature_is_the_one_that_a_general_minimizer_finds(seed):
    targets, probabilities = overconfident(150, [0.4, 0.9, 1.7, 3.0, 6.0][seed], seed)
    logits = np.log(probabilities)

    def loss(temperature: float) -> float:
        scaled = logits / temperature
        return float((np.logaddexp.reduce(scaled, 1) - scaled[np.arange(len(targets)), targets]).mean())

    bounds = (MIN_TEMPERATURE, MAX_TEMPERATURE)
    reference = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-10})
    temperature = fit_temperature(targets, probabilities)
    assert loss(temperature) <= reference.fun + 1e-12
    assert temperature == pytest.approx(reference.x, abs=1e-6)


def test_logits_three_times_too_large_get_a_temperature_of_three_and_a_calibrated_confidence():
    targets, probabilities = overconfident(20_000, 3.0, 7)
    temperature = fit_temperature(targets, probabilities)
    assert temperature == pytest.approx(3, rel=0.03)
    new_targets, new_probabilities = overconfident(20_000, 3.0, 8)  # other clips
    assert metrics.ece(new_targets, new_probabilities) > 0.1
    assert metrics.ece(new_targets, apply_temperature(new_probabilities, temperature)) < 0.01


def test_a_temperature_changes_no_prediction_and_its_inverse_undoes_it():
    _, probabilities = overconfident(300, 2.0, 3)
    scaled = apply_temperature(probabilities, 2.5)
    assert (scaled.argmax(1) == probabilities.argmax(1)).all()
    np.testing.assert_allclose(apply_temperature(scaled, 1 / 2.5), probabilities, atol=1e-12)


def test_clips_that_are_all_correct_or_all_wrong_give_the_temperature_at_its_bound():
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8]])
    assert fit_temperature([0, 1], probabilities) == MIN_TEMPERATURE
    assert fit_temperature([1, 0], probabilities) == MAX_TEMPERATURE


def test_no_clips_or_nan_probabilities_give_a_temperature_of_one():
    assert fit_temperature([0], np.full((1, 2), np.nan)) == 1
    assert fit_temperature(np.zeros(0, int), np.zeros((0, 2))) == 1


def test_probabilities_of_exactly_one_in_single_precision_are_no_error():
    targets, certain = [0, 0, 1], np.array([[1, 0], [1, 0], [1, 0]], np.float32)
    assert fit_temperature(targets, certain) == MAX_TEMPERATURE
    assert np.isfinite(apply_temperature(certain, 2.0)).all()


@pytest.mark.slow
def test_the_best_checkpoint_applies_the_temperature_of_its_validation_speakers_to_every_probability(
    tiny_config, tmp_path
):
    fit(tiny_config("train.epochs=3"), tmp_path / "run", progress=False)
    metadata = checkpoint.load(tmp_path / "run" / BEST).metadata
    best = records(tmp_path / "run")[metadata["progress"]["best_epoch"]]
    assert metadata["temperature"] == best["temperature"] != 1
    valid = evaluate(tmp_path / "run" / BEST, part="valid", device="cpu", progress=False)
    before = apply_temperature(valid.predictions.probabilities, 1 / metadata["temperature"])
    targets = valid.predictions.targets
    assert fit_temperature(targets, before) == pytest.approx(metadata["temperature"], rel=1e-4)
    assert metrics.nll(targets, before) == pytest.approx(best["valid"]["loss"], abs=1e-5)
    assert valid.details["calibration_before"]["ece"] == pytest.approx(best["valid"]["ece"], abs=1e-4)
    assert metrics.nll(targets, valid.predictions.probabilities) < best["valid"]["loss"]
    assert "temperature" not in checkpoint.load(tmp_path / "run" / LAST).metadata


@pytest.mark.slow
def test_other_test_files_change_neither_weights_nor_normalizer_nor_scores_nor_temperature(
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
def test_the_report_has_the_calibration_before_and_after_the_temperature(trained, tmp_path):
    evaluation = evaluate(trained("train.epochs=1"), device="cpu", progress=False)
    written = json.loads(evaluation.write(tmp_path).read_text())
    assert written["calibration_before"].keys() == written["calibration"].keys() == {"nll", "brier", "ece"}
    assert f"before temperature scaling (T = {written['temperature']:.2f})" in evaluation.report()
