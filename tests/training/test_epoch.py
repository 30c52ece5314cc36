"""An epoch's parts: the loss of a step against torch's own, and vectors that are kept where nothing changes them."""

import json

import pytest
import torch
import torch.nn.functional as F

from serx.training import loop
from serx.training.epoch import _losses
from serx.training.folder import METRICS


def test_the_loss_is_cross_entropy_with_weights_and_smoothing():
    logits, truth = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 1, 0])
    weights = torch.tensor([1.0, 2.0, 0.5, 1.5])
    expected = F.cross_entropy(logits, truth, weights, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(_losses(logits, F.one_hot(truth, 4).float(), weights, 0.1), expected)


def test_each_member_of_an_ensemble_gets_the_gradient_it_would_get_alone():
    logits, truth = torch.randn(6, 3, 4, requires_grad=True), F.one_hot(torch.arange(6) % 4, 4).float()
    _losses(logits, truth, torch.ones(4), 0.0).sum().backward()
    for i in range(3):
        alone = logits[:, i].detach().requires_grad_()
        F.cross_entropy(alone, truth, reduction="sum").backward()
        torch.testing.assert_close(logits.grad[:, i], alone.grad)


def test_half_precision_logits_are_judged_in_float32():
    logits = torch.tensor([[30.0, -30.0]]).half()
    assert _losses(logits, torch.tensor([[0.0, 1.0]]), torch.ones(2), 0.0).dtype == torch.float32


VECTORS = ("features={stack: [mfcc, rms], n_fft: 512, statistics: [mean, std]}", "model={kind: mlp, widths: [16]}")


@pytest.mark.slow
def test_kept_vectors_train_as_if_made_anew_in_every_epoch(tiny_config, tmp_path, monkeypatch):
    config = tiny_config(*VECTORS, "augment={}", "train.epochs=3")
    found, kept = loop.unchanging_vectors, []
    monkeypatch.setattr(loop, "unchanging_vectors", lambda *given: kept.append(found(*given)) or kept[-1])
    loop.fit(config, tmp_path / "kept", progress=False)
    monkeypatch.setattr(loop, "unchanging_vectors", lambda *given: None)
    loop.fit(config, tmp_path / "anew", progress=False)
    assert kept[0].shape == (24, config.features.bins)
    one, two = (
        [json.loads(line) for line in (tmp_path / name / METRICS).read_text().splitlines()] for name in ("kept", "anew")
    )
    for a, b in zip(one, two, strict=True):
        assert a["train"]["loss"] == pytest.approx(b["train"]["loss"], rel=1e-4)
        assert a["valid"]["loss"] == pytest.approx(b["valid"]["loss"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        ("augment={waveform: [{kind: gain}]}",),
        ("augment={fused: {p: 0.5, rate: [0.9, 1.1]}}", "features.stack=[mfcc]"),
        ("augment={}", "features.statistics=[]"),
        ("augment={}", "features={stack: [mfcc], statistics: [mean], front_end: nnaudio, trainable: true}"),
    ],
    ids=("augmented", "warped", "sequences", "learnt"),
)
def test_nothing_is_kept_that_an_epoch_may_change(changes, tiny_config, tmp_path, monkeypatch):
    found, kept = loop.unchanging_vectors, []
    monkeypatch.setattr(loop, "unchanging_vectors", lambda *given: kept.append(found(*given)) or kept[-1])
    loop.fit(tiny_config(*VECTORS, *changes, "train.epochs=1"), tmp_path / "run", progress=False)
    assert kept == [None]
