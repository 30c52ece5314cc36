"""The same work by librosa and numpy, a clip at a time, as published systems do it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from .given import HOP, MORE_MELS, N_FFT, N_MELS, N_MFCC, PITCH_HZ, RATE, SPECTRUM, Given
from .timing import Work

Wave = np.ndarray


def works(given: Given) -> dict[str, Work]:
    """Stage -> work.

    Raises:
        ImportError: librosa is not installed.
    """
    import librosa

    def each(function: Callable[..., object], *told: np.ndarray) -> Work:
        """`function(wave, ...)` of every clip, each with its own of what is `told`."""
        return Work(lambda: [function(*one) for one in zip(given.waves, *told, strict=True)], given.count)

    made = {name: each(function) for name, function in _features(librosa).items()}
    made["decode"] = Work(lambda: [librosa.load(path, sr=RATE) for path in given.paths], given.count)
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

    def warp(y: Wave, semitones: float, tempo: float) -> Wave:
        return log_mel(librosa, stretch(pitch(y, semitones), tempo))

    def chain(y: Wave, snr_db: float, samples: int, semitones: float, tempo: float) -> Wave:
        y = stretch(pitch(shift(noise(y, snr_db), samples), semitones), tempo)
        return mfcc(librosa, y)

    made |= {
        "noise": each(noise, given.snr_db),
        "gain": each(lambda y, db: y * np.float32(10 ** (db / 20)), given.gain_db),
        "polarity_inversion": each(lambda y: -y),
        "clipping": each(lambda y: np.clip(y, -0.5 * np.abs(y).max(), 0.5 * np.abs(y).max())),
        "shift": each(shift, given.shifts),
        "pitch_shift": each(pitch, given.semitones),
        "time_stretch": each(stretch, given.tempos),
        "speed": each(speed, given.speeds),
        "pitch_tempo": each(lambda y, *told: stretch(pitch(y, told[0]), told[1]), given.semitones, given.tempos),
        "warp_fused": each(warp, given.semitones, given.tempos),
        "chain_fused": each(chain, given.snr_db, given.shifts, given.semitones, given.tempos),
    }
    ways = ("one_pass", "waveform")
    return made | {f"{name}_{way}": made[f"{name}_fused"] for name in ("warp", "chain") for way in ways}


def shift(y: Wave, samples: int) -> Wave:
    """`y` moved later by `samples`, its length kept."""
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


def _features(librosa: Any) -> dict[str, Callable[[Wave], object]]:
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
