"""Rooms: each clip is heard in one of its own, made up from a decay time or measured."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from serx.augment.recordings import Recordings
from serx.augment.transform import PositiveRange, Probability, Range
from serx.base_config import BaseConfig
from serx.dsp.batching import valid_mask
from serx.dsp.fft_filter import convolve
from serx.dsp.noise import NOISE_TABLE, read_table
from serx.seeding import ClipRandom


class RoomParams(NamedTuple):
    """`on`, `start` in the noise table, decay over 60 dB in samples and direct-to-reverberant ratio, each `(B,)`."""

    on: Tensor
    start: Tensor
    decay: Tensor
    drr_db: Tensor
    taps: int  # of the longest response that can be drawn, a host number


class Reverb(BaseConfig):
    """A made-up room: the direct sound, then noise that falls by 60 dB within a time from `rt60_seconds`.

    The energies of direct sound and tail are `drr_db` apart (Polack's model of diffuse reverberation). The clip
    keeps its length and its power. Rooms above about 0.8 s smear the syllable rate, which tells sadness from fear.
    """

    kind: Literal["reverb"] = "reverb"
    p: Probability = 0.3
    rt60_seconds: PositiveRange = (0.1, 0.6)
    drr_db: Range = (0.0, 15.0)

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> RoomParams:
        on, start = random.chance(self.p), random.integers(NOISE_TABLE)
        decay = random.uniform(*self.rt60_seconds) * rate
        return RoomParams(on, start, decay, random.uniform(*self.drr_db), math.ceil(self.rt60_seconds[1] * rate))

    def apply(self, x: Tensor, lengths: Tensor, params: RoomParams) -> tuple[Tensor, Tensor]:
        def room(start: Tensor, decay: Tensor, drr_db: Tensor) -> Tensor:
            return made_up_room(start, decay, drr_db, params.taps)

        y = convolve(x, room, params.taps, params.start, params.decay, params.drr_db)
        return torch.where(params.on[:, None], _as_loud(y, x, lengths), x), lengths


class ChoiceParams(NamedTuple):
    """`on` and `choice` of a recording, each `(B,)`."""

    on: Tensor
    choice: Tensor


class ImpulseResponse(BaseConfig):
    """Measured rooms: impulse responses from the audio files of `folder`, each from its peak, so nothing is delayed.

    The clip keeps its length and its power.
    """

    kind: Literal["impulse_response"] = "impulse_response"
    p: Probability = 0.3
    folder: str

    def draw(self, lengths: Tensor, random: ClipRandom, rate: float) -> ChoiceParams:
        return ChoiceParams(random.chance(self.p), random.bits())

    def prepare(self, recording: Tensor) -> Tensor:
        """The response from its direct sound on."""
        return recording[int(recording.abs().argmax()) :]

    def apply_with(self, bank: Recordings, x: Tensor, lengths: Tensor, params: ChoiceParams) -> tuple[Tensor, Tensor]:
        taps = bank.longest
        y = convolve(x, lambda choice: bank.read(choice, taps), taps, params.choice)
        return torch.where(params.on[:, None], _as_loud(y, x, lengths), x), lengths


def made_up_room(start: Tensor, decay: Tensor, drr_db: Tensor, taps: int) -> Tensor:
    """Impulse responses `(B, taps)`: 1, then a tail of noise under exp(-ln(1000) t / decay)."""
    lag = torch.arange(taps, device=start.device)
    tail = read_table("white", start, taps) * torch.exp(-math.log(1000) * lag / decay[:, None])
    tail = tail * ((lag > 0) & (lag < decay[:, None]))
    level = (10 ** (-drr_db / 10) / tail.square().sum(1).clamp(min=1e-20)).sqrt()
    return torch.where(lag == 0, 1.0, level[:, None] * tail)


def _as_loud(y: Tensor, x: Tensor, lengths: Tensor) -> Tensor:
    """`y (B, T)` within the clips' `lengths`, scaled to the power of `x`."""
    y = y * valid_mask(lengths, x.shape[1])
    return y * (x.square().sum(1) / y.square().sum(1).clamp(min=1e-20)).sqrt()[:, None]
