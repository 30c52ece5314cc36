"""Play each clip of a batch at its own speed: one batched matrix product, no kernel built per ratio.

At speed P / Q (Q = 128 steps) output sample m reads the input at m P / Q, whose fraction depends on m mod Q alone. Of
every Q outputs, b = 32 at a time are one product of the K input samples around where the first of them reads with a
`(K, b)` matrix of windowed-sinc weights:

    y[m + r] = sum_k x[s + k - w] h(s + k - w - (m + r) P / Q),    s = floor(m P / Q),    r < b
    h(t) = c sinc(c t) cos^2(pi c t / 2 W)

with the cut-off c = min(1, Q / P) * 0.97 below the lower of the two Nyquist frequencies (Smith, "Digital audio
resampling"). The Q / b matrices of every P are one small bank, and each clip picks its own. With
a larger b they would be zeros for the most part: each output hears only 2 w of the K samples.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from serx.dsp.batching import cached, map_similar_ratios, valid_mask

RATIO_STEPS = 128  # Q: speeds are multiples of 1 / 128, about 13 cents apart
FIRST, LAST = 96, 168  # P: speeds 0.75 to 1.3125
ZERO_CROSSINGS = 12
ROLL_OFF = 0.97
REACH = math.ceil(ZERO_CROSSINGS / ROLL_OFF * LAST / RATIO_STEPS)  # w, input samples a kernel reaches to each side
_GROUP = 32  # b, outputs of one product
_LOG_STEPS = 7  # RATIO_STEPS is 2 to this; a CPU shifts many times faster than it divides
CPU_CHUNK = 2  # clips at a time on a CPU: more leave the cache


def change_speed(waveform: Tensor, lengths: Tensor, steps: Tensor, slowest: int) -> tuple[Tensor, Tensor]:
    """Reads each clip at `steps / 128` of its speed; where `steps` is 128 the clip is left as it is, bit for bit.

    Args:
        waveform: `(B, T)`, zero beyond `lengths (B,)`.
        steps: `(B,)` int64 in [96, 168].
        slowest: the least of `steps` that can occur, a host number: it bounds the output's width.

    Returns:
        `(B, ceil(T * 128 / slowest))` and the new lengths `ceil(length * 128 / steps)`.
    """
    size = _up(waveform.shape[1], min(slowest, RATIO_STEPS)) * RATIO_STEPS
    new = torch.div(lengths * RATIO_STEPS + steps - 1, steps, rounding_mode="floor")
    still, bounds = steps == RATIO_STEPS, (slowest, LAST)
    played = map_similar_ratios(_read, CPU_CHUNK, steps, bounds, still, waveform, lengths, new, size, steps)
    return played, new


def play(waveform: Tensor, lengths: Tensor, speed: int) -> tuple[Tensor, Tensor]:
    """What `change_speed` gives, bit for bit, where all clips are played at the one `speed / 128`.

    Nothing here reads a tensor's numbers, so that it can be exported.
    """
    if speed == RATIO_STEPS:
        return waveform, lengths
    size = _up(waveform.shape[1], min(speed, RATIO_STEPS)) * RATIO_STEPS
    chunk = CPU_CHUNK if waveform.device.type == "cpu" else len(waveform)
    weights = _weights(waveform.device, speed)
    played = [
        _read_with(weights.expand(len(part), -1, -1, -1), part, steps, size)
        for part, steps in zip(waveform.split(chunk), torch.full_like(lengths, speed).split(chunk), strict=True)
    ]
    new = torch.div(lengths * RATIO_STEPS + speed - 1, speed, rounding_mode="floor")
    return torch.cat(played) * valid_mask(new, size), new


def _read(waveform: Tensor, bounds: tuple[float, float], size: int, steps: Tensor) -> Tensor:
    return read_at(waveform, steps, size)


def read_at(waveform: Tensor, steps: Tensor, size: int) -> Tensor:
    """The first `size` samples of `waveform (B, T)` read at `steps / 128` of its speed; zeros follow its end."""
    return _read_with(_bank(waveform.device).index_select(0, steps - FIRST), waveform, steps, size)


def _read_with(weights: Tensor, waveform: Tensor, steps: Tensor, size: int) -> Tensor:
    """`read_at` by the clips' matrices, `(B, Q / b, K, b)`."""
    count = _up(size, RATIO_STEPS)
    groups, taps = weights.shape[1:3]
    padded = F.pad(waveform, (REACH, taps))
    output = torch.arange(0, count * RATIO_STEPS, _GROUP, device=steps.device).view(count, groups).T
    start = (output * steps[:, None, None]).bitwise_right_shift_(_LOG_STEPS)
    start = start.clamp_(max=padded.shape[1] - taps)  # past the end every row is zeros
    start += torch.arange(len(steps), device=steps.device)[:, None, None] * padded.shape[1]
    rows = padded.flatten().unfold(0, taps, 1).index_select(0, start.flatten()).view(len(steps) * groups, count, taps)
    read = torch.bmm(rows, weights.flatten(0, 1))
    return read.view(len(steps), groups, count, _GROUP).transpose(1, 2).flatten(1)[:, :size]


def _up(size: int, step: int) -> int:
    """`size / step`, rounded up; not by `-(-size // step)`, since ONNX divides toward zero."""
    return (size + step - 1) // step


@cached
def _bank(device: torch.device) -> Tensor:
    """`(P, Q / b, K, b)`, the weights of every speed."""
    return torch.stack([_weights(device, step) for step in range(FIRST, LAST + 1)])


@cached
def _weights(device: torch.device, step: int) -> Tensor:
    """`(Q / b, K, b)` of the speed `step / 128`; made in float64, each output's weights adding up to 1."""
    first = torch.arange(0, RATIO_STEPS, _GROUP)[:, None, None]
    taps = torch.arange(-(-_GROUP * LAST // RATIO_STEPS) + 2 * REACH)[:, None] - REACH
    cut = min(1.0, RATIO_STEPS / step) * ROLL_OFF
    position = (first + torch.arange(_GROUP)).double() * step / RATIO_STEPS
    distance = ((taps + first * step // RATIO_STEPS - position) * cut).clamp(-ZERO_CROSSINGS, ZERO_CROSSINGS)
    weight = torch.sinc(distance) * torch.cos(math.pi * distance / 2 / ZERO_CROSSINGS).square()
    return (weight / weight.sum(1, keepdim=True)).float().to(device)
