"""Transforms of speed, pitch and tempo. The ratio of each clip is a multiple of 1/128.

How fast and how high a person speaks is part of the emotion: sadness is slow and low, fear and joy are fast and high.
The defaults stay within what one speaker does within one emotion. Wider ranges teach the model to ignore the cue.
"""

from typing import Annotated, Literal, NamedTuple

from pydantic import AfterValidator, Field, model_validator
from torch import Tensor, where

from serx.augment.transform import Probability, WaveformTransform, log_uniform, ordered, register_transform
from serx.dsp.resampling import FASTEST, RATIO_STEPS, SLOWEST, change_speed
from serx.dsp.vocoder import change_pitch, change_pitch_and_tempo, change_tempo, window_size
from serx.seeding import ClipRandom

MAX_TEMPO = 1.9  # above 2 the vocoder would skip two frames at once


class RatioParams(NamedTuple):
    """The ratio of each clip.

    Attributes:
        steps: `(B,)` int64, the ratio in 128ths; 128 leaves the clip unchanged.
        bounds: the smallest and largest value of `steps` that can occur, Python ints.
        window: samples of a vocoder frame, a Python int.
    """

    steps: Tensor
    bounds: tuple[int, int]
    window: int


# What the resampler and the vocoder can do. A shift in semitones is a speed and a tempo: 2 ** (-4.98 / 12) is 0.75.
SpeedRatio = Annotated[float, Field(ge=SLOWEST / RATIO_STEPS, le=FASTEST / RATIO_STEPS)]
Tempo = Annotated[float, Field(ge=0.5, le=2)]
Semitones = Annotated[float, Field(ge=-4.98, le=4.7)]
TempoRange = Annotated[tuple[Tempo, Tempo], AfterValidator(ordered)]
SemitoneRange = Annotated[tuple[Semitones, Semitones], AfterValidator(ordered)]


def _ratios(semitones: tuple[float, float]) -> tuple[float, float]:
    return 2 ** (semitones[0] / 12), 2 ** (semitones[1] / 12)


@register_transform
class Speed(WaveformTransform):
    """Plays a clip faster or slower by resampling. Pitch and formants change too (Ko et al. 2015).

    Beyond about 0.85 to 1.18 a voice begins to sound like another person in another emotion.

    Args:
        p: probability of a change, per clip.
        ratio: range of the speed, uniform, within 0.75 to 1.3125; 1.1 is 10 % faster.

    >>> import torch
    >>> from serx.augment import Compose
    >>> waveform, lengths = Compose([Speed(p=1.0, ratio=(1.25, 1.25))])(torch.rand(1, 16000))
    >>> lengths
    tensor([12800])
    """

    kind: Literal["speed"] = "speed"
    p: Probability = 0.5
    ratio: Annotated[tuple[SpeedRatio, SpeedRatio], AfterValidator(ordered)] = (0.88, 1.12)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> RatioParams:
        return _draw(random.chance(self.p), self.ratio, random, rate)

    def apply(self, x: Tensor, lengths: Tensor, params: RatioParams) -> tuple[Tensor, Tensor]:
        return change_speed(x, lengths, params.steps, params.bounds[0])


@register_transform
class TimeStretch(WaveformTransform):
    """Makes speech faster or slower at the same pitch, with a phase vocoder.

    Below about 0.8 and above about 1.25 calm speech begins to sound sad or afraid.

    Args:
        p: probability of a change, per clip.
        tempo: range of the tempo, uniform, within 0.5 to 2; 1.1 is 10 % faster.

    >>> import torch
    >>> from serx.augment import Compose
    >>> waveform, lengths = Compose([TimeStretch(p=1.0, tempo=(0.8, 0.8))])(torch.rand(1, 16000))
    >>> lengths  # 0.8 is 102 / 128
    tensor([20079])
    """

    kind: Literal["time_stretch"] = "time_stretch"
    p: Probability = 0.5
    tempo: TempoRange = (0.85, 1.15)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> RatioParams:
        return _draw(random.chance(self.p), self.tempo, random, rate)

    def apply(self, x: Tensor, lengths: Tensor, params: RatioParams) -> tuple[Tensor, Tensor]:
        return change_tempo(x, lengths, params.steps, params.bounds, params.window)


@register_transform
class PitchShift(WaveformTransform):
    """Makes speech higher or lower at the same tempo, with a phase vocoder. Formants move with the pitch.

    Two semitones are within the range of one speaker. From about three on a voice sounds like another person, and the
    rise in pitch of anger is confused with a high voice.

    Args:
        p: probability of a change, per clip.
        semitones: range of the shift, uniform, within -4.98 to 4.70; rounded to steps of about 13 cents.

    >>> import torch
    >>> from serx.augment import Compose
    >>> waveform, lengths = Compose([PitchShift(p=0.4, semitones=(-2, 2))])(torch.rand(4, 16000))
    >>> lengths
    tensor([16000, 16000, 16000, 16000])
    """

    kind: Literal["pitch_shift"] = "pitch_shift"
    p: Probability = 0.5
    semitones: SemitoneRange = (-2.0, 2.0)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> RatioParams:
        return _draw(random.chance(self.p), _ratios(self.semitones), random, rate, logarithmic=True)

    def apply(self, x: Tensor, lengths: Tensor, params: RatioParams) -> tuple[Tensor, Tensor]:
        return change_pitch(x, lengths, params.steps, params.bounds, params.window), lengths


@register_transform
class PitchTempo(WaveformTransform):
    """`PitchShift` and `TimeStretch` in one pass of the vocoder, in the time of one. Their limits apply.

    For features of mel, `MelWarp` does the same faster.

    Args:
        p: probability of a change, per clip.
        semitones: range of the pitch shift, uniform.
        tempo: range of the tempo, uniform and independent of the shift.

    >>> import torch
    >>> from serx.augment import Compose
    >>> waveform, lengths = Compose([PitchTempo(p=1.0, tempo=(1.25, 1.25))])(torch.rand(1, 16000))
    >>> lengths
    tensor([12800])
    """

    kind: Literal["pitch_tempo"] = "pitch_tempo"
    p: Probability = 0.5
    semitones: SemitoneRange = (-2.0, 2.0)
    tempo: TempoRange = (0.85, 1.15)

    @model_validator(mode="after")
    def _in_one_pass(self) -> "PitchTempo":
        fastest = self.tempo[1] / min(1.0, _ratios(self.semitones)[0])
        if fastest > MAX_TEMPO:
            raise ValueError(
                f"tempo {self.tempo[1]} at {self.semitones[0]} semitones is one pass at {fastest:.2f} times the tempo, "
                f"more than {MAX_TEMPO}; narrow one of them, or list pitch_shift and time_stretch"
            )
        return self

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> tuple[RatioParams, RatioParams]:
        on = random.chance(self.p)
        pitch = _draw(on, _ratios(self.semitones), random, rate, logarithmic=True)
        return pitch, _draw(on, self.tempo, random, rate)

    def apply(self, x: Tensor, lengths: Tensor, params: tuple[RatioParams, RatioParams]) -> tuple[Tensor, Tensor]:
        pitch, tempo = params
        return change_pitch_and_tempo(x, lengths, pitch.steps, tempo.steps, pitch.bounds, tempo.bounds, pitch.window)


def _draw(
    on: Tensor, ratio: tuple[float, float], random: ClipRandom, rate: float, logarithmic: bool = False
) -> RatioParams:
    """Ratios that are uniform, or uniform in their logarithm, where `on (B,)`, and 1 elsewhere."""
    drawn = log_uniform(random, ratio) if logarithmic else random.uniform(*ratio)
    ends = [round(end * RATIO_STEPS) for end in ratio]
    steps = (drawn * RATIO_STEPS).round()
    bounds = (min(ends[0], RATIO_STEPS), max(ends[1], RATIO_STEPS))  # which include unchanged clips
    return RatioParams(where(on, steps, RATIO_STEPS).long(), bounds, window_size(rate))
