"""The speaker model finds a speaker's voice and the emotions at once, on predictions whose truth is known."""

import numpy as np
import pytest
import torch

from serx.errors import CheckpointError
from serx.speaker_model import MIN_SPEAKERS, SpeakerModel, centered

CLASSES = 4
MEANS = 2.5 * np.eye(CLASSES)


def predictions(speakers: int, emotions: np.ndarray, seed: int, voice: float = 2.0):
    """Log-probabilities of clips with these `emotions (n,)` by each speaker, targets, and speakers."""
    random = np.random.default_rng(seed)
    truth = np.tile(emotions, speakers)
    who = np.repeat(np.arange(speakers), len(emotions))
    logits = MEANS[truth] + voice * random.standard_normal((speakers, CLASSES))[who]
    logits = logits + random.standard_normal(logits.shape)
    return torch.from_numpy(logits).log_softmax(1), truth, who


@pytest.fixture(scope="module")
def model() -> SpeakerModel:
    log_probabilities, truth, who = predictions(30, np.tile(np.arange(CLASSES), 10), seed=0)
    return SpeakerModel.fit(log_probabilities, truth, [f"s{name}" for name in who])


def accuracies(model: SpeakerModel, emotions: np.ndarray, seed: int) -> tuple[float, float]:
    """Accuracy alone and together, over 60 new speakers."""
    log_probabilities, truth, who = predictions(60, emotions, seed)
    together = torch.cat([model.infer(log_probabilities[who == name]) for name in range(60)])
    return tuple(100 * float((p.argmax(1).numpy() == truth).mean()) for p in (log_probabilities, together))


def test_the_covariances_are_those_of_the_voices_and_of_the_noise(model):
    center = np.eye(CLASSES) - 1 / CLASSES
    np.testing.assert_allclose(model.within, center + 0.05 * 0.75 * np.eye(CLASSES), atol=0.15)
    np.testing.assert_allclose(model.between.diagonal(), 4 * 0.75, rtol=0.5)
    np.testing.assert_allclose(model.mean - model.mean.mean(0), MEANS @ center - (MEANS @ center).mean(0), atol=0.3)


@pytest.mark.parametrize(("size", "gain"), [(4, 4.0), (12, 12.0), (40, 15.0)])
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


def test_a_single_clip_keeps_its_prediction(model):
    clip = torch.randn(1, CLASSES).log_softmax(1)
    torch.testing.assert_close(model.infer(clip), clip)


def test_the_order_of_clips_changes_nothing(model):
    clips = predictions(1, np.arange(12) % CLASSES, seed=3)[0]
    order = torch.randperm(12)
    torch.testing.assert_close(model.infer(clips[order]), model.infer(clips)[order], atol=1e-4, rtol=1e-4)


def test_other_clips_of_the_speaker_are_adjusted_by_the_same_voice(model):
    clips = predictions(1, np.arange(24) % CLASSES, seed=4)[0]
    adjust = model.speaker(clips[:20])
    torch.testing.assert_close(adjust(clips[:20]), model.infer(clips[:20]))
    torch.testing.assert_close(adjust(clips[20:])[[1]], adjust(clips[[21]]))


def test_a_constant_added_to_the_logits_changes_nothing(model):
    logits = torch.randn(6, CLASSES)
    torch.testing.assert_close(centered(logits + 7), centered(logits))
    torch.testing.assert_close(model.infer(logits + 7), model.infer(logits))


def test_results_are_log_probabilities_even_of_extreme_predictions(model):
    sure = torch.full((5, CLASSES), -1e4)
    sure[:, 0] = 0.0
    for clips in (sure, torch.zeros(5, CLASSES)):
        result = model.infer(clips)
        assert result.isfinite().all()
        torch.testing.assert_close(result.exp().sum(1), torch.ones(5))


def test_too_few_speakers_or_a_class_without_clips_give_no_model():
    few = predictions(MIN_SPEAKERS - 1, np.arange(8) % CLASSES, seed=0)
    assert SpeakerModel.fit(few[0], few[1], list(map(str, few[2]))) is None
    gap = predictions(8, np.arange(8) % (CLASSES - 1), seed=0)
    assert SpeakerModel.fit(gap[0], gap[1], list(map(str, gap[2]))) is None


def test_the_same_clips_give_the_same_model():
    log_probabilities, truth, who = predictions(6, np.arange(12) % CLASSES, seed=0)
    one, two = (SpeakerModel.fit(log_probabilities, truth, list(map(str, who)), seed=5).tensors() for _ in range(2))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def test_tensors_of_a_checkpoint_are_checked(model):
    tensors = model.tensors()
    assert SpeakerModel.from_tensors({}) is None
    assert torch.equal(SpeakerModel.from_tensors(dict(tensors)).gate, model.gate)
    for name, value in (
        ("within", -tensors["within"]),
        ("between", tensors["between"] + torch.arange(CLASSES)),
        ("mean", tensors["mean"][:, :2]),
        ("gate_scale", 0 * tensors["gate_scale"]),
        ("gate", tensors["gate"].double()),
    ):
        with pytest.raises(CheckpointError, match=f"speaker.{name}"):
            SpeakerModel.from_tensors({**tensors, name: value})
    with pytest.raises(CheckpointError, match="speaker"):
        SpeakerModel.from_tensors({name: tensor for name, tensor in tensors.items() if name != "gate"})
