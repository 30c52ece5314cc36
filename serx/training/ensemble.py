"""`build_ensemble`: one checkpoint of several trained ones, whose models vote.

The checkpoint says of its training what is true of all voters together: it was trained on the speakers of each of
them. So no speaker whom a voter holds out may be a training speaker of another.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from serx import checkpoint
from serx.checkpoint.metadata import PARTS, check_metadata, unsigned_metadata
from serx.checkpoint.tensors import fill
from serx.config.loader import Config
from serx.config.training import TrainConfig
from serx.data.dataset import DataConfig, Dataset, load_dataset
from serx.data.names import same_speaker
from serx.data.splits.protocol_config import ProtocolConfig
from serx.data.utterance import Utterance
from serx.device import environment
from serx.errors import ConfigError, DataError, LeakError
from serx.features.stack import FeaturesConfig
from serx.inference.predictor import Predictor
from serx.inference.published import is_published
from serx.models.ensemble import MAX_VOTERS, MAX_WEIGHT, EnsembleConfig, VoterConfig
from serx.recognizer import Dimension, Recognizer
from serx.terminal import printable
from serx.training.init_from import SOURCES, Source, seen_by_sources, sources_of

CPU = torch.device("cpu")
SHOWN = 5  # names in a message
# Settings of the data section that may differ: voters need not have come to their split in the same way.
MAY_DIFFER = {*ProtocolConfig.model_fields, "root", "cache", "placement", "labels"}


@dataclass(frozen=True)
class BuiltEnsemble:
    """What was written.

    Attributes:
        voters: for each its kind, its path, the beginning of its sha256, and its share of the vote.
        labels: the emotions, in the order of the first checkpoint.
        dimensions: the names of the dimensions, such as arousal.
        protocol: the protocol stamp.
        notes: lines about clips that could not be compared.
        n_bytes: the size of the file.
    """

    voters: tuple[tuple[str, str, str, float], ...]
    labels: tuple[str, ...]
    dimensions: tuple[str, ...]
    protocol: str
    notes: tuple[str, ...]
    n_bytes: int


class _Voter:
    """A checkpoint that votes."""

    def __init__(self, path: Path) -> None:
        if is_published(os.fspath(path)):
            raise ConfigError(
                f"{path}: the speakers that trained a published model are not known; give checkpoints of runs"
            )
        self.path = path
        self.predictor = Predictor.load(path, CPU)
        self.config, self.metadata = self.predictor.config, self.predictor.metadata
        self.sha256: str = self.metadata["sha256"]
        self.sources = sources_of(self.metadata)
        if isinstance(self.config.model, EnsembleConfig):
            raise ConfigError(f"{path} is an ensemble already; give the checkpoints that it was built of")

    @property
    def record(self) -> Source:
        """What `init_from` would record of it."""
        own = {name: self.metadata[name] for name in ("sha256", "protocol", "speakers", "digests")}
        return {"path": str(self.path), **own, "data": self.config.data.model_dump(mode="json")}

    @cached_property
    def dataset(self) -> Dataset | None:
        """Its clips; None if they are no longer where they were."""
        data = self.config.data.model_copy(update={"cache": None})  # no path in a checkpoint is written to
        try:
            return load_dataset(data, self.predictor.labels)
        except DataError:
            return None

    def holds_out_speakers(self, part: str) -> bool:
        """Whether the speakers of a part were not in its training, or else only the clips."""
        speakers = self.metadata["speakers"]
        shared = set(speakers["train"]) & set(speakers[part])
        return not shared and (part == "valid" or self.metadata["speaker_independent"])


def build_ensemble(
    paths: Sequence[str | Path], output: str | Path, weights: Sequence[float] | None = None
) -> BuiltEnsemble:
    """Writes one checkpoint whose probabilities are the weighted geometric mean of those of the checkpoints.

    Values of dimensions such as arousal are averaged with the same weights, in units of the ratings.

    Each of them keeps its features, normalizer, test-time speeds and temperature. The out-of-distribution detector is
    that of the checkpoint with the most training clips.

    Args:
        paths: `best.safetensors` of two or more runs.
        output: the file to write, which must not be there yet.
        weights: one for each path, relative to each other; default: all the same.

    Raises:
        ConfigError: the checkpoints do not fit together: other labels, sample rates or ways of decoding.
        LeakError: one was trained on speakers or clips that another one holds out.
        CheckpointError: one cannot be read.
        DiskError: the file cannot be written.

    >>> build_ensemble(["one.safetensors"], "both.safetensors")
    Traceback (most recent call last):
    serx.errors.ConfigError: an ensemble is built of 2 to 16 checkpoints, and 1 is given
    """
    output, weights = Path(output), list(weights or [1.0] * len(paths))
    _check_request(len(paths), output, weights)
    voters = [_Voter(Path(path)) for path in paths]
    _check_fit(voters)
    notes = [note for tested in voters for other in voters if other is not tested for note in _compare(tested, other)]
    config = _config(voters, weights)
    metadata = _metadata(voters, config)
    tensors = _tensors(voters)
    check_metadata(output, unsigned_metadata(metadata))
    labels = voters[0].predictor.labels
    weights_of_model = {name.removeprefix("model."): t for name, t in tensors.items() if name.startswith("model.")}
    fill(
        Recognizer(config.features, config.model, labels, config.data.sample_rate, dimensions=_dimensions(voters)),
        weights_of_model,
        str(output),
    )
    checkpoint.save(output, tensors, metadata)
    shares = [weight / sum(weights) for weight in weights]
    return BuiltEnsemble(
        voters=tuple(
            (voter.config.model.kind, str(voter.path), voter.sha256[:8], share)
            for voter, share in zip(voters, shares, strict=True)
        ),
        labels=labels,
        dimensions=tuple(dimension.name for dimension in _dimensions(voters)),
        protocol=metadata["protocol"],
        notes=tuple(dict.fromkeys(notes)),
        n_bytes=output.stat().st_size,
    )


def _check_request(count: int, output: Path, weights: Sequence[float]) -> None:
    if not 2 <= count <= MAX_VOTERS:
        given = "1 is given" if count == 1 else f"{count} are given"
        raise ConfigError(f"an ensemble is built of 2 to {MAX_VOTERS} checkpoints, and {given}")
    if len(weights) != count:
        raise ConfigError(f"{len(weights)} weights for {count} checkpoints; give one for each, in the same order")
    for weight in weights:
        if not 0 < weight <= MAX_WEIGHT:
            raise ConfigError(
                f"weight {weight}: not a number above 0, at most {MAX_WEIGHT:g}; leave out what should not vote"
            )
    if os.path.lexists(output):
        raise ConfigError(f"{output} is there already; give another --output, or delete it first")
    if not output.parent.is_dir():
        raise ConfigError(f"{output.parent} is not a folder; make it first, or give another --output")


def _check_fit(voters: Sequence[_Voter]) -> None:
    """Raises ConfigError unless one recording can be given to all voters, and their answers be compared."""
    first = voters[0]
    for number, voter in enumerate(voters):
        for before in voters[:number]:
            if before.sha256 == voter.sha256:
                raise ConfigError(
                    f"{before.path} and {voter.path} are the same checkpoint; --weights gives one a larger share"
                )
        pair = f"{first.path} and {voter.path} cannot vote together"
        differ = set(first.predictor.labels) ^ set(voter.predictor.labels)
        if differ:
            names = ", ".join(sorted(map(printable, differ)))
            raise ConfigError(f"{pair}: only one of them has {names}; train both with the same data.labels")
        for name in DataConfig.model_fields:
            one, two = getattr(first.config.data, name), getattr(voter.config.data, name)
            if name not in MAY_DIFFER and one != two:
                raise ConfigError(
                    f"{pair}: data.{name} is {printable(one)} and {printable(two)}; train both with the same"
                )


def _compare(tested: _Voter, other: _Voter) -> Iterator[str]:
    """Notes about clips that cannot be compared.

    Raises:
        LeakError: `other`, or a checkpoint that it began from, was trained on what `tested` holds out.
    """
    for part in ("test", "valid"):
        for record in (other.record, *other.sources):
            seen, notes = _seen(tested, part, record)
            if seen:
                more = f" and {len(seen) - SHOWN} more" if len(seen) > SHOWN else ""
                names = ", ".join(map(printable, seen[:SHOWN])) + more
                raise LeakError(
                    f"{tested.path} and {other.path} cannot vote together: {names}, of the {part} part of the first, "
                    f"trained {record['path']}; combine checkpoints that hold out the same speakers"
                )
            yield from notes


def _seen(tested: _Voter, part: str, record: Source) -> tuple[Sequence[str], Sequence[str]]:
    """What of a part was used in the training of a record, and notes, as `seen_by_sources` returns them.

    Audio is read only if there are clips that neither training has compared: then copies of them are looked for.
    """
    used_parts = ("train",) if part == "valid" else ("train", "valid")  # validation clips choose epochs
    used_speakers = {name for used in used_parts for name in record["speakers"][used]}
    used = {digest for name in used_parts for digest in record["digests"][name]}
    digests, independent = set(tested.metadata["digests"][part]), tested.holds_out_speakers(part)
    if independent:
        data = tested.config.data
        met = [
            speaker_id
            for speaker_id in tested.metadata["speakers"][part]
            if any(same_speaker(_clip_of(speaker_id), name, data) for name in used_speakers)
        ]
        if met:
            return met, []
    if digests & used:
        return [f"{len(digests & used)} clips"], []
    new = digests - {digest for name in PARTS for digest in record["digests"][name]}
    if not new or used <= {digest for name in PARTS for digest in tested.metadata["digests"][name]}:
        return [], []
    dataset = tested.dataset
    clips = [i for i, digest in enumerate(dataset.digests) if digest in new] if dataset is not None else []
    notes = []
    if len(clips) < len(new):
        notes = [
            f"{len(new) - len(clips)} clips of the {part} part of {tested.path} are not at {tested.config.data.root}: "
            f"copies of them in the training of {record['path']} would go unnoticed"
        ]
    if dataset is None or not clips:
        return [], notes
    seen, gaps = seen_by_sources(dataset, [record], np.asarray(clips, np.int64), part, independent)
    return seen, [*notes, *gaps]


def _clip_of(speaker_id: str) -> Utterance:
    """A clip of a speaker, as `same_speaker` compares it."""
    corpus, _, speaker = speaker_id.partition("/")
    return Utterance(Path(), corpus, speaker, "")


def _dimensions(voters: Sequence[_Voter]) -> tuple[Dimension, ...]:
    """The dimensions of all voters, with a range that holds those of each."""
    of_each = zip(*(voter.predictor.dimensions for voter in voters), strict=True)
    return tuple(Dimension(own[0].name, min(d.low for d in own), max(d.high for d in own)) for own in of_each)


def _scales(voter: _Voter, dimensions: Sequence[Dimension]) -> tuple[tuple[float, float], ...]:
    """What makes a share of the voter's range one of the ensemble's."""
    pairs = zip(voter.predictor.dimensions, dimensions, strict=True)
    return tuple(
        ((own.low - all_.low) / (all_.high - all_.low), (own.high - own.low) / (all_.high - all_.low))
        for own, all_ in pairs
    )


def _config(voters: Sequence[_Voter], weights: Sequence[float]) -> Config:
    first, labels = voters[0].config.data, voters[0].predictor.labels
    roots: dict[str, str] = {}
    for voter in voters:
        root = voter.config.data.root
        for item in (root,) if isinstance(root, str) else root:
            roots.setdefault(os.path.abspath(os.path.expanduser(item)), item)
    same_labels = all(voter.config.data.labels == first.labels for voter in voters)
    update = {
        "root": tuple(roots.values()) if len(roots) > 1 else next(iter(roots.values())),
        "labels": first.labels if same_labels else labels,
        "cache": None,
    }
    members = tuple(
        VoterConfig(
            features=voter.config.features,
            model=voter.config.model,
            temperature=voter.predictor.recognizer.temperature,
            weight=weight,
            dimension_scales=_scales(voter, _dimensions(voters)),
            label_order=None
            if voter.predictor.labels == labels
            else tuple(voter.predictor.labels.index(label) for label in labels),
        )
        for voter, weight in zip(voters, weights, strict=True)
    )
    adapt = all(voter.config.model.adapt for voter in voters)
    return Config(
        data=first.model_copy(update=update),
        features=FeaturesConfig(stack=("waveform",), normalize="none"),
        model=EnsembleConfig(voters=members, sample_rate=first.sample_rate, adapt=adapt),
        train=TrainConfig(select="last"),  # no epoch of an ensemble is chosen
    )


def _metadata(voters: Sequence[_Voter], config: Config) -> dict[str, Any]:
    every = [voter.metadata for voter in voters]
    union = {
        item: {part: sorted({name for m in every for name in m[item][part]}) for part in PARTS}
        for item in ("speakers", "digests")
    }
    sources = {(s["sha256"], s.get("role")): s for voter in voters for s in voter.sources}
    stamps = list(dict.fromkeys(m["protocol"] for m in every))
    names = [f"{voter.config.model.kind} ({voter.sha256[:8]})" for voter in voters]
    return {
        "progress": {
            "epoch": 0, "step": 0, "best": None, "best_epoch": None, "epochs_since_best": 0, "plateau_scale": 1.0,
            "epochs_on_plateau": 0,
        },
        "config": config.model_dump(mode="json"),
        "labels": list(voters[0].predictor.labels),
        "dimensions": [dimension._asdict() for dimension in _dimensions(voters)],
        "protocol": f"{'; '.join(stamps)}; ensemble of {', '.join(names[:-1])} and {names[-1]}",
        "speaker_independent": all(m["speaker_independent"] for m in every),
        **union,
        "duplicates": sorted({name for m in every for name in m.get("duplicates", ())}),
        "environment": environment(CPU, torch.float32),
        SOURCES: list(sources.values()),
    }  # fmt: skip


def _tensors(voters: Sequence[_Voter]) -> dict[str, Tensor]:
    tensors = {
        f"model.backbone.members.0.voters.{number}.{name}": tensor
        for number, voter in enumerate(voters)
        for name, tensor in voter.predictor.recognizer.state_dict().items()
    }
    for number, voter in enumerate(voters):
        speaker_model = voter.predictor.recognizer.speaker_model
        for name, tensor in (speaker_model.tensors() if speaker_model else {}).items():
            tensors[f"speaker.backbone.members.0.voters.{number}.{name}"] = tensor
    largest = max(voters, key=lambda voter: len(voter.metadata["digests"]["train"]))
    detector = largest.predictor.ood_detector
    ood = {} if detector is None else detector.tensors()
    return tensors | {f"ood.{name}": tensor for name, tensor in ood.items()}
