"""The leak check: no speaker, no audio and no copy of it stands in two parts of a split.

Identical audio has identical digests. Copies that were re-encoded, resampled or made louder have not: they are found
by the likeness of their `thumbnails`, small pictures of a clip in which its level does not count.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from serx.data.manifest import canonical_speaker
from serx.data.protocols import Split
from serx.data.utterance import Utterance
from serx.errors import LeakError

# The grain of a picture: so fine that an actor who says a sentence twice does not look the same, so coarse that a codec
# does not show. Measured on 1,200 clips of RAVDESS and 1,400 of TESS: different clips of one speaker are alike to 0.940
# at most and of two speakers to 0.861; every clip is alike to 0.979 at least to its copies 20 dB softer, 6 dB louder,
# through 8 kHz, in mp3, in ogg of the lowest quality, and behind 70 ms of silence. Made-up voices that keep one rhythm
# reach 0.967. So pictures only nominate a pair, and the waveforms decide: those of different clips line up to 0.45 at
# most, those of copies through mp3, ogg, clipping or noise at 10 dB to 0.93 at least.
BANDS = 24
SLICES = 128
THRESHOLD = 0.92  # nominates
ALIGNED = 0.75  # decides
F_MIN, F_MAX = 100.0, 3800.0  # Hz: what a telephone and the lowest mp3 rates keep
FLOOR = 0.02  # of the mean power: what is 17 dB weaker, codecs change
EDGE = 0.02  # of the energy lies before the first slice of the trimmed picture, and after the last
PARTS = ("train", "valid", "test")
SHOWN = 5  # offenders named in an error
ROWS = 2048  # of the table of likenesses at a time


@dataclass(frozen=True)
class NearDuplicate:
    """Two clips, by index, and the likeness of their thumbnails (1 is the same)."""

    first: int
    second: int
    likeness: float


def check_leaks(utterances: Sequence[Utterance], split: Split, digests: Sequence[str]) -> None:
    """Holds a split to what it claims: speakers apart where it says so, and identical audio never in two parts.

    `digests` are those of each utterance's audio.

    Raises:
        LeakError: naming speakers and pairs of files, at most five of each, and how many there are.
    """
    # A person may be written `7` and `07` where utterances were made by hand.
    voices = [(u.corpus, canonical_speaker(u.speaker).casefold()) for u in utterances]
    speakers: dict[str, list[str]] = {}
    twins = []
    for one, other in combinations(PARTS, 2):
        here, there = getattr(split, one), getattr(split, other)
        if split.speaker_independent if other == "test" else split.validation_independent:
            for i, j in _shared(voices, here, there):
                people = dict.fromkeys((utterances[i].speaker_id, utterances[j].speaker_id))
                speakers.setdefault(" = ".join(people), []).append(f"{one} and {other}")
        twins += [_pair(utterances, i, one, j, other) for i, j in _shared(digests, here, there)]
    faults = []
    if speakers:
        named = [f"{speaker_id} ({', '.join(where)})" for speaker_id, where in speakers.items()]
        faults.append(f"speakers in two parts ({len(named)}): {_first(named)}; give all clips of a speaker one part")
    if twins:
        faults.append(f"the same audio in two parts ({len(twins)}): {_first(twins)}; delete one file of each pair")
    if faults:
        raise LeakError("\n".join(faults))


def check_copies(
    utterances: Sequence[Utterance], split: Split, pictures: Tensor, waveform: Callable[[int], np.ndarray]
) -> None:
    """Refuses a split with copies of a clip in two parts, however encoded.

    Thumbnails nominate: they are compared for every pair. The audio itself decides: two readings of a sentence in the
    same rhythm may look alike, but their waveforms do not line up.

    Args:
        utterances: of the corpus.
        split: to be checked.
        pictures: `(n, d)`, the `thumbnails` of the utterances.
        waveform: from an utterance's index to its samples `(T,)`, all at one rate.

    Raises:
        LeakError: naming the pairs most alike, at most five, and how many there are.
    """
    part = {i: name for name in PARTS for i in getattr(split, name)}
    pairs = []
    for near in near_duplicates(pictures, [getattr(split, name) for name in PARTS]):
        likeness = alignment(waveform(near.first), waveform(near.second))
        if likeness > ALIGNED:
            named = _pair(utterances, near.first, part[near.first], near.second, part[near.second])
            pairs.append(f"{named}: {likeness:.3f}")
    if pairs:
        raise LeakError(
            f"copies in two parts ({len(pairs)}, with likeness): {_first(pairs)}; delete one file of each pair"
        )


def alignment(one: np.ndarray, other: np.ndarray) -> float:
    """The largest correlation of two waveforms `(T,)`, `(U,)` at any offset, 0 to 1; either may be upside down."""
    size = 1 << (len(one) + len(other)).bit_length()
    product = np.fft.rfft(one, size) * np.fft.rfft(other, size).conj()
    energy = np.sqrt(np.square(one, dtype=float).sum() * np.square(other, dtype=float).sum())
    return float(np.abs(np.fft.irfft(product, size)).max() / max(energy, 1e-20))


def near_duplicates(
    pictures: Tensor, parts: Iterable[Sequence[int]], threshold: float = THRESHOLD
) -> list[NearDuplicate]:
    """Pairs of clips in different parts whose `thumbnails (n, d)` are more alike than `threshold`, most alike first.

    Copies at another level, rate or bit depth and through mp3 or ogg are found, most of those with silence added or
    trimmed too; copies with another tempo or pitch, strong clipping or much noise are not.
    """
    found = []
    indices = [torch.as_tensor(part, dtype=torch.int64, device=pictures.device) for part in parts]
    for here, there in combinations(indices, 2):
        whole, trimmed = (half.T for half in pictures[there].chunk(2, dim=1))
        for rows in here.split(ROWS):
            own_whole, own_trimmed = pictures[rows].chunk(2, dim=1)
            likeness = torch.maximum(own_whole @ whole, own_trimmed @ trimmed)
            for row, column in (likeness > threshold).nonzero().tolist():
                first, second = sorted((int(rows[row]), int(there[column])))
                found.append(NearDuplicate(first, second, float(likeness[row, column])))
    return sorted(found, key=lambda near: (-near.likeness, near.first, near.second))


def thumbnails(waveform: Tensor, lengths: Tensor, sample_rate: int) -> Tensor:
    """Two pictures of each clip, of all its length and of what is left when its quiet ends are trimmed.

    A picture is the log of the power in `BANDS` bands of mel and `SLICES` of time, less the mean of each band, which is
    the room and the voice, and of each slice, which is the loudness: both are alike in clips that are not copies. The
    scalar product of two pictures is 1 at most; that of silence with anything is 0.

    Args:
        waveform: `(B, T)`, zero beyond `lengths`.
        lengths: `(B,)` samples.
        sample_rate: in Hz; clips of different rates may be compared.

    Returns:
        `(B, 2 * BANDS * SLICES)` float32: the picture of the whole, then of the trimmed clip.
    """
    n_fft, hop_length = round(0.032 * sample_rate), round(0.010 * sample_rate)
    window = torch.hann_window(n_fft, device=waveform.device)
    spectrum = torch.stft(waveform, n_fft, hop_length, window=window, pad_mode="constant", return_complex=True)
    low, high = (math.log10(1 + hz / 700) for hz in (F_MIN, F_MAX))
    hertz = 700 * (torch.logspace(low, high, BANDS + 1, device=waveform.device) - 1)
    bands = _overlaps(hertz * n_fft / sample_rate + 0.5, spectrum.shape[1])  # bin k is k - 1/2 to k + 1/2
    frames = (1 + lengths // hop_length)[:, None]
    inside = torch.arange(spectrum.shape[2], device=waveform.device) < frames[:, None]
    power = torch.where(inside, bands @ spectrum.abs().square(), 0.0)  # (B, BANDS, N)
    energy = power.sum(1, dtype=torch.float64)
    start, end = _passed(energy, EDGE), _passed(energy, 1 - EDGE)
    return torch.cat([_picture(power, torch.zeros_like(end), frames), _picture(power, start, end)], dim=1)


def _picture(power: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """`(B, BANDS, N)` power from `start (B, 1)` to `end (B, 1)`, in frames -> `(B, BANDS * SLICES)`."""
    edges = start + (end - start) * torch.linspace(0, 1, SLICES + 1, device=power.device)
    slices = power @ _overlaps(edges.float(), power.shape[2]).mT
    level = slices.mean((1, 2), keepdim=True).clamp(min=1e-30)
    picture = (slices / level + FLOOR).log()
    picture = picture - picture.mean(1, keepdim=True)
    picture = (picture - picture.mean(2, keepdim=True)).flatten(1)
    # That of speech is far longer than 1; the rounding errors of a silent clip must not be blown up.
    return picture / picture.norm(dim=1, keepdim=True).clamp(min=1.0)


def _overlaps(edges: Tensor, cells: int) -> Tensor:
    """`(..., K + 1)` ascending edges -> `(..., K, cells)`: how much of unit cell n lies between edges k and k + 1."""
    left = torch.arange(cells, device=edges.device)
    return (torch.minimum(edges[..., 1:, None], left + 1) - torch.maximum(edges[..., :-1, None], left)).clamp(min=0)


def _passed(energy: Tensor, share: float) -> Tensor:
    """`(B, N)` -> `(B, 1)`: when that share of the energy has passed, in frames, energy being even within a frame."""
    missing = share * energy.sum(1, keepdim=True) - (energy.cumsum(1) - energy)
    return (missing / energy.clamp(min=1e-30)).clamp(0, 1).sum(1, keepdim=True)


def _shared(keys: Sequence[Hashable], here: Sequence[int], there: Sequence[int]) -> list[tuple[int, int]]:
    """For each key on both sides, its first index here and there."""
    first, second = ({keys[i]: i for i in reversed(part)} for part in (here, there))
    return sorted((i, second[key]) for key, i in first.items() if key in second)


def _pair(utterances: Sequence[Utterance], i: int, one: str, j: int, other: str) -> str:
    return f"{utterances[i].path} ({one}) and {utterances[j].path} ({other})"


def _first(offenders: list[str]) -> str:
    more = f"; and {len(offenders) - SHOWN} more" if len(offenders) > SHOWN else ""
    return "; ".join(offenders[:SHOWN]) + more
