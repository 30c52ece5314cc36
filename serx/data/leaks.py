"""The leak check: no speaker, no audio and no copy of audio is in two parts of a split.

Identical audio has identical digests. Copies that were re-encoded, resampled or made louder do not: they are found by
the similarity of their `thumbnails`, small spectrograms of a clip that do not depend on its level.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from serx.data.corpora import canonical_speaker
from serx.data.protocols import Split
from serx.data.utterance import Utterance
from serx.errors import LeakError

# The resolution of a thumbnail: fine enough that two takes of a sentence by one actor differ, coarse enough that codecs
# make no difference. Measured on 1,200 clips of RAVDESS and 1,400 of TESS: the similarity of different clips is at most
# 0.940 for one speaker and 0.861 for two; that of a clip and its copies is at least 0.979 (20 dB softer, 6 dB louder,
# through 8 kHz, in mp3, in ogg of the lowest quality, or after 70 ms of silence). Synthetic speakers with one rhythm
# reach 0.967. So thumbnails only nominate a pair, and the correlation of the waveforms decides: it is at most 0.45 for
# different clips, and at least 0.93 for copies through mp3, ogg, clipping or noise at 10 dB.
BANDS = 24
SLICES = 128
MIN_SIMILARITY = 0.92  # of two thumbnails, to nominate a pair
MIN_CORRELATION = 0.75  # of two waveforms, to call them copies
F_MIN, F_MAX = 100.0, 3800.0  # Hz: what a telephone and the lowest mp3 rates keep
FLOOR = 0.02  # of the mean power: codecs change what is 17 dB weaker
EDGE = 0.02  # fraction of the energy before the first slice of the trimmed thumbnail, and after the last
PARTS = ("train", "valid", "test")
MAX_SHOWN = 5  # offenders named in an error message
ROWS = 2048  # of the similarity matrix at a time


@dataclass(frozen=True)
class NearDuplicate:
    """Two clips, by index, and the similarity of their thumbnails (1: identical)."""

    first: int
    second: int
    similarity: float


def check_leaks(utterances: Sequence[Utterance], split: Split, digests: Sequence[str]) -> None:
    """Verifies what a split claims: no shared speakers if it says so, and identical audio never in two parts.

    Args:
        utterances: all clips.
        split: indices into them.
        digests: of each utterance's audio; equal audio has equal digests.

    Raises:
        LeakError: names speakers and pairs of files, at most five of each, and their number.

    >>> from pathlib import Path
    >>> clips = [Utterance(Path(f"/{n}.wav"), "own", "07", "sad") for n in range(3)]
    >>> try:
    ...     check_leaks(clips, Split((0,), (1,), (2,), "", True, False), ["a", "b", "c"])
    ... except LeakError as error:
    ...     print(error)
    speakers in two parts (1): own/07 (train and test, valid and test); put all clips of a speaker into one part
    """
    # Utterances made by hand may spell one speaker `7` and `07`.
    speakers = [(u.corpus, canonical_speaker(u.speaker).casefold()) for u in utterances]
    shared_speakers: dict[str, list[str]] = {}
    same_audio = []
    for first_part, second_part in combinations(PARTS, 2):
        first, second = getattr(split, first_part), getattr(split, second_part)
        if split.speaker_independent if second_part == "test" else split.validation_independent:
            for i, j in _shared(speakers, first, second):
                spellings = dict.fromkeys((utterances[i].speaker_id, utterances[j].speaker_id))
                shared_speakers.setdefault(" = ".join(spellings), []).append(f"{first_part} and {second_part}")
        same_audio += [_pair(utterances, i, first_part, j, second_part) for i, j in _shared(digests, first, second)]
    faults = []
    if shared_speakers:
        named = [f"{speaker_id} ({', '.join(parts)})" for speaker_id, parts in shared_speakers.items()]
        faults.append(f"speakers in two parts ({len(named)}): {_list(named)}; put all clips of a speaker into one part")
    if same_audio:
        faults.append(
            f"the same audio in two parts ({len(same_audio)}): {_list(same_audio)}; delete one file of each pair"
        )
    if faults:
        raise LeakError("\n".join(faults))


def check_copies(
    utterances: Sequence[Utterance], split: Split, pictures: Tensor, waveform: Callable[[int], np.ndarray]
) -> None:
    """Raises if copies of a clip are in two parts, however encoded.

    Every pair of thumbnails is compared and similar ones are nominated. Then the audio decides: two readings of a
    sentence in the same rhythm may look similar, but their waveforms do not correlate.

    Args:
        utterances: all clips.
        split: indices into them.
        pictures: `(n, d)`, the `thumbnails` of the utterances.
        waveform: from an utterance's index to its samples `(T,)`, all at one rate.

    Raises:
        LeakError: names the most similar pairs, at most five, and their number.
    """
    part = {i: name for name in PARTS for i in getattr(split, name)}
    pairs = []
    for near in near_duplicates(pictures, [getattr(split, name) for name in PARTS]):
        correlation = max_correlation(waveform(near.first), waveform(near.second))
        if correlation > MIN_CORRELATION:
            named = _pair(utterances, near.first, part[near.first], near.second, part[near.second])
            pairs.append(f"{named}: {correlation:.3f}")
    if pairs:
        raise LeakError(
            f"copies in two parts ({len(pairs)}, with their correlation): {_list(pairs)}; delete one file of each pair"
        )


def max_correlation(first: np.ndarray, second: np.ndarray) -> float:
    """The largest absolute correlation of two waveforms `(T,)`, `(U,)` over all offsets, 0 to 1.

    >>> noise = np.random.default_rng(0).standard_normal(1000)
    >>> round(max_correlation(noise, -0.1 * noise[200:]), 1)
    0.9
    """
    size = 1 << (len(first) + len(second)).bit_length()
    product = np.fft.rfft(first, size) * np.fft.rfft(second, size).conj()
    energy = np.sqrt(np.square(first, dtype=float).sum() * np.square(second, dtype=float).sum())
    return float(np.abs(np.fft.irfft(product, size)).max() / max(energy, 1e-20))


def near_duplicates(
    pictures: Tensor, parts: Iterable[Sequence[int]], min_similarity: float = MIN_SIMILARITY
) -> list[NearDuplicate]:
    """Pairs of clips in different parts whose `thumbnails (n, d)` exceed `min_similarity`, most similar first.

    Finds copies at another level, rate or bit depth and through mp3 or ogg, and most copies with silence added or
    trimmed. It does not find copies with another tempo or pitch, strong clipping or much noise.
    """
    pairs = []
    indices = [torch.as_tensor(part, dtype=torch.int64, device=pictures.device) for part in parts]
    for first_part, second_part in combinations(indices, 2):
        whole, trimmed = (half.T for half in pictures[second_part].chunk(2, dim=1))
        for rows in first_part.split(ROWS):
            rows_whole, rows_trimmed = pictures[rows].chunk(2, dim=1)
            similarity = torch.maximum(rows_whole @ whole, rows_trimmed @ trimmed)
            for row, column in (similarity > min_similarity).nonzero().tolist():
                first, second = sorted((int(rows[row]), int(second_part[column])))
                pairs.append(NearDuplicate(first, second, float(similarity[row, column])))
    return sorted(pairs, key=lambda near: (-near.similarity, near.first, near.second))


def thumbnails(waveform: Tensor, lengths: Tensor, sample_rate: int) -> Tensor:
    """Two pictures of each clip: one of the whole clip, one after its quiet ends are trimmed.

    A picture is the log power in `BANDS` mel bands and `SLICES` of time, minus the mean of each band (room and voice)
    and of each slice (loudness), because both are similar in clips that are not copies. The scalar product of two
    pictures is at most 1; that of silence with anything is 0.

    Args:
        waveform: `(B, T)`, zero beyond `lengths`.
        lengths: `(B,)` samples.
        sample_rate: in Hz; clips of different rates may be compared.

    Returns:
        `(B, 2 * BANDS * SLICES)` float32: the picture of the whole clip, then that of the trimmed clip.
    """
    n_fft, hop_length = round(0.032 * sample_rate), round(0.010 * sample_rate)
    window = torch.hann_window(n_fft, device=waveform.device)
    spectrum = torch.stft(waveform, n_fft, hop_length, window=window, pad_mode="constant", return_complex=True)
    low, high = (math.log10(1 + hz / 700) for hz in (F_MIN, F_MAX))
    hertz = 700 * (torch.logspace(low, high, BANDS + 1, device=waveform.device) - 1)
    bands = _overlaps(hertz * n_fft / sample_rate + 0.5, spectrum.shape[1])  # bin k spans k - 1/2 to k + 1/2
    frames = (1 + lengths // hop_length)[:, None]
    inside = torch.arange(spectrum.shape[2], device=waveform.device) < frames[:, None]
    power = torch.where(inside, bands @ spectrum.abs().square(), 0.0)  # (B, BANDS, N)
    energy = power.sum(1, dtype=torch.float64)
    start, end = _time_of_energy(energy, EDGE), _time_of_energy(energy, 1 - EDGE)
    return torch.cat([_picture(power, torch.zeros_like(end), frames), _picture(power, start, end)], dim=1)


def _picture(power: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """`(B, BANDS, N)` power from `start (B, 1)` to `end (B, 1)`, in frames -> `(B, BANDS * SLICES)`."""
    edges = start + (end - start) * torch.linspace(0, 1, SLICES + 1, device=power.device)
    slices = power @ _overlaps(edges.float(), power.shape[2]).mT
    level = slices.mean((1, 2), keepdim=True).clamp(min=1e-30)
    picture = (slices / level + FLOOR).log()
    picture = picture - picture.mean(1, keepdim=True)
    picture = (picture - picture.mean(2, keepdim=True)).flatten(1)
    # The norm of speech is far above 1. The clamp keeps rounding errors of a silent clip from being amplified.
    return picture / picture.norm(dim=1, keepdim=True).clamp(min=1.0)


def _overlaps(edges: Tensor, cells: int) -> Tensor:
    """`(..., K + 1)` ascending edges -> `(..., K, cells)`: the length of unit cell n between edges k and k + 1."""
    left = torch.arange(cells, device=edges.device)
    return (torch.minimum(edges[..., 1:, None], left + 1) - torch.maximum(edges[..., :-1, None], left)).clamp(min=0)


def _time_of_energy(energy: Tensor, fraction: float) -> Tensor:
    """`(B, N)` -> `(B, 1)`: the time, in frames, at which this fraction of the energy has passed.

    Energy is taken as constant within a frame.
    """
    missing = fraction * energy.sum(1, keepdim=True) - (energy.cumsum(1) - energy)
    return (missing / energy.clamp(min=1e-30)).clamp(0, 1).sum(1, keepdim=True)


def _shared(keys: Sequence[Hashable], first: Sequence[int], second: Sequence[int]) -> list[tuple[int, int]]:
    """For each key in both parts, its first index in `first` and in `second`."""
    in_first, in_second = ({keys[i]: i for i in reversed(part)} for part in (first, second))
    return sorted((i, in_second[key]) for key, i in in_first.items() if key in in_second)


def _pair(utterances: Sequence[Utterance], i: int, part_of_i: str, j: int, part_of_j: str) -> str:
    return f"{utterances[i].path} ({part_of_i}) and {utterances[j].path} ({part_of_j})"


def _list(offenders: list[str]) -> str:
    more = f"; and {len(offenders) - MAX_SHOWN} more" if len(offenders) > MAX_SHOWN else ""
    return "; ".join(offenders[:MAX_SHOWN]) + more
