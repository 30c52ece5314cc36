"""Zero crossings and root mean squares: librosa's values and closed forms."""

import librosa
import numpy as np
import pytest
import torch

from serx.dsp.temporal import frame_sums, root_mean_square, zero_crossing_rate
from tests.conftest import RATE, batched
from tests.dsp.test_spectral_shape import tone
from tests.features.test_stack import worst_relative_error


@pytest.mark.parametrize(("size", "hop"), [(1024, 256), (400, 160), (512, 200), (64, 100), (1024, 333)])
def test_both_equal_librosas(size, hop, clips):
    waveform, lengths = batched(clips, extra=1234)
    crossings, levels = zero_crossing_rate(waveform, lengths, size, hop), root_mean_square(waveform, size, hop)
    for i, wave in enumerate(clips):
        count = 1 + len(wave) // hop
        reference = librosa.feature.zero_crossing_rate(wave, frame_length=size, hop_length=hop)
        assert np.abs(crossings[i, :count].numpy().T - reference).max() < 1e-7
        reference = librosa.feature.rms(y=wave, frame_length=size, hop_length=hop)
        assert worst_relative_error(levels[i, :count].numpy().T, reference) < 1e-6


@pytest.mark.speech
def test_both_equal_librosas_on_real_speech(speech_root):
    path = sorted((speech_root / "ravdess16k" / "Actor_02").glob("*.flac"))[0]
    test_both_equal_librosas(1024, 256, [librosa.load(path, sr=RATE)[0]])


def test_a_tone_crosses_zero_twice_a_period():
    for hertz in (100.0, 1000.0, 3000.0):
        rate = zero_crossing_rate(*batched([tone(hertz)]), 1024, 256)[0, 4:-4]
        assert (rate - 2 * hertz / RATE).abs().max() < 1.5 / 1024


def test_a_sines_root_mean_square_is_its_amplitude_over_root_two():
    level = root_mean_square(torch.from_numpy(0.5 * tone(1000.0))[None], 1024, 256)[0, 4:-4]
    torch.testing.assert_close(level, torch.full_like(level, 0.5 / 2**0.5), rtol=1e-3, atol=0)


def test_the_end_of_a_clip_below_zero_is_no_crossing():
    wave = torch.full((1, 3000), -0.3)
    padded = torch.nn.functional.pad(wave, (0, 2000))
    assert not zero_crossing_rate(padded, torch.tensor([3000]), 1024, 256).any()


@pytest.mark.parametrize(("size", "hop", "samples"), [(8, 4, 20), (10, 4, 23), (6, 9, 31), (16, 3, 1)])
def test_frame_sums_are_the_sums_of_the_frames(size, hop, samples):
    x = torch.randn(2, samples, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(x, (size // 2, size // 2))
    torch.testing.assert_close(frame_sums(x, size, hop), padded.unfold(-1, size, hop).sum(-1))
