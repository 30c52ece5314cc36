"""`survey`: what a corpus holds, and what in it would mislead, before anything is trained on it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from serx.data.batches import BatchSource
from serx.data.dataset import Dataset
from serx.data.utterance import Sex
from serx.dsp.channel import channel
from serx.ood import BATCH, FEWEST_SPEAKERS, WITHIN, left_out

ODD_SHARE = 0.5  # of a speaker's clips beyond what others keep to: recorded otherwise
QUIET_DB, LOUD_DB = -60.0, -6.0  # root-mean-square levels that no speech well recorded has


@dataclass(frozen=True)
class SpeakerAudit:
    """One person: clips, minutes, median level re full scale, the emotions that are missing.

    `odd` is the share of clips recorded unlike everybody else's, None where there are too few speakers to tell.
    """

    speaker_id: str
    sex: Sex | None
    clips: int
    minutes: float
    level_db: float
    missing: tuple[str, ...]
    odd: float | None


@dataclass(frozen=True, eq=False)
class Audit:
    """The speakers in order, the lengths of all clips, and of each label its clips and speakers by corpus."""

    speakers: tuple[SpeakerAudit, ...]
    seconds: np.ndarray
    counts: dict[str, dict[str, tuple[int, int]]]

    @property
    def warnings(self) -> list[str]:
        """A line for each thing that would mislead."""
        told = []
        for one in self.speakers:
            if one.odd is not None and one.odd > ODD_SHARE:
                share = f"{100 * one.odd:.0f} % of the clips"
                told.append(
                    f"{one.speaker_id} was recorded unlike everybody else ({share}): room, noise or microphone?"
                )
            if one.missing:
                told.append(f"{one.speaker_id} has no clip of {', '.join(one.missing)}")
            if not QUIET_DB < one.level_db < LOUD_DB:
                told.append(
                    f"{one.speaker_id} is at {one.level_db:.0f} dB of full scale, where speech is mostly at -50 to -15"
                )
        for label, corpora in self.counts.items():
            if sum(speakers for _, speakers in corpora.values()) == 1:
                told.append(f"{label} is told by one speaker alone: whoever learns it cannot be tested on it")
        return told


def audit(dataset: Dataset, source: BatchSource, sample_rate: int) -> Audit:
    """Hears every clip once."""
    rows, levels = [], []
    with torch.inference_mode():
        for batch in np.array_split(np.arange(len(dataset.utterances)), -(-len(dataset.utterances) // BATCH)):
            waveform, lengths = source.batch(batch)
            rows.append(channel(waveform, lengths, sample_rate).double().cpu().numpy())
            power = waveform.double().square().sum(1) / lengths
            levels.append((10 * power.clamp(min=1e-20).log10()).cpu().numpy())
    speaker_ids = np.array([u.speaker_id for u in dataset.utterances])
    odd = _odd(np.concatenate(rows), speaker_ids)
    seconds = dataset.audio_cache.lengths / sample_rate
    told = [
        _speaker(dataset, speaker_id, seconds, np.concatenate(levels), odd) for speaker_id in np.unique(speaker_ids)
    ]
    corpora = sorted({u.corpus for u in dataset.utterances})
    counts = {label: {name: _count(dataset, number, name) for name in corpora} for number, label in _labels(dataset)}
    return Audit(tuple(told), seconds, counts)


def _odd(rows: np.ndarray, speaker_ids: np.ndarray) -> dict[str, float]:
    """Of each person the share of clips further off than 99 of 100 clips of the others are."""
    known = np.isfinite(rows).all(1)
    rows, speakers = rows[known], speaker_ids[known]
    people = np.unique(speakers)
    if len(people) < FEWEST_SPEAKERS:
        return {}
    away = left_out(rows, speakers)
    usual = {speaker_id: np.quantile(away[speakers != speaker_id], WITHIN) for speaker_id in people}
    return {speaker_id: float((away[speakers == speaker_id] > usual[speaker_id]).mean()) for speaker_id in people}


def _speaker(
    dataset: Dataset, speaker_id: str, seconds: np.ndarray, levels: np.ndarray, odd: dict[str, float]
) -> SpeakerAudit:
    own = [i for i, u in enumerate(dataset.utterances) if u.speaker_id == speaker_id]
    there = set(dataset.targets[own].tolist())
    missing = tuple(label for number, label in _labels(dataset) if number not in there)
    sexes: Sequence[Sex] = [sex for i in own if (sex := dataset.utterances[i].sex)]
    return SpeakerAudit(
        speaker_id=speaker_id,
        sex=sexes[0] if sexes else None,
        clips=len(own),
        minutes=float(seconds[own].sum() / 60),
        level_db=float(np.median(levels[own])),
        missing=missing,
        odd=odd.get(speaker_id),
    )


def _count(dataset: Dataset, number: int, source: str) -> tuple[int, int]:
    clips = [
        u
        for u, target in zip(dataset.utterances, dataset.targets, strict=True)
        if (target, u.corpus) == (number, source)
    ]
    return len(clips), len({u.speaker_id for u in clips})


def _labels(dataset: Dataset) -> list[tuple[int, str]]:
    return list(enumerate(dataset.labels))
