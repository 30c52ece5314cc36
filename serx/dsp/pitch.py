"""Fundamental frequency and voicing of each frame by YIN (de Cheveigné & Kawahara 2002), all frames at once.

For a frame x of W + L samples the squared difference between it and itself tau samples later is

    d(tau) = sum_{t<W} (x_t - x_{t+tau})^2 = e(0) + e(tau) - 2 r(tau)

with energies e by running sums and the correlation r by FFT. Divided by its running mean it starts at 1, dips near
multiples of the period and stays near 1 for noise. The period is the first dip below a threshold, else the deepest,
placed between samples by a parabola. Voicing is 1 minus the dip: 1 periodic, 0 noise or silence.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from serx.dsp.batching import running_sum
from serx.dsp.spectrum import centered_frames

DIP = 0.15  # the first dip as deep is taken for the period
VOICED = 0.5  # pitch is reported from this voicing up
REFERENCE = 27.5  # Hz, A0: pitch is in semitones above it, as in eGeMAPS (Eyben et al. 2016)
QUIET = 1e-6  # of the frame's energy: slower drifts than the lowest pitch are not periodic


class Pitch(NamedTuple):
    """`semitones` above 27.5 Hz, 0 where unvoiced, and `voicing` in [0, 1], each `(B, N, 1)`."""

    semitones: Tensor
    voicing: Tensor


def track_pitch(waveform: Tensor, hop_length: int, sample_rate: int, lowest: float, highest: float) -> Pitch:
    """`waveform (B, T)` -> pitch between `lowest` and `highest` Hz in frames centered as the spectrum's.

    The frame holds at least four periods of `lowest` (64 ms for 65 Hz at 16 kHz), whatever n_fft is.
    """
    longest, shortest = math.ceil(sample_rate / lowest), max(2, math.floor(sample_rate / highest))
    size = 1 << math.ceil(math.log2(4 * (longest + 2)))  # two periods fall short: a fifth of frames go astray
    difference, depth = _differences(centered_frames(waveform, size, hop_length), longest + 1)
    lag = torch.arange(longest + 2, device=waveform.device)
    inner = depth[..., 1:-1]
    dip = (inner < DIP) & (inner <= depth[..., :-2]) & (inner < depth[..., 2:]) & (lag[1:-1] >= shortest)
    first = torch.where(dip, lag[1:-1], longest + 1).amin(-1, keepdim=True)
    reachable = inner[..., shortest - 1 :]
    deepest = reachable.argmin(-1, keepdim=True) + shortest
    period = torch.where(first <= longest, first, deepest)
    voicing = (1 - depth.gather(-1, period)).clamp(0, 1)
    semitones = 12 * torch.log2(sample_rate / REFERENCE / _between_samples(difference, period))
    return Pitch(torch.where(voicing >= VOICED, semitones, 0.0), voicing)


def _differences(frames: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """`frames (B, N, size)` -> d and d over its running mean, both `(B, N, longest + 1)` for lags from 0."""
    size = frames.shape[-1]
    width = size - longest
    whole, head = torch.fft.rfft(frames), torch.fft.rfft(frames[..., :width], n=size)
    correlation = torch.fft.irfft(whole * head.conj(), n=size)[..., : longest + 1]
    squares = frames.square()
    energy = squares[..., :width].sum(-1, keepdim=True)
    gained = F.pad(running_sum(squares[..., width:] - squares[..., :longest]), (1, 0))  # e(tau) - e(0)
    difference = (2 * (energy - correlation) + gained).clamp(min=0)
    mean = running_sum(difference) / torch.arange(longest + 1, device=frames.device).clamp(min=1)
    floor = QUIET * energy + 1e-20
    depth = (difference + floor) / (mean + floor)
    return difference, depth


def _between_samples(difference: Tensor, period: Tensor) -> Tensor:
    """The vertex, in samples, of the parabola through d at `period` and its neighbors."""
    before, at, after = (difference.gather(-1, period + step) for step in (-1, 0, 1))
    curvature = before - 2 * at + after
    shift = torch.where(curvature > 0, (before - after) / (2 * curvature).clamp(min=1e-30), 0.0)
    return period + shift.clamp(-0.5, 0.5)
