"""The same work by the libraries on torch: torchaudio, nnAudio, torch-audiomentations and torch-time-stretch.

They run where serx runs. On a CPU torchaudio gets the batch in chunks of the size that suits it best.
"""

from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import torch
from torch import Tensor

from .given import GAIN_DB, MORE_MELS, N_FFT, N_MELS, N_MFCC, PITCH_HZ, RATE, SEMITONES, SLOW, SNR_DB, SPECTRUM, Given
from .timing import Work, elapsed

CHUNKS = (1, 2, 4, 8, 16, 64)
SHIFT_SAMPLES = round(0.2 * RATE)


def torchaudio(given: Given) -> dict[str, Work]:
    """Features with librosa's settings; `PitchShift` and `Speed` are left out, which build a kernel for each ratio."""
    import torchaudio.functional as AF
    import torchaudio.transforms as T

    slaney = {**SPECTRUM, "norm": "slaney", "mel_scale": "slaney", "pad_mode": "constant"}

    def decibels(mels: int) -> torch.nn.Module:
        return torch.nn.Sequential(T.MelSpectrogram(RATE, n_mels=mels, **slaney), T.AmplitudeToDB("power", 80.0))

    cepstra = T.MFCC(RATE, n_mfcc=N_MFCC, melkwargs={"n_mels": MORE_MELS, **slaney})
    derivative = T.ComputeDeltas(win_length=9)

    def deltas(x: Tensor) -> Tensor:
        static = cepstra(x)
        first = derivative(static)
        return torch.cat([static, first, derivative(first)], dim=-2)

    whole: dict[str, Callable[[Tensor], object]] = {
        "mel": T.MelSpectrogram(RATE, n_mels=N_MELS, **slaney).to(given.device),
        "logmel": decibels(N_MELS).to(given.device),
        "mfcc": cepstra.to(given.device),
        "mfcc_deltas": deltas,
        "centroid": T.SpectralCentroid(RATE, **SPECTRUM).to(given.device),
        "pitch": lambda x: AF.detect_pitch_frequency(x, RATE, freq_low=PITCH_HZ[0], freq_high=PITCH_HZ[1]),
        "low_pass": lambda x: AF.lowpass_biquad(x, RATE, 4000.0),
        "high_pass": lambda x: AF.highpass_biquad(x, RATE, 200.0),
        "band_pass": lambda x: AF.bandpass_biquad(x, RATE, 1000.0),
        "equalizer": lambda x: AF.equalizer_biquad(x, RATE, 1000.0, 3.0),
    }
    made = {name: _in_best_chunks(given, function) for name, function in whole.items()}

    snr_db = torch.from_numpy(given.snr_db).float().to(given.device)

    def noise() -> Tensor:
        return AF.add_noise(given.waveform, torch.randn_like(given.waveform), snr_db)

    window = torch.hann_window(N_FFT, device=given.device)
    stretcher = T.TimeStretch(SPECTRUM["hop_length"], N_FFT // 2 + 1).to(given.device)

    def stretch() -> None:
        for wave, tempo in zip(given.waveform, given.tempos, strict=True):
            spectrum = torch.stft(wave, **SPECTRUM, window=window, return_complex=True)
            torch.istft(stretcher(spectrum, float(tempo)), **SPECTRUM, window=window)

    pictures = torch.rand(given.count, 1, N_MELS, 1 + given.waves.shape[1] // SPECTRUM["hop_length"]).to(given.device)
    time_mask, row_mask = T.TimeMasking(14, iid_masks=True), T.FrequencyMasking(8, iid_masks=True)
    made |= {
        "noise": _batch(given, noise),
        "time_stretch": _batch(given, stretch),
        "time_mask": _batch(given, lambda: time_mask(time_mask(pictures))),
        "frequency_mask": _batch(given, lambda: row_mask(row_mask(pictures))),
    }
    return made


def nnaudio(given: Given) -> dict[str, Work]:
    """nnAudio's own mel and MFCC layers."""
    from nnAudio.features.mel import MFCC, MelSpectrogram

    settings = {**SPECTRUM, "sr": RATE, "pad_mode": "constant", "verbose": False}
    mel = MelSpectrogram(n_mels=N_MELS, **settings).to(given.device)
    cepstra = MFCC(n_mfcc=N_MFCC, n_mels=MORE_MELS, **settings).to(given.device)

    def log_mel(x: Tensor) -> Tensor:
        return 10 * mel(x).clamp(min=1e-10).log10()

    whole = {"mel": mel, "logmel": log_mel, "mfcc": cepstra}
    return {name: _in_best_chunks(given, function) for name, function in whole.items()}


def torch_audiomentations(given: Given) -> dict[str, Work]:
    """Each clip with parameters of its own, as its `mode="per_example"` has it."""
    import torch_audiomentations as T

    common: dict[str, Any] = {"p": 1.0, "sample_rate": RATE, "output_type": "dict"}
    low, high = SEMITONES
    transforms = {
        "noise": T.AddColoredNoise(SNR_DB[0], SNR_DB[1], 0.0, 0.0, **common),
        "gain": T.Gain(*GAIN_DB, **common),
        "polarity_inversion": T.PolarityInversion(**common),
        "shift": T.Shift(-SHIFT_SAMPLES, SHIFT_SAMPLES, "samples", rollover=False, **common),
        "low_pass": T.LowPassFilter(2500.0, 7500.0, **common),
        "high_pass": T.HighPassFilter(50.0, 300.0, **common),
        "band_pass": T.BandPassFilter(**common),
        "pitch_shift": T.PitchShift(low, high, **common),
    }

    def work(name: str) -> Work:
        count = min(SLOW, given.count) if name == "pitch_shift" else given.count
        clips, transform = given.waveform[:count, None], transforms[name].to(given.device)
        return Work(torch.inference_mode()(lambda: transform(clips)), count)

    return {name: work(name) for name in transforms}


def torch_time_stretch(given: Given) -> dict[str, Work]:
    """Every clip in a call of its own: a call has one ratio."""
    from torch_time_stretch import time_stretch

    count = min(SLOW, given.count)
    ratios = [Fraction(round(128 / tempo), 128) for tempo in given.tempos[:count]]

    def stretch() -> None:
        for wave, ratio in zip(given.waveform[:count], ratios, strict=True):
            time_stretch(wave[None, None], ratio, RATE)

    return {"time_stretch": Work(torch.inference_mode()(stretch), count)}


def _batch(given: Given, run: Callable[[], object]) -> Work:
    return Work(torch.inference_mode()(run), given.count)


def _in_best_chunks(given: Given, function: Callable[[Tensor], object]) -> Work:
    """All clips, shaped `(b, 1, T)` so that maxima are the clip's own, by the chunk size that is fastest here."""
    clips = given.waveform[:, None]

    @torch.inference_mode()
    def run(size: int) -> None:
        for chunk in clips.split(size):
            function(chunk)

    def seconds(size: int) -> float:
        return min(elapsed(Work(lambda: run(size), given.count), "wall") for _ in range(2))

    @cache
    def best() -> tuple[int]:
        if given.device.type != "cpu":
            return (given.count,)
        run(1)  # warms up
        return (min(sorted({min(size, given.count) for size in CHUNKS}), key=seconds),)

    return Work(run, given.count, best)
