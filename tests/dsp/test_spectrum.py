"""Spectra, decibels and the DCT against closed forms; on features they equal librosa's."""

import onnxruntime
import pytest
import torch
import torchaudio.functional as AF

from serx.dsp.spectrum import (
    analysis_window,
    centered_frames,
    dct_matrix,
    frame_count,
    power_spectrum,
    power_to_db,
    real_dft,
)

N_FFT, HOP, RATE = 512, 128, 16_000


def test_a_sine_in_the_middle_of_a_bin_has_the_windows_power_there_and_nothing_far_away():
    hertz = 40 * RATE / N_FFT
    wave = torch.sin(2 * torch.pi * hertz / RATE * torch.arange(RATE, dtype=torch.float64)).float()[None]
    power = power_spectrum(wave, analysis_window(N_FFT, N_FFT), HOP)[0, 10:-10]
    expected = (N_FFT / 2 / 2) ** 2  # half the sum of the window, N_FFT / 2, at the positive frequency
    torch.testing.assert_close(power[:, 40], torch.full_like(power[:, 40], expected), rtol=1e-4, atol=0)
    assert power[:, 45:].max() < 1e-6 * expected


def test_the_power_spectrum_satisfies_parsevals_theorem():
    wave = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    window = analysis_window(400, N_FFT)
    power = power_spectrum(wave, window, HOP)
    twice = torch.full((N_FFT // 2 + 1,), 2.0)
    twice[0] = twice[-1] = 1.0
    energy = (centered_frames(wave, N_FFT, HOP) * window).square().sum(-1)
    torch.testing.assert_close(power @ twice / N_FFT, energy, rtol=1e-4, atol=1e-4)


def test_the_number_of_frames_is_that_of_the_spectrum():
    for samples in (1, 127, 128, 1000):
        spectrum = power_spectrum(torch.zeros(1, samples), analysis_window(N_FFT, N_FFT), HOP)
        assert int(frame_count(torch.tensor([samples]), HOP)) == spectrum.shape[1]


def test_decibels_have_a_floor_below_each_clips_own_maximum():
    power = torch.tensor([[[1e2], [1e-9]], [[1e-4], [1e-9]]])
    valid = torch.ones(2, 2, dtype=torch.bool)
    assert power_to_db(power, valid, top_db=60.0).flatten().tolist() == [20.0, -40.0, -40.0, -90.0]
    assert power_to_db(power, valid, amin=1e-5, top_db=None).flatten().tolist() == [20.0, -50.0, -40.0, -50.0]


def test_the_maximum_of_a_clip_ignores_frames_beyond_its_end():
    power = torch.tensor([[[1e-8], [1e-2], [1e8]]])
    valid = torch.tensor([[True, True, False]])
    assert power_to_db(power, valid, top_db=30.0)[0, 0].item() == -50.0


def test_the_dct_is_orthonormal():
    dct = dct_matrix(40, 40)
    torch.testing.assert_close(dct.T @ dct, torch.eye(40), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("n_mfcc", "n_mels"), [(13, 40), (40, 128), (8, 8)])
def test_the_cosine_transform_of_cepstra_is_that_of_torchaudio(n_mfcc, n_mels):
    expected = AF.create_dct(n_mfcc, n_mels, norm="ortho")
    assert torch.equal(dct_matrix(n_mfcc, n_mels), expected)
    assert dct_matrix(n_mfcc, n_mels).stride() == expected.stride()


class RealDft(torch.nn.Module):
    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        return real_dft(frames)


@pytest.mark.slow
@pytest.mark.parametrize("size", [400, 512])
def test_an_exported_dft_has_the_error_of_float32(size, tmp_path):
    """ONNX Runtime's own DFT of 400 points has an error of 3e-5 of the loudest bin."""
    frames = torch.randn(20, size, generator=torch.Generator().manual_seed(size))
    torch.onnx.export(RealDft(), (frames,), tmp_path / "dft.onnx", dynamo=True, opset_version=20, verbose=False)
    session = onnxruntime.InferenceSession(tmp_path / "dft.onnx")
    [found] = session.run(None, {session.get_inputs()[0].name: frames.numpy()})
    exact = torch.view_as_real(torch.fft.rfft(frames.double()))
    for result in (torch.from_numpy(found), real_dft(frames)):
        assert (result - exact).abs().max() < 2e-6 * exact.abs().max()
