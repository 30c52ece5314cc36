"""How much of a figure is left in other rooms, over other microphones, at other levels: one disturbance at a time.

The held-out clips are disturbed as augmentation disturbs training clips, by the same batched transforms, each clip by
the same noise or room in every run. A clip is disturbed as the model gets it, decoded and trimmed, so the silence that
noise would hide has been cut already.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from serx import metrics
from serx.augment.compose import augment
from serx.augment.filters import LowPass
from serx.augment.level import Clipping, Gain
from serx.augment.noise import BackgroundNoise, Noise
from serx.augment.recordings import RecordingTransform, load_recordings
from serx.augment.reverb import Reverb
from serx.augment.speed_and_pitch import PitchShift, Speed
from serx.augment.telephone import Telephone
from serx.augment.transform import Transform
from serx.data.audio import read_folder
from serx.data.batches import BatchSource
from serx.evaluation.held_out import HeldOut, predict_clips
from serx.evaluation.predictions import Predictions
from serx.evaluation.stamps import adapted_stamp
from serx.evaluation.tables import percent, table
from serx.metrics.intervals import bootstrap_interval, clips_by_name

SEED = 0  # of noises and rooms: two checkpoints hear the same
ALONE = ("as recorded", "")


@dataclass(frozen=True)
class Condition:
    """A disturbance, how much of it, and the transform that makes it (none: clips as they are)."""

    disturbance: str
    amount: str
    transform: Transform | RecordingTransform | None = None


def conditions(noise: str | None = None) -> list[Condition]:
    """Clips as recorded, and then every disturbance; `noise` is a folder of recordings to be one as well."""
    found = [Condition(*ALONE)]
    for color in ("white", "pink"):
        found += [_at_snr(f"{color} noise", snr, Noise(p=1, snr_db=(snr, snr), color=color)) for snr in (30, 20, 10, 0)]
    if noise is not None:
        found += [
            _at_snr("recorded noise", snr, BackgroundNoise(p=1, snr_db=(snr, snr), folder=noise)) for snr in (20, 10, 0)
        ]
    for seconds in (0.3, 0.6, 1.0):
        room = Reverb(p=1, rt60_seconds=(seconds, seconds), drr_db=(0.0, 0.0))
        found.append(Condition("room, as loud as the voice", f"{seconds:.1f} s", room))
    found += [Condition("level", f"{db:+d} dB", Gain(p=1, gain_db=(db, db))) for db in (-40, -20, -10, 10)]
    found += [Condition("overloaded", f"by {-db} dB", Clipping(p=1, limit_db=(db, db))) for db in (-6, -12)]
    found += [Condition("dull microphone", f"to {hz} Hz", LowPass(p=1, cutoff_hz=(hz, hz))) for hz in (4000, 2000)]
    found.append(Condition("telephone", "", Telephone(p=1)))
    found += [Condition("pitch", f"{st:+d} semitones", PitchShift(p=1, semitones=(st, st))) for st in (-2, 2)]
    return found + [Condition("played", f"at {r} x", Speed(p=1, ratio=(r, r))) for r in (0.85, 1.15)]


def stress(held: HeldOut, noise: str | None = None, progress: bool = True) -> dict[str, Any]:
    """Scores of the held-out clips under every condition, ready for JSON.

    Voices are enrolled where the recipe enrols them, by their clips as disturbed.

    Returns:
        `protocol`, `n_clips`, `n_speakers`, and of each of `conditions` its `disturbance` and `amount`, `uar` and
        `accuracy`, the `change` of the UAR from clips as recorded with its 95 % `interval` over speakers (None for a
        single one), and the share of clips that are `unlike` training's (None where the checkpoint cannot tell).

    Raises:
        DataError: the folder `noise` holds nothing to be used.
    """
    config, device = held.predictor.config, held.source.device
    adapt, rate, stamp = config.model.adapt, config.data.sample_rate, held.stamp
    known = held.predictor.ood_detector
    counts: list[np.ndarray] = []
    rows: list[dict[str, Any]] = []
    load = cache(lambda folder: read_folder(folder, rate))
    planned = conditions(noise)
    ready = [
        load_recordings([each.transform] if each.transform else [], load, device) for each in planned
    ]  # or refused at once
    bar = tqdm(planned, unit="condition", leave=False, disable=None if progress else True)
    for condition, transforms in zip(bar, ready, strict=True):
        source = Disturbed(held.source, transforms, rate) if transforms else held.source
        heard = predict_clips(held.predictor, held.dataset, held.clips, source, adapt)
        counts.append(_by_speaker(heard))
        total = counts[-1].sum(0)
        change = bootstrap_interval(np.stack([counts[-1], counts[0]], 1), _gain) if len(counts) > 1 else None
        rows.append(
            {
                "disturbance": condition.disturbance,
                "amount": condition.amount,
                "uar": float(metrics.uar_from_confusion(total)),
                "accuracy": float(metrics.accuracy_from_confusion(total)),
                "change": float(metrics.uar_from_confusion(total) - metrics.uar_from_confusion(counts[0].sum(0))),
                "interval": None if change is None else list(change),
                "unlike": known.ood_fraction(source.batch, held.clips, rate) if known else None,
            }
        )
        if adapt:
            stamp = adapted_stamp(held.stamp, heard.speaker_ids)
    return {"protocol": stamp, "n_clips": len(held.clips), "n_speakers": len(counts[0]), "conditions": rows}


class Disturbed:
    """A corpus whose clips are transformed whenever they are asked for, each in its own way, always the same."""

    def __init__(self, source: BatchSource, transforms: Sequence[Transform], sample_rate: int) -> None:
        self.device = source.device
        self._corpus, self._transforms, self._rate = source, transforms, float(sample_rate)

    def batch(self, clips: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        waveform, lengths = self._corpus.batch(clips)
        numbers = torch.as_tensor(np.asarray(clips, np.int64)).to(self.device)
        return augment(self._transforms, waveform, lengths, numbers, self._rate, SEED, epoch=0)


def format_stress(result: dict[str, Any]) -> str:
    """A table for a terminal of 100 columns."""
    rows = []
    for row in result["conditions"]:
        bounds = row["interval"]
        min_confidence = f"{100 * bounds[0]:+.1f} to {100 * bounds[1]:+.1f}" if bounds else ""
        moved = "" if (row["disturbance"], row["amount"]) == ALONE else f"{100 * row['change']:+.1f}"
        told = "" if row["unlike"] is None else f"{100 * row['unlike']:.0f}"
        rows.append([row["disturbance"], row["amount"], percent(row["uar"]), moved, min_confidence, told])
    title = f"{result['n_clips']} clips of {result['n_speakers']} speakers [{result['protocol']}]"
    header = ["UAR, %", "", "", "change", "95 % over speakers", "told unlike, %"]
    return "\n".join(table(title, header, rows)[1:]) + "\n"


def _at_snr(disturbance: str, snr_db: int, transform: Transform | RecordingTransform) -> Condition:
    return Condition(disturbance, f"{snr_db} dB below" if snr_db else "as loud", transform)


def _by_speaker(heard: Predictions) -> np.ndarray:
    """`(S, C, C)` confusions."""
    guesses, classes = heard.probabilities.argmax(1), len(heard.labels)
    speakers = clips_by_name(heard.speaker_ids).values()
    return np.stack([metrics.confusion_matrix(heard.targets[rows], guesses[rows], classes) for rows in speakers])


def _gain(counts: np.ndarray) -> np.ndarray:
    """From counts `(..., 2, C, C)`, disturbed and as recorded, to the difference of their UARs."""
    uar = metrics.uar_from_confusion(counts)
    return uar[..., 0] - uar[..., 1]
