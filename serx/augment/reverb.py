"""Reverberation: each clip in its own room, synthetic from a decay time, or from a measured impulse response."""

import math
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from serx.augment.recordings import Recordings, RecordingTransform
from serx.augment.transform import DecibelRange, Probability, WaveformTransform, ordered, register_transform
from serx.dsp.batching import valid_mask
from serx.dsp.fft_filter import convolve
from serx.dsp.noise import NOISE_TABLE, read_table
from serx.seeding import ClipRandom

DecaySeconds = Annotated[float, Field(ge=0.001, le=20)]


class RoomParams(NamedTuple):
    """The room of each clip.

    Attributes:
        on: `(B,)` bool.
        start: `(B,)`, in the table of noise.
        decay: `(B,)`, samples until the tail has fallen by 60 dB.
        drr_db: `(B,)`, direct-to-reverberant ratio.
        taps: the longest response that can be drawn, in samples, a Python int.
    """

    on: Tensor
    start: Tensor
    decay: Tensor
    drr_db: Tensor
    taps: int


@register_transform
class Reverb(WaveformTransform):
    """Puts a clip into a synthetic room: the direct sound, then noise that decays exponentially (Polack 1988).

    The clip keeps its length and its power, and is not delayed. Decay times above about 0.8 s smear the rhythm of the
    syllables, which separates sadness from fear.

    Args:
        p: probability of a room, per clip.
        rt60_seconds: range of the time in which the tail falls by 60 dB, uniform.
        drr_db: range of the ratio of the energies of direct sound and tail in dB, uniform. Lower is a farther speaker.

    >>> import torch
    >>> from serx.augment import Compose
    >>> click = torch.zeros(1, 16000)
    >>> click[0, 0] = 1.0
    >>> response, _ = Compose([Reverb(p=1.0, rt60_seconds=(0.3, 0.3))])(click)
    >>> bool(response[0, 1:4800].any()), bool(response[0, 4801:].abs().max() > 1e-6)
    (True, False)
    """

    kind: Literal["reverb"] = "reverb"
    p: Probability = 0.3
    rt60_seconds: Annotated[tuple[DecaySeconds, DecaySeconds], AfterValidator(ordered)] = (0.1, 0.6)
    drr_db: DecibelRange = (0.0, 15.0)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> RoomParams:
        on, start = random.chance(self.p), random.integers(NOISE_TABLE)
        decay = random.uniform(*self.rt60_seconds) * rate
        return RoomParams(on, start, decay, random.uniform(*self.drr_db), math.ceil(self.rt60_seconds[1] * rate))

    def apply(self, x: Tensor, lengths: Tensor, params: RoomParams) -> tuple[Tensor, Tensor]:
        def response(start: Tensor, decay: Tensor, drr_db: Tensor) -> Tensor:
            return synthetic_response(start, decay, drr_db, params.taps)

        y = convolve(x, response, params.taps, params.start, params.decay, params.drr_db)
        return torch.where(params.on[:, None], _at_power_of(x, y, lengths), x), lengths


class ResponseParams(NamedTuple):
    """`on (B,)` bool, and a large integer `(B,)` that gives the recording."""

    on: Tensor
    choice: Tensor


@register_transform
class ImpulseResponse(RecordingTransform):
    """Puts a clip into a measured room: convolution with a random impulse response from a folder.

    A response is used from its peak on, so the clip is not delayed. The clip keeps its length and its power. As with
    `Reverb`, rooms that decay for more than about 0.8 s hide the rhythm of speech.

    Args:
        folder: audio files of any format that serx reads, at any depth, one impulse response each.
        p: probability of a room, per clip.

    >>> import torch
    >>> from serx.augment import Compose
    >>> room = torch.randn(4000) * torch.exp(-torch.arange(4000) / 500)
    >>> augment = Compose([ImpulseResponse(folder="rooms", p=1.0)], recordings={"rooms": [room]})
    >>> waveform, lengths = augment(torch.rand(2, 16000))
    """

    kind: Literal["impulse_response"] = "impulse_response"
    p: Probability = 0.3

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> ResponseParams:
        return ResponseParams(random.chance(self.p), random.bits())

    def prepare(self, recording: Tensor) -> Tensor:
        """The response from its direct sound on."""
        return recording[int(recording.abs().argmax()) :]

    def apply_with(
        self, recordings: Recordings, x: Tensor, lengths: Tensor, params: ResponseParams
    ) -> tuple[Tensor, Tensor]:
        taps = recordings.longest
        y = convolve(x, lambda choice: recordings.read(choice, taps), taps, params.choice)
        return torch.where(params.on[:, None], _at_power_of(x, y, lengths), x), lengths


def synthetic_response(start: Tensor, decay: Tensor, drr_db: Tensor, taps: int) -> Tensor:
    """Impulse responses `(B, taps)`: 1, then noise times exp(-ln(1000) t / decay), which is -60 dB at `decay`."""
    lag = torch.arange(taps, device=start.device)
    tail = read_table("white", start, taps) * torch.exp(-math.log(1000) * lag / decay[:, None])
    tail = tail * ((lag > 0) & (lag < decay[:, None]))
    level = (10 ** (-drr_db / 10) / tail.square().sum(1).clamp(min=1e-20)).sqrt()
    return torch.where(lag == 0, 1.0, level[:, None] * tail)


def _at_power_of(x: Tensor, y: Tensor, lengths: Tensor) -> Tensor:
    """`y (B, T)`, zero beyond `lengths`, scaled to the power of `x`."""
    y = y * valid_mask(lengths, x.shape[1])
    return y * (x.square().sum(1) / y.square().sum(1).clamp(min=1e-20)).sqrt()[:, None]
