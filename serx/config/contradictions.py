"""Settings of different sections that cannot be used together."""

from collections.abc import Iterator
from dataclasses import dataclass

from serx.augment.compose import AugmentConfig
from serx.config.schema import Config
from serx.config.yaml_lines import KeyPath
from serx.features.stack import why_not_warpable
from serx.models.classical import ClassicalConfig
from serx.models.encoder_probe import EncoderProbeConfig
from serx.models.speech_encoder import SpeechEncoderConfig

# A classical model is fitted once to clips without augmentation, so these settings would have no effect.
_NOT_FOR_CLASSICAL = (
    *(("augment", key) for key in AugmentConfig.model_fields),
    *(("train", key) for key in ("ema_decay", "label_smoothing", "logit_adjustment", "sampling", "init_from")),
)
# These are read under one protocol only. Under another, a speaker who is listed for the test would be trained on.
_OF_PROTOCOL = {"test_speakers": "speakers", "valid_speakers": "speakers", "test_corpora": "cross_corpus"}


@dataclass(frozen=True)
class Contradiction:
    """Two settings that cannot be used together.

    Attributes:
        place: the key at which it is reported.
        message: what contradicts what, and how to fix it.
        reads: all dotted keys that it depends on, or sections.
    """

    place: KeyPath
    message: str
    reads: tuple[str, ...]


def contradictions(config: Config) -> list[Contradiction]:
    """The contradictions of a configuration, one for each key, always in the same order."""
    without_valid = config.data.valid_fraction == 0
    named = config.data.valid_speakers or config.data.protocol == "manifest"
    every = (
        *_about_speakers(config),
        *(without_validation(config) if without_valid and not named else ()),
        *_about_best_epoch(config),
        *_about_augmentation(config),
        *_about_model(config),
    )
    first: dict[KeyPath, Contradiction] = {}
    for contradiction in every:
        first.setdefault(contradiction.place, contradiction)
    return list(first.values())


def without_validation(config: Config) -> list[Contradiction]:
    """Settings that need validation clips, for a run that has none."""
    return list(_without_validation(config))


def _about_speakers(config: Config) -> Iterator[Contradiction]:
    for key, protocol in _OF_PROTOCOL.items():
        if getattr(config.data, key) and config.data.protocol != protocol:
            fault = f"data.{key} needs data.protocol: {protocol}, but data.protocol is {config.data.protocol}"
            fix = f"write protocol: {protocol}, or {key}: []"
            yield Contradiction(("data", key), f"{fault}; {fix}", (f"data.{key}", "data.protocol"))


def _without_validation(config: Config) -> Iterator[Contradiction]:
    cause, model = "but there is no validation (data.valid_fraction: 0)", config.model
    reads = ("data.valid_fraction", "data.valid_speakers", "data.protocol")
    if isinstance(model, ClassicalConfig) and len(model.c) > 1:
        message = f"model.c lists {len(model.c)} values to choose from, {cause}; give one"
        yield Contradiction(("model", "c"), message, (*reads, "model"))
    if config.train.select != "last":
        message = f"train.select is {config.train.select}, {cause}; write last"
        yield Contradiction(("train", "select"), message, (*reads, "train.select"))
    if config.optim.schedule == "plateau":
        message = f"optim.schedule plateau waits for validation, {cause}; write onecycle"
        yield Contradiction(("optim", "schedule"), message, (*reads, "optim.schedule"))


def _about_best_epoch(config: Config) -> Iterator[Contradiction]:
    if config.train.select != "last":
        return
    cause = "but with train.select last no epoch is chosen; select uar or loss"
    if config.train.patience is not None:
        message = f"train.patience waits for a better epoch, {cause}, or leave patience out"
        yield Contradiction(("train", "patience"), message, ("train.select", "train.patience"))
    if config.optim.schedule == "plateau":
        message = f"optim.schedule plateau waits for a better epoch, {cause}, or another schedule"
        yield Contradiction(("optim", "schedule"), message, ("train.select", "optim.schedule"))


def _about_augmentation(config: Config) -> Iterator[Contradiction]:
    fault = why_not_warpable(config.features) if config.augment.mel_warp is not None else None
    if fault:
        yield Contradiction(("augment", "mel_warp"), fault, ("augment.mel_warp", "features"))
    yield from _about_copies(config)
    if config.features.stack != ("waveform",):
        return
    if config.augment.spectrogram:
        message = "augment.spectrogram masks frames and rows, but features.stack is [waveform]; leave it empty"
        yield Contradiction(("augment", "spectrogram"), message, ("augment.spectrogram", "features.stack"))
    if config.augment.mixstyle > 0:
        message = "augment.mixstyle mixes spectra, but features.stack is [waveform]; leave it at 0"
        yield Contradiction(("augment", "mixstyle"), message, ("augment.mixstyle", "features.stack"))


def _about_copies(config: Config) -> Iterator[Contradiction]:
    copies, place = config.augment.copies, ("augment", "copies")
    frozen = isinstance(config.model, EncoderProbeConfig)
    if frozen and config.augment.waveform and not copies:
        message = (
            "a frozen encoder encodes each clip once, but augment.waveform changes clips in each epoch; set "
            "augment.copies, the number of augmented copies to encode, or leave augment.waveform empty"
        )
        yield Contradiction(place, message, ("augment.copies", "augment.waveform", "model"))
    if not copies:
        return
    if not (config.features.statistics or frozen) or config.features.trainable:
        cause = "features.trainable changes them" if config.features.trainable else "features.statistics is empty"
        message = f"augment.copies keeps one vector for each clip and copy, but {cause}; write copies: 0"
        yield Contradiction(place, message, ("augment.copies", "features"))
    if not config.augment.waveform and config.augment.mel_warp is None:
        message = (
            "augment.copies makes augmented copies, but augment.waveform is empty and there is no augment.mel_warp; "
            "list transforms, or write copies: 0"
        )
        yield Contradiction(place, message, ("augment.copies", "augment.waveform", "augment.mel_warp"))


def _about_model(config: Config) -> Iterator[Contradiction]:
    model, defaults = config.model, Config.model_fields
    for section, key in _NOT_FOR_CLASSICAL if isinstance(model, ClassicalConfig) else ():
        if getattr(getattr(config, section), key) != getattr(defaults[section].default, key):
            message = f"{section}.{key} has no effect with model.kind classical; leave it out"
            yield Contradiction((section, key), message, (f"{section}.{key}", "model"))
    if config.train.logit_adjustment > 0 and config.train.class_weights != "none":
        message = "train.logit_adjustment and train.class_weights both compensate for rare classes; leave one out"
        keys = ("train.logit_adjustment", "train.class_weights")
        yield Contradiction(("train", "logit_adjustment"), message, keys)
    if not isinstance(model, SpeechEncoderConfig):
        return
    if config.features.stack != ("waveform",):
        message = "model.kind speech_encoder reads waveforms; write features.stack: [waveform]"
        yield Contradiction(("features", "stack"), message, ("model", "features.stack"))
    if config.data.sample_rate != model.sample_rate:
        rates = (
            f"data.sample_rate is {config.data.sample_rate}, but {model.source} was trained at {model.sample_rate} Hz"
        )
        yield Contradiction(
            ("data", "sample_rate"), f"{rates}; write {model.sample_rate}", ("model", "data.sample_rate")
        )
