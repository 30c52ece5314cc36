"""The same work by the libraries that augment one waveform at a time: audiomentations and Signalsmith Stretch."""

from typing import Any

import numpy as np

from .given import GAIN_DB, RATE, SEMITONES, SHIFT_SECONDS, SNR_DB, TEMPO, Given
from .timing import Work


def audiomentations(given: Given) -> dict[str, Work]:
    """With its own defaults but for the ranges; pitch and time by Signalsmith's stretcher."""
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

    def work(transform: Any) -> Work:
        return Work(lambda: [transform(samples=wave, sample_rate=RATE) for wave in given.waves], given.count)

    return {name: work(transform) for name, transform in transforms.items()}


def signalsmith(given: Given) -> dict[str, Work]:
    """Signalsmith Stretch (C++) by its Python binding."""
    from python_stretch.Signalsmith import Stretch

    stretcher = Stretch()
    stretcher.preset(1, RATE)

    def change(semitones: np.ndarray, tempos: np.ndarray) -> Work:
        def run() -> None:
            for wave, semitone, tempo in zip(given.waves, semitones, tempos, strict=True):
                stretcher.reset()
                stretcher.setTransposeSemitones(float(semitone))
                stretcher.setTimeFactor(float(tempo))
                stretcher.process(wave[None])

        return Work(run, given.count)

    still = np.zeros(given.count)
    return {
        "pitch_shift": change(given.semitones, still + 1),
        "time_stretch": change(still, given.tempos),
        "pitch_tempo": change(given.semitones, given.tempos),
    }
