"""Stress test: the scores of the held-out clips in noise, in rooms, over other microphones, at other levels.

Each condition disturbs the clips with one batched transform of the training augmentation. A clip gets the same noise or
room in every run, so checkpoints can be compared. The transform acts on the clip as the model gets it, decoded and
trimmed, so trimming has already removed the silence that noise would fill.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from serx import metrics, plots
from serx.augment.compose import augment
from serx.augment.filters import LowPass
from serx.augment.level import Clipping, Gain
from serx.augment.noise import BackgroundNoise, Noise
from serx.augment.recordings import RecordingTransform, load_recordings
from serx.augment.reverb import Reverb
from serx.augment.speed_and_pitch import PitchShift, Speed
from serx.augment.telephone import Telephone
from serx.augment.transform import Transform
from serx.data.audio.decoding import read_folder
from serx.data.batches import BatchSource
from serx.errors import explaining_out_of_memory
from serx.evaluation.evaluate_checkpoint import predict_clips, predict_ratings
from serx.evaluation.held_out import HeldOut
from serx.evaluation.predictions import Predictions
from serx.evaluation.ratings import mean_ccc, speaker_sums
from serx.evaluation.report import report_head, write_files
from serx.evaluation.stamps import adapted_stamp
from serx.evaluation.tables import percent
from serx.files import to_json
from serx.metrics.intervals import bootstrap_interval, clips_by_name, few_speakers_warning
from serx.metrics.regression import REGRESSION_METRICS
from serx.terminal import Block, ProgressBar, Table, as_text, wrap

SEED = 0  # of noises and rooms, the same for every checkpoint
CLEAN = "as recorded"


@dataclass(frozen=True)
class Condition:
    """A disturbance, its strength, and the transform that makes it (None: clips as recorded)."""

    name: str
    strength: str = ""
    transform: Transform | RecordingTransform | None = None


def conditions(noise: str | None = None) -> list[Condition]:
    """Clips as recorded, then every disturbance; `noise` is a folder of noise recordings, which adds conditions."""
    listed = [Condition(CLEAN)]
    for color in ("white", "pink"):
        listed += [
            _at_snr(f"{color} noise", snr, Noise(p=1, snr_db=(snr, snr), color=color)) for snr in (30, 20, 10, 0)
        ]
    if noise is not None:
        listed += [
            _at_snr("background noise", snr, BackgroundNoise(p=1, snr_db=(snr, snr), folder=noise))
            for snr in (20, 10, 0)
        ]
    for seconds in (0.3, 0.6, 1.0):  # the reverberation carries as much energy as the direct sound
        room = Reverb(p=1, rt60_seconds=(seconds, seconds), drr_db=(0.0, 0.0))
        listed.append(Condition("reverberation", f"RT60 {seconds:.1f} s", room))
    listed += [Condition("gain", f"{db:+d} dB", Gain(p=1, gain_db=(db, db))) for db in (-40, -20, -10, 10)]
    listed += [Condition("clipping", f"{db} dB of the peak", Clipping(p=1, limit_db=(db, db))) for db in (-6, -12)]
    listed += [Condition("low-pass filter", f"{hz} Hz", LowPass(p=1, cutoff_hz=(hz, hz))) for hz in (4000, 2000)]
    listed.append(Condition("telephone", "", Telephone(p=1)))
    listed += [Condition("pitch shift", f"{st:+d} semitones", PitchShift(p=1, semitones=(st, st))) for st in (-2, 2)]
    return listed + [Condition("speed", f"{r} x", Speed(p=1, ratio=(r, r))) for r in (0.85, 1.15)]


@explaining_out_of_memory("use --device cpu, or give shorter recordings")
def stress_test(held: HeldOut, noise: str | None = None, progress: bool = True) -> dict[str, Any]:
    """Scores of the held-out clips under every condition, ready for JSON.

    If the recipe adapts the model to each speaker, it does so with the disturbed clips.

    Args:
        held: of `load_held_out`.
        noise: a folder of noise recordings for further conditions.
        progress: shows a progress bar.

    Returns:
        `checkpoint`, `part`, `protocol`, `n_clips`, `n_speakers`, `chance` (the UAR of guessing), and `conditions`,
        each with its `condition` and `strength`, `uar` and `accuracy`, the `change` of the UAR from the clips as
        recorded with its 95 % `interval` over speakers (None for a single speaker), and `ood_fraction`, the share of
        clips that are flagged as out-of-distribution (None without a detector); `ood_unknown`, why other clips may be
        so too, or None. With dimensions the conditions have `ccc`, the mean CCC, and the CCC of each under
        `dimensions`; `change` and `interval` are of the mean CCC where there are no emotions, else `ccc_change` is.

    Raises:
        DataError: the folder `noise` holds no usable recording.
    """
    config, device = held.predictor.config, held.source.device
    adapt, rate, protocol = config.model.adapt, config.data.sample_rate, held.protocol
    counts: list[np.ndarray] = []  # confusion matrices (S, C, C) of each condition
    sums: list[np.ndarray] = []  # of ratings, (S, D, 6)
    rows: list[dict[str, Any]] = []
    load = cache(lambda folder: [torch.as_tensor(recording) for recording in read_folder(folder, rate)])
    planned = conditions(noise)
    # All recordings are loaded before the first prediction, so that a wrong folder is refused at once.
    transforms = [load_recordings([c.transform] if c.transform else [], load, device) for c in planned]
    with ProgressBar("stress", len(planned), "conditions", progress) as bar:
        for condition, loaded in zip(planned, transforms, strict=True):
            source = DisturbedAudio(held.source, loaded, rate) if loaded else held.source
            scores: dict[str, Any] = {}
            if held.dataset.dimensions:
                ratings = predict_ratings(held.predictor, held.dataset, held.clips, source)
                sums.append(np.array([of[0] for of in speaker_sums([ratings]).values()]))
                scores = _ccc_scores(sums, ratings.dimensions)
            if held.predictor.labels:
                predictions = predict_clips(held.predictor, held.dataset, held.clips, source, adapt)
                counts.append(_by_speaker(predictions))
                if adapt:
                    protocol = adapted_stamp(held.protocol, predictions.speaker_ids)
                if scores:
                    scores = {"ccc": scores["ccc"], "ccc_change": scores["change"], "dimensions": scores["dimensions"]}
                scores = {**_uar_scores(counts), **scores}
            row = {"condition": condition.name, "strength": condition.strength, **scores}
            rows.append({**row, "ood_fraction": held.ood_fraction(source)})
            bar.update()
    chance = 0.0  # the CCC of guessing
    if counts:
        chance = 1 / len(np.unique(held.dataset.targets[held.clips][held.dataset.has_class[held.clips]]))
    return {
        "checkpoint": held.checkpoint,
        "part": held.part,
        "protocol": protocol,
        "n_clips": len(held.clips),
        "n_speakers": len((counts or sums)[0]),
        "chance": chance,
        "ood_unknown": held.predictor.ood_unknown,
        "conditions": rows,
    }


def _uar_scores(counts: Sequence[np.ndarray]) -> dict[str, Any]:
    """Of the last condition; the first one is clips as recorded."""
    total, clean = counts[-1].sum(0), counts[0].sum(0)
    interval = bootstrap_interval(np.stack([counts[-1], counts[0]], 1), _uar_change) if len(counts) > 1 else None
    return {
        "uar": float(metrics.uar_from_confusion(total)),
        "accuracy": float(metrics.accuracy_from_confusion(total)),
        "change": float(metrics.uar_from_confusion(total) - metrics.uar_from_confusion(clean)),
        "interval": None if interval is None else list(interval),
    }


def _ccc_scores(sums: Sequence[np.ndarray], names: Sequence[str]) -> dict[str, Any]:
    """Of the last condition; the first one is clips as recorded."""
    pairs = np.stack([sums[-1], sums[0]], 1)
    interval = bootstrap_interval(pairs, _ccc_change) if len(sums) > 1 else None
    of_dimensions = REGRESSION_METRICS["ccc"](sums[-1].sum(0))
    return {
        "ccc": float(of_dimensions.mean()),
        "change": float(_ccc_change(pairs.sum(0))),
        "interval": None if interval is None else list(interval),
        "dimensions": dict(zip(names, of_dimensions.tolist(), strict=True)),
    }


class DisturbedAudio:
    """A batch source whose clips are transformed, each clip in its own way and the same in every batch."""

    def __init__(self, source: BatchSource, transforms: Sequence[Transform], sample_rate: int) -> None:
        self.device = source.device
        self._source, self._transforms, self._rate = source, transforms, float(sample_rate)

    def batch(self, clips: Sequence[int] | np.ndarray) -> tuple[Tensor, Tensor]:
        """Waveforms `(B, T)`, zero beyond `lengths (B,)`, of these clips."""
        waveform, lengths = self._source.batch(clips)
        numbers = torch.as_tensor(np.asarray(clips, np.int64)).to(self.device)
        return augment(self._transforms, waveform, lengths, numbers, self._rate, SEED, epoch=0)


def write_stress_test(out: Path, result: Mapping[str, Any]) -> None:
    """Writes stress.png and stress.json into a folder.

    Raises:
        DiskError: a file cannot be written.
    """
    figure = plots.stress_figure(result, result["chance"], f"Stress test [{result['protocol']}]")
    write_files(out, {"stress.png": plots.figure_png(figure), "stress.json": to_json(result)})


def format_stress_test(result: Mapping[str, Any]) -> str:
    """The text report of `stress_test`."""
    return as_text(stress_blocks(result))


def stress_blocks(result: Mapping[str, Any]) -> list[Block]:
    """The same report as lines and a table."""
    rows = []
    clean = result["conditions"][0]
    factor = 100 if "uar" in clean else 1
    digits = 1 if factor == 100 else 3
    names = list(clean.get("dimensions", ()))
    for row in result["conditions"]:
        bounds = row["interval"]
        interval = f"{factor * bounds[0]:+.{digits}f} to {factor * bounds[1]:+.{digits}f}" if bounds else ""
        change = "" if row["condition"] == CLEAN else f"{factor * row['change']:+.{digits}f}"
        flagged = "" if row["ood_fraction"] is None else f"{100 * row['ood_fraction']:.0f}"
        cells = [percent(row["uar"])] if "uar" in row else []
        cells += [f"{row['dimensions'][name]:.3f}" for name in names]
        cells += [f"{row['ccc']:.3f}"] if len(names) > 1 and "uar" not in row else []
        rows.append([row["condition"], row["strength"], *cells, change, interval, flagged])
    scores = ["UAR, %"] if "uar" in clean else []
    scores += [f"CCC, {name}" for name in names] + (["mean CCC"] if len(names) > 1 and not scores else [])
    change = "change of UAR" if names and "uar" in clean else "change"
    header = ["condition", "strength", *scores, change, "95 % over speakers", "flagged OOD, %"]
    lines: list[Block] = [*report_head(result), Table("One disturbance at a time", header, rows, left=(0, 1))]
    if warning := few_speakers_warning(result["n_speakers"]):
        lines += ["", *wrap(warning)]
    if result["n_speakers"] == 1:
        lines += ["", "With 1 speaker there are no intervals."]
    if result.get("ood_unknown"):
        lines += ["", *wrap(f"Whether clips that are not flagged are out-of-distribution is {result['ood_unknown']}.")]
    return lines


def _at_snr(name: str, snr_db: int, transform: Transform | RecordingTransform) -> Condition:
    return Condition(name, f"{snr_db} dB SNR", transform)


def _by_speaker(p: Predictions) -> np.ndarray:
    """Confusion matrices `(S, C, C)` of the speakers."""
    p = p.with_class()
    predicted, classes = p.predicted, len(p.labels)
    speakers = clips_by_name(p.speaker_ids).values()
    return np.stack([metrics.confusion_matrix(p.targets[rows], predicted[rows], classes) for rows in speakers])


def _ccc_change(sums: np.ndarray) -> np.ndarray:
    """From sums `(..., 2, D, 6)`, disturbed and as recorded, to the difference of their mean CCCs."""
    ccc = mean_ccc(sums)
    return ccc[..., 0] - ccc[..., 1]


def _uar_change(counts: np.ndarray) -> np.ndarray:
    """From counts `(..., 2, C, C)`, disturbed and as recorded, to the difference of their UARs."""
    uar = metrics.uar_from_confusion(counts)
    return uar[..., 0] - uar[..., 1]
