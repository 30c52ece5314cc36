"""`audit_dataset`: count what a corpus holds, and warn about what would mislead, before training on it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from serx.data.batches import BatchSource
from serx.data.dataset import Dataset
from serx.data.read_ahead import reading_ahead
from serx.data.utterance import Sex, is_unknown
from serx.dsp.channel import channel_features
from serx.metrics.corpus_probe import corpus_probe
from serx.ood import BATCH, MIN_SPEAKERS, WITHIN, left_out_distances

MAX_OUTLIERS = 0.5  # warn if more than this fraction of a speaker's clips are outliers
QUIET_DB, LOUD_DB = -60.0, -6.0  # root-mean-square levels outside of which no well-recorded speech lies


@dataclass(frozen=True)
class SpeakerAudit:
    """One speaker.

    Attributes:
        speaker_id: `corpus/speaker`.
        sex: `"male"`, `"female"` or None if unknown.
        clips: number of clips.
        minutes: their duration.
        level_db: median root-mean-square level, dB re full scale.
        missing: labels without a clip.
        outliers: fraction of clips whose recording channel differs from the other speakers'; None if there are too
            few speakers.
    """

    speaker_id: str
    sex: Sex | None
    clips: int
    minutes: float
    level_db: float
    missing: tuple[str, ...]
    outliers: float | None


@dataclass(frozen=True, eq=False)
class Audit:
    """What a corpus holds.

    Attributes:
        speakers: one entry per speaker, sorted.
        seconds: `(n,)` durations of the clips.
        counts: label -> corpus -> (clips, speakers).
        corpus_probe: how well the recording channel tells the corpus of a clip (`serx.metrics.corpus_probe`); None
            without several corpora of several speakers.

    >>> quiet = SpeakerAudit("own/ann", None, 10, 0.5, -72.0, ("sad",), None)
    >>> for warning in Audit((quiet,), np.full(10, 3.0), {}).warnings:
    ...     print(warning)
    own/ann has no clip of sad
    own/ann has a level of -72 dB re full scale; speech is usually at -50 to -15 dB
    """

    speakers: tuple[SpeakerAudit, ...]
    seconds: np.ndarray
    counts: dict[str, dict[str, tuple[int, int]]]
    corpus_probe: dict[str, Any] | None = None

    @property
    def warnings(self) -> list[str]:
        """One line for each finding that would mislead training or evaluation."""
        lines = []
        for speaker in self.speakers:
            name = speaker.speaker_id
            if speaker.outliers is not None and speaker.outliers > MAX_OUTLIERS:
                fraction = f"{100 * speaker.outliers:.0f} % of the clips"
                lines.append(
                    f"{name} was recorded differently from all other speakers ({fraction}): check room, noise and "
                    "microphone"
                )
            if speaker.missing:
                lines.append(f"{name} has no clip of {', '.join(speaker.missing)}")
            if not QUIET_DB < speaker.level_db < LOUD_DB:
                lines.append(
                    f"{name} has a level of {speaker.level_db:.0f} dB re full scale; speech is usually at -50 to -15 dB"
                )
        known = not any(is_unknown(speaker.speaker_id) for speaker in self.speakers)
        for label, corpora in self.counts.items():
            if known and sum(speakers for _, speakers in corpora.values()) == 1:
                lines.append(f"{label} has clips of one speaker only: a speaker-independent test of it is impossible")
        return lines


def audit_dataset(dataset: Dataset, source: BatchSource, sample_rate: int) -> Audit:
    """Reads every clip once and counts clips, speakers, durations, levels and channel outliers.

    Args:
        dataset: a labeled corpus.
        source: batches of its clips.
        sample_rate: in Hz.

    >>> import tempfile, soundfile
    >>> from serx.data.batches import make_batch_source
    >>> from serx.data.dataset import DataConfig, load_dataset
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     noise = 0.1 * np.random.default_rng(0).standard_normal(16_000)
    ...     soundfile.write(f"{folder}/03-01-05-01-01-01-07.wav", noise, 16_000)
    ...     dataset = load_dataset(DataConfig(root=folder, cache=f"{folder}/cache"), progress=False)
    ...     source = make_batch_source(dataset.audio_cache, torch.device("cpu"))
    ...     audit = audit_dataset(dataset, source, 16_000)
    >>> audit.counts, audit.seconds.tolist(), round(audit.speakers[0].level_db)
    ({'angry': {'ravdess': (1, 1)}}, [1.0], -20)
    """
    statistics, levels = [], []
    batches = np.array_split(np.arange(len(dataset.utterances)), -(-len(dataset.utterances) // BATCH))
    with torch.inference_mode(), reading_ahead(source, batches) as ahead:
        for batch in batches:
            waveform, lengths = ahead.batch(batch)
            statistics.append(channel_features(waveform, lengths, sample_rate).double().cpu().numpy())
            power = waveform.double().square().sum(1) / lengths
            levels.append((10 * power.clamp(min=1e-20).log10()).cpu().numpy())
    speaker_ids = np.array([u.speaker_id for u in dataset.utterances])
    channels = np.concatenate(statistics)
    outliers = _outlier_fractions(channels, speaker_ids)
    seconds = dataset.audio_cache.lengths / sample_rate
    speakers = tuple(
        _audit_speaker(dataset, speaker_id, seconds, np.concatenate(levels), outliers)
        for speaker_id in np.unique(speaker_ids)
    )
    corpora = sorted({u.corpus for u in dataset.utterances})
    counts = {
        label: {corpus: _count(dataset, target, corpus) for corpus in corpora}
        for target, label in enumerate(dataset.labels)
    }
    known = np.array([not is_unknown(u.speaker_id) for u in dataset.utterances]) & np.isfinite(channels).all(1)
    corpus_of = np.array([u.corpus for u in dataset.utterances])
    return Audit(speakers, seconds, counts, corpus_probe(channels[known], corpus_of[known], speaker_ids[known]))


def _outlier_fractions(statistics: np.ndarray, speaker_ids: np.ndarray) -> dict[str, float]:
    """For each speaker the fraction of clips farther away than 99 of 100 clips of the other speakers."""
    finite = np.isfinite(statistics).all(1)
    statistics, speakers = statistics[finite], speaker_ids[finite]
    names = np.unique(speakers)
    if len(names) < MIN_SPEAKERS:
        return {}
    distances = left_out_distances(statistics, speakers)
    limits = {name: np.quantile(distances[speakers != name], WITHIN) for name in names}
    return {name: float((distances[speakers == name] > limits[name]).mean()) for name in names}


def _audit_speaker(
    dataset: Dataset, speaker_id: str, seconds: np.ndarray, levels: np.ndarray, outliers: dict[str, float]
) -> SpeakerAudit:
    clips = [i for i, u in enumerate(dataset.utterances) if u.speaker_id == speaker_id]
    present = set(dataset.targets[clips].tolist())
    return SpeakerAudit(
        speaker_id=speaker_id,
        sex=next((sex for i in clips if (sex := dataset.utterances[i].sex)), None),
        clips=len(clips),
        minutes=float(seconds[clips].sum() / 60),
        level_db=float(np.median(levels[clips])),
        missing=tuple(label for target, label in enumerate(dataset.labels) if target not in present),
        outliers=outliers.get(speaker_id),
    )


def _count(dataset: Dataset, target: int, corpus: str) -> tuple[int, int]:
    """Clips and speakers of one class in one corpus."""
    pairs = zip(dataset.utterances, dataset.targets, strict=True)
    clips = [u for u, t in pairs if (t, u.corpus) == (target, corpus)]
    return len(clips), len({u.speaker_id for u in clips})
