"""Votes as targets and weights of clips: closed forms, and runs that must not change."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import log_softmax

from serx.config.training import TrainConfig
from serx.evaluation import evaluate
from serx.evaluation.predictions import from_csv
from serx.pages import evaluation_page
from serx.training import fit
from serx.training.losses import class_weights, classes_of_corpora, cross_entropy, logit_offsets
from serx.training.run_folder import METRICS
from serx.training.sampling import relative_weights, sampling_weights

SHARES = np.array([[1.0, 0, 0], [0.5, 0.5, 0], [0.25, 0.25, 0.5], [0, 0, 1.0], [0, 0.2, 0.8]])
CORPORA = np.array([0, 0, 0, 1, 1])


def test_the_loss_of_votes_is_their_cross_entropy():
    logits = torch.randn(5, 2, 3)
    found = cross_entropy(logits, torch.from_numpy(SHARES).float(), torch.ones(3))
    expected = -(SHARES[:, None] * log_softmax(logits.numpy(), -1)).sum((1, 2))
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-5)


def test_a_clip_counts_for_each_class_by_its_share_of_votes():
    expected = 5 / (3 * SHARES.sum(0))
    np.testing.assert_allclose(class_weights("balanced", SHARES, 3).numpy(), expected, rtol=1e-6)
    offsets = logit_offsets(TrainConfig(logit_adjustment=1.0), SHARES, CORPORA, 3).numpy()
    np.testing.assert_allclose(offsets, np.log(SHARES.sum(0) / 5), rtol=1e-6)


def test_balanced_sampling_draws_a_class_then_a_clip_by_its_share():
    drawn = sampling_weights("class_balanced", SHARES, CORPORA)
    np.testing.assert_allclose(drawn, (SHARES / SHARES.sum(0)).sum(1))
    both = sampling_weights("corpus_and_class_balanced", SHARES, CORPORA)
    np.testing.assert_allclose(np.bincount(CORPORA, both), 1)
    second = SHARES[3:, 1:] / SHARES[3:, 1:].sum(0) / 2
    np.testing.assert_allclose(both[3:], second.sum(1))


@pytest.mark.parametrize("mode", ["class_balanced", "corpus_balanced", "corpus_and_class_balanced"])
def test_unanimous_votes_are_drawn_as_labels_are(mode):
    targets, corpora = np.array([0, 0, 0, 1, 2, 2, 1]), np.array([0, 0, 1, 1, 1, 0, 0])
    as_labels = sampling_weights(mode, targets, corpora)
    assert sampling_weights(mode, np.eye(3)[targets], corpora).tolist() == as_labels.tolist()


def test_a_corpus_has_the_classes_that_any_of_its_raters_chose():
    possible = classes_of_corpora(SHARES, CORPORA, 3)
    assert possible[0].tolist() == [True, True, True] and possible[4].tolist() == [False, True, True]


def test_a_clip_of_weight_2_counts_as_two_clips():
    """In the loss, in the weights of classes, and in the offsets of logit adjustment; here without sampling."""
    targets, doubled = np.array([0, 1, 2, 1]), np.array([0, 1, 2, 1, 1, 2])
    weights = relative_weights(np.array([1.0, 2.0, 2.0, 1.0]))
    by_weight = class_weights("balanced", targets, 3, weights)
    torch.testing.assert_close(by_weight, class_weights("balanced", doubled, 3))
    adjusted, one = TrainConfig(logit_adjustment=1.0), np.zeros(6, int)
    offsets = logit_offsets(adjusted, targets, one[:4], 3, weights)
    torch.testing.assert_close(offsets, logit_offsets(adjusted, doubled, one, 3))
    logits = torch.randn(4, 1, 3)
    losses = cross_entropy(logits, F.one_hot(torch.from_numpy(targets), 3).float(), by_weight, 0.1, offsets)
    twice = logits[[0, 1, 2, 3, 1, 2]]
    repeated = cross_entropy(twice, F.one_hot(torch.from_numpy(doubled), 3).float(), by_weight, 0.1, offsets)
    torch.testing.assert_close((losses * torch.from_numpy(weights).float()).mean(), repeated.mean())


def test_classes_that_are_drawn_equally_often_weigh_the_same_in_the_loss():
    targets, weights = np.array([0, 0, 0, 1, 1]), np.array([1.0, 2.0, 3.0, 0.5, 0.5])
    drawn = sampling_weights("class_balanced", targets, None, weights)
    np.testing.assert_allclose(np.bincount(targets, drawn * weights), 1)
    assert drawn[0] == drawn[2]  # weights are in the loss, not in the draw


def curves(folder):
    lines = [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "clips_per_second"} for line in lines]


def test_unanimous_votes_and_equal_weights_train_with_the_same_bits(tiny_config, tmp_path, alter_clips):
    overrides = "train.epochs=2", "train.logit_adjustment=1.0", "augment.mixup=0.3"
    fit(tiny_config(*overrides), tmp_path / "labels", progress=False)
    alter_clips(lambda n, u: {"votes": ((u.emotion, 3.0), ("sad", 0.0)), "weight": 0.3})
    fit(tiny_config(*overrides, "data.labels_from=votes"), tmp_path / "votes", progress=False)
    assert curves(tmp_path / "votes") == curves(tmp_path / "labels")


def test_a_clip_of_almost_no_weight_teaches_almost_nothing(tiny_config, tmp_path, alter_clips):
    """With every label of two thirds of the clips wrong, equal weights learn the wrong labels."""
    wrong = {"neutral": "happy", "happy": "angry", "angry": "neutral"}
    weights = (1e-6, 1.0)

    def change(n, u):
        if u.speaker in ("04", "05", "06") or n % 3 == 0:
            return {"weight": weights[1]}
        return {"emotion": wrong[u.emotion], "weight": weights[0]}

    alter_clips(change)
    settings = (
        "model={kind: classical, c: [1.0]}",
        "features.statistics=[mean]",
        "features.normalize=training",
        "augment={}",
    )
    config = tiny_config(*settings, "train.ema_decay=0.0", "data.valid_speakers=[4]")
    weighted = fit(config, tmp_path / "weighted", progress=False).kept["valid"]["uar"]
    weights = (1.0, 1.0)
    equal = fit(config, tmp_path / "equal", progress=False).kept["valid"]["uar"]
    assert weighted > 0.9 and equal < 0.5


def test_a_mixture_has_the_mixture_of_the_weights(tiny_config, tmp_path, alter_clips, monkeypatch):
    from serx.training import epoch

    seen = []
    original = epoch._losses
    monkeypatch.setattr(epoch, "_losses", lambda *given: seen.append(given[-1]["weights"][:, 0]) or original(*given))
    alter_clips(lambda n, u: {"weight": 1.0 + n % 2})
    fit(tiny_config("train.epochs=1", "augment.mixup=1.0"), tmp_path / "run", progress=False)
    found = torch.cat(seen)
    assert found.min() >= 2 / 3 - 1e-6 and found.max() <= 4 / 3 + 1e-6 and len(found.unique()) > 10


VOTES = {"neutral": {"neutral": 4, "happy": 1}, "happy": {"happy": 4, "angry": 1}, "angry": {"angry": 4, "neutral": 1}}


def test_a_model_of_votes_meets_them_and_the_report_says_how_well(tiny_config, tmp_path, alter_clips):
    """Raters disagree in the same way on every clip of a pitch, so a model can meet their shares."""

    def change(n, u):
        votes = {"happy": 2, "angry": 2, "neutral": 1} if u.speaker == "06" and n % 12 == 0 else VOTES[u.emotion]
        return {"votes": tuple((word, float(number)) for word, number in votes.items())}

    alter_clips(change)
    settings = "model={kind: classical, c: [0.1]}", "features.statistics=[mean]", "features.normalize=training"
    config = tiny_config(
        *settings, "augment={}", "train.ema_decay=0.0", "data.labels_from=votes", "data.valid_speakers=[4]"
    )
    run = fit(config, tmp_path / "run", progress=False)
    result = evaluate(run.checkpoint, progress=False)
    votes, report = result.scores["votes"], result.report()
    assert votes["tied"] == 1 and result.scores["n_clips"] == 24 and result.confusion.sum() == 23
    assert result.uar > 0.9 and votes["kl"] < 0.5 * votes["kl_of_mean"]
    low, high = votes["kl_interval"]
    assert low <= votes["kl"] <= high
    assert votes["rater"]["n_clips"] == 24 and 0.7 < votes["rater"]["uar"] < 0.85 < votes["rater"]["model"]["uar"]
    assert "The votes of 1 clip tie" in report and f"KL {votes['kl']:.3f} nats" in report
    assert "A single rater, left out, against most of the others (24 clips): UAR" in report

    assert f"KL {votes['kl']:.3f} nats" in evaluation_page(result.scores, result.predictions, "votes")

    result.write(tmp_path / "out")
    [(_, back)] = from_csv(tmp_path / "out" / "predictions.csv")
    np.testing.assert_array_equal(back.votes, result.predictions.votes)
    np.testing.assert_array_equal(back.tied, result.predictions.tied)
    assert (tmp_path / "out" / "predictions.csv").read_text().count(",,") >= 1
