"""Deltas of polynomials are their derivatives; on features they equal librosa's (`tests/features/test_stack.py`)."""

import librosa
import numpy as np
import pytest
import torch

from serx.dsp.deltas import delta

TIME = torch.arange(30.0)


def test_the_delta_of_a_ramp_is_its_slope_everywhere():
    slope = delta(3 * TIME.reshape(1, 30, 1) - 7, torch.tensor([30]))
    torch.testing.assert_close(slope, torch.full_like(slope, 3.0), rtol=0, atol=1e-5)


def test_the_second_delta_of_a_parabola_is_its_curvature_everywhere():
    curvature = delta(0.5 * TIME.square().reshape(1, 30, 1), torch.tensor([30]), order=2)
    torch.testing.assert_close(curvature, torch.ones_like(curvature), rtol=0, atol=1e-4)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("width", [5, 9])
def test_deltas_equal_librosa_at_each_clips_own_end(order, width):
    frames = torch.tensor([30, 12, 9])
    features = torch.randn(3, 30, 4, generator=torch.Generator().manual_seed(0))
    result = delta(features, frames, order, width).numpy()
    for clip, count in enumerate(frames.tolist()):
        reference = librosa.feature.delta(features[clip, :count].numpy(), order=order, width=width, axis=0)
        assert np.abs(result[clip, :count] - reference).max() < 1e-5


def test_a_clip_shorter_than_the_window_is_extended_by_its_last_frame():
    features = torch.tensor([[[1.0], [2.0], [5.0], [100.0], [100.0]]])
    extended = torch.tensor([[[1.0], [2.0], [5.0], [5.0], [5.0], [5.0], [5.0], [5.0], [5.0]]])
    short, full = delta(features, torch.tensor([3])), delta(extended, torch.tensor([3]))
    assert torch.equal(short[:, :3], full[:, :3])
