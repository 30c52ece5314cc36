"""The loss of a step equals torch's; feature vectors and copies are computed once if no epoch changes them."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from serx.augment.compose import augment
from serx.config.training import TrainConfig
from serx.data.batches import make_batch_source
from serx.data.dataset import load_dataset, split_dataset
from serx.training import epoch, training_clips
from serx.training.losses import classes_of_corpora, cross_entropy, logit_offsets
from serx.training.new_run import new_state
from serx.training.run_folder import METRICS
from serx.training.trainer import fit
from serx.training.training_clips import collect_training_clips


def test_the_loss_is_cross_entropy_with_weights_and_smoothing():
    logits, truth = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 1, 0])
    weights = torch.tensor([1.0, 2.0, 0.5, 1.5])
    expected = F.cross_entropy(logits, truth, weights, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(cross_entropy(logits[:, None], F.one_hot(truth, 4).float(), weights, 0.1), expected)


def test_each_member_of_an_ensemble_gets_the_gradient_it_would_get_alone():
    logits, truth = torch.randn(6, 3, 4, requires_grad=True), F.one_hot(torch.arange(6) % 4, 4).float()
    cross_entropy(logits, truth, torch.ones(4), 0.0).sum().backward()
    for i in range(3):
        alone = logits[:, i].detach().requires_grad_()
        F.cross_entropy(alone, truth, reduction="sum").backward()
        torch.testing.assert_close(logits.grad[:, i], alone.grad)


def test_the_loss_of_half_precision_logits_is_float32():
    logits = torch.tensor([[[30.0, -30.0]]]).half()
    assert cross_entropy(logits, torch.tensor([[0.0, 1.0]]), torch.ones(2), 0.0).dtype == torch.float32


def test_a_corpus_without_an_emotion_does_not_teach_that_it_is_absent():
    logits = torch.randn(4, 2, 4, requires_grad=True)
    targets, corpora = np.array([0, 1, 2, 3]), np.array([0, 0, 1, 1])  # corpus 0 has classes 0 and 1, corpus 1 the rest
    possible = torch.from_numpy(classes_of_corpora(targets, corpora, 4))
    truth, weights = F.one_hot(torch.from_numpy(targets), 4).float(), torch.tensor([1.0, 2.0, 0.5, 1.5])
    losses = cross_entropy(logits, truth, weights, 0.1, None, possible)
    for i, (classes, target) in enumerate([((0, 1), 0), ((0, 1), 1), ((2, 3), 0), ((2, 3), 1)]):
        columns = list(classes)
        expected = F.cross_entropy(
            logits[i][:, columns], torch.tensor([target] * 2), weights[columns], label_smoothing=0.1, reduction="sum"
        )
        torch.testing.assert_close(losses[i], expected)
    losses.sum().backward()
    assert not logits.grad[:2, :, 2:].any() and not logits.grad[2:, :, :2].any()
    assert logits.grad[:2, :, :2].all() and logits.grad.isfinite().all()


def test_corpora_with_the_same_emotions_need_no_mask():
    assert classes_of_corpora(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), 3) is None


def test_a_mixture_may_be_of_any_emotion_of_either_corpus(tiny_config, tmp_path, monkeypatch):
    used = []

    def record(*inputs):
        used.append((inputs[1], inputs[5]))
        return cross_entropy(*inputs)

    monkeypatch.setattr(epoch, "cross_entropy", record)
    monkeypatch.setattr(
        training_clips, "classes_of_corpora", lambda targets, *_: np.eye(targets.max() + 1, dtype=bool)[targets]
    )
    fit(tiny_config("augment.mixup=0.4", "train.epochs=1"), tmp_path / "run", progress=False)
    assert all(bool((possible == (truth > 0)).all()) for truth, possible in used)
    assert any(bool((possible.sum(1) == 2).any()) for _, possible in used)


TRUTH = np.array([0] * 6 + [1] * 3 + [2])
ONE_CORPUS = np.zeros(10, np.int64)


def test_logit_offsets_are_the_logarithms_of_the_expected_class_shares():
    offsets = logit_offsets(TrainConfig(logit_adjustment=1.0), TRUTH, ONE_CORPUS, 4).numpy()
    np.testing.assert_allclose(
        offsets, [*np.log([0.6, 0.3, 0.1]), 0.0], rtol=1e-6
    )  # the last class has no training clips
    half = logit_offsets(TrainConfig(logit_adjustment=0.5), TRUTH, ONE_CORPUS, 4).numpy()
    np.testing.assert_allclose(half, offsets / 2, rtol=1e-6)
    assert not logit_offsets(TrainConfig(), TRUTH, ONE_CORPUS, 4).any()
    balanced = TrainConfig(logit_adjustment=1.0, sampling="class_balanced")
    np.testing.assert_allclose(logit_offsets(balanced, TRUTH, ONE_CORPUS, 3).numpy(), np.log([1 / 3] * 3), rtol=1e-6)


def test_logit_adjustment_makes_classes_that_cannot_be_distinguished_equally_likely():
    truth = F.one_hot(torch.from_numpy(TRUTH), 3).float()
    probabilities = {}
    for adjustment in (0.0, 1.0):
        offsets = logit_offsets(TrainConfig(logit_adjustment=adjustment), TRUTH, ONE_CORPUS, 3)
        logits = torch.zeros(3, requires_grad=True)  # the same for every clip: the features say nothing
        optimizer = torch.optim.LBFGS([logits], max_iter=50, line_search_fn="strong_wolfe")

        def loss(logits=logits, offsets=offsets, optimizer=optimizer):
            optimizer.zero_grad()
            total = cross_entropy(logits.expand(10, 2, 3), truth, torch.ones(3), 0.0, offsets).sum()
            total.backward()
            return total

        optimizer.step(loss)
        probabilities[adjustment] = logits.detach().softmax(0).tolist()
    assert probabilities[0.0] == pytest.approx([0.6, 0.3, 0.1], abs=1e-3)
    assert probabilities[1.0] == pytest.approx([1 / 3] * 3, abs=1e-3)


@pytest.mark.slow
def test_a_run_trains_with_the_logit_offsets_of_its_training_clips(tiny_config, tmp_path, monkeypatch):
    used = []
    monkeypatch.setattr(epoch, "cross_entropy", lambda *inputs: used.append(inputs[4]) or cross_entropy(*inputs))
    config = tiny_config("train.logit_adjustment=1", "train.epochs=1", "data.label_map={angry: happy}")
    fit(config, tmp_path / "run", progress=False)
    assert used
    for offsets in used:
        np.testing.assert_allclose(offsets.numpy(), np.log([1 / 3, 2 / 3]), rtol=1e-6)


VECTORS = ("features={stack: [mfcc, rms], n_fft: 512, statistics: [mean, std]}", "model={kind: mlp, widths: [16]}")


@pytest.mark.slow
def test_vectors_computed_once_train_like_vectors_computed_in_every_epoch(tiny_config, tmp_path, monkeypatch):
    config = tiny_config(*VECTORS, "augment={}", "train.epochs=3")
    original, returned = training_clips.constant_vectors, []
    monkeypatch.setattr(
        training_clips, "constant_vectors", lambda *inputs: returned.append(original(*inputs)) or returned[-1]
    )
    fit(config, tmp_path / "once", progress=False)
    monkeypatch.setattr(training_clips, "constant_vectors", lambda *inputs: None)
    fit(config, tmp_path / "each", progress=False)
    assert returned[0].shape == (24, config.features.bins)
    once, each = (
        [json.loads(line) for line in (tmp_path / name / METRICS).read_text().splitlines()] for name in ("once", "each")
    )
    for a, b in zip(once, each, strict=True):
        assert a["train"]["loss"] == pytest.approx(b["train"]["loss"], rel=1e-4)
        assert a["valid"]["loss"] == pytest.approx(b["valid"]["loss"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        ("augment={waveform: [{kind: gain}]}",),
        ("augment={mel_warp: {p: 0.5, rate: [0.9, 1.1]}}", "features.stack=[mfcc]"),
        ("augment={}", "features.statistics=[]"),
        ("augment={}", "features={stack: [mfcc], statistics: [mean], front_end: nnaudio, trainable: true}"),
    ],
    ids=("augmented", "warped", "sequences", "learned"),
)
def test_features_that_augmentation_or_training_changes_are_computed_in_every_epoch(
    changes, tiny_config, tmp_path, monkeypatch
):
    original, returned = training_clips.constant_vectors, []
    monkeypatch.setattr(
        training_clips, "constant_vectors", lambda *inputs: returned.append(original(*inputs)) or returned[-1]
    )
    fit(tiny_config(*VECTORS, *changes, "train.epochs=1"), tmp_path / "run", progress=False)
    assert returned == [None]


@pytest.mark.parametrize(
    "augmentation",
    ["{waveform: [{kind: gain, p: 1.0}, {kind: noise, p: 0.5}]}", "{mel_warp: {p: 1.0, rate: [0.9, 1.1]}}"],
    ids=("waveform", "mel_warp"),
)
def test_copies_are_training_clips_augmented_as_in_the_first_epochs(augmentation, tiny_config):
    config = tiny_config(*VECTORS, "features.stack=[mfcc]", f"augment={augmentation}", "augment.copies=2")
    dataset = load_dataset(config.data, progress=False)
    split = split_dataset(dataset, config.data, progress=False)
    source = make_batch_source(dataset.audio_cache, torch.device("cpu"))
    state = new_state(config, dataset, split, source, torch.device("cpu"))
    training = collect_training_clips(state, dataset, split, source, progress=False)
    train, n, rate = np.asarray(split.train), len(split.train), config.data.sample_rate
    assert training.clips.tolist() == [*split.train] * 3  # no clip of validation or test, and each equally often
    assert training.targets.tolist() == dataset.targets[training.clips].tolist()
    waveform, lengths = source.batch(train)
    expected = [state.recognizer.features(waveform, lengths)[0]]
    for epoch_number in range(2):
        state.progress.epoch = epoch_number
        sound = augment(
            config.augment.waveform, waveform, lengths, torch.from_numpy(train), rate, config.train.seed, epoch_number
        )
        normalized, _ = epoch.augmented_features(state, *sound, torch.from_numpy(train))
        expected.append(normalized * state.recognizer.normalizer.deviation + state.recognizer.normalizer.mean)
    torch.testing.assert_close(training.vectors, torch.cat(expected)[..., 0], atol=1e-3, rtol=1e-4)
    assert len(training.vectors.unique(dim=0)) == 3 * n
