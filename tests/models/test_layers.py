"""Layers against closed forms and against torch's own."""

import os
import subprocess
import sys

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from serx.models.layers import (
    MIN_STRIDED_CHANNELS,
    AttentiveStatistics,
    BidirectionalGru,
    ResidualBlock,
    SqueezeExcitation,
    StridedPointwise,
    masked_relu_,
    time_mask,
)
from tests.models.test_models import random_features


def test_attentive_statistics_of_constant_frames_are_the_constant_and_a_deviation_of_zero():
    pool = AttentiveStatistics(3, 4)
    x = torch.tensor([1.0, -2.0, 5.0])[None, :, None].expand(1, 3, 9).clone()
    x[:, :, 6:] = 100.0  # beyond the last frame
    pooled = pool(x, torch.tensor([6]))[0]
    torch.testing.assert_close(pooled[:3], torch.tensor([1.0, -2.0, 5.0]))
    assert pooled[3:].max() < 0.01


def test_the_bidirectional_gru_equals_torchs_over_packed_sequences():
    torch.manual_seed(0)
    ours, reference = BidirectionalGru(6, 5), torch.nn.GRU(6, 5, batch_first=True, bidirectional=True)
    backward = {f"{name}_reverse": tensor for name, tensor in ours.backward_gru.state_dict().items()}
    reference.load_state_dict({**ours.forward_gru.state_dict(), **backward})
    x, frames = random_features(6, [9, 1, 6], 9)
    packed = pack_padded_sequence(x.transpose(1, 2), frames, batch_first=True, enforce_sorted=False)
    expected = pad_packed_sequence(reference(packed)[0], batch_first=True)[0].transpose(1, 2)
    torch.testing.assert_close(ours(x, frames), expected)


def test_squeeze_and_excitation_averages_over_valid_positions_only():
    excite = SqueezeExcitation(4)
    x = torch.randn(2, 4, 5, 8)
    mask = (torch.arange(8) < torch.tensor([8, 3])[:, None]).float()[:, None, None]
    x = x * mask
    alone = excite(x[1:, :, :, :3], mask[1:, ..., :3])
    torch.testing.assert_close(excite(x, mask)[1, :, :, :3], alone[0])


def test_a_block_of_stride_two_leaves_half_the_frames_rounded_up_and_zeros_beyond_them():
    block = ResidualBlock(3, 6, (2, 2)).eval()
    features, frames = random_features(7, [9, 4, 1], 9)
    x, frames_left = block(features[:, None].expand(-1, 3, -1, -1), frames)
    assert frames_left.tolist() == [5, 2, 1]
    assert x.shape == (3, 6, 4, 5)
    assert not x[1, :, :, 2:].any()


def test_a_masked_relu_has_the_gradients_of_a_mask_and_a_relu():
    torch.manual_seed(0)
    x, norm, frames = torch.randn(3, 4, 6, 9), torch.nn.BatchNorm2d(4), torch.tensor([9, 5, 1])
    torch.nn.init.normal_(norm.bias)
    results = []
    for function in (masked_relu_, lambda x, mask: torch.relu(x * mask)):
        inputs = x.clone().requires_grad_()
        result = function(norm(inputs), time_mask(frames, x))
        results.append([result, *torch.autograd.grad(result.square().sum(), [inputs, *norm.parameters()])])
    assert all(torch.equal(ours, expected) for ours, expected in zip(*results, strict=True))


def test_a_strided_pointwise_convolution_equals_torchs():
    own = StridedPointwise(8, 16, 1, (2, 3), bias=False)
    x = torch.randn(2, 8, 5, 10)
    assert torch.allclose(own(x), torch.nn.functional.conv2d(x, own.weight, stride=(2, 3)), atol=1e-6)


def test_no_block_has_a_strided_convolution_that_writes_beyond_its_memory():
    for inputs, kind in ((1, StridedPointwise), (MIN_STRIDED_CHANNELS - 1, StridedPointwise), (16, torch.nn.Conv2d)):
        assert type(ResidualBlock(inputs, 24, (2, 1)).shortcut[0]) is kind


@pytest.mark.long
def test_a_narrow_network_trains_on_hundreds_of_frames_without_touching_foreign_memory():
    code = (
        "import torch; from serx.models.layers import ResidualBlock; torch.set_num_threads(1)\n"
        "for inputs in (1, 2, 8, 15):\n"
        "    block = ResidualBlock(inputs, 16, (2, 2)).to(memory_format=torch.channels_last)\n"
        "    x = torch.randn(8, inputs, 24, 400).to(memory_format=torch.channels_last)\n"
        "    block(x, torch.full((8,), 400))[0].sum().backward()\n"
    )
    checked = os.environ | {"MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "77"}
    assert subprocess.run([sys.executable, "-c", code], env=checked, check=False).returncode == 0
