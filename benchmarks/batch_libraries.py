"""The same work by libraries that work on torch, on the device of serx: torchaudio, nnAudio, torch-audiomentations, ...

Each function returns stage -> workload, and raises ImportError if its library is not installed.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor

from .clip_libraries import decoding
from .inputs import (
    GAIN_DB,
    HOP,
    MORE_MELS,
    N_FFT,
    N_MELS,
    N_MFCC,
    PITCH_HZ,
    RATE,
    SEMITONES,
    SHIFT_SECONDS,
    SLOW,
    SNR_DB,
    SPECTRUM,
    Inputs,
)
from .timing import Workload, elapsed

CHUNKS = (1, 2, 4, 8, 16, 64)
SHIFT_SAMPLES = round(SHIFT_SECONDS[1] * RATE)


def with_torchaudio(inputs: Inputs) -> dict[str, Workload]:
    """torchaudio with librosa's settings; on a CPU in chunks of the size that is fastest.

    `PitchShift` and `Speed` are left out: they build a kernel for each ratio.
    """
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

    batched: dict[str, Callable[[Tensor], object]] = {
        "mel": T.MelSpectrogram(RATE, n_mels=N_MELS, **slaney).to(inputs.device),
        "logmel": decibels(N_MELS).to(inputs.device),
        "mfcc": cepstra.to(inputs.device),
        "mfcc_deltas": deltas,
        "centroid": T.SpectralCentroid(RATE, **SPECTRUM).to(inputs.device),
        "pitch": lambda x: AF.detect_pitch_frequency(x, RATE, freq_low=PITCH_HZ[0], freq_high=PITCH_HZ[1]),
    }
    workloads = {name: _in_best_chunks(inputs, function) for name, function in batched.items()}

    snr_db = torch.from_numpy(inputs.snr_db).float().to(inputs.device)

    def noise() -> Tensor:
        return AF.add_noise(inputs.waveform, torch.randn_like(inputs.waveform), snr_db)

    resample = T.Resample(48_000, RATE)

    def load(path: Path) -> Tensor:
        """By soundfile, since torchaudio 2.11 loads no files without torchcodec."""
        return resample(torch.from_numpy(soundfile.read(path, dtype="float32")[0]))

    window = torch.hann_window(N_FFT, device=inputs.device)
    stretcher = T.TimeStretch(HOP, N_FFT // 2 + 1).to(inputs.device)

    def stretch() -> None:
        for wave, tempo in zip(inputs.waveform, inputs.tempos, strict=True):
            spectrum = torch.stft(wave, **SPECTRUM, window=window, return_complex=True)
            torch.istft(stretcher(spectrum, float(tempo)), **SPECTRUM, window=window)

    log_mels = torch.rand(inputs.count, 1, N_MELS, 1 + inputs.waves.shape[1] // HOP).to(inputs.device)
    time_mask, row_mask = T.TimeMasking(14, iid_masks=True), T.FrequencyMasking(8, iid_masks=True)
    return workloads | {
        **{name: _batch(inputs, filtered) for name, filtered in _biquads(AF, inputs).items()},
        **{stage: workload for stage, workload in decoding(inputs, load).items() if stage.endswith("48k")},
        "noise": _batch(inputs, noise),
        "time_stretch": _batch(inputs, stretch),
        "time_mask": _batch(inputs, lambda: time_mask(time_mask(log_mels))),
        "frequency_mask": _batch(inputs, lambda: row_mask(row_mask(log_mels))),
    }


def _biquads(functional: Any, inputs: Inputs) -> dict[str, Callable[[], Tensor]]:
    """torchaudio's recursive filter for the work of serx: order 4, three bands, and for each clip its own draws.

    Its `lowpass_biquad` and the like have order 2 and one cut-off for the whole batch; coefficients are theirs, from
    Bristow-Johnson's "Cookbook formulae for audio EQ biquad filter coefficients".
    """
    x, count = inputs.waveform, inputs.count
    qualities = (0.5412, 1.3066)  # the quality of the two biquads

    def drawn(low: float, high: float) -> Tensor:
        return torch.exp2(torch.empty(count, device=x.device).uniform_(math.log2(low), math.log2(high)))

    def angle_and_width(frequency: Tensor, q: Tensor | float) -> tuple[Tensor, Tensor]:
        angle = 2 * torch.pi * frequency / RATE
        return angle.cos(), angle.sin() / (2 * q)

    def passed(y: Tensor, cutoff: Tensor, sign: float) -> Tensor:
        """A low-pass with a sign of 1, a high-pass with -1."""
        for q in qualities:
            cosine, width = angle_and_width(cutoff, q)
            outer = (1 - sign * cosine) / 2
            b = torch.stack([outer, sign * 2 * outer, outer], 1)
            y = functional.lfilter(y, torch.stack([1 + width, -2 * cosine, 1 - width], 1), b, clamp=False)
        return y

    def equalized() -> Tensor:
        y = x
        for _ in range(3):
            gain = 10 ** (torch.empty(count, device=x.device).uniform_(-6, 6) / 40)
            cosine, width = angle_and_width(drawn(100, 6000), drawn(0.5, 2.0))
            a = torch.stack([1 + width / gain, -2 * cosine, 1 - width / gain], 1)
            y = functional.lfilter(y, a, torch.stack([1 + width * gain, -2 * cosine, 1 - width * gain], 1), clamp=False)
        return y

    return {
        "low_pass": lambda: passed(x, drawn(2500, 7500), 1),
        "high_pass": lambda: passed(x, drawn(50, 300), -1),
        "band_pass": lambda: passed(passed(x, drawn(50, 300), -1), drawn(2500, 7500), 1),
        "equalizer": equalized,
    }


def with_nnaudio(inputs: Inputs) -> dict[str, Workload]:
    """nnAudio's mel and MFCC layers."""
    from nnAudio.features.mel import MFCC, MelSpectrogram

    settings = {**SPECTRUM, "sr": RATE, "pad_mode": "constant", "verbose": False}
    mel = MelSpectrogram(n_mels=N_MELS, **settings).to(inputs.device)
    cepstra = MFCC(n_mfcc=N_MFCC, n_mels=MORE_MELS, **settings).to(inputs.device)

    def log_mel(x: Tensor) -> Tensor:
        return 10 * mel(x).clamp(min=1e-10).log10()

    batched = {"mel": mel, "logmel": log_mel, "mfcc": cepstra}
    return {name: _in_best_chunks(inputs, function) for name, function in batched.items()}


def with_torch_audiomentations(inputs: Inputs) -> dict[str, Workload]:
    """torch-audiomentations, each clip with its own parameters (its `mode="per_example"`)."""
    import torch_audiomentations as T

    common: dict[str, Any] = {"p": 1.0, "sample_rate": RATE, "output_type": "dict"}
    transforms = {
        "noise": T.AddColoredNoise(SNR_DB[0], SNR_DB[1], 0.0, 0.0, **common),
        "gain": T.Gain(*GAIN_DB, **common),
        "polarity_inversion": T.PolarityInversion(**common),
        "shift": T.Shift(-SHIFT_SAMPLES, SHIFT_SAMPLES, "samples", rollover=False, **common),
        "low_pass": T.LowPassFilter(2500.0, 7500.0, **common),
        "high_pass": T.HighPassFilter(50.0, 300.0, **common),
        "band_pass": T.BandPassFilter(**common),
        "pitch_shift": T.PitchShift(*SEMITONES, **common),
    }

    def workload(name: str) -> Workload:
        count = min(SLOW, inputs.count) if name == "pitch_shift" else inputs.count
        clips, transform = inputs.waveform[:count, None], transforms[name].to(inputs.device)
        return Workload(lambda: transform(clips), count, inputs.written, inference=True)

    return {name: workload(name) for name in transforms}


def with_torch_time_stretch(inputs: Inputs) -> dict[str, Workload]:
    """torch-time-stretch, one call per clip, since a call has one ratio."""
    from torch_time_stretch import time_stretch

    count = min(SLOW, inputs.count)
    ratios = [Fraction(round(128 / tempo), 128) for tempo in inputs.tempos[:count]]

    def stretch() -> None:
        for wave, ratio in zip(inputs.waveform[:count], ratios, strict=True):
            time_stretch(wave[None, None], ratio, RATE)

    return {"time_stretch": Workload(stretch, count, inference=True)}


def _batch(inputs: Inputs, run: Callable[[], object]) -> Workload:
    return Workload(run, inputs.count, inputs.written, inference=True)


def _in_best_chunks(inputs: Inputs, function: Callable[[Tensor], object]) -> Workload:
    """All clips as `(b, 1, T)`, so that maxima are of one clip, in chunks of the size b that is fastest here."""
    clips = inputs.waveform[:, None]

    def run(size: int) -> None:
        for chunk in clips.split(size):
            function(chunk)

    def seconds(size: int) -> float:
        return min(elapsed(Workload(lambda: run(size), inputs.count, inference=True), "wall") for _ in range(2))

    @cache
    def best() -> tuple[int]:
        if inputs.device.type != "cpu":
            return (inputs.count,)
        with torch.inference_mode():
            run(1)  # warm-up
        return (min(sorted({min(size, inputs.count) for size in CHUNKS}), key=seconds),)

    return Workload(run, inputs.count, best, inference=True)
