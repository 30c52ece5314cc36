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

from serx.dsp.batching import hann_window, map_similar_ratios
from serx.dsp.resampling import RATIO_STEPS, REACH, read_at

CPU_CHUNK = 2  # clips at a time on a CPU: more leave the cache
OVERLAP = 4  # frames that cover a sample
_WINDOW_SECONDS = 0.064
_BLOCK = 4  # slips whose turns are composed before the blocks are joined
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
    size = _scaled(waveform.shape[1], RATIO_STEPS, bounds[0])
    new = torch.div(lengths * RATIO_STEPS + steps - 1, steps, rounding_mode="floor")
    tempos = (bounds[0] / RATIO_STEPS, bounds[1] / RATIO_STEPS)

    def play(part: Tensor, tempos: tuple[float, float], size: int, steps: Tensor) -> Tensor:
        return _stretch(part, steps, torch.full_like(steps, RATIO_STEPS), tempos, size, window)

    still = steps == RATIO_STEPS
    return map_similar_ratios(
        play, CPU_CHUNK, steps / RATIO_STEPS, tempos, still, waveform, lengths, new, size, steps
    ), new


def change_pitch(waveform: Tensor, lengths: Tensor, steps: Tensor, bounds: tuple[int, int], window: int) -> Tensor:
    """Multiplies each clip's frequencies by `steps / 128`, duration kept; 128 leaves the clip as it is, bit for bit.

    Stretches to `steps / 128` of the duration, then reads that much faster.

    Args:
        waveform: `(B, T)`, zero beyond `lengths (B,)`.
        steps: `(B,)` int64 within `bounds`, two host numbers from 96 to 168, least and greatest.
        window: samples of a frame, a multiple of 4.
    """
    tempos = (RATIO_STEPS / bounds[1], RATIO_STEPS / bounds[0])

    def shift(part: Tensor, tempos: tuple[float, float], size: int, steps: Tensor) -> Tensor:
        over = torch.full_like(steps, RATIO_STEPS)
        return read_at(_stretch(part, over, steps, tempos, _to_be_read(part, tempos), window), steps, size)

    size, still = waveform.shape[1], steps == RATIO_STEPS
    return map_similar_ratios(
        shift, CPU_CHUNK, RATIO_STEPS / steps, tempos, still, waveform, lengths, lengths, size, steps
    )


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
    size = _scaled(waveform.shape[1], RATIO_STEPS, tempo_bounds[0])
    new = torch.div(lengths * RATIO_STEPS + tempo - 1, tempo, rounding_mode="floor")
    tempos = (tempo_bounds[0] / pitch_bounds[1], tempo_bounds[1] / pitch_bounds[0])

    def change(part: Tensor, tempos: tuple[float, float], size: int, pitch: Tensor, tempo: Tensor) -> Tensor:
        return read_at(_stretch(part, tempo, pitch, tempos, _to_be_read(part, tempos), window), pitch, size)

    still = (pitch == RATIO_STEPS) & (tempo == RATIO_STEPS)
    ratio = tempo / pitch
    return map_similar_ratios(change, CPU_CHUNK, ratio, tempos, still, waveform, lengths, new, size, pitch, tempo), new


def _scaled(size: int, over: int, under: int) -> int:
    """`size * over / under`, rounded up."""
    return -(-size * over // under)


def _to_be_read(waveform: Tensor, tempos: tuple[float, float]) -> int:
    """Samples of the stretched clips that `read_at` may hear: its kernel reaches beyond the last one."""
    return math.ceil(waveform.shape[1] / tempos[0]) + 1 + REACH


def _stretch(
    waveform: Tensor, over: Tensor, under: Tensor, tempos: tuple[float, float], size: int, window: int
) -> Tensor:
    """`(B, T)` at tempos `over / under` within `tempos`, the first `size` samples of each."""
    hop = window // OVERLAP
    shape = hann_window(window, waveform.device)
    # Frames -1, 0, 1 ... are centered on multiples of hop; -1 and those past the end make the overlap complete
    # everywhere, so that its sum of squared windows is the constant 1.5 * OVERLAP / 4.
    last = -(-(waveform.shape[1] + window // 2) // hop)  # this frame and the next hear nothing of the clip
    padded = F.pad(waveform, (window // 2 + hop, window // 2 + (last + 1) * hop - waveform.shape[1]))
    spectrum = torch.fft.rfft(padded.unfold(1, window, hop) * shape)
    frames = 1 - (-(size + window // 2) // hop)
    position = torch.arange(-1, frames - 1, device=waveform.device)
    source = torch.div(2 * position * over[:, None] + under[:, None], 2 * under[:, None], rounding_mode="floor")
    source[:, 0] = -1  # at every tempo, so that none slips before frame 0
    passed = (source - position).abs()  # the slips before a frame: k(j) - j has moved by one at each
    slips = math.ceil(max(min(frames, (last + 1) / tempo) * abs(tempo - 1) for tempo in tempos))
    source = 1 + _in_row(source.clamp(max=last), spectrum)
    turned = _turns(spectrum, source, passed, slips)
    rows = _take(spectrum, source).mul_(_take(turned, _in_row(passed.clamp(max=slips), turned)))
    return _overlap_add(torch.fft.irfft(rows, n=window), shape)[:, window // 2 + hop :][:, :size]


def _in_row(index: Tensor, frames: Tensor) -> Tensor:
    """Each clip's `index (B, M)` of its own frames, in all clips' `frames (B, N, bins)` laid end to end."""
    return index + torch.arange(len(frames), device=frames.device)[:, None] * frames.shape[1]


def _take(frames: Tensor, index: Tensor) -> Tensor:
    """`frames (B, N, bins)` at an `index (B, M)` of `_in_row`; one flat gather, twice as fast as two indices."""
    return frames.flatten(0, 1).index_select(0, index.flatten()).unflatten(0, index.shape)


def _turns(spectrum: Tensor, source: Tensor, passed: Tensor, slips: int) -> Tensor:
    """`(B, > slips, bins)` unit phasors of the stretches between slips; past a clip's last slip they mean nothing."""
    # Slip 0 is none: the frame that would follow frame -1 does, and its turn is 1.
    count = (slips // _BLOCK + 1) * _BLOCK
    wanted = torch.arange(count, device=spectrum.device).expand(len(spectrum), count).contiguous()
    after = torch.searchsorted(passed, wanted).clamp(1, passed.shape[1] - 1)  # the first frame after each slip
    would, does = _take(spectrum, source.gather(1, after - 1) + 1), _take(spectrum, source.gather(1, after))
    turn = would.mul_(does.conj_physical_()).add_(_TINY)
    squares = torch.view_as_real(turn).square()
    power = squares[..., 0] + squares[..., 1]
    peak = _nearest_peak(power.detach())
    return _compose(turn.mul_(power.rsqrt_()).gather(2, peak), peak)


def _compose(turn: Tensor, source: Tensor) -> Tensor:
    """The phasors `(B, S, bins)` after each of S slips E'[f] = E[source(f)] turn[f], beginning with E = 1.

    In blocks, of which S is a multiple: first all maps from a block's start to each of its slips, for all blocks at
    once, then the phasors from block to block. The blocks are of one size, so a result does not depend on S.
    """
    turns, sources = (list(each.unflatten(1, (-1, _BLOCK)).unbind(2)) for each in (turn, source))
    for i in range(1, _BLOCK):
        turns[i] = turns[i - 1].gather(2, sources[i]).mul_(turns[i])
        sources[i] = sources[i - 1].gather(2, sources[i])
    phasors = [torch.ones_like(turn[:, 0])]
    for last_turn, last_source in zip(turns[-1].unbind(1)[:-1], sources[-1].unbind(1)[:-1], strict=True):
        phasors.append(phasors[-1].gather(1, last_source).mul_(last_turn))
    before = torch.stack(phasors, 1)
    after = [before.gather(2, source).mul_(turn) for source, turn in zip(sources, turns, strict=True)]
    return torch.stack(after, 2).flatten(1, 2)


def _nearest_peak(power: Tensor) -> Tensor:
    """`(..., bins)` -> int64, for each bin the nearest one that is the largest of its five neighbors.

    In floats throughout: a CPU compares and selects several times slower than it adds.
    """
    bins = power.shape[-1]
    index = torch.arange(bins, device=power.device, dtype=power.dtype)
    away = F.max_pool1d(power, 5, 1, 2).sub_(power).sign_().mul_(2 * bins)  # 0 at peaks
    left = (index - away).cummax(-1).values
    right = away.add_(index).flip(-1).cummin(-1).values.flip(-1)
    nearer_right = (2 * index - left).sub_(right).clamp_(0, 1)
    return left.lerp(right, nearer_right).long().clamp_(0, bins - 1)


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
