"""Synthetic speakers and their speaking styles: eight emotions as described in the literature, varied per speaker.

A style is a deviation from the speaker's neutral speech. The style of a clip is

    size * STYLES[emotion]     the same for all speakers; size is the speaker's expressiveness times the intensity
    + speaker deviation        drawn once for each (speaker, emotion): the reason why unseen speakers are hard
    + clip deviation           drawn for each clip
"""

import math
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from serx.data.synthetic.vocal_tract import (
    HOP,
    PHONES,
    SAMPLE_RATE,
    Array,
    Phone,
    articulate,
    phonate,
    record,
    resonate,
)
from serx.data.utterance import Sex
from serx.errors import ConfigError

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")  # RAVDESS's 01 to 08
STATEMENTS = (("ki", "sa", "no", "ta", "me"), ("do", "la", "si", "tu", "ne"))
STRESSED = (1, 3)  # indices of the syllables with pitch accents


@dataclass(frozen=True)
class EmotionStyle:
    """Deviation of a speaking style from the same speaker's neutral speech. Deviations add, so ratios are logarithms.

    Attributes:
        pitch: level of f0, semitones.
        span: log of the factor on the size of the pitch accents.
        slope: rise of f0 from the first to the last syllable, semitones.
        rate: log of the factor on speed.
        energy_db: level of the speech.
        tilt_db: extra fall of the glottal spectrum at 3 kHz.
        opening: change of the open quotient.
        jitter: log of the factor on jitter.
        shimmer: log of the factor on shimmer.
        breath_db: level of the breath relative to the pulses.
        pause: silence in the middle of the sentence, seconds.
        lips: log of the factor on the formants (spread lips shorten the tract, Tartter 1980).
        tremor: depth of a 6 Hz modulation of f0, semitones.
    """

    pitch: float = 0.0
    span: float = 0.0
    slope: float = 0.0
    rate: float = 0.0
    energy_db: float = 0.0
    tilt_db: float = 0.0
    opening: float = 0.0
    jitter: float = 0.0
    shimmer: float = 0.0
    breath_db: float = 0.0
    pause: float = 0.0
    lips: float = 0.0
    tremor: float = 0.0


# Directions: Juslin & Laukka (2003), Psychological Bulletin 129 (calm is their tenderness); Scherer (2003), Speech
# Communication 40; for disgust Banse & Scherer (1996), Journal of Personality and Social Psychology 70.
# The sizes are our choice.
# fmt: off
STYLES = {                  #pitch   span  slope   rate energy   tilt   open jitter   shim breath  pause   lips   trem
    "neutral":   EmotionStyle(),
    "calm":      EmotionStyle(-1.0,  -0.3,  -1.0, -0.12,  -4.0,   3.0,  0.05,  -0.2,  -0.2,   4.0,  0.03,  0.00,   0.0),
    "happy":     EmotionStyle( 4.0,   0.5,   1.0,  0.10,   4.0,  -2.0, -0.03,  -0.1,   0.0,  -1.0,  0.00,  0.04,   0.0),
    "sad":       EmotionStyle(-1.5,  -0.5,  -2.5, -0.22,  -5.0,   5.0,  0.08,   0.4,   0.3,   5.0,  0.10, -0.02,   0.1),
    "angry":     EmotionStyle( 3.0,   0.4,   0.0,  0.12,   7.0,  -5.0, -0.12,   0.3,   0.4,  -4.0,  0.00,  0.00,   0.0),
    "fearful":   EmotionStyle( 5.5,  -0.3,   1.0,  0.18,   0.0,   2.0,  0.00,   1.0,   0.7,   3.0,  0.03,  0.02,   0.4),
    "disgust":   EmotionStyle(-1.5,   0.1,  -2.0, -0.15,   0.0,  -2.0, -0.08,   0.6,   0.4,   1.0,  0.02, -0.05,   0.0),
    "surprised": EmotionStyle( 4.5,   0.8,   5.0,  0.00,   2.0,   0.0,  0.02,   0.0,   0.0,   2.0,  0.00,  0.00,   0.0),
}
# Standard deviations over speakers, and over the clips of one speaker.
SPEAKER_SD =     EmotionStyle( 1.8,  0.30,   1.5,  0.09,   2.5,   2.5,  0.05,  0.35,  0.35,   3.0,  0.03,  0.03,  0.10)
CLIP_SD =        EmotionStyle( 0.5,  0.10,   0.5,  0.03,   0.8,   0.6,  0.01,  0.15,  0.15,   0.8,  0.01,  0.01,  0.03)
# fmt: on


@dataclass(frozen=True)
class SyntheticSpeaker:
    """One speaker's neutral speech.

    Attributes:
        number: odd for men and even for women, as in RAVDESS.
        sex: `"male"` or `"female"`.
        f0_hz: habitual fundamental frequency.
        tract: formant factor: 1 is an average man, 1.17 an average woman.
        open_quotient, tilt_db, breath_db, jitter, shimmer: voice quality, see `vocal_tract.phonate`.
        accent: size of a pitch accent, semitones.
        rate: speed, 1 is average.
        expressiveness: factor on every emotion.
        gain_db: level of a neutral sentence, dB re full scale.
        noise_db: level of the room, dB re full scale.
        microphone_db: response of the microphone at `vocal_tract.MICROPHONE_HZ`.
    """

    number: int
    sex: Sex
    f0_hz: float
    tract: float
    open_quotient: float
    tilt_db: float
    breath_db: float
    jitter: float
    shimmer: float
    accent: float
    rate: float
    expressiveness: float
    gain_db: float
    noise_db: float
    microphone_db: tuple[float, ...]

    @property
    def f0_range_hz(self) -> tuple[float, float]:
        """The speaker's lowest and highest f0: 9 semitones below and 19 above the habitual one."""
        return self.f0_hz * 2 ** (-9 / 12), self.f0_hz * 2 ** (19 / 12)


def synthesize_speaker(number: int, seed: int) -> SyntheticSpeaker:
    """One speaker, who depends on (seed, number) only.

    Args:
        number: 1 to 99; odd is male, even female.
        seed: of the whole corpus, >= 0.

    >>> speaker = synthesize_speaker(2, seed=0)
    >>> speaker.sex, 150 < speaker.f0_hz < 280
    ('female', True)
    """
    z = _normal(_generator(seed, 0, number), 18).tolist()
    male = number % 2 == 1
    return SyntheticSpeaker(
        number=number,
        sex="male" if male else "female",
        f0_hz=(115.0 if male else 205.0) * 2 ** (2 * z[0] / 12),
        tract=(1.0 if male else 1.17) * math.exp(0.035 * z[1]),
        open_quotient=(0.55 if male else 0.65) + 0.04 * z[2],
        tilt_db=(9.0 if male else 12.0) + 2 * z[3],
        breath_db=(-24.0 if male else -20.0) + 3 * z[4],
        jitter=0.006 * math.exp(0.3 * z[5]),
        shimmer=0.04 * math.exp(0.3 * z[6]),
        accent=2.5 * math.exp(0.25 * z[7]),
        rate=math.exp(0.08 * z[8]),
        expressiveness=math.exp(0.2 * z[9]),
        gain_db=-31 + 1.5 * z[10],
        noise_db=-68 + 3 * z[11],
        microphone_db=tuple(2.5 * x for x in z[12:]),
    )


def synthesize_clip(
    speaker: SyntheticSpeaker, emotion: str, strong: bool, statement: int, repetition: int, seed: int
) -> NDArray[np.float32]:
    """One statement with one emotion: samples (T,) in [-1, 1] on the int16 grid, 16 kHz, 0.8 to 2 s.

    Args:
        speaker: from `synthesize_speaker(number, seed)`.
        emotion: one of `EMOTIONS`.
        strong: whether the emotion's deviations are half as large again; neutral is never strong.
        statement: 1 or 2.
        repetition: 1, 2, ...: another take of the same statement, slightly different.
        seed: of the whole corpus.

    Raises:
        ConfigError: an emotion, statement or repetition that does not exist.

    >>> clip = synthesize_clip(synthesize_speaker(1, seed=0), "angry", True, statement=1, repetition=1, seed=0)
    >>> clip.dtype, 0.8 < len(clip) / 16_000 < 2
    (dtype('float32'), True)
    """
    if emotion not in EMOTIONS or statement not in (1, 2) or repetition < 1 or (strong and emotion == "neutral"):
        what = f"emotion={emotion!r}, strong={strong}, statement={statement}, repetition={repetition}"
        raise ConfigError(f"no such clip: {what}; the emotions are {', '.join(EMOTIONS)}, neutral is never strong")
    generator = _generator(seed, 2, speaker.number, EMOTIONS.index(emotion), int(strong), statement, repetition)
    style = _draw_style(speaker, emotion, strong, seed, generator)
    phones, seconds, middles = _time(
        STATEMENTS[statement - 1], speaker.rate * math.exp(style.rate), style.pause, generator
    )
    tracks = articulate(phones, seconds, speaker.tract * math.exp(style.lips))
    times = np.arange(len(tracks.voiced)) * HOP / SAMPLE_RATE
    source = phonate(
        speaker.f0_hz * 2 ** (_melody(times, middles, style, speaker.accent, generator) / 12),
        tracks.voiced,
        open_quotient=min(max(speaker.open_quotient + style.opening, 0.3), 0.9),
        tilt_db=max(speaker.tilt_db + style.tilt_db, 2.0),
        jitter=min(speaker.jitter * math.exp(style.jitter), 0.05),
        shimmer=min(speaker.shimmer * math.exp(style.shimmer), 0.3),
        breath_db=speaker.breath_db + style.breath_db,
        generator=generator,
    )
    hiss = generator.standard_normal(len(source)) * np.repeat(tracks.hiss, HOP)
    speech = resonate(source, hiss, tracks)
    speech *= 10 ** ((speaker.gain_db + style.energy_db) / 20) / np.sqrt(np.mean(speech**2))
    clip = record(speech, speaker.microphone_db, speaker.noise_db, generator)
    clip *= min(1.0, 0.98 / np.max(np.abs(clip)))
    return (np.round(clip * 32767) / 32768).astype(np.float32)


def _generator(seed: int, purpose: int, *key: int) -> np.random.Generator:
    """PCG64 keyed by purpose and position, so that a clip does not depend on which other clips are made."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(purpose, *key))))


def _normal(generator: np.random.Generator, size: int) -> Array:
    """Normal deviates, clipped at two standard deviations."""
    return np.clip(generator.standard_normal(size), -2, 2)


def _draw_style(
    speaker: SyntheticSpeaker, emotion: str, strong: bool, seed: int, generator: np.random.Generator
) -> EmotionStyle:
    """The style of one clip: the shared part, the speaker's deviation and the clip's deviation."""
    size = speaker.expressiveness * (1.4 if strong else 0.9)
    shared, by_speaker, by_clip = (np.array(astuple(style)) for style in (STYLES[emotion], SPEAKER_SD, CLIP_SD))
    by_speaker *= _normal(_generator(seed, 1, speaker.number, EMOTIONS.index(emotion)), len(by_speaker))
    return EmotionStyle(*(size * shared + by_speaker + by_clip * _normal(generator, len(by_clip))))


def _time(
    statement: tuple[str, ...], speed: float, pause: float, generator: np.random.Generator
) -> tuple[list[Phone], list[float], list[float]]:
    """The phones of a statement, their durations in seconds, and the time at the middle of each syllable's vowel."""
    phones: list[Phone] = []
    durations: list[float] = []
    vowels = []
    for i, syllable in enumerate(statement):
        if i == 3:
            phones += PHONES["-"]
            durations.append(max(pause, 0.0))
        *onset, vowel = (phone for symbol in syllable for phone in PHONES[symbol])
        stretch = (1.25 if i in STRESSED else 1.0) * (1.35 if i == len(statement) - 1 else 1.0)
        lengths = np.array([*(phone.seconds for phone in onset), vowel.seconds * stretch]) / speed
        phones += [*onset, vowel]
        durations += (lengths * (1 + 0.06 * _normal(generator, len(lengths)))).tolist()
        vowels.append(len(phones))  # its index after a silence is put in front
    # Including the silence before and after: 0.85 to 1.97 s.
    spoken = np.array(durations) * np.clip(sum(durations), 0.7, 1.82) / sum(durations)
    seconds = np.array([0.07, *spoken, 0.08])
    middles = np.cumsum(seconds) - seconds / 2
    return [*PHONES["-"], *phones, *PHONES["-"]], seconds.tolist(), middles[vowels].tolist()


def _melody(
    times: Array, middles: list[float], style: EmotionStyle, accent: float, generator: np.random.Generator
) -> Array:
    """Pitch of each frame (N,) in semitones re the habitual f0: fall, slope, accents, drift and tremor."""
    syllable = np.interp(times, middles, np.arange(len(middles)))
    progress = syllable / (len(middles) - 1)
    heights = accent * math.exp(style.span) * (1 + 0.15 * _normal(generator, len(STRESSED)))
    pitch = style.pitch - 1.5 * (progress - 0.5)  # f0 falls through any sentence
    pitch += style.slope * (progress**2 - 0.35)  # a question rises mostly at its end
    pitch += sum(h * np.exp(-(((syllable - i) / 0.45) ** 2)) for h, i in zip(heights, STRESSED, strict=True))
    pitch += np.interp(syllable, np.arange(len(middles)), 0.3 * _normal(generator, len(middles)))
    pitch += max(style.tremor, 0.0) * np.sin(2 * np.pi * (6 * times + generator.random()))
    # Compress into the speaker's range, -9 to +19 semitones, see `SyntheticSpeaker.f0_range_hz`.
    return 5 + 14 * np.tanh((pitch - 5) / 14)
