"""Clips of one voice that resemble each other are taken to feel alike."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.mixture import GaussianMixture

from serx.features.stack import FeaturesConfig
from serx.inference.adaptation import (
    CONCENTRATION,
    DOUBT,
    OVERLAP,
    Prototypes,
    capture_embeddings,
    output_layers,
    toward_prototypes,
)
from serx.models.cnn1d import Cnn1dConfig
from serx.models.cnn2d import Cnn2dConfig
from serx.models.mlp import MlpConfig
from serx.models.sequential import SequentialConfig
from serx.models.timm_backbone import TimmConfig
from serx.recognizer import Recognizer
from tests.conftest import RATE, batched, speechlike

LABELS = ("calm", "angry", "sad")


def guesses(classes: list[int], min_confidence: float = 0.7, count: int = 3) -> torch.Tensor:
    other = (1 - min_confidence) / (count - 1)
    return torch.full((len(classes), count), other).scatter(1, torch.tensor(classes)[:, None], min_confidence).log()


def around(directions: list[int], spread: float = 0.05, size: int = 6) -> torch.Tensor:
    random = torch.Generator().manual_seed(3)
    noise = spread * torch.randn(len(directions), size, generator=random)
    return F.normalize(F.one_hot(torch.tensor(directions), size) + noise)


def small(model, **features) -> Recognizer:
    torch.manual_seed(0)
    return Recognizer(FeaturesConfig(n_mels=16, **features), model, LABELS, RATE).eval()


def clips(count: int = 6, extra: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return batched([speechlike(0.4 + 0.05 * i, 130 + 20 * i, i) for i in range(count)], extra=extra)


def test_a_guess_yields_to_its_neighbours():
    """Ten clips in each of three heaps; in each two are guessed wrongly, and their likeness tells."""
    truth = [c for c in range(3) for _ in range(10)]
    guessed = [(c + 1) % 3 if place % 10 < 2 else c for place, c in enumerate(truth)]
    verdict, embedding = guesses(guessed), around(truth)
    drawn = Prototypes(verdict, embedding).draw(verdict, embedding)
    assert drawn.argmax(1).tolist() == truth
    assert verdict.argmax(1).tolist() == guessed


def test_where_no_clip_resembles_another_the_guesses_stand():
    verdict, embedding = guesses([0, 1, 2, 0, 1, 2]), torch.eye(6)
    drawn = Prototypes(verdict, embedding).draw(verdict, embedding)
    assert drawn.argmax(1).tolist() == [0, 1, 2, 0, 1, 2]


def test_one_round_is_the_mean_of_the_clips_by_their_guesses(monkeypatch):
    monkeypatch.setattr("serx.inference.adaptation.ROUNDS", 1)
    verdict, embedding = guesses([0, 0, 1, 2]), around([0, 1, 2, 3])
    sums = verdict.exp().double().numpy().T @ embedding.double().numpy()
    expected = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    np.testing.assert_allclose(Prototypes(verdict, embedding).directions, expected, atol=1e-6)


def test_the_last_round_changes_nothing_any_more():
    truth = [0] * 8 + [1] * 8 + [2] * 8
    verdict, embedding = guesses(truth, min_confidence=0.5), around(truth, spread=0.3)
    made = Prototypes(verdict, embedding)
    weight = 24 / (24 + DOUBT)
    share = (verdict + weight * CONCENTRATION * embedding @ made.directions.T).softmax(1)
    torch.testing.assert_close(made.directions, F.normalize(share.T @ embedding), atol=1e-5, rtol=0)


def test_the_fewer_clips_the_less_they_weigh():
    """Copies of one voice have its prototypes; what they add to a verdict, and take off its sureness, grows."""
    verdict, embedding = guesses([0, 1, 2]), around([0, 1, 2])
    added = []
    for copies in (1, 10, 1000):
        made = Prototypes(verdict.repeat(copies, 1), embedding.repeat(copies, 1))
        weight = 3 * copies / (3 * copies + DOUBT)
        expected = (verdict + weight * CONCENTRATION * embedding @ made.directions.T) / (1 + OVERLAP * weight)
        torch.testing.assert_close(made.draw(verdict, embedding), expected, atol=1e-5, rtol=0)
        added.append(weight)
    assert added == sorted(added) and added[0] < 0.15 and added[-1] > 0.99


def test_heaps_are_found_as_a_mixture_of_gaussians_finds_them():
    """scikit-learn's, begun at the same guesses: on heaps as far apart as these the two must agree."""
    truth = np.repeat([0, 1, 2], 12)
    embedding = around(truth.tolist(), spread=0.15)
    verdict = guesses([int(c) if place % 3 else (int(c) + 1) % 3 for place, c in enumerate(truth)], min_confidence=0.6)
    begun = np.stack([embedding[verdict.argmax(1) == c].mean(0) for c in range(3)])
    oracle = GaussianMixture(3, covariance_type="spherical", means_init=begun, random_state=0).fit(embedding)
    drawn = Prototypes(verdict, embedding).draw(verdict, embedding).argmax(1)
    assert drawn.tolist() == oracle.predict(embedding.numpy()).tolist() == truth.tolist()


def test_the_order_of_the_clips_does_not_matter():
    verdict, embedding = guesses([0, 0, 1, 1, 2, 2, 0]), around([0, 0, 1, 1, 2, 2, 3])
    order = torch.tensor([4, 0, 6, 2, 1, 5, 3])
    shuffled, plain = Prototypes(verdict[order], embedding[order]), Prototypes(verdict, embedding)
    torch.testing.assert_close(shuffled.directions, plain.directions, atol=1e-6, rtol=0)


def test_embeddings_are_what_the_last_layers_are_given():
    recognizer = small(MlpConfig(widths=(8,), ensemble_size=2), statistics=("mean", "std"))
    with capture_embeddings(recognizer) as embeddings, torch.inference_mode():
        recognizer(*clips())
        vectors = recognizer.normalizer(*recognizer.features(*clips()))[..., 0]
        hidden = [member.net[:-1](vectors) for member in recognizer.backbone.members]
        torch.testing.assert_close(embeddings(), F.normalize(torch.cat(hidden, dim=1)))


def test_speeds_are_meant_over():
    recognizer = small(MlpConfig(widths=(8,), tta_speeds=(0.8, 1.2)), statistics=("mean", "std"))
    given: list[torch.Tensor] = []
    output_layers(recognizer)[0].register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    with capture_embeddings(recognizer) as embeddings, torch.inference_mode():
        recognizer(*clips())
        slow, fast = given
        torch.testing.assert_close(embeddings(), F.normalize(slow + fast), atol=1e-6, rtol=0)
    assert not torch.allclose(F.normalize(slow), F.normalize(fast), atol=1e-3)


@pytest.mark.parametrize(
    "model", [Cnn2dConfig(), Cnn1dConfig(), MlpConfig(ensemble_size=2), SequentialConfig(widths=(8,), dense=(8,))]
)
def test_own_models_say_their_last_layer(model):
    features = {"statistics": ("mean", "std")} if isinstance(model, MlpConfig) else {}
    layers = output_layers(small(model, **features))
    assert [layer.out_features for layer in layers] == [len(LABELS)] * model.ensemble_size


def test_within_it_logits_are_drawn_and_afterwards_they_are_not():
    recognizer, batch = small(Cnn2dConfig(relaxed_freq_norm=0.5)), clips()
    with torch.inference_mode():
        before = recognizer(*batch)
        with capture_embeddings(recognizer) as embeddings:
            verdict = recognizer(*batch).log_softmax(1)
            heard = embeddings()
        with toward_prototypes(recognizer, [clips(3), batch]):
            pass
        with toward_prototypes(recognizer, [batch]):
            drawn = recognizer(*batch)
        torch.testing.assert_close(drawn, Prototypes(verdict, heard).draw(verdict, heard), atol=1e-5, rtol=0)
        assert torch.equal(recognizer(*batch), before)
        with pytest.raises(ZeroDivisionError), toward_prototypes(recognizer, [batch]):
            raise ZeroDivisionError
        assert torch.equal(recognizer(*batch), before)


def test_neighbours_and_padding_change_no_clip():
    recognizer = small(Cnn2dConfig(stem=4, widths=(8, 16), strides=((2, 2), (2, 2)), embedding=8))
    waveform, lengths = clips(extra=4000)
    with torch.inference_mode(), toward_prototypes(recognizer, [clips()]):
        together = recognizer(waveform, lengths)
        for row in range(6):
            alone = recognizer(waveform[row : row + 1, : lengths[row]], lengths[row : row + 1])
            torch.testing.assert_close(alone[0], together[row], atol=1e-5, rtol=0)


def test_a_model_of_windows_has_no_single_embedding_and_is_left_as_it_is():
    recognizer = small(TimmConfig(name="resnet10t", frames=96))
    assert output_layers(recognizer) == []
    with torch.inference_mode():
        before = recognizer(*clips())
        with toward_prototypes(recognizer, [clips()]):
            assert torch.equal(recognizer(*clips()), before)
