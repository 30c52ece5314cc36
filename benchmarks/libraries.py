"""The same work by other libraries, each as its users would do it.

librosa, NumPy, audiomentations and Signalsmith Stretch take one clip at a time on the CPU. The libraries on torch run
on the device of serx. Each function returns stage -> workload, and raises ImportError if its library is not installed.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

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
    TEMPO,
    Inputs,
)
from .timing import Workload, elapsed

CHUNKS = (1, 2, 4, 8, 16, 64)
SHIFT_SAMPLES = round(SHIFT_SECONDS[1] * RATE)
Wave = np.ndarray


def with_librosa(inputs: Inputs) -> dict[str, Workload]:
    """librosa, one clip at a time, as published systems do it."""
    import librosa

    def each(function: Callable[..., object], *settings: np.ndarray) -> Workload:
        """`function(wave, ...)` for every clip, with the clip's own `settings`."""
        return Workload(lambda: [function(*call) for call in zip(inputs.waves, *settings, strict=True)], inputs.count)

    workloads = {name: each(function) for name, function in _librosa_features(librosa).items()}
    workloads["decode"] = Workload(lambda: [librosa.load(path, sr=RATE) for path in inputs.paths], inputs.count)
    random = np.random.default_rng(0)

    def noise(y: Wave, snr_db: float) -> Wave:
        added = random.standard_normal(len(y), dtype=np.float32)
        return y + added * np.sqrt(np.mean(y**2) / np.mean(added**2) * 10 ** (-snr_db / 10))

    def pitch(y: Wave, semitones: float) -> Wave:
        return librosa.effects.pitch_shift(y, sr=RATE, n_steps=semitones)

    def stretch(y: Wave, tempo: float) -> Wave:
        return librosa.effects.time_stretch(y, rate=tempo)

    def speed(y: Wave, ratio: float) -> Wave:
        return librosa.resample(y, orig_sr=RATE, target_sr=RATE / ratio)

    def pitch_tempo(y: Wave, semitones: float, tempo: float) -> Wave:
        return stretch(pitch(y, semitones), tempo)

    def logmel_chain(y: Wave, semitones: float, tempo: float) -> Wave:
        return log_mel(librosa, pitch_tempo(y, semitones, tempo))

    def mfcc_chain(y: Wave, snr_db: float, samples: int, semitones: float, tempo: float) -> Wave:
        return mfcc(librosa, pitch_tempo(shift(noise(y, snr_db), samples), semitones, tempo))

    ratios = (inputs.semitones, inputs.tempos)
    workloads |= {
        "noise": each(noise, inputs.snr_db),
        "pitch_shift": each(pitch, inputs.semitones),
        "time_stretch": each(stretch, inputs.tempos),
        "speed": each(speed, inputs.speeds),
        "pitch_tempo": each(pitch_tempo, *ratios),
    }
    logmel_workload = each(logmel_chain, *ratios)
    mfcc_workload = each(mfcc_chain, inputs.snr_db, inputs.shifts, *ratios)
    for way in ("mel_warp", "pitch_tempo", "two_passes"):
        workloads |= {f"logmel_{way}": logmel_workload, f"mfcc_{way}": mfcc_workload}
    return workloads


def with_numpy(inputs: Inputs) -> dict[str, Workload]:
    """The shortest NumPy for what serx does: what a clip draws follows from seed, epoch and clip alone."""

    def each(function: Callable[[Wave, np.random.Generator], Wave]) -> Workload:
        def run() -> None:
            changed = []
            for clip, y in enumerate(inputs.waves):
                random = np.random.default_rng((0, 0, clip))
                changed.append(function(y, random) if random.random() < 1.0 else y)

        return Workload(run, inputs.count)

    def gain(y: Wave, random: np.random.Generator) -> Wave:
        return y * np.float32(10 ** (random.uniform(*GAIN_DB) / 20))

    def clip(y: Wave, random: np.random.Generator) -> Wave:
        bound = np.float32(10 ** (random.uniform(-12.0, -1.0) / 20)) * max(y.max(), -y.min())
        return np.clip(y, -bound, bound)

    def moved(y: Wave, random: np.random.Generator) -> Wave:
        return shift(y, round(random.uniform(*SHIFT_SECONDS) * RATE))

    changes = {"gain": gain, "polarity_inversion": lambda y, _: -y, "clipping": clip, "shift": moved}
    return {name: each(change) for name, change in changes.items()}


def shift(y: Wave, samples: int) -> Wave:
    """`y` moved later by `samples`; its length stays."""
    moved = np.zeros_like(y)
    if samples >= 0:
        moved[samples:] = y[: len(y) - samples]
    else:
        moved[:samples] = y[-samples:]
    return moved


def log_mel(librosa: Any, y: Wave, n_mels: int = N_MELS) -> Wave:
    return librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=RATE, n_mels=n_mels, **SPECTRUM))


def mfcc(librosa: Any, y: Wave) -> Wave:
    return librosa.feature.mfcc(S=log_mel(librosa, y, MORE_MELS), n_mfcc=N_MFCC)


def _librosa_features(librosa: Any) -> dict[str, Callable[[Wave], object]]:
    feature, frame = librosa.feature, {"frame_length": N_FFT, "hop_length": HOP}
    spectral = {"sr": RATE, **SPECTRUM}

    def chroma(y: Wave) -> Wave:
        return feature.chroma_stft(y=y, tuning=0.0, **spectral)

    def deltas(y: Wave) -> Wave:
        static = mfcc(librosa, y)
        return np.concatenate([static, feature.delta(static), feature.delta(static, order=2)])

    def published(y: Wave) -> tuple[object, ...]:
        rows = feature.zero_crossing_rate(y, **frame), chroma(y), feature.rms(y=y, **frame)
        return *rows, mfcc(librosa, y), log_mel(librosa, y, MORE_MELS)

    low, high = PITCH_HZ
    return {
        "mel": lambda y: feature.melspectrogram(y=y, sr=RATE, n_mels=N_MELS, **SPECTRUM),
        "logmel": lambda y: log_mel(librosa, y),
        "mfcc": lambda y: mfcc(librosa, y),
        "mfcc_deltas": deltas,
        "zcr": lambda y: feature.zero_crossing_rate(y, **frame),
        "rms": lambda y: feature.rms(y=y, **frame),
        "chroma": chroma,
        "chroma_cqt": lambda y: feature.chroma_cqt(y=y, sr=RATE, hop_length=HOP, tuning=0.0),
        "contrast": lambda y: feature.spectral_contrast(y=y, **spectral),
        "tonnetz": lambda y: feature.tonnetz(chroma=chroma(y)),
        "centroid": lambda y: feature.spectral_centroid(y=y, **spectral),
        "bandwidth": lambda y: feature.spectral_bandwidth(y=y, **spectral),
        "rolloff": lambda y: feature.spectral_rolloff(y=y, **spectral),
        "flatness": lambda y: feature.spectral_flatness(y=y, **SPECTRUM),
        "pitch": lambda y: librosa.yin(y, fmin=low, fmax=high, sr=RATE, frame_length=N_FFT, hop_length=HOP),
        "published": published,
    }


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


def with_audiomentations(inputs: Inputs) -> dict[str, Workload]:
    """audiomentations, one clip at a time, with its own defaults except for the ranges.

    Its pitch shift and time stretch are Signalsmith's.
    """
    import audiomentations as A

    transforms = {
        "noise": A.AddGaussianSNR(*SNR_DB, p=1.0),
        "gain": A.Gain(*GAIN_DB, p=1.0),
        "polarity_inversion": A.PolarityInversion(p=1.0),
        "clipping": A.ClippingDistortion(p=1.0),
        "shift": A.Shift(*SHIFT_SECONDS, "seconds", rollover=False, p=1.0),
        "pitch_shift": A.PitchShift(*SEMITONES, p=1.0),
        "time_stretch": A.TimeStretch(*TEMPO, leave_length_unchanged=False, p=1.0),
        "low_pass": A.LowPassFilter(2500.0, 7500.0, p=1.0),
        "high_pass": A.HighPassFilter(50.0, 300.0, p=1.0),
        "band_pass": A.BandPassFilter(p=1.0),
        "equalizer": A.SevenBandParametricEQ(-6.0, 6.0, p=1.0),
    }

    def workload(transform: Any) -> Workload:
        return Workload(lambda: [transform(samples=wave, sample_rate=RATE) for wave in inputs.waves], inputs.count)

    return {name: workload(transform) for name, transform in transforms.items()}


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
        return Workload(torch.inference_mode()(lambda: transform(clips)), count)

    return {name: workload(name) for name in transforms}


def with_torch_time_stretch(inputs: Inputs) -> dict[str, Workload]:
    """torch-time-stretch, one call per clip, since a call has one ratio."""
    from torch_time_stretch import time_stretch

    count = min(SLOW, inputs.count)
    ratios = [Fraction(round(128 / tempo), 128) for tempo in inputs.tempos[:count]]

    def stretch() -> None:
        for wave, ratio in zip(inputs.waveform[:count], ratios, strict=True):
            time_stretch(wave[None, None], ratio, RATE)

    return {"time_stretch": Workload(torch.inference_mode()(stretch), count)}


def with_signalsmith(inputs: Inputs) -> dict[str, Workload]:
    """Signalsmith Stretch (C++) through its Python binding, one clip at a time."""
    from python_stretch.Signalsmith import Stretch

    stretcher = Stretch()
    stretcher.preset(1, RATE)

    def change(semitones: np.ndarray, tempos: np.ndarray) -> Workload:
        def run() -> None:
            for wave, semitone, tempo in zip(inputs.waves, semitones, tempos, strict=True):
                stretcher.reset()
                stretcher.setTransposeSemitones(float(semitone))
                stretcher.setTimeFactor(float(tempo))
                stretcher.process(wave[None])

        return Workload(run, inputs.count)

    zeros = np.zeros(inputs.count)
    return {
        "pitch_shift": change(inputs.semitones, zeros + 1),
        "time_stretch": change(zeros, inputs.tempos),
        "pitch_tempo": change(inputs.semitones, inputs.tempos),
    }


# Name in the report -> its workloads, and its name on PyPI.
LIBRARIES: dict[str, tuple[Callable[[Inputs], dict[str, Workload]], str]] = {
    "librosa": (with_librosa, "librosa"),
    "NumPy": (with_numpy, "numpy"),
    "torchaudio": (with_torchaudio, "torchaudio"),
    "nnAudio": (with_nnaudio, "nnAudio"),
    "audiomentations": (with_audiomentations, "audiomentations"),
    "torch-audiomentations": (with_torch_audiomentations, "torch-audiomentations"),
    "torch-time-stretch": (with_torch_time_stretch, "torch-time-stretch"),
    "Signalsmith": (with_signalsmith, "python-stretch"),
}


def installed(inputs: Inputs) -> tuple[dict[str, dict[str, Workload]], dict[str, str]]:
    """Library -> stage -> workload for the installed libraries, and for each of the others how to install it."""
    workloads, absent = {}, {}
    for library, (make, package) in LIBRARIES.items():
        try:
            workloads[library] = make(inputs)
        except ImportError as error:
            absent[library] = f"{error}; pip install {package}, or all of them: pip install -e '.[benchmark]'"
    return workloads, absent


def _batch(inputs: Inputs, run: Callable[[], object]) -> Workload:
    return Workload(torch.inference_mode()(run), inputs.count)


def _in_best_chunks(inputs: Inputs, function: Callable[[Tensor], object]) -> Workload:
    """All clips as `(b, 1, T)`, so that maxima are of one clip, in chunks of the size b that is fastest here."""
    clips = inputs.waveform[:, None]

    @torch.inference_mode()
    def run(size: int) -> None:
        for chunk in clips.split(size):
            function(chunk)

    def seconds(size: int) -> float:
        return min(elapsed(Workload(lambda: run(size), inputs.count), "wall") for _ in range(2))

    @cache
    def best() -> tuple[int]:
        if inputs.device.type != "cpu":
            return (inputs.count,)
        run(1)  # warm-up
        return (min(sorted({min(size, inputs.count) for size in CHUNKS}), key=seconds),)

    return Workload(run, inputs.count, best)
