"""The speaker model finds a speaker's voice and the emotions at once, in embeddings whose truth is known."""

import numpy as np
import pytest
import torch
from torch import nn

from serx.errors import CheckpointError
from serx.speaker_model import MAX_PRIOR_CLIPS, MIN_SPEAKERS, SpeakerModel

CLASSES, SIZE = 4, 12
MEANS = torch.cat([4.0 * torch.eye(CLASSES), torch.zeros(CLASSES, SIZE - CLASSES)], 1)
HEAD = nn.Linear(SIZE, CLASSES)
with torch.no_grad():  # the classifier that is right for means of this size and noise of variance 1
    HEAD.weight.copy_(MEANS)
    HEAD.bias.fill_(-(4.0**2) / 2)


def clips_of(speakers: int, emotions: np.ndarray, seed: int, voice: float = 1.5):
    """Embeddings of clips with these `emotions (n,)` by each speaker, targets, and speakers."""
    random = np.random.default_rng(seed)
    truth, who = np.tile(emotions, speakers), np.repeat(np.arange(speakers), len(emotions))
    offsets = voice * random.standard_normal((speakers, SIZE))
    embeddings = MEANS.numpy()[truth] + offsets[who] + random.standard_normal((len(truth), SIZE))
    return torch.from_numpy(embeddings).float(), truth, who


@pytest.fixture(scope="module")
def model() -> SpeakerModel:
    embeddings, truth, who = clips_of(40, np.tile(np.arange(CLASSES), 10), seed=0)
    return SpeakerModel.fit([embeddings], truth, [f"s{name}" for name in who])


def predicted(model: SpeakerModel, embeddings: torch.Tensor, balanced: bool = False) -> np.ndarray:
    with torch.no_grad():
        adjustment = model.infer([HEAD], [embeddings], balanced)
        return (HEAD(embeddings - adjustment.offsets[0]) + adjustment.logits).argmax(1).numpy()


def accuracies(model: SpeakerModel, emotions: np.ndarray, seed: int, balanced: bool = False) -> tuple[float, float]:
    """Accuracy alone and together, over 60 new speakers."""
    embeddings, truth, who = clips_of(60, emotions, seed)
    together = np.concatenate([predicted(model, embeddings[who == name], balanced) for name in range(60)])
    alone = HEAD(embeddings).argmax(1).numpy()
    return tuple(100 * float((labels == truth).mean()) for labels in (alone, together))


def test_means_and_variances_are_those_of_the_emotions_the_noise_and_the_voices(model):
    assert model.means[0].shape == (CLASSES, SIZE)
    torch.testing.assert_close(model.means[0] - model.means[0].mean(0), MEANS - MEANS.mean(0), atol=0.2, rtol=0)
    np.testing.assert_allclose(model.prior_clips[0].median(), 1 / 1.5**2, rtol=0.2)  # noise / voice


def test_the_closed_form_for_known_emotions(model):
    embeddings, truth, _ = clips_of(1, np.arange(8) % CLASSES, seed=3)

    def head(values: torch.Tensor) -> torch.Tensor:  # sure of the right emotions, whatever the offset
        return 1e4 * torch.eye(CLASSES)[truth]

    [offset] = model.infer([head], [embeddings]).offsets
    expected = 8 / (8 + model.prior_clips[0]) * (embeddings - model.means[0][truth]).mean(0)
    torch.testing.assert_close(offset, expected)


@pytest.mark.parametrize(("size", "gain"), [(4, 8.0), (12, 8.0), (40, 8.0)])
def test_more_clips_of_all_emotions_say_more_about_the_speaker(model, size, gain):
    alone, together = accuracies(model, np.arange(size) % CLASSES, seed=size)
    assert together > alone + gain


@pytest.mark.parametrize("size", [3, 5, 10, 20, 50])
def test_clips_of_one_emotion_lose_nothing(model, size):
    results = [accuracies(model, np.full(size, emotion), seed=size + emotion) for emotion in range(CLASSES)]
    alone, together = np.mean(results, axis=0)
    assert together > alone - 1


def test_mostly_one_emotion_gains(model):
    emotions = np.array([0] * 14 + [1, 1, 2, 2, 3, 3])
    results = [accuracies(model, (emotions + shift) % CLASSES, seed=shift) for shift in range(CLASSES)]
    alone, together = np.mean(results, axis=0)
    assert together > alone


def test_balanced_gains_more_where_it_is_true_and_loses_much_where_not(model):
    even, one = np.arange(24) % CLASSES, np.full(24, 1)
    assert accuracies(model, even, seed=1, balanced=True)[1] > accuracies(model, even, seed=1)[1]
    assert accuracies(model, one, seed=1, balanced=True)[1] < 50


def test_balanced_predictions_have_every_emotion_equally_often(model):
    embeddings = clips_of(1, np.arange(24) % CLASSES, seed=5)[0]
    with torch.no_grad():
        adjustment = model.infer([HEAD], [embeddings], balanced=True)
        shares = (HEAD(embeddings - adjustment.offsets[0]).log_softmax(1) + adjustment.logits).softmax(1).mean(0)
    torch.testing.assert_close(shares, torch.full((CLASSES,), 1 / CLASSES), atol=0.01, rtol=0)


def test_the_order_of_clips_changes_nothing(model):
    embeddings = clips_of(1, np.arange(12) % CLASSES, seed=3)[0]
    one, two = (model.infer([HEAD], [e])for e in (embeddings, embeddings[torch.randperm(12)]))  # fmt: skip
    torch.testing.assert_close(one.offsets, two.offsets)


def test_dimensions_in_which_speakers_do_not_differ_keep_their_values():
    random = np.random.default_rng(0)
    truth, who = np.tile(np.arange(2), 200), np.repeat(np.arange(20), 20)
    embeddings = np.stack([truth + 3 * random.standard_normal(20)[who], random.standard_normal(400)], 1)
    model = SpeakerModel.fit([torch.from_numpy(embeddings)], truth, [f"s{name}" for name in who])
    assert model.prior_clips[0][0] < 1
    assert model.prior_clips[0][1] > 20


def test_constant_dimensions_give_parameters_that_a_checkpoint_may_hold():
    truth, who = np.tile(np.arange(2), 40), np.repeat(np.arange(8), 10)
    embeddings = torch.from_numpy(np.stack([np.zeros(80), who.astype(float)], 1))  # one for all, one for each speaker
    model = SpeakerModel.fit([embeddings], truth, [f"s{name}" for name in who])
    assert model.prior_clips[0].tolist() == [MAX_PRIOR_CLIPS, pytest.approx(1e-3)]
    assert SpeakerModel.from_tensors(model.tensors(), [nn.Linear(2, 2)], 2) is not None


def test_results_are_finite_even_of_extreme_embeddings(model):
    for embeddings in (torch.full((5, SIZE), 1e4), torch.zeros(5, SIZE)):
        for balanced in (False, True):
            adjustment = model.infer([HEAD], [embeddings], balanced)
            assert adjustment.offsets[0].isfinite().all() and adjustment.logits.isfinite().all()


def test_too_few_speakers_or_an_emotion_without_clips_give_no_model():
    embeddings, truth, who = clips_of(MIN_SPEAKERS - 1, np.arange(8) % CLASSES, seed=0)
    assert SpeakerModel.fit([embeddings], truth, list(map(str, who))) is None
    embeddings, truth, who = clips_of(8, np.array([0, 2, 3]), seed=0)
    assert SpeakerModel.fit([embeddings], truth, list(map(str, who))) is None


def test_tensors_of_a_checkpoint_are_checked(model):
    tensors = model.tensors()
    assert SpeakerModel.from_tensors({}, [HEAD], CLASSES) is None
    again = SpeakerModel.from_tensors(dict(tensors), [HEAD], CLASSES)
    assert torch.equal(again.means[0], model.means[0])
    means, prior = tensors["0.means"], tensors["0.prior_clips"]
    for changed in (
        {"0.means": means[:, :2]},
        {"0.means": means[:2]},
        {"0.means": means.double()},
        {"0.means": means * torch.nan},
        {"0.prior_clips": prior[:2]},
        {"0.prior_clips": -prior},
        {"0.prior_clips": prior + MAX_PRIOR_CLIPS},
        {"0.gate": means},
        {"1.means": means},
    ):
        with pytest.raises(CheckpointError, match="speaker"):
            SpeakerModel.from_tensors({**tensors, **changed}, [HEAD], CLASSES)
    with pytest.raises(CheckpointError, match="speaker"):
        SpeakerModel.from_tensors({"0.means": means}, [HEAD], CLASSES)
    with pytest.raises(CheckpointError, match="speaker"):
        SpeakerModel.from_tensors(dict(tensors), [HEAD, HEAD], CLASSES)
    with pytest.raises(CheckpointError, match="shape"):
        SpeakerModel.from_tensors(dict(tensors), [nn.Linear(SIZE + 1, CLASSES)], CLASSES)
