"""Mel filters equal librosa's; products in bands equal the dense product; shifted filters shift the pitch."""

import librosa
import numpy as np
import pytest
import torch

from serx.dsp.mel import MelScale, mel_filters, mel_power
from serx.dsp.mel_warp import shifted_mel_power
from tests.features.test_stack import worst_relative_error

SCALES = [
    MelScale(16000, 1024, 64, 0.0, 8000.0),
    MelScale(16000, 512, 128, 40.0, 7600.0),
    MelScale(8000, 256, 20, 0.0, 3000.0),
]


@pytest.mark.parametrize("scale", SCALES)
def test_mel_filters_equal_librosa(scale):
    with np.errstate(all="ignore"):
        reference = librosa.filters.mel(
            sr=scale.sample_rate, n_fft=scale.n_fft, n_mels=scale.n_mels, fmin=scale.f_min, fmax=scale.f_max
        )
    assert worst_relative_error(mel_filters(scale).numpy(), reference.T) < 1e-6


@pytest.mark.parametrize("scale", SCALES)
def test_mel_power_in_bands_equals_the_dense_product(scale):
    power = torch.rand(3, 7, scale.n_fft // 2 + 1, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(mel_power(power, scale), power @ mel_filters(scale))
    steps = torch.tensor([128, 105, 156])
    shifted = shifted_mel_power(power, scale, steps)
    assert torch.equal(shifted[0], mel_power(power, scale)[0])
    for i, step in enumerate(steps.tolist()):
        torch.testing.assert_close(shifted[i], power[i] @ mel_filters(scale, step / 128))


def test_a_pitch_shift_moves_a_bin_to_the_filters_of_its_shifted_frequency():
    scale = SCALES[0]
    power = torch.zeros(1, 1, 513)
    power[0, 0, 128] = 1.0  # 2000 Hz
    moved = torch.zeros(1, 1, 513)
    moved[0, 0, 144] = 1.0  # 2250 Hz
    shifted = shifted_mel_power(power, scale, torch.tensor([144]))
    torch.testing.assert_close(shifted, mel_power(moved, scale), rtol=1e-4, atol=1e-8)
