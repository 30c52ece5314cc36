"""Speed change of a batch, each clip by its own ratio: one batched matrix product, and no kernel built per ratio.

At speed P / Q (Q = 128) output sample m reads the input at m P / Q, whose fraction depends on m mod Q alone. Of every Q
outputs, groups of b = 32 are one product: the K input samples around the point where the group's first output reads,
times a `(K, b)` matrix of windowed-sinc weights:

    y[m + r] = sum_k x[s + k - w] h(s + k - w - (m + r) P / Q),    s = floor(m P / Q),    r < b
    h(t) = c sinc(c t) cos^2(pi c t / 2 W)

The cut-off c = min(1, Q / P) * 0.97 lies below the lower of the two Nyquist frequencies (Smith, "Digital audio
resampling"). The Q / b matrices of every P form one small bank, from which each clip picks its own. With a larger b
most of their entries would be zero, since each output reads only 2 w of the K samples.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from serx.dsp.batching import cached, map_similar_ratios, valid_mask

RATIO_STEPS = 128  # Q: speeds are multiples of 1 / 128, about 13 cents apart
SLOWEST, FASTEST = 96, 168  # P: speeds 0.75 to 1.3125
ZERO_CROSSINGS = 12  # W, of the sinc to each side
ROLL_OFF = 0.97
REACH = math.ceil(ZERO_CROSSINGS / ROLL_OFF * FASTEST / RATIO_STEPS)  # w, input samples a kernel reaches to each side
_GROUP = 32  # b, outputs of one product
_LOG_STEPS = 7  # RATIO_STEPS is 2 to the power of this; a CPU shifts many times faster than it divides
CPU_CHUNK = 2  # clips at a time on a CPU: more leave the cache


def change_speed(waveform: Tensor, lengths: Tensor, steps: Tensor, slowest: int) -> tuple[Tensor, Tensor]:
    """Plays each clip at `steps / 128` of its speed, which changes pitch and duration; 128 copies it bit for bit.

    Args:
        waveform: `(B, T)`, zero beyond `lengths (B,)`.
        steps: `(B,)` int64 in 96..168.
        slowest: the least of `steps` that can occur, a Python number. It bounds the width of the output.

    Returns:
        The waveform `(B, ceil(T / min(slowest, 128)) * 128)` and the lengths `ceil(length * 128 / steps)`.

    >>> tone = torch.sin(torch.arange(1600) * 0.1)[None]
    >>> fast, lengths = change_speed(tone, torch.tensor([1600]), torch.tensor([160]), slowest=128)
    >>> lengths, torch.allclose(fast[0, 200:1000], torch.sin(torch.arange(200, 1000) * 0.125), atol=1e-2)
    (tensor([1280]), True)
    """
    size = _ceil_divide(waveform.shape[1], min(slowest, RATIO_STEPS)) * RATIO_STEPS
    new_lengths = torch.div(lengths * RATIO_STEPS + steps - 1, steps, rounding_mode="floor")
    unchanged, bounds = steps == RATIO_STEPS, (slowest, FASTEST)

    def read(part: Tensor, bounds: tuple[float, float], size: int, steps: Tensor) -> Tensor:
        return read_at(part, steps, size)

    changed = map_similar_ratios(read, CPU_CHUNK, steps, bounds, unchanged, waveform, lengths, new_lengths, size, steps)
    return changed, new_lengths


def change_speed_uniformly(waveform: Tensor, lengths: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """`change_speed` of all clips at one speed `steps / 128`, bit for bit, in a form that can be exported.

    It reads no tensor's values. The waveform `(B, T)` becomes as wide as its longest clip can need.

    >>> waveform, lengths = change_speed_uniformly(torch.ones(2, 1600), torch.tensor([1600, 800]), 160)
    >>> waveform.shape, lengths
    (torch.Size([2, 1664]), tensor([1280,  640]))
    """
    if steps == RATIO_STEPS:
        return waveform, lengths
    size = _ceil_divide(waveform.shape[1], min(steps, RATIO_STEPS)) * RATIO_STEPS
    chunk = CPU_CHUNK if waveform.device.type == "cpu" else len(waveform)
    weights = _weights(waveform.device, steps)
    parts = [
        _read_with(weights.expand(len(part), -1, -1, -1), part, part_steps, size)
        for part, part_steps in zip(waveform.split(chunk), torch.full_like(lengths, steps).split(chunk), strict=True)
    ]
    new_lengths = torch.div(lengths * RATIO_STEPS + steps - 1, steps, rounding_mode="floor")
    return torch.cat(parts) * valid_mask(new_lengths, size), new_lengths


def read_at(waveform: Tensor, steps: Tensor, size: int) -> Tensor:
    """The first `size` samples of `waveform (B, T)` read at `steps (B,) / 128` of its speed; zeros follow its end."""
    return _read_with(_bank(waveform.device).index_select(0, steps - SLOWEST), waveform, steps, size)


def _read_with(weights: Tensor, waveform: Tensor, steps: Tensor, size: int) -> Tensor:
    """`read_at` with each clip's matrices `(B, Q / b, K, b)`."""
    count = _ceil_divide(size, RATIO_STEPS)
    groups, taps = weights.shape[1:3]
    padded = F.pad(waveform, (REACH, taps))
    output = torch.arange(0, count * RATIO_STEPS, _GROUP, device=steps.device).view(count, groups).T
    start = (output * steps[:, None, None]).bitwise_right_shift_(_LOG_STEPS)
    start = start.clamp_(max=padded.shape[1] - taps)  # past the end, all samples are zero
    start += torch.arange(len(steps), device=steps.device)[:, None, None] * padded.shape[1]
    rows = padded.flatten().unfold(0, taps, 1).index_select(0, start.flatten()).view(len(steps) * groups, count, taps)
    groups_of_samples = torch.bmm(rows, weights.flatten(0, 1))
    return groups_of_samples.view(len(steps), groups, count, _GROUP).transpose(1, 2).flatten(1)[:, :size]


def _ceil_divide(size: int, step: int) -> int:
    """`size / step`, rounded up. `-(-size // step)` would be wrong in ONNX, which divides toward zero."""
    return (size + step - 1) // step


@cached
def _bank(device: torch.device) -> Tensor:
    """`(speeds, Q / b, K, b)`, the weights of every speed."""
    return torch.stack([_weights(device, step) for step in range(SLOWEST, FASTEST + 1)])


@cached
def _weights(device: torch.device, step: int) -> Tensor:
    """`(Q / b, K, b)` of the speed `step / 128`, computed in float64; each output's weights add up to 1."""
    first = torch.arange(0, RATIO_STEPS, _GROUP)[:, None, None]
    taps = torch.arange(-(-_GROUP * FASTEST // RATIO_STEPS) + 2 * REACH)[:, None] - REACH
    cut = min(1.0, RATIO_STEPS / step) * ROLL_OFF
    position = (first + torch.arange(_GROUP)).double() * step / RATIO_STEPS
    distance = ((taps + first * step // RATIO_STEPS - position) * cut).clamp(-ZERO_CROSSINGS, ZERO_CROSSINGS)
    weight = torch.sinc(distance) * torch.cos(math.pi * distance / 2 / ZERO_CROSSINGS).square()
    return (weight / weight.sum(1, keepdim=True)).float().to(device)
