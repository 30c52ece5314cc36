"""A source-filter synthesizer: glottal pulses, breath and hiss through moving formants (Fant 1960, Klatt & Klatt 1990).

    phones --> frame tracks: formants, voicing, hiss            `articulate`
    f0     --> glottal pulses + breath                          `phonate`
    both   --> every 16 ms segment through its own vocal tract  `resonate`
    room and microphone                                         `record`

There is a frame every 8 ms (`HOP`). Arrays are float64; N is frames, T samples at 16 kHz, T = N * HOP.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter, resample_poly

Array = NDArray[np.float64]

SAMPLE_RATE = 16000
HOP = 128
N_FFT = 8 * HOP  # a segment is 2 * HOP long; the rest, 48 ms, holds the decay of the resonances
BANDWIDTHS_HZ = np.array([70.0, 90.0, 130.0, 220.0, 300.0])
MICROPHONE_HZ = (80.0, 250.0, 800.0, 2000.0, 4000.0, 8000.0)


@dataclass(frozen=True)
class Phone:
    """One speech sound of an average man; other speakers scale its formants.

    Attributes:
        seconds: duration at rate 1.
        formants_hz: the first three resonances of the tract.
        voiced: amplitude of the glottal source.
        hiss: amplitude of the noise at a constriction.
        hiss_hz: resonance in front of that constriction.
    """

    seconds: float
    formants_hz: tuple[float, float, float]
    voiced: float = 0.0
    hiss: float = 0.0
    hiss_hz: float = 4000.0


# Vowels: the men of Peterson & Barney (1952), table II. Consonants: the loci of Klatt (1980), table III, rounded.
PHONES: dict[str, tuple[Phone, ...]] = {
    "-": (Phone(0.070, (500, 1500, 2500)),),  # silence
    "a": (Phone(0.110, (730, 1090, 2440), voiced=1.0),),
    "e": (Phone(0.105, (530, 1840, 2480), voiced=1.0),),
    "i": (Phone(0.100, (270, 2290, 3010), voiced=0.9),),
    "o": (Phone(0.110, (570, 840, 2410), voiced=1.0),),
    "u": (Phone(0.100, (300, 870, 2240), voiced=0.9),),
    "m": (Phone(0.065, (250, 1000, 2200), voiced=0.35),),
    "n": (Phone(0.060, (250, 1500, 2500), voiced=0.35),),
    "l": (Phone(0.060, (360, 1050, 2800), voiced=0.5),),
    "s": (Phone(0.095, (320, 1500, 2600), hiss=0.14, hiss_hz=5800),),
    "f": (Phone(0.085, (340, 1000, 2100), hiss=0.07, hiss_hz=4500),),
    "d": (Phone(0.040, (220, 1600, 2600), voiced=0.12), Phone(0.012, (220, 1600, 2600), hiss=0.20, hiss_hz=4000)),
    "t": (Phone(0.055, (300, 1650, 2600)), Phone(0.028, (300, 1650, 2600), hiss=0.22, hiss_hz=4300)),
    "k": (Phone(0.055, (300, 1900, 2500)), Phone(0.032, (300, 1900, 2500), hiss=0.22, hiss_hz=2100)),
}


@dataclass(frozen=True)
class Tracks:
    """The articulation at every frame: `formants_hz` (N, 5); `voiced`, `hiss`, `hiss_hz` (N,)."""

    formants_hz: Array
    voiced: Array
    hiss: Array
    hiss_hz: Array


def articulate(phones: list[Phone], seconds: list[float], tract: float) -> Tracks:
    """Concatenates phones, with a smooth transition from each to the next.

    Args:
        phones: the sounds in order.
        seconds: duration of each one.
        tract: formant factor of the speaker: 1 is an average man, 1.17 an average woman (a shorter tract).
    """
    ends = np.cumsum(seconds)
    times = (np.arange(int(ends[-1] * SAMPLE_RATE / HOP)) + 0.5) * HOP / SAMPLE_RATE
    phone_index = np.searchsorted(ends, times).clip(max=len(phones) - 1)
    table = np.array([[*p.formants_hz, 3500.0, 4500.0, p.voiced, p.hiss, p.hiss_hz] for p in phones])[phone_index]
    return Tracks(
        # The tongue moves to its next target in about 70 ms, the lips and the glottis in about 30 ms.
        formants_hz=tract * _smooth(table[:, :5], 9),
        voiced=_smooth(table[:, 5:6], 3)[:, 0],
        hiss=_smooth(table[:, 6:7], 1)[:, 0],
        hiss_hz=tract * table[:, 7],
    )


def phonate(
    f0_hz: Array,
    voiced: Array,
    *,
    open_quotient: float,
    tilt_db: float,
    jitter: float,
    shimmer: float,
    breath_db: float,
    generator: np.random.Generator,
) -> Array:
    """The glottal source (T,): KLGLOTT88 pulses, and breath noise while the glottis is open.

    Args:
        f0_hz: fundamental frequency of each frame (N,).
        voiced: amplitude of each frame (N,).
        open_quotient: fraction of a cycle in which the glottis is open, 0.35 (pressed) to 0.85 (breathy).
        tilt_db: attenuation of a one-pole low-pass filter at 3 kHz; > 0.
        jitter: mean |difference of neighboring periods| / period.
        shimmer: mean |difference of neighboring amplitudes| / amplitude.
        breath_db: level of the breath relative to the pulses.
        generator: source of all randomness.
    """
    # At twice the rate, as differences of the flow instead of samples of its derivative, because closures fall between
    # samples.
    n_samples = len(f0_hz) * HOP
    frame_times = np.arange(len(f0_hz)) * 2 * HOP + HOP
    cycles = np.cumsum(np.interp(np.arange(2 * n_samples), frame_times, f0_hz)) / (2 * SAMPLE_RATE)
    n_cycles = int(cycles[-1]) + 3

    # Each closure moves by e_n ~ N(0, s^2): neighboring periods differ by e_n+1 - 2 e_n + e_n-1, of mean absolute
    # value s sqrt(6) sqrt(2 / pi). Amplitudes a_n differ by a_n+1 - a_n: s sqrt(2) sqrt(2 / pi).
    shift = jitter / np.sqrt(12 / np.pi) * generator.standard_normal(n_cycles)
    amplitude = 1 + shimmer / np.sqrt(4 / np.pi) * generator.standard_normal(n_cycles)
    phase = cycles + np.interp(
        cycles, np.arange(n_cycles) + open_quotient, shift
    )  # each cycle closes at an interpolation knot
    cycle = np.floor(phase).astype(np.int64)
    opened = np.minimum((phase - cycle) / open_quotient, 1.0)
    flow = amplitude[cycle.clip(0, n_cycles - 1)] * opened**2 * (1 - opened)
    pulses = resample_poly(np.diff(flow, prepend=flow[0]), 1, 2)

    # One pole a with |H(3 kHz)|^2 = (1 - a)^2 / (1 - 2 a cos w + a^2) = g.
    g = 10 ** (-tilt_db / 10)
    b = (1 - g * np.cos(2 * np.pi * 3000 / SAMPLE_RATE)) / (1 - g)
    pole = b - np.sqrt(b * b - 1)
    pulses = lfilter([1 - pole], [1, -pole], pulses)
    pulses /= np.sqrt(np.mean(pulses**2))

    airflow = 0.3 + 0.7 * (opened[::2] < 1)
    breath = 10 ** (breath_db / 20) * airflow * generator.standard_normal(n_samples)
    return (pulses + breath) * np.interp(np.arange(n_samples), frame_times / 2, voiced)


def resonate(source: Array, hiss: Array, tracks: Tracks) -> Array:
    """Filters source (T,) by the vocal tract of each frame, and hiss (T,) by one resonance; their sum (T,).

    Hann segments of 2 * HOP samples overlap by half and sum to one, so the filters of neighboring frames cross-fade.
    """
    tract = _all_pole(tracks.formants_hz, BANDWIDTHS_HZ)
    constriction = _all_pole(tracks.hiss_hz[:, None], np.array([1200.0]))
    spectrum = np.fft.rfft(_segments(source), N_FFT) * tract + np.fft.rfft(_segments(hiss), N_FFT) * constriction
    parts = np.fft.irfft(spectrum, N_FFT).reshape(len(tract), N_FFT // HOP, HOP)
    out = np.zeros((len(tract) + parts.shape[1], HOP))
    for i in range(parts.shape[1]):
        out[i : i + len(tract)] += parts[:, i]
    return out[: len(tract)].ravel()


def record(speech: Array, microphone_db: tuple[float, ...], noise_db: float, generator: np.random.Generator) -> Array:
    """Adds room noise (pink, `noise_db` re full scale) and applies the microphone's response -> (T,).

    Args:
        speech: (T,).
        microphone_db: response at `MICROPHONE_HZ`, interpolated on a logarithmic frequency axis.
        noise_db: root-mean-square level of the room noise.
        generator: source of the noise.
    """
    frequency = np.fft.rfftfreq(len(speech), 1 / SAMPLE_RATE).clip(min=20.0)
    pink = np.fft.rfft(generator.standard_normal(len(speech))) / np.sqrt(frequency)
    pink *= 10 ** (noise_db / 20) * len(speech) / np.sqrt(2 * np.sum(np.abs(pink) ** 2))
    response_db = np.interp(np.log(frequency), np.log(MICROPHONE_HZ), microphone_db)
    return np.fft.irfft((np.fft.rfft(speech) + pink) * 10 ** (response_db / 20), len(speech))


def _smooth(tracks: Array, width: int) -> Array:
    """Smooths each column of (N, K) by a Hann window of `width` frames."""
    window = np.hanning(width + 2)[1:-1]
    padded = np.pad(tracks, ((width // 2, width // 2), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, window / window.sum(), mode="valid") for column in padded.T], axis=1)


def _all_pole(formants_hz: Array, bandwidths_hz: Array) -> NDArray[np.complex128]:
    """Response (N, N_FFT // 2 + 1) of resonators in series, formants (N, K); unit gain at 0 Hz (Klatt 1980, eq. 2)."""
    radius = np.exp(-np.pi * bandwidths_hz / SAMPLE_RATE) * np.ones_like(formants_hz)
    middle = -2 * radius * np.cos(2 * np.pi * formants_hz / SAMPLE_RATE)
    polynomial = np.ones((len(formants_hz), 1))
    for b, c in zip(middle.T, (radius**2).T, strict=True):
        taps = np.pad(polynomial, ((0, 0), (0, 2)))
        taps[:, 1:-1] += b[:, None] * polynomial
        taps[:, 2:] += c[:, None] * polynomial
        polynomial = taps
    # The frequency response of a polynomial in z^-1 is the Fourier transform of its coefficients.
    return polynomial.sum(axis=1, keepdims=True) / np.fft.rfft(polynomial, N_FFT)


def _segments(signal: Array) -> Array:
    """Hann-windowed segments (N, 2 * HOP) of a signal (N * HOP,), one every HOP samples."""
    padded = np.pad(signal, (0, HOP)).reshape(-1, HOP)
    window = 0.5 - 0.5 * np.cos(np.pi * np.arange(2 * HOP) / HOP)
    return np.concatenate([padded[:-1], padded[1:]], axis=1) * window
