"""Time stretch and pitch shift of a batch, every clip by its own ratio: a phase vocoder without a single angle.

Output frame j is analysis frame k(j) = round(j r) at tempo r, turned by a phasor that keeps partials continuous. While
k advances by one, as j does, the phases of the recording itself fit, and the phasor stays. It changes only at *slips*,
where a frame is repeated or left out, a share |r - 1| of the frames. There the frame that would have followed and the
frame that does follow are both known, so each bin's phase propagation is

    turn = unit(X[k + 1] conj X[k']),        k' = k(j + 1), the frame that does follow

without arctangents, unwrapping or a sum over time. Every bin takes the turn of the nearest peak of the spectrum
("identity phase locking", Laroche & Dolson 1999, "Improved phase vocoder time-scale modification of audio"), so a slip
maps phasors E to E'[f] = E[n(f)] turn[n(f)]. Such maps compose associatively, (n1, d1) then (n2, d2) giving
(n1[n2], d1[n2] d2), so all prefixes are found in blocks rather than slip by slip. Shapes and counts follow from the
range of tempos.

Tempos are fractions of integers and frames are found by integer division, the same on every device.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from serx.transforms.chunks import by_chunks
from serx.transforms.functional import valid_mask
from serx.transforms.resampling import RATIO_STEPS, REACH, read_at
from serx.transforms.tables import hann_window

CPU_CHUNK = 2  # clips at a time on a CPU: more leave the cache
OVERLAP = 4  # frames that cover a sample
_WINDOW_SECONDS = 0.064
_BLOCK = 8  # slips whose turns are composed before the blocks are joined
_TINY = 1e-16  # turns silence by nothing; a partial at -140 dB has 1e-11 here


def window_size(rate: float) -> int:
    """The power of two nearest to 64 ms at `rate` samples a second: 1024 at 16 kHz."""
    return max(16, 2 ** round(math.log2(_WINDOW_SECONDS * rate)))


def change_tempo(
    waveform: Tensor, lengths: Tensor, steps: Tensor, bounds: tuple[int, int], window: int
) -> tuple[Tensor, Tensor]:
    """Plays each clip at `steps / 128` of its tempo, pitch kept; where `steps` is 128 it stays as it is, bit for bit.

    Args:
        waveform: `(B, T)`, zero beyond `lengths (B,)`.
        steps: `(B,)` int64 within `bounds`, two host numbers from 64 to 256, least and greatest.
        window: samples of a frame, a multiple of 4.

    Returns:
        `(B, ceil(T * 128 / slowest))` and the new lengths `ceil(length * 128 / steps)`.
    """
    width = waveform.shape[1]
    size = _scaled(width, RATIO_STEPS, bounds[0])
    shorter = torch.div(lengths * RATIO_STEPS + steps - 1, steps, rounding_mode="floor")

    def play(part: Tensor, steps: Tensor, lengths: Tensor) -> Tensor:
        slow, fast = _known_bounds(steps, bounds)
        here = _scaled(width, RATIO_STEPS, slow)
        tempos = (slow / RATIO_STEPS, fast / RATIO_STEPS)
        played = _stretch(part, steps, torch.full_like(steps, RATIO_STEPS), tempos, here, window)
        same = F.pad(part, (0, here - width))  # cuts where every clip is faster, and none the same
        return torch.where((steps == RATIO_STEPS)[:, None], same, played) * valid_mask(lengths, here)

    return by_chunks(play, CPU_CHUNK, size, waveform, steps, shorter), shorter


def change_pitch(waveform: Tensor, lengths: Tensor, steps: Tensor, bounds: tuple[int, int], window: int) -> Tensor:
    """Multiplies each clip's frequencies by `steps / 128`, duration kept; 128 leaves the clip as it is, bit for bit.

    Stretches to `steps / 128` of the duration, then reads that much faster.

    Args:
        waveform: `(B, T)`, zero beyond `lengths (B,)`.
        steps: `(B,)` int64 within `bounds`, two host numbers from 96 to 168, least and greatest.
        window: samples of a frame, a multiple of 4.
    """
    size = waveform.shape[1]

    def shift(part: Tensor, steps: Tensor, lengths: Tensor) -> Tensor:
        low, high = _known_bounds(steps, bounds)
        tempos, longest = (RATIO_STEPS / low, RATIO_STEPS / high), _scaled(size, high, RATIO_STEPS) + REACH
        longer = _stretch(part, torch.full_like(steps, RATIO_STEPS), steps, tempos, longest, window)
        shifted = read_at(longer, steps, size) * valid_mask(lengths, size)
        return torch.where((steps == RATIO_STEPS)[:, None], part, shifted)

    return by_chunks(shift, CPU_CHUNK, size, waveform, steps, lengths)


def change_pitch_and_tempo(
    waveform: Tensor,
    lengths: Tensor,
    pitch: Tensor,
    tempo: Tensor,
    pitch_bounds: tuple[int, int],
    tempo_bounds: tuple[int, int],
    window: int,
) -> tuple[Tensor, Tensor]:
    """`change_pitch` by `pitch / 128` and `change_tempo` by `tempo / 128` in one pass, for the price of one.

    Played at `tempo / pitch` of its tempo and then read `pitch / 128` as fast, a clip is as long as at `tempo / 128`.
    Where both are 128 it stays as it is, bit for bit.

    Args:
        waveform: `(B, T)`, zero beyond `lengths (B,)`.
        pitch, tempo: `(B,)` int64 within their bounds, host numbers: from 96 to 168 and from 64 to 256, the fastest
            tempo no more than twice the lowest pitch.
        window: samples of a frame, a multiple of 4.

    Returns:
        `(B, ceil(T * 128 / slowest))` and the new lengths `ceil(length * 128 / tempo)`.
    """
    width = waveform.shape[1]
    size = _scaled(width, RATIO_STEPS, tempo_bounds[0])
    new = torch.div(lengths * RATIO_STEPS + tempo - 1, tempo, rounding_mode="floor")

    def change(part: Tensor, pitch: Tensor, tempo: Tensor, lengths: Tensor) -> Tensor:
        (low, high), (slow, fast) = _known_bounds(pitch, pitch_bounds), _known_bounds(tempo, tempo_bounds)
        here = _scaled(width, RATIO_STEPS, slow)
        longest = _scaled(here, high, RATIO_STEPS) + REACH
        longer = _stretch(part, tempo, pitch, (slow / high, fast / low), longest, window)
        same = F.pad(part, (0, here - width))  # cuts where every clip is faster, and none the same
        still = (pitch == RATIO_STEPS) & (tempo == RATIO_STEPS)
        changed = read_at(longer, pitch, here) * valid_mask(lengths, here)
        return torch.where(still[:, None], same, changed)

    return by_chunks(change, CPU_CHUNK, size, waveform, pitch, tempo, new), new


def _scaled(size: int, over: int, under: int) -> int:
    """`size * over / under`, rounded up."""
    return -(-size * over // under)


def _known_bounds(steps: Tensor, bounds: tuple[int, int]) -> tuple[int, int]:
    """The range of `steps`, for as few frames and slips as will do: on a CPU their own, elsewhere the setting's.

    A CPU waits for nothing when it reads its own numbers. What a clip becomes does not depend on the range.
    """
    if steps.device.type == "cpu":
        return int(steps.min()), int(steps.max())
    return bounds


def _stretch(
    waveform: Tensor, over: Tensor, under: Tensor, tempos: tuple[float, float], size: int, window: int
) -> Tensor:
    """`(B, T)` at tempos `over / under` within `tempos`, the first `size` samples of each."""
    hop = window // OVERLAP
    shape = hann_window(window, waveform.device)
    # Frames -1, 0, 1 ... are centred on multiples of hop; -1 and those past the end make the overlap complete
    # everywhere, so that its sum of squared windows is the constant 1.5 * OVERLAP / 4.
    last = -(-(waveform.shape[1] + window // 2) // hop)  # the first frame that hears nothing of the clip
    padded = F.pad(waveform, (window // 2 + hop, window // 2 + last * hop - waveform.shape[1]))
    spectrum = torch.fft.rfft(padded.unfold(1, window, hop) * shape)
    frames = 1 - (-(size + window // 2) // hop)
    position = torch.arange(-1, frames - 1, device=waveform.device)
    source = torch.div(2 * position * over[:, None] + under[:, None], 2 * under[:, None], rounding_mode="floor")
    source = source.clamp(min=-1)
    passed = (source - position).abs()  # the slips before a frame: k(j) - j has moved by one at each
    slips = 2 + math.ceil(max(min(frames, (last + 2) / tempo) * abs(tempo - 1) for tempo in tempos))
    turned = _turns(spectrum, source, passed, slips)
    rows = _take(spectrum, (source + 1).clamp(max=last + 1)).mul_(_take(turned, passed.clamp(max=slips)))
    return _overlap_add(torch.fft.irfft(rows, n=window), shape)[:, window // 2 + hop :][:, :size]


def _take(frames: Tensor, index: Tensor) -> Tensor:
    """`frames (B, N, bins)` at each clip's own `index (B, M)`; one flat gather, twice as fast as two indices."""
    first = torch.arange(len(frames), device=frames.device)[:, None] * frames.shape[1]
    return frames.flatten(0, 1).index_select(0, (index + first).flatten()).unflatten(0, index.shape)


def _turns(spectrum: Tensor, source: Tensor, passed: Tensor, slips: int) -> Tensor:
    """`(B, slips + 1, bins)` unit phasors of the stretches between slips; past a clip's last slip they mean nothing."""
    wanted = torch.arange(1, slips + 1, device=spectrum.device).expand(len(spectrum), slips).contiguous()
    after = torch.searchsorted(passed, wanted).clamp(1, passed.shape[1] - 1)  # the first frame after each slip
    most = spectrum.shape[1] - 1
    would = _take(spectrum, (source.gather(1, after - 1) + 2).clamp(max=most))
    does = _take(spectrum, (source.gather(1, after) + 1).clamp(max=most))
    turn = would.mul_(does.conj()).add_(_TINY)
    power = turn.real.square().addcmul_(turn.imag, turn.imag)
    source = _nearest_peak(power)
    return F.pad(_compose(turn.mul_(power.rsqrt_()).gather(2, source), source), (0, 0, 1, 0), value=1.0)


def _compose(turn: Tensor, source: Tensor) -> Tensor:
    """The phasors `(B, S, bins)` after each of S slips E'[f] = E[source(f)] turn[f], beginning with E = 1.

    In blocks: first all maps from a block's start to each of its slips, for all blocks at once, then the phasors from
    block to block. The blocks are of one size, so a result does not depend on how many slips follow it.
    """
    count = turn.shape[1]
    blocks = -(-count // _BLOCK)
    missing = blocks * _BLOCK - count
    turns = list(F.pad(turn, (0, 0, 0, missing)).unflatten(1, (blocks, _BLOCK)).unbind(2))
    sources = list(F.pad(source, (0, 0, 0, missing)).unflatten(1, (blocks, _BLOCK)).unbind(2))
    for i in range(1, _BLOCK):
        turns[i] = turns[i - 1].gather(2, sources[i]).mul_(turns[i])
        sources[i] = sources[i - 1].gather(2, sources[i])
    phasors = [torch.ones_like(turn[:, 0])]
    for i in range(blocks - 1):
        phasors.append(phasors[-1].gather(1, sources[-1][:, i]) * turns[-1][:, i])
    before = torch.stack(phasors, 1)
    after = [before.gather(2, source) * turn for source, turn in zip(sources, turns, strict=True)]
    return torch.stack(after, 2).flatten(1, 2)[:, :count]


def _nearest_peak(power: Tensor) -> Tensor:
    """`(..., bins)` -> int64, for each bin the nearest one that is the largest of its five neighbours."""
    bins = power.shape[-1]
    index = torch.arange(bins, device=power.device, dtype=torch.int16)
    peak = F.max_pool1d(power, 5, 1, 2) == power
    left = torch.where(peak, index, -bins).cummax(-1).values
    right = torch.where(peak, index, 2 * bins).flip(-1).cummin(-1).values.flip(-1)
    return torch.where(2 * index <= left + right, left, right).clamp_(0, bins - 1).long()


def _overlap_add(frames: Tensor, shape: Tensor) -> Tensor:
    """Windowed frames `(B, N, window)` added a quarter of a window apart: `(B, (N + 3) * window / 4)`."""
    count, hop = frames.shape[1], frames.shape[2] // OVERLAP
    pieces, weights = frames.unflatten(2, (OVERLAP, hop)), shape.view(OVERLAP, hop) * (8 / 3 / OVERLAP)
    total = frames.new_empty(len(frames), count + OVERLAP - 1, hop)
    torch.mul(pieces[:, :, 0], weights[0], out=total[:, :count])
    total[:, count:] = 0
    for i in range(1, OVERLAP):
        total[:, i : i + count].addcmul_(pieces[:, :, i], weights[i])
    return total.flatten(1)
