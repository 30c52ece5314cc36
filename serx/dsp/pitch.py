"""Fundamental frequency and voicing of each frame by YIN (de Cheveigné & Kawahara 2002), all frames at once.

The squared difference between the first W samples of a frame and the W samples tau later is

    d(tau) = sum_{t<W} (x_t - x_{t+tau})^2 = e(0) + e(tau) - 2 r(tau)

with the energy e(tau) of the samples from tau on, from running sums, and the correlation r, from an FFT. Divided by
its running mean over lags, d starts at 1, dips near multiples of the period, and stays near 1 for noise. The period is
the first dip below a threshold, or else the deepest dip, refined between samples by a parabola. Voicing is 1 minus the
dip: 1 for a periodic frame, 0 for noise or silence.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from serx.dsp.batching import running_sum
from serx.dsp.spectrum import centered_frames

DIP = 0.15  # the first dip as deep as this gives the period
VOICED = 0.5  # the least voicing at which pitch is reported
REFERENCE = 27.5  # Hz, A0: pitch is in semitones above it, as in eGeMAPS (Eyben et al. 2016)
QUIET = 1e-6  # of the frame's energy, added to d and its mean: drifts slower than the lowest pitch are not periodic


class PitchTrack(NamedTuple):
    """Pitch and voicing of each frame.

    Attributes:
        semitones: `(B, N, 1)` above 27.5 Hz; 0 in unvoiced frames.
        voicing: `(B, N, 1)` in [0, 1].

    >>> PitchTrack(semitones=torch.zeros(1, 63, 1), voicing=torch.zeros(1, 63, 1)).voicing.shape
    torch.Size([1, 63, 1])
    """

    semitones: Tensor
    voicing: Tensor


def track_pitch(waveform: Tensor, hop_length: int, sample_rate: int, f_min: float, f_max: float) -> PitchTrack:
    """Pitch between `f_min` and `f_max` Hz of `waveform (B, T)`, in frames centered as those of the spectrum.

    A frame holds at least four periods of `f_min`: 64 ms for 65 Hz at 16 kHz. With two periods, a fifth of the frames
    get a wrong pitch.

    >>> tone = torch.sin(2 * torch.pi * 220 / 16000 * torch.arange(16000))[None]  # three octaves above 27.5 Hz
    >>> track = track_pitch(tone, hop_length=256, sample_rate=16000, f_min=65.0, f_max=800.0)
    >>> track.semitones[0, 30].round(decimals=2)
    tensor([36.])
    """
    longest, shortest = math.ceil(sample_rate / f_min), max(2, math.floor(sample_rate / f_max))
    size = 1 << math.ceil(math.log2(4 * (longest + 2)))
    difference, depth = _differences(centered_frames(waveform, size, hop_length), longest + 1)
    lag = torch.arange(longest + 2, device=waveform.device)
    inner = depth[..., 1:-1]
    dip = (inner < DIP) & (inner <= depth[..., :-2]) & (inner < depth[..., 2:]) & (lag[1:-1] >= shortest)
    first = torch.where(dip, lag[1:-1], longest + 1).amin(-1, keepdim=True)
    in_range = inner[..., shortest - 1 :]
    deepest = in_range.argmin(-1, keepdim=True) + shortest
    period = torch.where(first <= longest, first, deepest)
    voicing = (1 - depth.gather(-1, period)).clamp(0, 1)
    semitones = 12 * torch.log2(sample_rate / REFERENCE / _between_samples(difference, period))
    return PitchTrack(torch.where(voicing >= VOICED, semitones, 0.0), voicing)


def _differences(frames: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """`frames (B, N, size)` -> d, and d divided by its running mean, both `(B, N, longest + 1)` for the lags from 0."""
    size = frames.shape[-1]
    width = size - longest  # W
    whole, head = torch.fft.rfft(frames), torch.fft.rfft(frames[..., :width], n=size)
    correlation = torch.fft.irfft(whole * head.conj(), n=size)[..., : longest + 1]
    squares = frames.square()
    energy = squares[..., :width].sum(-1, keepdim=True)
    energy_change = F.pad(running_sum(squares[..., width:] - squares[..., :longest]), (1, 0))  # e(tau) - e(0)
    difference = (2 * (energy - correlation) + energy_change).clamp(min=0)
    mean = running_sum(difference) / torch.arange(longest + 1, device=frames.device).clamp(min=1)
    floor = (QUIET * energy).clamp(min=1e-20)  # not a sum: torch exports one with 1e-20 without the addition
    depth = (difference + floor) / (mean + floor)
    return difference, depth


def _between_samples(difference: Tensor, period: Tensor) -> Tensor:
    """The vertex, in samples, of the parabola through d at `period` and its neighbors."""
    before, at, after = (difference.gather(-1, period + step) for step in (-1, 0, 1))
    curvature = before - 2 * at + after
    shift = torch.where(curvature > 0, (before - after) / (2 * curvature).clamp(min=1e-30), 0.0)
    return period + shift.clamp(-0.5, 0.5)
