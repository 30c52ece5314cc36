"""The speaker model finds a speaker's voice and the emotions at once, in logits whose truth is known."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.mixture import GaussianMixture
from torch import Tensor

from serx.errors import CheckpointError
from serx.speaker_model import (
    CHANCE,
    CONCENTRATION,
    HALF_WEIGHT_CLIPS,
    MAX_PRIOR_CLIPS,
    MIN_PRIOR_CLIPS,
    MIN_SPEAKERS,
    REDUNDANCY,
    TRUST,
    SpeakerModel,
)

CLASSES, VOICE, NEW_SPEAKERS = 4, 2.0, 60
MEANS = 3.0 * (torch.eye(CLASSES) - 1 / CLASSES)


def clips_of(
    speakers: int, emotions: np.ndarray, seed: int, voice: float = VOICE
) -> tuple[Tensor, np.ndarray, list[str]]:
    """Logits of clips with these `emotions (n,)` by each speaker, targets, and speakers; the noise has variance 1."""
    random = np.random.default_rng(seed)
    truth, who = np.tile(emotions, speakers), np.repeat(np.arange(speakers), len(emotions))
    offsets = voice * random.standard_normal((speakers, CLASSES))
    logits = MEANS.numpy()[truth] + offsets[who] + random.standard_normal((len(truth), CLASSES))
    return torch.from_numpy(logits).float(), truth, [f"s{name:02d}" for name in who]


@pytest.fixture(scope="module")
def model() -> SpeakerModel:
    fitted = SpeakerModel.fit(*clips_of(40, np.tile(np.arange(CLASSES), 10), seed=0))
    assert fitted is not None
    return fitted


def accuracies(model: SpeakerModel, emotions: np.ndarray, seed: int) -> tuple[float, float]:
    """In %: each clip alone, and all clips of a speaker together, over new speakers."""
    logits, truth, who = clips_of(NEW_SPEAKERS, emotions, 100 + seed)
    adjusted = [model.infer(own).apply(own) for own in logits.split(len(emotions))]
    right = [(x.argmax(1).numpy() == truth).mean() for x in (logits, torch.cat(adjusted))]
    assert len(set(who)) == NEW_SPEAKERS
    return 100 * float(right[0]), 100 * float(right[1])


def certain(emotions: list[int], classes: int = CLASSES, sure: float = 1000.0) -> tuple[SpeakerModel, Tensor]:
    """A model, and logits of clips with these emotions that are sure of them, whatever the offset."""
    means = sure * (torch.eye(classes) - 1 / classes)
    return SpeakerModel(means, torch.linspace(0.5, 2.0, classes)), means[emotions]


# Fit


def test_means_and_variances_are_those_of_the_emotions_the_noise_and_the_voices(model):
    torch.testing.assert_close(model.means - model.means.mean(0), MEANS, atol=0.2, rtol=0)
    np.testing.assert_allclose(model.prior_clips.mean(), 1 / VOICE**2, rtol=0.2)  # noise / voice


def test_the_fit_is_that_of_one_speaker_after_the_other(model):
    logits, truth, who = clips_of(40, np.tile(np.arange(CLASSES), 10), seed=0)
    values = logits.double().numpy()
    values = values - values.mean(1, keepdims=True)
    means = np.stack([values[truth == emotion].mean(0) for emotion in range(CLASSES)])
    residual, speakers = values - means[truth], np.array(who)
    own = [residual[speakers == name] for name in np.unique(speakers)]
    within = np.mean([clips.var(0) for clips in own], axis=0)
    between = np.var([clips.mean(0) for clips in own], axis=0, ddof=1) - within / 40
    np.testing.assert_allclose(model.means, means, atol=1e-5)
    np.testing.assert_allclose(model.prior_clips, within / between, rtol=1e-5)


def test_every_corpus_counts_alike_in_the_mean_of_an_emotion():
    targets, corpora = np.array([0, 0, 0, 0, 1, 1, 1]), ["a", "a", "a", "b", "a", "b", "b"]
    level = torch.tensor([1.0, 2.0, 3.0, 10.0, 5.0, -3.0, 1.0])
    logits, who = torch.stack([level, -level], 1), ["s", "t", "s", "u", "t", "u", "v"]
    found = SpeakerModel.fit(logits, targets, who, corpora).means
    torch.testing.assert_close(found[:, 0], torch.tensor([(2.0 + 10.0) / 2, (5.0 - 1.0) / 2]))
    of_one = SpeakerModel.fit(logits, targets, who).means
    torch.testing.assert_close(of_one[:, 0], torch.tensor([16 / 4, 3 / 3]))


def test_a_model_of_some_emotions_reads_their_logits_alone():
    model = SpeakerModel(3 * torch.eye(4) - 3 / 4, torch.tensor([0.5, 1.0, 2.0, 4.0]))
    some = model.among([0, 2])
    torch.testing.assert_close(some.means, torch.tensor([[1.5, -1.5], [-1.5, 1.5]]))
    assert some.prior_clips.tolist() == [0.5, 2.0] and model.among(None) is model
    assert SpeakerModel.from_tensors(some.tensors(), 2) is not None


def test_the_order_of_the_training_clips_changes_nothing(model):
    logits, truth, who = clips_of(40, np.tile(np.arange(CLASSES), 10), seed=0)
    order = np.random.default_rng(1).permutation(len(truth))
    shuffled = SpeakerModel.fit(logits[order], truth[order], [who[i] for i in order])
    torch.testing.assert_close(shuffled.means, model.means)
    torch.testing.assert_close(shuffled.prior_clips, model.prior_clips)


def test_a_number_added_to_all_logits_of_a_clip_changes_nothing(model):
    logits, truth, who = clips_of(40, np.tile(np.arange(CLASSES), 10), seed=0)
    level = 5 * torch.randn(len(logits), 1, generator=torch.Generator().manual_seed(0))
    moved = SpeakerModel.fit(logits + level, truth, who)
    torch.testing.assert_close(moved.means, model.means, atol=1e-4, rtol=0)
    own, level = logits[:20], level[:20]
    found = [model.infer(x).apply(x).log_softmax(1) for x in (own, own + level)]
    torch.testing.assert_close(found[1], found[0], atol=1e-3, rtol=0)


def test_voices_that_do_not_differ_give_offsets_that_hardly_count():
    emotions = np.arange(40) % CLASSES
    alike = SpeakerModel.fit(*clips_of(40, emotions, seed=2, voice=0.0))
    other = SpeakerModel.fit(*clips_of(40, emotions, seed=2, voice=2.0))
    assert alike.prior_clips.min() > 40
    assert other.prior_clips.max() < 1


def test_logits_without_variance_give_parameters_that_a_checkpoint_may_hold():
    truth, who = np.tile(np.arange(2), 40), [f"s{name}" for name in np.repeat(np.arange(8), 10)]
    constant = SpeakerModel.fit(torch.zeros(80, 2), truth, who)
    assert constant.prior_clips.tolist() == [MAX_PRIOR_CLIPS] * 2
    offsets = torch.from_numpy(np.repeat(np.arange(8.0), 10))  # all clips of a speaker are the same
    alike = SpeakerModel.fit(torch.stack([offsets, -offsets], 1), truth, who)
    assert alike.prior_clips.tolist() == [pytest.approx(MIN_PRIOR_CLIPS)] * 2
    for fitted in (constant, alike):
        assert SpeakerModel.from_tensors(fitted.tensors(), 2) is not None


def test_too_few_speakers_give_no_model():
    enough = clips_of(MIN_SPEAKERS, np.arange(8) % CLASSES, seed=0)
    assert SpeakerModel.fit(*enough) is not None
    assert SpeakerModel.fit(*clips_of(MIN_SPEAKERS - 1, np.arange(8) % CLASSES, seed=0)) is None


def test_an_emotion_without_a_clip_gets_the_mean_of_the_others():
    fitted = SpeakerModel.fit(*clips_of(8, np.array([0, 2, 3]), seed=0))
    torch.testing.assert_close(fitted.means[1], fitted.means[[0, 2, 3]].mean(0))
    assert fitted.means.isfinite().all() and fitted.prior_clips.isfinite().all()


# Offset and trust


def test_the_closed_form_where_predictions_are_certain():
    truth = [0, 1, 2, 3, 0, 0, 1, 0]
    model, logits = certain(truth)
    random = torch.Generator().manual_seed(0)
    logits = logits + torch.randn(CLASSES, generator=random) + 0.1 * torch.randn(8, CLASSES, generator=random)
    values = logits - logits.mean(1, keepdim=True)
    adjustment = model.infer(logits)
    expected = 8 / (8 + model.prior_clips) * (values - model.means[truth]).mean(0)
    torch.testing.assert_close(adjustment.offset, expected, atol=1e-3, rtol=0)
    assert adjustment.trust == 1.0 and adjustment.weight == pytest.approx(8 / (8 + HALF_WEIGHT_CLIPS))
    torch.testing.assert_close(adjustment.center, values.mean(0))
    moved = F.normalize(values - values.mean(0))
    directions = [F.normalize(moved[torch.tensor(truth) == emotion].sum(0), dim=0) for emotion in range(CLASSES)]
    torch.testing.assert_close(adjustment.prototypes, torch.stack(directions))


@pytest.mark.parametrize(
    ("emotions", "information"),
    [
        ([0, 1, 2], 1.0),
        ([0] * 9, 0.0),
        ([0] * 7 + [1], 0.342949),  # of log(3) nats: the entropy of (1/8, 7/8), 0.376770
        ([0] * 14 + [2] * 2, 0.342949),  # the same of twice as many clips
        ([0, 1], 0.630930),  # log(2) of log(3)
    ],
)
def test_clips_count_as_far_as_several_emotions_are_heard_more_than_by_chance(emotions, information):
    model, logits = certain(emotions, classes=3)
    low, high = TRUST
    expected = np.clip((information - CHANCE / len(emotions) - low) / (high - low), 0, 1)
    assert model.infer(logits).trust == pytest.approx(expected, abs=1e-4)
    if len(emotions) == 16:
        assert 0 < expected < (information - low) / (high - low)


def test_a_clip_counts_for_all_emotions_alike_as_far_as_its_prediction_is_unsure():
    model = SpeakerModel(MEANS, torch.tensor([0.5, 1.0, 2.0, 4.0]))
    logits = clips_of(1, np.arange(12) % CLASSES, seed=5)[0]
    values, offset = logits - logits.mean(1, keepdim=True), model.infer(logits).offset
    predicted = (values - offset).softmax(1).double()
    unsure = -(predicted * predicted.log2()).sum(1, keepdim=True) / 2  # of 2 bits
    assert unsure.min() < 0.3 and unsure.max() > 0.6
    shares = ((1 - unsure) * predicted + unsure / CLASSES).mean(0)
    expected = (values.mean(0) - shares.float() @ MEANS) / (1 + model.prior_clips / 12)
    torch.testing.assert_close(offset, expected, atol=5e-3, rtol=0)


def test_clips_of_which_the_network_is_unsure_do_not_count(model):
    assert model.infer(0.01 * torch.randn(20, CLASSES, generator=torch.Generator().manual_seed(0))).trust == 0


def test_clips_that_do_not_count_leave_the_logits_to_the_bit(model):
    logits, _, _ = clips_of(1, np.full(10, 2), seed=4)
    adjustment = model.infer(logits)
    assert adjustment.trust == adjustment.weight == 0
    assert torch.equal(adjustment.apply(logits), logits)


def test_what_counts_in_part_is_subtracted_in_part():
    model, logits = certain([0] * 14 + [1] * 2, classes=3)
    adjustment = model.infer(logits + torch.tensor([30.0, -10.0, -20.0]))
    assert 0.1 < adjustment.trust < 0.9 and adjustment.offset.abs().max() > 1
    weight = adjustment.trust * 16 / (16 + HALF_WEIGHT_CLIPS)
    assert adjustment.weight == pytest.approx(weight)
    clips = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    moved = clips - clips.mean(1, keepdim=True) - adjustment.trust * adjustment.offset
    from_center = clips - clips.mean(1, keepdim=True) - adjustment.center
    cosine = (from_center / from_center.norm(dim=1, keepdim=True)) @ adjustment.prototypes.double().T
    expected = (moved.log_softmax(1) + weight * CONCENTRATION * cosine) / (1 + REDUNDANCY * weight)
    torch.testing.assert_close(adjustment.apply(clips.float()), expected.float(), atol=1e-4, rtol=0)


def test_more_clips_of_all_emotions_say_more_about_the_speaker(model):
    logits, truth, _ = clips_of(NEW_SPEAKERS, np.arange(40) % CLASSES, seed=7)
    found = [logits.argmax(1)]
    for size in (6, 12, 40):
        found.append(torch.cat([model.infer(own[:size]).apply(own).argmax(1) for own in logits.split(40)]))
    alone, *together = [100 * float((labels.numpy() == truth).mean()) for labels in found]
    gains = [accuracy - alone for accuracy in together]
    assert gains[0] > 10 and gains[1] > gains[0] + 5 and gains[2] > gains[1]


@pytest.mark.parametrize("size", [3, 5, 10, 20, 50])
def test_clips_of_one_emotion_lose_nothing(model, size):
    results = [accuracies(model, np.full(size, emotion), seed=size + emotion) for emotion in range(CLASSES)]
    alone, together = np.mean(results, axis=0)
    assert together > alone - 1


@pytest.mark.parametrize(("size", "gain"), [(10, 1), (20, 4), (40, 4)])
def test_clips_of_mostly_one_emotion_gain(model, size, gain):
    emotions = np.array([0] * (7 * size // 10) + [1, 2, 3] * (size // 10))
    results = [accuracies(model, (emotions + shift) % CLASSES, seed=shift) for shift in range(CLASSES)]
    alone, together = np.mean(results, axis=0)
    assert together > alone + gain


def test_the_order_of_the_clips_changes_nothing(model):
    logits, _, _ = clips_of(1, np.arange(12) % CLASSES, seed=3)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    plain, shuffled = model.infer(logits), model.infer(logits[order])
    assert plain.trust > 0
    torch.testing.assert_close(shuffled.offset, plain.offset)
    torch.testing.assert_close(shuffled.apply(logits), plain.apply(logits))


def test_a_temperature_changes_nothing_but_the_unit_of_the_logits(model):
    logits, _, _ = clips_of(1, np.arange(12) % CLASSES, seed=3)
    plain = model.infer(logits)
    hot = SpeakerModel(2.5 * model.means, model.prior_clips).infer(2.5 * logits, temperature=2.5)
    assert plain.trust == pytest.approx(hot.trust) and plain.trust > 0
    torch.testing.assert_close(hot.apply(2.5 * logits), 2.5 * plain.apply(logits), atol=1e-4, rtol=1e-4)
    assert (model.infer(logits, temperature=2.5).apply(logits) - plain.apply(logits)).abs().max() > 0.1


@pytest.mark.parametrize("value", [0.0, 1e4, -1e4, 1e30])
@pytest.mark.parametrize("temperature", [0.05, 1.0, 20.0])
@pytest.mark.usefixtures("trusted")
def test_results_are_finite_even_of_extreme_logits(model, value, temperature):
    one, all_alike = torch.zeros(5, CLASSES), torch.full((5, CLASSES), value)
    one[:, 0] = value
    each = value * torch.eye(CLASSES)
    for logits in (one, all_alike, each):
        adjustment = model.infer(logits, temperature)
        assert adjustment.offset.isfinite().all() and adjustment.prototypes.isfinite().all()
        for clips in (logits, torch.zeros(2, CLASSES)):
            assert adjustment.apply(clips).isfinite().all()


# Prototypes


def clusters(wrong: int, noise: float = 0.05) -> tuple[SpeakerModel, Tensor, list[int]]:
    """Logits of three clusters of ten clips, `wrong` of each predicted as another emotion; and the truth.

    Each cluster is far from one of three more emotions, which tells it from the others.
    """
    truth = [emotion for emotion in range(3) for _ in range(10)]
    logits = noise * torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
    logits[:, 3:] -= 2.0
    for clip, emotion in enumerate(truth):
        first, second = (1.0, 0.4) if clip % 10 >= wrong else (0.4, 1.0)
        logits[clip, emotion] += first
        logits[clip, (emotion + 1) % 3] += second
        logits[clip, 3 + emotion] -= 4.0
    return SpeakerModel(torch.eye(6) - 1 / 6, torch.full((6,), MAX_PRIOR_CLIPS)), logits, truth


@pytest.mark.usefixtures("trusted")
def test_wrong_predictions_within_a_cluster_are_corrected():
    model, logits, truth = clusters(wrong=2)
    assert sum(found != own for found, own in zip(logits.argmax(1).tolist(), truth, strict=True)) == 6
    assert model.infer(logits).apply(logits).argmax(1).tolist() == truth


@pytest.mark.usefixtures("trusted")
def test_after_one_round_a_prototype_is_the_mean_direction_weighted_by_the_predictions(monkeypatch):
    monkeypatch.setattr("serx.speaker_model.PROTOTYPE_ROUNDS", 1)
    model, logits, _ = clusters(wrong=2)
    adjustment = model.infer(logits, temperature=0.7)
    values = (logits - logits.mean(1, keepdim=True)).double().numpy()
    odds = np.exp((values - adjustment.offset.numpy()) / 0.7)
    from_center = values - values.mean(0)
    directions = from_center / np.linalg.norm(from_center, axis=1, keepdims=True)
    sums = (odds / odds.sum(1, keepdims=True)).T @ directions
    np.testing.assert_allclose(adjustment.prototypes, sums / np.linalg.norm(sums, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.usefixtures("trusted")
def test_prototypes_are_directions_of_the_embeddings_if_there_are_any():
    model, logits, truth = clusters(wrong=3)
    embeddings = 5 + 2 * F.one_hot(torch.as_tensor(truth), 8).float() + 0.1 * torch.randn(len(logits), 8)
    adjustment = model.infer(logits, embeddings=embeddings)
    torch.testing.assert_close(adjustment.center, embeddings.mean(0))
    assert adjustment.prototypes.shape == (logits.shape[1], 8)
    assert (adjustment.apply(logits, embeddings).argmax(1).numpy() == np.asarray(truth)).all()
    scaled = model.infer(logits, embeddings=3 * embeddings + 7)  # neither scale nor shift matters
    torch.testing.assert_close(
        scaled.apply(logits, 3 * embeddings + 7), adjustment.apply(logits, embeddings), atol=1e-3, rtol=0
    )
    absent = model.infer(logits, embeddings=embeddings[:, :0])
    torch.testing.assert_close(absent.apply(logits, embeddings[:, :0]), model.infer(logits).apply(logits))


@pytest.mark.usefixtures("trusted")
def test_the_rounds_converge():
    model, logits, _ = clusters(wrong=2, noise=0.3)
    found = model.infer(logits)
    values = logits - logits.mean(1, keepdim=True)
    directions = F.normalize(values - values.mean(0))
    scores = (values - found.offset).log_softmax(1) + found.weight * CONCENTRATION * directions @ found.prototypes.T
    again = F.normalize(scores.softmax(1).T @ directions)
    torch.testing.assert_close(found.prototypes[:3], again[:3], atol=1e-3, rtol=0)


@pytest.mark.usefixtures("trusted")
def test_clusters_agree_with_a_gaussian_mixture():
    """scikit-learn's, started from the same predictions; on clusters so far apart the two must agree."""
    model, logits, truth = clusters(wrong=3, noise=0.2)
    directions = F.normalize(logits - logits.mean(1, keepdim=True)).double().numpy()
    start = np.stack([directions[logits.argmax(1) == emotion].mean(0) for emotion in range(3)])
    mixture = GaussianMixture(3, covariance_type="spherical", means_init=start, random_state=0).fit(directions)
    adjusted = model.infer(logits).apply(logits).argmax(1).tolist()
    assert adjusted == mixture.predict(directions).tolist() == truth


@pytest.mark.usefixtures("trusted")
def test_prototypes_of_more_clips_have_more_weight(model):
    logits, _, _ = clips_of(1, np.arange(4), seed=3)
    weights = [model.infer(logits.repeat(copies, 1)).weight for copies in (1, 10, 1000)]
    assert weights == pytest.approx([4 * copies / (4 * copies + HALF_WEIGHT_CLIPS) for copies in (1, 10, 1000)])


# Checkpoint


def test_tensors_of_a_checkpoint_are_checked(model):
    tensors = model.tensors()
    assert SpeakerModel.from_tensors({}, CLASSES) is None
    again = SpeakerModel.from_tensors(dict(tensors), CLASSES)
    assert torch.equal(again.means, model.means) and torch.equal(again.prior_clips, model.prior_clips)
    means, prior = tensors["means"], tensors["prior_clips"]
    for changed in (
        {"means": means[:, :2]},
        {"means": means[:2]},
        {"means": means.double()},
        {"means": means * torch.nan},
        {"means": means * torch.inf},
        {"prior_clips": prior[:2]},
        {"prior_clips": prior.half()},
        {"prior_clips": -prior},
        {"prior_clips": 0 * prior},
        {"prior_clips": prior * torch.nan},
        {"prior_clips": prior + MAX_PRIOR_CLIPS},
    ):
        with pytest.raises(CheckpointError, match="speaker") as caught:
            SpeakerModel.from_tensors({**tensors, **changed}, CLASSES)
        assert "\n" not in str(caught.value)
    for name in tensors:
        with pytest.raises(CheckpointError, match="speaker"):
            SpeakerModel.from_tensors({name: tensors[name]}, CLASSES)
    with pytest.raises(CheckpointError, match="shape"):
        SpeakerModel.from_tensors(dict(tensors), CLASSES + 1)
