"""Features of the waveform itself: zero-crossing rate and root mean square of each frame, as librosa defines them."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from serx.dsp.batching import valid_mask


def frame_sums(x: Tensor, size: int, hop_length: int) -> Tensor:
    """`(B, T)` -> `(B, N)`, sums over the centered frames of `size` samples.

    Blocks of the greatest common divisor are added once and shared by the frames that overlap.
    """
    block = math.gcd(size, hop_length)
    padded = F.pad(x, (size // 2, size // 2 + -x.shape[1] % block))
    sums = padded.unflatten(-1, (-1, block)).sum(-1).unfold(-1, size // block, hop_length // block).sum(-1)
    return sums[:, : 1 + x.shape[1] // hop_length]


SILENT = 1e-10  # samples as small count as zero, and zero as positive


def zero_crossing_rate(waveform: Tensor, lengths: Tensor, size: int, hop_length: int) -> Tensor:
    """Sign changes a sample, `(B, T)` -> `(B, N, 1)`; a clip's end is no crossing, whatever follows it."""
    negative = waveform < -SILENT
    crossing = F.pad(negative[:, 1:] != negative[:, :-1], (1, 0)) & valid_mask(lengths, waveform.shape[1])
    crossing = crossing.float()
    count = frame_sums(crossing, size, hop_length)
    ahead = F.pad(crossing, (size // 2, 0))[:, ::hop_length][:, : count.shape[1]]  # its pair lies before the frame
    return ((count - ahead) / size)[..., None]


def root_mean_square(waveform: Tensor, size: int, hop_length: int) -> Tensor:
    """`(B, T)` -> `(B, N, 1)`; zeros around the clip count, as with `librosa.feature.rms(y=...)`."""
    return torch.sqrt(frame_sums(waveform.square(), size, hop_length) / size)[..., None]
