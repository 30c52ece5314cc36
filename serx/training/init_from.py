"""`train.init_from`: begin with the weights of a checkpoint, and remember whom that checkpoint was trained on.

The new checkpoint records its sources: the one it began from, and those that one began from. The training speakers of a
source may not validate or test: `check_sources` refuses them before the training, `seen_by_sources` in an evaluation.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from serx import checkpoint
from serx.checkpoint.metadata import PARTS, dimensions_of
from serx.config.loader import Config, from_tree, tuples
from serx.data.dataset import DataConfig, Dataset
from serx.data.names import same_speaker
from serx.data.overlap import find_overlap
from serx.data.splits.protocols import Split
from serx.data.utterance import Utterance
from serx.errors import CheckpointError, ConfigError, LeakError
from serx.models.backbone import build_model
from serx.recognizer import Recognizer

SOURCES = "init_from"  # the entry of a checkpoint's metadata
SHOWN = 5  # names in a message

Source = dict[str, Any]
_TYPES = {"path": str, "sha256": str, "protocol": str, "speakers": dict, "digests": dict, "data": dict}


def sources_of(metadata: Mapping[str, Any]) -> list[Source]:
    """The checkpoints that a checkpoint began from, the nearest first; none for a run that began with new weights.

    Raises:
        CheckpointError: the entry is not what serx writes.

    >>> sources_of({"labels": ["angry", "sad"]})
    []
    """
    sources = metadata.get(SOURCES, [])
    if not isinstance(sources, list) or not all(map(_is_source, sources)):
        raise CheckpointError(f"checkpoint: {SOURCES} is not what serx writes; use another checkpoint")
    return sources


def _is_source(source: Any) -> bool:
    if not isinstance(source, dict) or not all(isinstance(source.get(name), kind) for name, kind in _TYPES.items()):
        return False
    lists = [source[name].get(part) for name in ("speakers", "digests") for part in PARTS]
    return all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in lists)


def stamped(split: Split, sources: Sequence[Source]) -> Split:
    """The split with a protocol stamp that says on how many clips and speakers its sources were trained."""
    stamp = split.stamp
    for role, words in (("weights", "initialized from a checkpoint"), ("teacher", "taught by models")):
        chosen = [source for source in sources if source.get("role", "weights") == role]
        if chosen:
            clips = {digest for source in chosen for digest in source["digests"]["train"]}
            speakers = {name for source in chosen for name in source["speakers"]["train"]}
            trained = f"trained on {len(clips)} clips of {len(speakers)} speakers"
            stamp += f"; {words} {trained} ({chosen[0]['sha256'][:8]})"
    return replace(split, stamp=stamp)


@dataclass(frozen=True)
class InitialWeights:
    """The checkpoint of `train.init_from`.

    Attributes:
        path: of the file.
        tensors: of its recognizer, by name; averaged weights if it has them.
        labels: its classes.
        dimensions: the names of its dimensions.
        config: its configuration, as JSON.
        sources: itself, then those that it began from.
    """

    path: str
    tensors: dict[str, Tensor]
    labels: tuple[str, ...]
    dimensions: tuple[str, ...]
    config: dict[str, Any]
    sources: list[Source]


def load_initial_weights(path: str) -> InitialWeights:
    """Reads `train.init_from`.

    Raises:
        CheckpointError: the file is missing, damaged, or not the checkpoint of a run.
    """
    try:
        saved = checkpoint.load_run_checkpoint(path)
        metadata = saved.metadata
        own = {name: metadata[name] for name in ("sha256", "protocol", "speakers", "digests")}
        config = from_tree(tuples(metadata["config"]), source=f"{path}, its configuration").model_dump(mode="json")
        sources = [{"path": path, **own, "data": config["data"]}, *sources_of(metadata)]
    except (CheckpointError, ConfigError, RecursionError) as error:
        raise CheckpointError(f"train.init_from: {error}") from error
    weights = saved.group("ema") or saved.group("model")
    dimensions = tuple(dimension.name for dimension in dimensions_of(metadata))
    return InitialWeights(path, weights, tuple(metadata["labels"]), dimensions, config, sources)


def load_teachers(paths: Sequence[str]) -> list[Source]:
    """The models of `train.teachers` as sources: who taught counts as training data, as what gave the weights does.

    Raises:
        CheckpointError: a file is missing, damaged, or not the checkpoint of a run.
    """
    sources: list[Source] = []
    for path in paths:
        try:
            own = load_initial_weights(path).sources
        except CheckpointError as error:
            raise CheckpointError(str(error).replace("train.init_from", "train.teachers", 1)) from error
        sources += [{**source, "role": "teacher"} for source in own]
    return sources


def take_weights(recognizer: Recognizer, initial: InitialWeights, config: Config) -> tuple[list[str], bool]:
    """Copies every tensor of `initial` that has a place in `recognizer`.

    The head is new if the labels differ. Trained filters and the normalizer are taken if features and sample rate are
    the same: the weights were learned behind these statistics, so the network begins as what it was. With other
    features the statistics mean nothing, and the normalizer must be fitted.

    Returns:
        Lines for the user, and whether the normalizer was taken.

    Raises:
        ConfigError: no weight of the checkpoint fits.
    """
    before, now = initial.config, config.model_dump(mode="json")
    if before["model"]["kind"] == "ensemble":
        raise ConfigError(
            f"train.init_from: {initial.path} is an ensemble; begin with a checkpoint that it was built of"
        )
    same_rate = before["data"].get("sample_rate") == now["data"]["sample_rate"]
    same_features = same_rate and before.get("features") == now["features"]
    learned = recognizer.labels, tuple(dimension.name for dimension in recognizer.dimensions)
    other_labels = (initial.labels, initial.dimensions) != learned
    head = _head(recognizer, config) if other_labels else set()
    own = recognizer.state_dict()
    usable = {
        name: tensor
        for name, tensor in initial.tensors.items()
        if name not in head and (same_features or name.startswith("backbone."))
    }
    fits = [
        name
        for name, tensor in own.items()
        if name in usable and usable[name].shape == tensor.shape and usable[name].dtype == tensor.dtype
    ]
    differs = [line for section in ("features", "model") for line in _differences(section, before, now)]
    if not any(name.startswith("backbone.") and own[name].dim() > 1 for name in fits):
        raise ConfigError(
            f"train.init_from: no weight of {initial.path} fits this model; train it with the same model section, or "
            f"leave init_from out ({_shown(differs) or 'its tensors have other names'})"
        )
    for name in fits:
        own[name].copy_(usable[name])
    taken = set(fits)
    trained = {name for name, _ in recognizer.named_parameters()}
    new = [name for name in own if name not in taken and (name in trained or name.startswith("backbone."))]
    why = " (other labels)" if new and set(new) <= head else ""
    normalizer_taken = same_features and "normalizer.mean" in taken
    lines = [f"weights: {len(taken)} of {len(own)} tensors from {initial.path}; new: {_shown(new) or 'none'}{why}"]
    if "normalizer.mean" in own:
        lines.append(f"normalizer: {'taken from it' if normalizer_taken else 'fitted on the training clips'}")
    unused = [name for name in initial.tensors if name.startswith("backbone.") and name not in taken | head]
    if differs:
        lines.append(f"note: it differs from this model: {'; '.join(differs)}")
    if unused:
        lines.append(f"note: {len(unused)} of its tensors have no place here: {_shown(unused)}")
    return lines, normalizer_taken


def check_sources(
    dataset: Dataset, split: Split, sources: Sequence[Source], progress: bool = True, cache: str | None = None
) -> list[str]:
    """Refuses validation and test clips that a source was trained on; test clips that it validated on, too.

    Returns:
        Notes about clips of the sources that are no longer there to compare with.

    Raises:
        LeakError: names speakers, clips or copies.
    """
    notes: dict[str, None] = {}
    for part, independent in (("test", split.speaker_independent), ("valid", split.validation_independent)):
        clips = np.asarray(getattr(split, part), np.int64)
        seen, gaps = seen_by_sources(dataset, sources, clips, part, independent, progress=progress, cache=cache)
        notes |= dict.fromkeys(gaps)
        if seen:
            raise LeakError(
                f"train.init_from, train.teachers: that model was trained on {_shown(seen)}, which are in the {part} "
                "part of this run; hold out other speakers (data.fold, data.test_speakers, ...), or use another "
                "checkpoint"
            )
    return list(notes)


def seen_by_sources(
    dataset: Dataset,
    sources: Sequence[Source],
    clips: np.ndarray,
    part: str,
    independent: bool,
    compared: Sequence[str] = (),
    progress: bool = True,
    cache: str | None = None,
) -> tuple[list[str], list[str]]:
    """What among `clips (n,)` a source was trained on, and notes: as `find_overlap` returns them.

    Args:
        cache: the folder for decoded audio, as in `DataConfig`; what a checkpoint says is not used.
        part: of the clips. The validation clips of a source count as its training, except for a validation part.
        independent: whether speakers must be new; otherwise only clips and copies of clips count.
        compared: digests of clips that were compared with those of the sources before, when the run began.
    """
    seen: list[str] = []
    notes: list[str] = []
    for source in sources:
        speakers, digests = source["speakers"], source["digests"]
        parts = ("train",) if part == "valid" else ("train", "valid")
        metadata = {
            "speaker_independent": independent,
            "speakers": {"train": [name for used in parts for name in speakers[used]]},
            "digests": {**digests, "train": [d for used in parts for d in digests[used]], "compared": compared},
        }
        names, gaps = find_overlap(dataset, metadata, clips, _data_of(source, cache), progress)
        seen += [f"{name} (with {source['path']})" for name in names]
        notes += gaps
    return seen, notes


def is_speaker_of_sources(clip: Utterance, sources: Sequence[Source]) -> bool:
    """Whether the speaker of a clip trained or validated a source."""
    names = [name for source in sources for part in ("train", "valid") for name in source["speakers"][part]]
    return any(same_speaker(clip, name) for name in names)


def _data_of(source: Source, cache: str | None) -> DataConfig:
    try:
        return DataConfig.model_validate(tuples({**source["data"], "cache": cache}))
    except ValidationError as error:
        raise CheckpointError(f"checkpoint: the data section of {SOURCES} cannot be read: {error}") from error


def _head(recognizer: Recognizer, config: Config) -> set[str]:
    """The tensors whose size depends on the number of classes and dimensions."""
    bins, outputs = config.features.bins, len(recognizer.labels) + len(recognizer.dimensions)
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        one, two = (build_model(config.model, bins, n).state_dict() for n in (outputs, outputs + 1))
    return {f"backbone.{name}" for name in one if one[name].shape != two[name].shape}


def _differences(section: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    old, new = before.get(section), now[section]
    for key in sorted({*(old or {}), *new}):
        if not isinstance(old, dict) or old.get(key) != new.get(key):
            yield f"{section}.{key}: {old.get(key) if isinstance(old, dict) else None} -> {new.get(key)}"


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
