"""Classical models: scikit-learn's own probabilities, from tensors that a checkpoint holds."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.svm import SVC

from serx.models.classical import Classical, ClassicalConfig
from serx.models.registry import build

BINS = 12


def some_vectors(count: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, np.ndarray, list[str]]:
    """Vectors whose classes overlap, spoken in turn by six people who each sound a little different."""
    random = np.random.default_rng(seed)
    targets, people = random.integers(0, classes, count), np.arange(count) % 6
    centers, voices = random.normal(size=(classes, BINS)), random.normal(size=(6, BINS))
    x = centers[targets] + 0.7 * voices[people] + random.normal(size=(count, BINS))
    return torch.from_numpy(x).float(), targets, [f"made/{speaker_id}" for speaker_id in people]


def fitted(classifier: str, classes: int, present: int, c: float = 0.5, **changes) -> tuple[Classical, tuple]:
    data = some_vectors(150, present)
    model = Classical(ClassicalConfig(classifier=classifier, **changes), BINS, classes)
    model.fit(data[0], data[1], c, data[2], balanced=False)
    return model, data


def probabilities(model: Classical, vectors: torch.Tensor) -> np.ndarray:
    return model(vectors[..., None], torch.ones(len(vectors))).softmax(-1).double().numpy()


@pytest.mark.parametrize("classes", [2, 5])
def test_probabilities_of_a_logistic_regression_are_scikit_learns(classes):
    model, (x, targets, _) = fitted("logistic_regression", classes, classes)
    expected = LogisticRegression(C=0.5, max_iter=5000).fit(x.double().numpy(), targets)
    new = some_vectors(40, classes, seed=1)[0]
    np.testing.assert_allclose(probabilities(model, new), expected.predict_proba(new.double().numpy()), atol=1e-5)


@pytest.mark.parametrize("classes", [2, 5])
def test_logits_of_an_svm_are_scikit_learns_decisions_on_one_scale(classes):
    model, (x, targets, _) = fitted("svm", classes, classes)
    new = some_vectors(40, classes, seed=1)[0]
    machines = [SVC(C=0.5, gamma=float(model.kernel.gamma)).fit(x.numpy(), targets == i) for i in range(classes)]
    decisions = np.stack([machine.decision_function(new.double().numpy()) for machine in machines], axis=1)
    logits = model(new[..., None], torch.ones(40)).double().numpy()
    scale = (logits * decisions).sum() / (decisions**2).sum()
    assert scale > 0
    np.testing.assert_allclose(logits, scale * decisions, atol=1e-4)
    assert 1 / float(model.kernel.gamma) == pytest.approx(BINS * float(x.double().var(correction=0)), rel=1e-5)


def test_the_scale_of_an_svm_is_scikit_learns_temperature():
    calibration = pytest.importorskip("sklearn.calibration")
    model, (x, targets, speaker_ids) = fitted("svm", 5, 5)
    from sklearn.model_selection import GroupKFold
    from sklearn.multiclass import OneVsRestClassifier

    one_for_each = OneVsRestClassifier(SVC(C=0.5, gamma=float(model.kernel.gamma)))
    folds = list(GroupKFold(5).split(x, targets, speaker_ids))
    try:
        known = calibration.CalibratedClassifierCV(one_for_each, method="temperature", cv=folds, ensemble=False)
        known.fit(x.double().numpy(), targets)
    except ValueError:
        pytest.skip("this scikit-learn does not scale temperatures")
    new = some_vectors(40, 5, seed=1)[0]
    np.testing.assert_allclose(probabilities(model, new), known.predict_proba(new.double().numpy()), atol=2e-4)


def test_an_svm_is_no_surer_of_new_speakers_than_it_may_be():
    """Calibrated on the very clips it was fitted on, it would be; on speakers left out, it is near the best scale."""
    vectors, truth, speaker_ids = some_vectors(1200, 5)
    old, new = (
        np.flatnonzero([(speaker_id in ("made/0", "made/1")) == held for speaker_id in speaker_ids]) for held in (0, 1)
    )
    model = Classical(ClassicalConfig(classifier="svm"), BINS, 5)
    model.fit(vectors[old], truth[old], 10.0, [speaker_ids[i] for i in old], balanced=False)
    x, targets = vectors[new], truth[new]
    logits = model(x[..., None], torch.ones(len(x))).double()
    losses = {scale: log_loss(targets, (scale * logits).softmax(-1).numpy()) for scale in (0.25, 1.0, 4.0)}
    assert losses[1.0] == min(losses.values())


@pytest.mark.parametrize("classifier", ["logistic_regression", "svm"])
def test_a_class_without_a_training_clip_is_never_heard(classifier):
    model, (x, _, _) = fitted(classifier, 7, 4)
    assert probabilities(model, x)[:, 4:].max() < 1e-9


@pytest.mark.parametrize("classifier", ["logistic_regression", "svm"])
def test_two_clips_of_one_speaker_are_enough(classifier):
    model = Classical(ClassicalConfig(classifier=classifier), BINS, 3)
    x = torch.randn(2, BINS, generator=torch.Generator().manual_seed(0))
    model.fit(x, np.array([0, 2]), 1.0, ["made/1", "made/1"], balanced=True)
    assert probabilities(model, x).argmax(1).tolist() == [0, 2]


@pytest.mark.parametrize(("classifier", "c"), [("logistic_regression", 0.01), ("svm", 0.1)])
def test_balanced_classes_count_the_same_however_rare(classifier, c):
    x, targets, speaker_ids = some_vectors(300, 2)
    kept = np.flatnonzero((targets == 0) | (np.cumsum(targets == 1) <= 12))
    recalls = {}
    for balanced in (False, True):
        model = Classical(ClassicalConfig(classifier=classifier), BINS, 2)
        model.fit(x[kept], targets[kept], c, [speaker_ids[i] for i in kept], balanced)
        recalls[balanced] = (probabilities(model, x).argmax(1)[targets == 1] == 1).mean()
    assert recalls[True] > recalls[False] + 0.2


@pytest.mark.parametrize("classifier", ["logistic_regression", "svm"])
def test_a_sequence_is_heard_by_its_mean_and_never_by_its_padding_or_neighbours(classifier):
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


def test_votes_and_relaxation_are_refused():
    for changes in ({"ensemble_size": 3}, {"relaxed_freq_norm": 0.5}, {"c": ()}, {"c": (0.0,)}):
        with pytest.raises(ValueError, match=next(iter(changes))):
            ClassicalConfig(**changes)


def test_the_registry_builds_it_without_a_parameter_to_train():
    model = build(ClassicalConfig(classifier="svm"), BINS, 4)
    assert not list(model.parameters())
    assert model(torch.zeros(2, BINS, 3), torch.tensor([3, 1])).shape == (2, 4)
