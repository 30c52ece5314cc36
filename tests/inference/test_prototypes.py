"""Predictions move toward the emotion of the clips that resemble theirs."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.mixture import GaussianMixture

from serx.features.stack import FeaturesConfig
from serx.inference.adaptation import (
    CONCENTRATION,
    HALF_WEIGHT_CLIPS,
    REDUNDANCY,
    Prototypes,
    adjusted_by_prototypes,
    captured_embeddings,
    output_layers,
)
from serx.models.cnn1d import Cnn1dConfig
from serx.models.cnn2d import Cnn2dConfig
from serx.models.mlp import MlpConfig
from serx.models.sequential import SequentialConfig
from serx.models.timm_backbone import TimmConfig
from serx.recognizer import Recognizer
from tests.conftest import RATE, batched, speechlike

LABELS = ("calm", "angry", "sad")


def log_probabilities(classes: list[int], confidence: float = 0.7, count: int = 3) -> torch.Tensor:
    """`(n, C)`: each clip has one class at `confidence`, and the others share the rest."""
    rest = (1 - confidence) / (count - 1)
    return torch.full((len(classes), count), rest).scatter(1, torch.tensor(classes)[:, None], confidence).log()


def clustered(directions: list[int], spread: float = 0.05, size: int = 6) -> torch.Tensor:
    """Embeddings `(n, size)` of unit length, each near one of the axes."""
    random = torch.Generator().manual_seed(3)
    noise = spread * torch.randn(len(directions), size, generator=random)
    return F.normalize(F.one_hot(torch.tensor(directions), size) + noise)


def small_recognizer(model, **features) -> Recognizer:
    torch.manual_seed(0)
    return Recognizer(FeaturesConfig(n_mels=16, **features), model, LABELS, RATE).eval()


def clips(count: int = 6, extra: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return batched([speechlike(0.4 + 0.05 * i, 130 + 20 * i, i) for i in range(count)], extra=extra)


def test_wrong_predictions_within_a_cluster_are_corrected():
    """Three clusters of ten clips, with two wrong predictions in each."""
    truth = [c for c in range(3) for _ in range(10)]
    classes = [(c + 1) % 3 if index % 10 < 2 else c for index, c in enumerate(truth)]
    predicted, embedding = log_probabilities(classes), clustered(truth)
    adjusted = Prototypes(predicted, embedding).adjust(predicted, embedding)
    assert adjusted.argmax(1).tolist() == truth
    assert predicted.argmax(1).tolist() == classes


def test_predictions_of_clips_that_resemble_no_other_keep_their_class():
    predicted, embedding = log_probabilities([0, 1, 2, 0, 1, 2]), torch.eye(6)
    adjusted = Prototypes(predicted, embedding).adjust(predicted, embedding)
    assert adjusted.argmax(1).tolist() == [0, 1, 2, 0, 1, 2]


def test_after_one_round_a_prototype_is_the_mean_weighted_by_the_predictions(monkeypatch):
    monkeypatch.setattr("serx.inference.adaptation.ROUNDS", 1)
    predicted, embedding = log_probabilities([0, 0, 1, 2]), clustered([0, 1, 2, 3])
    sums = predicted.exp().double().numpy().T @ embedding.double().numpy()
    expected = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    np.testing.assert_allclose(Prototypes(predicted, embedding).directions, expected, atol=1e-6)


def test_the_rounds_converge():
    truth = [0] * 8 + [1] * 8 + [2] * 8
    predicted, embedding = log_probabilities(truth, confidence=0.5), clustered(truth, spread=0.3)
    prototypes = Prototypes(predicted, embedding)
    weight = 24 / (24 + HALF_WEIGHT_CLIPS)
    membership = (predicted + weight * CONCENTRATION * embedding @ prototypes.directions.T).softmax(1)
    torch.testing.assert_close(prototypes.directions, F.normalize(membership.T @ embedding), atol=1e-5, rtol=0)


def test_prototypes_of_more_clips_have_more_weight():
    """Repeating the clips keeps the prototypes, so only the weight and the division by it change."""
    predicted, embedding = log_probabilities([0, 1, 2]), clustered([0, 1, 2])
    weights = []
    for copies in (1, 10, 1000):
        prototypes = Prototypes(predicted.repeat(copies, 1), embedding.repeat(copies, 1))
        weight = 3 * copies / (3 * copies + HALF_WEIGHT_CLIPS)
        expected = (predicted + weight * CONCENTRATION * embedding @ prototypes.directions.T) / (
            1 + REDUNDANCY * weight
        )
        torch.testing.assert_close(prototypes.adjust(predicted, embedding), expected, atol=1e-5, rtol=0)
        weights.append(weight)
    assert weights == sorted(weights) and weights[0] < 0.15 and weights[-1] > 0.99


def test_clusters_agree_with_a_gaussian_mixture():
    """scikit-learn's, started from the same predictions; on clusters so far apart the two must agree."""
    truth = np.repeat([0, 1, 2], 12)
    embedding = clustered(truth.tolist(), spread=0.15)
    predicted = log_probabilities(
        [int(c) if index % 3 else (int(c) + 1) % 3 for index, c in enumerate(truth)], confidence=0.6
    )
    start = np.stack([embedding[predicted.argmax(1) == c].mean(0) for c in range(3)])
    mixture = GaussianMixture(3, covariance_type="spherical", means_init=start, random_state=0).fit(embedding)
    adjusted = Prototypes(predicted, embedding).adjust(predicted, embedding).argmax(1)
    assert adjusted.tolist() == mixture.predict(embedding.numpy()).tolist() == truth.tolist()


def test_prototypes_do_not_depend_on_the_order_of_the_clips():
    predicted, embedding = log_probabilities([0, 0, 1, 1, 2, 2, 0]), clustered([0, 0, 1, 1, 2, 2, 3])
    order = torch.tensor([4, 0, 6, 2, 1, 5, 3])
    shuffled, plain = Prototypes(predicted[order], embedding[order]), Prototypes(predicted, embedding)
    torch.testing.assert_close(shuffled.directions, plain.directions, atol=1e-6, rtol=0)


def test_embeddings_are_the_inputs_of_the_output_layers():
    recognizer = small_recognizer(MlpConfig(widths=(8,), ensemble_size=2), statistics=("mean", "std"))
    with captured_embeddings(recognizer) as read_embeddings, torch.inference_mode():
        recognizer(*clips())
        vectors = recognizer.normalizer(*recognizer.features(*clips()))[..., 0]
        hidden = [member.net[:-1](vectors) for member in recognizer.backbone.members]
        torch.testing.assert_close(read_embeddings(), F.normalize(torch.cat(hidden, dim=1)))


def test_embeddings_are_the_mean_over_test_time_speeds():
    recognizer = small_recognizer(MlpConfig(widths=(8,), tta_speeds=(0.8, 1.2)), statistics=("mean", "std"))
    inputs_of_layer: list[torch.Tensor] = []
    output_layers(recognizer)[0].register_forward_pre_hook(lambda _, inputs: inputs_of_layer.append(inputs[0]))
    with captured_embeddings(recognizer) as read_embeddings, torch.inference_mode():
        recognizer(*clips())
        slow, fast = inputs_of_layer
        torch.testing.assert_close(read_embeddings(), F.normalize(slow + fast), atol=1e-6, rtol=0)
    assert not torch.allclose(F.normalize(slow), F.normalize(fast), atol=1e-3)


@pytest.mark.parametrize(
    "model", [Cnn2dConfig(), Cnn1dConfig(), MlpConfig(ensemble_size=2), SequentialConfig(widths=(8,), dense=(8,))]
)
def test_the_output_layer_of_each_network_is_found(model):
    features = {"statistics": ("mean", "std")} if isinstance(model, MlpConfig) else {}
    layers = output_layers(small_recognizer(model, **features))
    assert [layer.out_features for layer in layers] == [len(LABELS)] * model.ensemble_size


def test_logits_are_adjusted_within_the_block_and_not_afterward():
    recognizer, batch = small_recognizer(Cnn2dConfig(relaxed_freq_norm=0.5)), clips()
    with torch.inference_mode():
        before = recognizer(*batch)
        with captured_embeddings(recognizer) as read_embeddings:
            predicted = recognizer(*batch).log_softmax(1)
            embedding = read_embeddings()
        with adjusted_by_prototypes(recognizer, [clips(3), batch]):
            pass
        with adjusted_by_prototypes(recognizer, [batch]):
            adjusted = recognizer(*batch)
        torch.testing.assert_close(
            adjusted, Prototypes(predicted, embedding).adjust(predicted, embedding), atol=1e-5, rtol=0
        )
        assert torch.equal(recognizer(*batch), before)
        with pytest.raises(ZeroDivisionError), adjusted_by_prototypes(recognizer, [batch]):
            raise ZeroDivisionError
        assert torch.equal(recognizer(*batch), before)


def test_adjusted_logits_do_not_depend_on_neighbors_or_padding():
    recognizer = small_recognizer(Cnn2dConfig(stem=4, widths=(8, 16), strides=((2, 2), (2, 2)), embedding=8))
    waveform, lengths = clips(extra=4000)
    with torch.inference_mode(), adjusted_by_prototypes(recognizer, [clips()]):
        together = recognizer(waveform, lengths)
        for row in range(6):
            alone = recognizer(waveform[row : row + 1, : lengths[row]], lengths[row : row + 1])
            torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=0)


def test_a_model_without_one_embedding_per_clip_is_left_unchanged():
    recognizer = small_recognizer(TimmConfig(name="resnet10t", frames=96))
    assert output_layers(recognizer) == []
    with torch.inference_mode():
        before = recognizer(*clips())
        with adjusted_by_prototypes(recognizer, [clips()]):
            assert torch.equal(recognizer(*clips()), before)
