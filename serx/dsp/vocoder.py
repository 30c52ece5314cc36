"""Time stretch and pitch shift of a batch, each clip by its own ratio: a phase vocoder that computes no angles.

At tempo r, output frame j is analysis frame k(j) = round(j r), multiplied by a phasor that keeps partials continuous.
While k advances by one, as j does, the phases of the recording already fit and the phasor stays the same. It changes
only at *slips*, where a frame is repeated or skipped; these are a share |r - 1| of the frames. At a slip, both the
frame that would have followed and the frame that does follow are known, so the phase propagation of each bin is

    turn = unit(X[k + 1] conj X[k']),        k' = k(j + 1), the frame that does follow

without arctangents, phase unwrapping or a sum over time. Each bin takes the turn of the nearest peak of the spectrum
("identity phase locking", Laroche & Dolson 1999, "Improved phase vocoder time-scale modification of audio"), so a slip
maps the phasors E to E'[f] = E[n(f)] turn[n(f)], where n(f) is the peak nearest to bin f. The composition of two such
maps, (n1, d1) then (n2, d2), is (n1[n2], d1[n2] d2). It is associative, so all prefixes are computed in blocks and not
slip by slip. All shapes follow from the range of tempos, which the host knows.

Tempos are fractions of integers, and frames are found by integer division, so they are the same on every device.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from serx.dsp.batching import cached, map_similar_ratios
from serx.dsp.resampling import RATIO_STEPS, REACH, read_at

CPU_CHUNK = 2  # clips at a time on a CPU: more leave the cache
OVERLAP = 4  # frames that cover each sample
_WINDOW_SECONDS = 0.064
_BLOCK = 4  # slips of a block
_TINY = 1e-16  # makes the turn of silence 1; a partial at -140 dB has 1e-11


def window_size(sample_rate: float) -> int:
    """Samples of a frame: the power of two nearest to 64 ms, at least 16.

    >>> window_size(16000)
    1024
    """
    return max(16, 2 ** round(math.log2(_WINDOW_SECONDS * sample_rate)))


def change_tempo(
    waveform: Tensor, lengths: Tensor, steps: Tensor, bounds: tuple[int, int], window: int
) -> tuple[Tensor, Tensor]:
    """Plays each clip at `steps / 128` of its tempo and keeps its pitch; 128 copies the clip bit for bit.

    Args:
        waveform: `(B, T)`, zero beyond `lengths (B,)`.
        steps: `(B,)` int64 within `bounds`.
        bounds: least and greatest possible step, Python numbers from 64 to 256.
        window: samples of a frame, a multiple of 4; see `window_size`.

    Returns:
        The waveform `(B, ceil(T * 128 / bounds[0]))` and the lengths `ceil(length * 128 / steps)`.

    >>> tone = torch.sin(torch.arange(16000) * 0.1)[None]
    >>> slow, lengths = change_tempo(tone, torch.tensor([16000]), torch.tensor([100]), (100, 128), window_size(16000))
    >>> slow.shape, lengths
    (torch.Size([1, 20480]), tensor([20480]))
    """
    size = _ceil_ratio(waveform.shape[1], RATIO_STEPS, bounds[0])
    new_lengths = torch.div(lengths * RATIO_STEPS + steps - 1, steps, rounding_mode="floor")
    tempos = (bounds[0] / RATIO_STEPS, bounds[1] / RATIO_STEPS)

    def change(part: Tensor, tempos: tuple[float, float], size: int, steps: Tensor) -> Tensor:
        return _stretch(part, steps, torch.full_like(steps, RATIO_STEPS), tempos, size, window)

    unchanged, tempo = steps == RATIO_STEPS, steps / RATIO_STEPS
    changed = map_similar_ratios(
        change, CPU_CHUNK, tempo, tempos, unchanged, waveform, lengths, new_lengths, size, steps
    )
    return changed, new_lengths


def change_pitch(waveform: Tensor, lengths: Tensor, steps: Tensor, bounds: tuple[int, int], window: int) -> Tensor:
    """Multiplies each clip's frequencies by `steps / 128` and keeps its duration; 128 copies the clip bit for bit.

    Stretches the clip to `steps / 128` of its duration, then reads it faster by the same ratio.

    Args:
        waveform: `(B, T)`, zero beyond `lengths (B,)`.
        steps: `(B,)` int64 within `bounds`.
        bounds: least and greatest possible step, Python numbers from 96 to 168.
        window: samples of a frame, a multiple of 4; see `window_size`.

    >>> tone = torch.sin(torch.arange(16000) * 0.1)[None]  # 255 Hz
    >>> higher = change_pitch(tone, torch.tensor([16000]), torch.tensor([160]), (128, 160), window_size(16000))
    >>> higher.shape, int(torch.fft.rfft(higher).abs().argmax())  # 1 Hz a bin, and 255 * 160 / 128 = 318
    (torch.Size([1, 16000]), 318)
    """
    tempos = (RATIO_STEPS / bounds[1], RATIO_STEPS / bounds[0])

    def change(part: Tensor, tempos: tuple[float, float], size: int, steps: Tensor) -> Tensor:
        ones = torch.full_like(steps, RATIO_STEPS)
        return read_at(_stretch(part, ones, steps, tempos, _stretched_size(part, tempos), window), steps, size)

    size, unchanged, tempo = waveform.shape[1], steps == RATIO_STEPS, RATIO_STEPS / steps
    return map_similar_ratios(change, CPU_CHUNK, tempo, tempos, unchanged, waveform, lengths, lengths, size, steps)


def change_pitch_and_tempo(
    waveform: Tensor,
    lengths: Tensor,
    pitch: Tensor,
    tempo: Tensor,
    pitch_bounds: tuple[int, int],
    tempo_bounds: tuple[int, int],
    window: int,
) -> tuple[Tensor, Tensor]:
    """`change_pitch` by `pitch / 128` and `change_tempo` by `tempo / 128` in one pass, at the cost of one.

    A clip played at `tempo / pitch` of its tempo and then read at `pitch / 128` of its speed has the duration that
    `tempo / 128` gives. Where both are 128 the clip is copied bit for bit.

    Args:
        waveform: `(B, T)`, zero beyond `lengths (B,)`.
        pitch: `(B,)` int64 within `pitch_bounds`, which lie from 96 to 168.
        tempo: `(B,)` int64 within `tempo_bounds`, which lie from 64 to 256. The fastest tempo is at most twice the
            lowest pitch.
        window: samples of a frame, a multiple of 4; see `window_size`.

    Returns:
        The waveform `(B, ceil(T * 128 / tempo_bounds[0]))` and the lengths `ceil(length * 128 / tempo)`.

    >>> tone = torch.sin(torch.arange(16000) * 0.1)[None]
    >>> pitch, tempo = torch.tensor([120]), torch.tensor([160])
    >>> bounds, window = ((120, 136), (128, 160)), window_size(16000)
    >>> changed, lengths = change_pitch_and_tempo(tone, torch.tensor([16000]), pitch, tempo, *bounds, window)
    >>> changed.shape, lengths
    (torch.Size([1, 16000]), tensor([12800]))
    """
    size = _ceil_ratio(waveform.shape[1], RATIO_STEPS, tempo_bounds[0])
    new_lengths = torch.div(lengths * RATIO_STEPS + tempo - 1, tempo, rounding_mode="floor")
    tempos = (tempo_bounds[0] / pitch_bounds[1], tempo_bounds[1] / pitch_bounds[0])

    def change(part: Tensor, tempos: tuple[float, float], size: int, pitch: Tensor, tempo: Tensor) -> Tensor:
        return read_at(_stretch(part, tempo, pitch, tempos, _stretched_size(part, tempos), window), pitch, size)

    unchanged, ratio = (pitch == RATIO_STEPS) & (tempo == RATIO_STEPS), tempo / pitch
    changed = map_similar_ratios(
        change, CPU_CHUNK, ratio, tempos, unchanged, waveform, lengths, new_lengths, size, pitch, tempo
    )
    return changed, new_lengths


def _ceil_ratio(size: int, numerator: int, denominator: int) -> int:
    """`size * numerator / denominator`, rounded up."""
    return -(-size * numerator // denominator)


def _stretched_size(waveform: Tensor, tempos: tuple[float, float]) -> int:
    """Samples of the stretched clips that `read_at` may read. Its kernel reaches beyond the last one."""
    return math.ceil(waveform.shape[1] / tempos[0]) + 1 + REACH


def _stretch(
    waveform: Tensor, numerator: Tensor, denominator: Tensor, tempos: tuple[float, float], size: int, window: int
) -> Tensor:
    """The first `size` samples of each clip of `(B, T)` at tempo `numerator / denominator`, within `tempos`."""
    hop = window // OVERLAP
    hann = _hann_window(window, waveform.device)
    # Frames -1, 0, 1 ... are centered on multiples of hop. Frame -1 and those past the end make the overlap of every
    # sample complete, so that the sum of the squared windows is the constant 1.5 * OVERLAP / 4.
    last = -(-(waveform.shape[1] + window // 2) // hop)  # this frame and the next contain no sample of the clip
    padded = F.pad(waveform, (window // 2 + hop, window // 2 + (last + 1) * hop - waveform.shape[1]))
    spectrum = torch.fft.rfft(padded.unfold(1, window, hop) * hann)
    frames = 1 - (-(size + window // 2) // hop)
    position = torch.arange(-1, frames - 1, device=waveform.device)
    twice = 2 * denominator[:, None]
    source = torch.div(2 * position * numerator[:, None] + denominator[:, None], twice, rounding_mode="floor")  # k(j)
    source[:, 0] = -1  # at any tempo, so that no clip slips before frame 0
    passed = (source - position).abs()  # slips up to a frame: k(j) - j changes by one at each
    slips = math.ceil(max(min(frames, (last + 1) / tempo) * abs(tempo - 1) for tempo in tempos))
    source = 1 + _flat_index(source.clamp(max=last), spectrum)
    phasors = _phasors(spectrum, source, passed, slips)
    rows = _take(spectrum, source).mul_(_take(phasors, _flat_index(passed.clamp(max=slips), phasors)))
    return _overlap_add(torch.fft.irfft(rows, n=window), hann)[:, window // 2 + hop :][:, :size]


def _flat_index(index: Tensor, frames: Tensor) -> Tensor:
    """Turns each clip's `index (B, M)` of its frames into one of `frames (B, N, bins)` flattened to `(B * N, bins)`."""
    return index + torch.arange(len(frames), device=frames.device)[:, None] * frames.shape[1]


def _take(frames: Tensor, index: Tensor) -> Tensor:
    """`frames (B, N, bins)` at an `index (B, M)` from `_flat_index`: one flat gather, twice as fast as two indices."""
    return frames.flatten(0, 1).index_select(0, index.flatten()).unflatten(0, index.shape)


def _phasors(spectrum: Tensor, source: Tensor, passed: Tensor, slips: int) -> Tensor:
    """Phasors `(B, > slips, bins)` between the slips, of magnitude 1; undefined past a clip's last slip."""
    # Slip 0 is a placeholder: the frame that would follow frame -1 does follow it, and its turn is 1.
    count = (slips // _BLOCK + 1) * _BLOCK
    slip = torch.arange(count, device=spectrum.device).expand(len(spectrum), count).contiguous()
    after = torch.searchsorted(passed, slip).clamp(1, passed.shape[1] - 1)  # the first frame after each slip
    expected = _take(spectrum, source.gather(1, after - 1) + 1)
    actual = _take(spectrum, source.gather(1, after))
    turn = expected.mul_(actual.conj_physical_()).add_(_TINY)
    squares = torch.view_as_real(turn).square()
    power = squares[..., 0] + squares[..., 1]
    peak = _nearest_peak(power.detach())
    return _compose(turn.mul_(power.rsqrt_()).gather(2, peak), peak)


def _compose(turn: Tensor, source: Tensor) -> Tensor:
    """The phasors `(B, S, bins)` after each of S slips E'[f] = E[source(f)] turn[f], starting from E = 1.

    S is a multiple of the block size. All blocks at once compose their maps from the block's start to each of its
    slips; then the phasors pass from block to block. The block size is fixed, so a result does not depend on S.
    """
    turns, sources = (list(x.unflatten(1, (-1, _BLOCK)).unbind(2)) for x in (turn, source))
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
    """`(..., bins)` -> int64: for each bin the nearest peak, a bin that is the greatest of the five around it.

    All arithmetic is in floats, because a CPU adds several times faster than it compares and selects.
    """
    bins = power.shape[-1]
    index = torch.arange(bins, device=power.device, dtype=power.dtype)
    away = F.max_pool1d(power, 5, 1, 2).sub_(power).sign_().mul_(2 * bins)  # 0 at peaks
    left = (index - away).cummax(-1).values
    right = away.add_(index).flip(-1).cummin(-1).values.flip(-1)
    nearer_right = (2 * index - left).sub_(right).clamp_(0, 1)
    return left.lerp(right, nearer_right).long().clamp_(0, bins - 1)


def _overlap_add(frames: Tensor, hann: Tensor) -> Tensor:
    """Windows frames `(B, N, window)` and adds them a quarter of a window apart: `(B, (N + 3) * window / 4)`."""
    count, hop = frames.shape[1], frames.shape[2] // OVERLAP
    pieces, weights = frames.unflatten(2, (OVERLAP, hop)), hann.view(OVERLAP, hop) * (8 / 3 / OVERLAP)
    total = frames.new_empty(len(frames), count + OVERLAP - 1, hop)
    torch.mul(pieces[:, :, 0], weights[0], out=total[:, :count])
    total[:, count:] = 0
    for i in range(1, OVERLAP):
        total[:, i : i + count].addcmul_(pieces[:, :, i], weights[i])
    return total.flatten(1)


@cached
def _hann_window(size: int, device: torch.device) -> Tensor:
    """Periodic Hann window `(size,)`."""
    return torch.hann_window(size).to(device)
