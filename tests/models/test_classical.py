"""Classical models against scikit-learn, calibration on new speakers, and classes without clips."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.svm import SVC

from serx.models.backbone import build_model
from serx.models.classical import Classical, ClassicalConfig

BINS = 12


def make_vectors(count: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, np.ndarray, list[str]]:
    """Vectors of overlapping classes by six speakers, each with an offset."""
    rng = np.random.default_rng(seed)
    targets, speakers = rng.integers(0, classes, count), np.arange(count) % 6
    centers, offsets = rng.normal(size=(classes, BINS)), rng.normal(size=(6, BINS))
    x = centers[targets] + 0.7 * offsets[speakers] + rng.normal(size=(count, BINS))
    return torch.from_numpy(x).float(), targets, [f"made/{speaker}" for speaker in speakers]


def fitted(classifier: str, classes: int, present: int, c: float = 0.5, **changes) -> tuple[Classical, tuple]:
    data = make_vectors(150, present)
    model = Classical(ClassicalConfig(classifier=classifier, **changes), BINS, classes)
    model.fit(data[0], data[1], c, data[2], balanced=False)
    return model, data


def probabilities(model: Classical, vectors: torch.Tensor) -> np.ndarray:
    return model(vectors[..., None], torch.ones(len(vectors))).softmax(-1).double().numpy()


@pytest.mark.parametrize("classes", [2, 5])
def test_probabilities_of_a_logistic_regression_equal_scikit_learns(classes):
    model, (x, targets, _) = fitted("logistic_regression", classes, classes)
    expected = LogisticRegression(C=0.5, max_iter=5000).fit(x.double().numpy(), targets)
    new = make_vectors(40, classes, seed=1)[0]
    np.testing.assert_allclose(probabilities(model, new), expected.predict_proba(new.double().numpy()), atol=1e-5)


@pytest.mark.parametrize("classes", [2, 5])
def test_logits_of_an_svm_are_scikit_learns_decisions_times_one_scale(classes):
    model, (x, targets, _) = fitted("svm", classes, classes)
    new = make_vectors(40, classes, seed=1)[0]
    machines = [SVC(C=0.5, gamma=float(model.kernel.gamma)).fit(x.numpy(), targets == i) for i in range(classes)]
    decisions = np.stack([machine.decision_function(new.double().numpy()) for machine in machines], axis=1)
    logits = model(new[..., None], torch.ones(40)).double().numpy()
    scale = (logits * decisions).sum() / (decisions**2).sum()
    assert scale > 0
    np.testing.assert_allclose(logits, scale * decisions, atol=1e-4)
    assert 1 / float(model.kernel.gamma) == pytest.approx(BINS * float(x.double().var(correction=0)), rel=1e-5)


def test_the_scale_of_an_svm_equals_scikit_learns_temperature():
    calibration = pytest.importorskip("sklearn.calibration")
    model, (x, targets, speaker_ids) = fitted("svm", 5, 5)
    from sklearn.model_selection import GroupKFold
    from sklearn.multiclass import OneVsRestClassifier

    one_versus_rest = OneVsRestClassifier(SVC(C=0.5, gamma=float(model.kernel.gamma)))
    folds = list(GroupKFold(5).split(x, targets, speaker_ids))
    try:
        reference = calibration.CalibratedClassifierCV(one_versus_rest, method="temperature", cv=folds, ensemble=False)
        reference.fit(x.double().numpy(), targets)
    except ValueError:
        pytest.skip("this scikit-learn has no temperature scaling")
    new = make_vectors(40, 5, seed=1)[0]
    np.testing.assert_allclose(probabilities(model, new), reference.predict_proba(new.double().numpy()), atol=2e-4)


def test_an_svm_is_not_overconfident_on_new_speakers():
    """Calibrated on the clips of the fit it would be; calibrated on speakers left out, its scale is near the best."""
    vectors, truth, speaker_ids = make_vectors(1200, 5)
    old, new = (
        np.flatnonzero([(speaker_id in ("made/0", "made/1")) == is_new for speaker_id in speaker_ids])
        for is_new in (False, True)
    )
    model = Classical(ClassicalConfig(classifier="svm"), BINS, 5)
    model.fit(vectors[old], truth[old], 10.0, [speaker_ids[i] for i in old], balanced=False)
    x, targets = vectors[new], truth[new]
    logits = model(x[..., None], torch.ones(len(x))).double()
    losses = {scale: log_loss(targets, (scale * logits).softmax(-1).numpy()) for scale in (0.25, 1.0, 4.0)}
    assert losses[1.0] == min(losses.values())


@pytest.mark.parametrize("classifier", ["logistic_regression", "svm"])
def test_a_class_without_a_training_clip_is_never_predicted(classifier):
    model, (x, _, _) = fitted(classifier, 7, 4)
    assert probabilities(model, x)[:, 4:].max() < 1e-9


@pytest.mark.parametrize("classifier", ["logistic_regression", "svm"])
def test_a_fit_needs_two_clips_of_one_speaker(classifier):
    model = Classical(ClassicalConfig(classifier=classifier), BINS, 3)
    x = torch.randn(2, BINS, generator=torch.Generator().manual_seed(0))
    model.fit(x, np.array([0, 2]), 1.0, ["made/1", "made/1"], balanced=True)
    assert probabilities(model, x).argmax(1).tolist() == [0, 2]


@pytest.mark.parametrize(("classifier", "c"), [("logistic_regression", 0.01), ("svm", 0.1)])
def test_balanced_weights_raise_the_recall_of_a_rare_class(classifier, c):
    x, targets, speaker_ids = make_vectors(300, 2)
    kept = np.flatnonzero((targets == 0) | (np.cumsum(targets == 1) <= 12))
    recalls = {}
    for balanced in (False, True):
        model = Classical(ClassicalConfig(classifier=classifier), BINS, 2)
        model.fit(x[kept], targets[kept], c, [speaker_ids[i] for i in kept], balanced)
        recalls[balanced] = (probabilities(model, x).argmax(1)[targets == 1] == 1).mean()
    assert recalls[True] > recalls[False] + 0.2


@pytest.mark.parametrize("classifier", ["logistic_regression", "svm"])
def test_a_sequence_is_classified_by_its_mean_without_its_padding_or_neighbors(classifier):
    model, _ = fitted(classifier, 3, 3)
    frames = torch.tensor([9, 4, 1])
    features = torch.randn(3, BINS, 12, generator=torch.Generator().manual_seed(3))
    features = features * (torch.arange(12) < frames[:, None])[:, None]
    together = model(features, frames)
    for i, count in enumerate(frames.tolist()):
        alone = model(features[i : i + 1, :, :count], frames[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=1e-5, atol=1e-5)
        mean = features[i : i + 1, :, :count].mean(-1, keepdim=True)
        torch.testing.assert_close(model(mean, torch.ones(1)), alone, rtol=1e-5, atol=1e-5)


def test_ensembles_relaxed_norms_and_empty_or_zero_strengths_are_refused():
    for changes in ({"ensemble_size": 3}, {"relaxed_freq_norm": 0.5}, {"c": ()}, {"c": (0.0,)}):
        with pytest.raises(ValueError, match=next(iter(changes))):
            ClassicalConfig(**changes)


def test_a_classical_model_has_no_trainable_parameter():
    model = build_model(ClassicalConfig(classifier="svm"), BINS, 4)
    assert not list(model.parameters())
    assert model(torch.zeros(2, BINS, 3), torch.tensor([3, 1])).shape == (2, 4)
