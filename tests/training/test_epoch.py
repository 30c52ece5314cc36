"""The loss of a step, against torch's own on each part of it."""

import torch
import torch.nn.functional as F

from serx.training.epoch import _losses


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
