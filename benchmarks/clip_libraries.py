"""The same work by libraries that take one clip at a time on the CPU: librosa, soundfile, NumPy, audiomentations, ...

Each function returns stage -> workload, and raises ImportError if its library is not installed.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .inputs import (
    ENCODINGS,
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
    SNR_DB,
    SPECTRUM,
    TEMPO,
    Inputs,
)
from .timing import Workload

Wave = np.ndarray


def with_librosa(inputs: Inputs) -> dict[str, Workload]:
    """librosa, one clip at a time, as published systems do it."""
    import librosa

    def each(function: Callable[..., object], *settings: np.ndarray) -> Workload:
        """`function(wave, ...)` for every clip, with the clip's own `settings`."""
        return Workload(lambda: [function(*call) for call in zip(inputs.waves, *settings, strict=True)], inputs.count)

    workloads = {name: each(function) for name, function in _librosa_features(librosa).items()}
    workloads |= decoding(inputs, lambda path: librosa.load(path, sr=RATE))
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


def decoding(inputs: Inputs, load: Callable[[Path], object]) -> dict[str, Workload]:
    """`load` of the files of every stage that decodes; the files are written when a stage is first measured."""

    def each(paths: Callable[[], list[Path]]) -> Workload:
        return Workload(lambda: [load(path) for path in paths()], inputs.count)

    return {"decode": each(lambda: inputs.paths)} | {
        stage: each(lambda stage=stage: inputs.encoded(stage))  # type: ignore[misc]
        for stage in ENCODINGS
    }


def with_soundfile(inputs: Inputs) -> dict[str, Workload]:
    """soundfile, and soxr where files have another sampling rate; both are what serx and librosa decode with."""
    import soundfile
    import soxr

    def load(path: Path) -> Wave:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        mono = samples.mean(axis=1) if samples.shape[1] > 1 else samples[:, 0]
        return mono if rate == RATE else soxr.resample(mono, rate, RATE)

    return decoding(inputs, load)


def log_mel(librosa: Any, y: Wave, n_mels: int = N_MELS) -> Wave:
    return librosa.power_to_db(librosa.feature.melspectrogram(y=y, sr=RATE, n_mels=n_mels, **SPECTRUM))


def mfcc(librosa: Any, y: Wave) -> Wave:
    return librosa.feature.mfcc(S=log_mel(librosa, y, MORE_MELS), n_mfcc=N_MFCC)


def with_numpy(inputs: Inputs) -> dict[str, Workload]:
    """The shortest NumPy for what serx does: what a clip draws follows from seed, epoch and clip alone."""

    def each(function: Callable[[Wave, np.random.Generator], Wave]) -> Workload:
        def run() -> None:
            changed = []
            for clip, y in enumerate(inputs.waves):
                random = np.random.default_rng((0, 0, clip))
                changed.append(function(y, random) if random.random() < 1.0 else y)

        return Workload(run, inputs.count, inputs.written)

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
        def run() -> None:
            [transform(samples=wave, sample_rate=RATE) for wave in inputs.waves]

        return Workload(run, inputs.count, inputs.written)

    return {name: workload(transform) for name, transform in transforms.items()}


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
