"""`load_held_out`: the clips to evaluate a checkpoint on, without those of its training (`serx.data.overlap`)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from serx.data.batches import BatchSource, make_batch_source
from serx.data.dataset import DataConfig, Dataset, load_dataset
from serx.data.names import NamesConfig, same_speaker
from serx.data.overlap import find_overlap
from serx.device import choose_device
from serx.errors import ConfigError, DataError, LeakError, explaining_out_of_memory
from serx.evaluation.stamps import validation_use
from serx.files import as_path
from serx.inference.default_model import default_checkpoint
from serx.inference.predictor import Predictor
from serx.inference.published import PUBLISHED
from serx.terminal import printable
from serx.training.init_from import is_speaker_of_sources, seen_by_sources, sources_of

Part = Literal["test", "valid", "all"]
NAMES_SHOWN = 5
CORPORA_HELD_OUT = ("cross_corpus", "loco")  # protocols that test on corpora that they do not train on
UNKNOWN = "speakers unknown: they may be those of the training"  # clause of a stamp


@dataclass(frozen=True)
class HeldOut:
    """A checkpoint and the clips to evaluate it on.

    Attributes:
        root: the corpus folder or manifest, or several.
        clips: (n,) indices into `dataset`.
        source: where the waveforms of the clips come from.
        protocol: the protocol stamp of every score.
        warnings: about training speakers among the clips.
        notes: lines for the user about the data.
    """

    checkpoint: str
    part: Part
    predictor: Predictor
    dataset: Dataset
    root: str
    clips: np.ndarray
    source: BatchSource
    protocol: str
    warnings: list[str]
    notes: tuple[str, ...]

    def ood_fraction(self, source: BatchSource) -> float | None:
        """Share of the clips, with waveforms of `source`, that are out-of-distribution; None without a detector."""
        detector = self.predictor.ood_detector
        if detector is None:
            return None
        return detector.ood_fraction(source.batch, self.clips, self.predictor.config.data.sample_rate)


@explaining_out_of_memory('evaluate on the CPU with device="cpu", or give shorter recordings')
def load_held_out(
    checkpoint: str | Path | None = None,
    root: str | Path | None = None,
    part: Part = "test",
    device: str | torch.device = "auto",
    allow_seen: bool = False,
    progress: bool = True,
    cache: str | Path | None = None,
    emotions: Collection[str] | None = None,
) -> HeldOut:
    """Loads a checkpoint and the clips of `part`; arguments and errors are those of `evaluate`."""
    if part not in get_args(Part):
        raise ConfigError(f"part {part!r:.100}: no such part; give {', '.join(get_args(Part))}")
    root, cache = (None if path is None else as_path(path, name) for path, name in ((root, "root"), (cache, "cache")))
    device = device if isinstance(device, torch.device) else choose_device(device, "device")
    checkpoint = default_checkpoint() if checkpoint is None else checkpoint
    predictor = Predictor.load(checkpoint, device)
    metadata = predictor.metadata
    trained_on = predictor.config.data.model_copy(update={"cache": None if cache is None else str(cache)})
    config = trained_on.model_copy(update={"root": str(root)}) if root else trained_on
    if PUBLISHED in metadata:
        held = _published(str(checkpoint), predictor, config, part, device, root is not None, progress)
        chosen = _choose_emotions(predictor, held.dataset, held.clips, held.protocol, emotions, of_corpus=False)
        return replace(held, clips=chosen[0], protocol=chosen[1], notes=(*held.notes, *chosen[2]))
    dataset = load_dataset(config, predictor.labels, progress)
    clips, protocol = _choose_clips(dataset, metadata, part, config)
    of_corpus = not root and part == "test" and trained_on.protocol in CORPORA_HELD_OUT
    clips, protocol, choice = _choose_emotions(predictor, dataset, clips, protocol, emotions, of_corpus)
    seen, notes = find_overlap(dataset, metadata, clips, trained_on, progress)
    compared = [digest for recorded in ("valid", "test") for digest in metadata["digests"][recorded]]
    independent, sources = metadata["speaker_independent"], sources_of(metadata)
    also_seen, also_notes = seen_by_sources(
        dataset, sources, clips, part, independent, compared, progress, trained_on.cache
    )
    seen += also_seen
    first = ", ".join(seen[:NAMES_SHOWN])
    if seen and not allow_seen:
        names = first + (f" and {len(seen) - NAMES_SHOWN} more" if len(seen) > NAMES_SHOWN else "")
        remedy = "Take them out" if part == "test" else "Use --part test"
        raise LeakError(
            f"{checkpoint}: trained on {names}, which are in --part {part}; such a score says nothing about new "
            f"speakers. {remedy}, or add --allow-seen to evaluate them with a warning"
        )
    warnings = [f"CONTAINS TRAINING SPEAKERS OR CLIPS: {first}"] if seen else []
    source = make_batch_source(dataset.audio_cache, device, config.placement)
    predictor.recognizer.use_cache(dataset.audio_cache.folder.parent / "encoders")
    return HeldOut(
        checkpoint=str(checkpoint),
        part=part,
        predictor=predictor,
        dataset=dataset,
        root=str(config.root),
        clips=clips,
        source=source,
        protocol="; ".join([protocol, *warnings]),
        warnings=warnings,
        notes=(*dataset.notes, *notes, *also_notes, *choice),
    )


def _choose_emotions(
    predictor: Predictor,
    dataset: Dataset,
    clips: np.ndarray,
    protocol: str,
    emotions: Collection[str] | None,
    of_corpus: bool,
) -> tuple[np.ndarray, str, list[str]]:
    """Lets the predictor choose among some emotions; returns the clips of these, the protocol stamp, and notes.

    Args:
        emotions: those to choose among; None: all, or with `of_corpus` those of the clips.
    """
    labels = predictor.labels
    present = {labels[target] for target in dataset.targets[clips[dataset.has_class[clips]]]}
    if emotions is not None:
        predictor.recognizer.choose_among(emotions)
        chosen = [index for index, label in enumerate(labels) if label in emotions]
        other = dataset.has_class[clips] & ~np.isin(dataset.targets[clips], chosen)
        left_out = sorted({labels[target] for target in dataset.targets[clips[other]]})
        notes = [f"{other.sum()} clips of other emotions are left out: {', '.join(left_out)}"] if left_out else []
        return clips[~other], f"{protocol}; among {' '.join(labels[index] for index in chosen)}", notes
    if of_corpus and len(present) > 1:
        predictor.recognizer.choose_among(present)
        return clips, f"{protocol}; among the emotions of the test corpus", []
    absent = [label for label in labels if label not in present]
    if not absent or len(present) < 2:
        return clips, protocol, []
    possible = ",".join(label for label in labels if label in present)
    return clips, protocol, [f"no clip is {' or '.join(absent)}; --emotions {possible} chooses among the others"]


def _published(
    checkpoint: str,
    predictor: Predictor,
    config: DataConfig,
    part: Part,
    device: torch.device,
    has_root: bool,
    progress: bool,
) -> HeldOut:
    """All clips of a root; the training speakers of a published model are unknown, and the stamp says so."""
    if not has_root:
        raise ConfigError(f"{checkpoint}: a published model has no corpus of its own; name one with --root")
    if part == "valid":
        raise ConfigError(f"{checkpoint}: a published model has no validation speakers; use --part all")
    dataset = load_dataset(config, predictor.labels, progress)
    return HeldOut(
        checkpoint=checkpoint,
        part=part,
        predictor=predictor,
        dataset=dataset,
        root=str(config.root),
        clips=np.arange(len(dataset.utterances)),
        source=make_batch_source(dataset.audio_cache, device, config.placement),
        protocol=f"all clips of the root; {predictor.metadata['protocol']}",
        warnings=[],
        notes=(*dataset.notes, "the training speakers of a published model are unknown: some may be in this root"),
    )


def _choose_clips(
    dataset: Dataset, metadata: Mapping[str, Any], part: Part, names: NamesConfig
) -> tuple[np.ndarray, str]:
    """The clips of the part and their protocol stamp."""
    trained_under = metadata["protocol"]
    if part == "all":
        validation = set(metadata["speakers"]["valid"])
        number = sum(u.speaker_id in validation for u in dataset.utterances)
        used = f"; {number} VALIDATION clips among them {validation_use(metadata)}" if number else ""
        unknown = "" if all(clip.speaker_known for clip in dataset.utterances) else f"; {UNKNOWN}"
        clips = np.arange(len(dataset.utterances))
        return clips, f"all clips of the root; trained under {trained_under}{used}{unknown}"
    clips = _recorded_clips(dataset, metadata, part)
    if len(clips):
        recorded = len(metadata["digests"][part])
        missing = recorded - len(clips)
        gap = f"; {missing} of its {recorded} clips are not in this root" if missing > 0 else ""
        used = f"; these VALIDATION clips {validation_use(metadata)}" if part == "valid" else ""
        return clips, f"{trained_under}{gap}{used}"
    seen = [*metadata["speakers"]["train"], *metadata["speakers"]["valid"]]
    new = [
        i
        for i, clip in enumerate(dataset.utterances)
        if not any(same_speaker(clip, name, names) for name in seen)
        and not is_speaker_of_sources(clip, sources_of(metadata))
    ]
    if part == "valid" or not new:
        speakers = ", ".join(map(printable, metadata["speakers"][part])) or "none"
        unnamed = not all(clip.corpus_named for clip in dataset.utterances)
        hint = "; if these are other people than it was trained on, say so in a column corpus" if unnamed else ""
        raise DataError(
            f"no clip of part {part} (speakers {speakers}) is in this root; give the right one with --root{hint}"
        )
    corpora = " + ".join(sorted({dataset.utterances[i].corpus for i in new}))
    known = all(dataset.utterances[i].speaker_known for i in new)
    who = f"speakers of {corpora} never met in training" if known else f"clips of {corpora}; {UNKNOWN}"
    return np.asarray(new), f"{who}; trained under {trained_under}"


def _recorded_clips(dataset: Dataset, metadata: Mapping[str, Any], part: Part) -> np.ndarray:
    """Clips of the part as the checkpoint records it: by speaker if no speaker is in two parts, else by audio.

    Also by audio under `loco`, which leaves out those clips of test speakers whose emotion no training clip has.
    """
    speakers = set(metadata["speakers"][part])
    elsewhere = {name for key, names in metadata["speakers"].items() if key != part for name in names}
    if not speakers & elsewhere and metadata["config"]["data"]["protocol"] != "loco":
        return np.asarray([i for i, u in enumerate(dataset.utterances) if u.speaker_id in speakers], np.int64)
    digests = set(metadata["digests"][part])
    return np.asarray([i for i, digest in enumerate(dataset.digests) if digest in digests], np.int64)
