"""Transforms of speed, pitch and tempo, each clip by its own ratio, a multiple of 1/128.

How fast and how high somebody speaks is part of the emotion: sadness is slow and low, fear and joy are fast and high.
The defaults stay within what one speaker does within one emotion; wider ranges teach the model to ignore the cue.
"""

from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, model_validator
from torch import Tensor, where

from serx.augment.transform import Probability, Range, log_uniform
from serx.base_config import BaseConfig
from serx.dsp.resampling import FASTEST, RATIO_STEPS, SLOWEST, change_speed
from serx.dsp.vocoder import change_pitch, change_pitch_and_tempo, change_tempo, window_size
from serx.seeding import ClipRandom

MOST_TEMPO = 1.9  # above 2 the vocoder would leave out two frames at once


class StepParams(NamedTuple):
    """`steps (B,)` int64, the ratio in 1/128ths, 128 where the clip is left alone; host numbers that bound it."""

    steps: Tensor
    bounds: tuple[int, int]
    window: int  # samples of a vocoder frame


def _speeds(ratio: tuple[float, float]) -> tuple[float, float]:
    if not SLOWEST <= ratio[0] * RATIO_STEPS <= ratio[1] * RATIO_STEPS <= FASTEST:
        raise ValueError(f"{list(ratio)} leaves the possible speeds, {SLOWEST / RATIO_STEPS} to {FASTEST / RATIO_STEPS}")
    return ratio


def _tempos(ratio: tuple[float, float]) -> tuple[float, float]:
    if not 0.5 <= ratio[0] <= ratio[1] <= 2:
        raise ValueError(f"{list(ratio)} leaves the possible tempos, 0.5 to 2")
    return ratio


def _semitones(semitones: tuple[float, float]) -> tuple[float, float]:
    _speeds(_ratios(semitones))
    return semitones


def _ratios(semitones: tuple[float, float]) -> tuple[float, float]:
    return 2 ** (semitones[0] / 12), 2 ** (semitones[1] / 12)


class Speed(BaseConfig):
    """Plays the clip faster or slower, pitch and formants with it (Ko et al. 2015).

    Beyond about 0.85-1.18 a voice begins to sound like another person's mood.
    """

    kind: Literal["speed"] = "speed"
    p: Probability = 0.5
    ratio: Annotated[Range, AfterValidator(_speeds)] = (0.88, 1.12)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> StepParams:
        return _draw(random.chance(self.p), self.ratio, random, rate)

    def apply(self, x: Tensor, lengths: Tensor, params: StepParams) -> tuple[Tensor, Tensor]:
        return change_speed(x, lengths, params.steps, params.bounds[0])


class TimeStretch(BaseConfig):
    """Speaks faster or slower at the same pitch, by a phase vocoder.

    Below about 0.8 and above about 1.25 calm speech begins to sound sad, or afraid.
    """

    kind: Literal["time_stretch"] = "time_stretch"
    p: Probability = 0.5
    tempo: Annotated[Range, AfterValidator(_tempos)] = (0.85, 1.15)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> StepParams:
        return _draw(random.chance(self.p), self.tempo, random, rate)

    def apply(self, x: Tensor, lengths: Tensor, params: StepParams) -> tuple[Tensor, Tensor]:
        return change_tempo(x, lengths, params.steps, params.bounds, params.window)


class PitchShift(BaseConfig):
    """Speaks higher or lower at the same tempo, formants moving along; steps of 1/128 are about 13 cents.

    Two semitones are within one speaker's range; from about three a voice sounds like another person, and an angry
    rise in pitch is no longer told from a high voice.
    """

    kind: Literal["pitch_shift"] = "pitch_shift"
    p: Probability = 0.5
    semitones: Annotated[Range, AfterValidator(_semitones)] = (-2.0, 2.0)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> StepParams:
        return _draw(random.chance(self.p), _ratios(self.semitones), random, rate, logarithmic=True)

    def apply(self, x: Tensor, lengths: Tensor, params: StepParams) -> tuple[Tensor, Tensor]:
        return change_pitch(x, lengths, params.steps, params.bounds, params.window), lengths


class PitchTempo(BaseConfig):
    """Speaks higher or lower and faster or slower, each drawn on its own: both changes for the time of one.

    As `fused` has it within the front end, for features that need the waveform.
    """

    kind: Literal["pitch_tempo"] = "pitch_tempo"
    p: Probability = 0.5
    semitones: Annotated[Range, AfterValidator(_semitones)] = (-2.0, 2.0)
    tempo: Annotated[Range, AfterValidator(_tempos)] = (0.85, 1.15)

    @model_validator(mode="after")
    def _in_one_pass(self) -> "PitchTempo":
        fastest = self.tempo[1] / min(1.0, _ratios(self.semitones)[0])
        if fastest > MOST_TEMPO:
            raise ValueError(
                f"tempo {self.tempo[1]} at {self.semitones[0]} semitones is one pass at {fastest:.2f} times the tempo, "
                f"more than {MOST_TEMPO}; narrow one of them, or list pitch_shift and time_stretch"
            )
        return self

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> tuple[StepParams, StepParams]:
        on = random.chance(self.p)
        pitch = _draw(on, _ratios(self.semitones), random, rate, logarithmic=True)
        return pitch, _draw(on, self.tempo, random, rate)

    def apply(self, x: Tensor, lengths: Tensor, params: tuple[StepParams, StepParams]) -> tuple[Tensor, Tensor]:
        pitch, tempo = params
        return change_pitch_and_tempo(x, lengths, pitch.steps, tempo.steps, pitch.bounds, tempo.bounds, pitch.window)


def _draw(
    on: Tensor, ratio: tuple[float, float], random: ClipRandom, rate: float, logarithmic: bool = False
) -> StepParams:
    """Steps uniform in the ratio, or in its logarithm, where a clip is `on (B,)`."""
    drawn = log_uniform(random, ratio) if logarithmic else random.uniform(*ratio)
    ends = [round(end * RATIO_STEPS) for end in ratio]
    steps = (drawn * RATIO_STEPS).round()
    bounds = (min(ends[0], RATIO_STEPS), max(ends[1], RATIO_STEPS))  # of clips left alone too
    return StepParams(where(on, steps, RATIO_STEPS).long(), bounds, window_size(rate))
