"""Settings of different sections that cannot be used together."""

from collections.abc import Iterator
from dataclasses import dataclass

from serx.augment.compose import AugmentConfig
from serx.augment.crop import Crop
from serx.augment.masks import FrequencyMask, TimeMask
from serx.config.schema import Config
from serx.config.yaml_lines import KeyPath
from serx.errors import ConfigError
from serx.features.registry import WAVEFORM
from serx.features.stack import check_rate, why_not_warpable
from serx.models.classical import ClassicalConfig
from serx.models.encoder_config import EncoderConfig
from serx.models.encoder_probe import EncoderProbeConfig
from serx.models.ensemble import EnsembleConfig
from serx.models.linear_probe import LinearProbeConfig
from serx.models.speech_encoder import SpeechEncoderConfig

# A model that is fitted to all clips at once takes no steps, so these settings would have no effect. A classical model
# is fitted to clips without augmentation.
_NOT_FOR_FITS = tuple(("train", key) for key in ("ema_decay", "logit_adjustment", "init_from", "teachers"))
_NOT_FOR_CLASSICAL = (
    *(("augment", key) for key in AugmentConfig.model_fields),
    *_NOT_FOR_FITS,
    *(("train", key) for key in ("label_smoothing", "sampling")),
)
_NOT_FOR_LINEAR_PROBE = (
    *_NOT_FOR_FITS,
    *(("augment", key) for key in ("spectrogram", "mel_warp", "mixstyle", "mixup", "cutmix")),
)
_KEYS_OF_RATE = ("contrast_bands", "pitch_max")  # which an error of `check_rate` may begin with
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
        *_about_audio(config),
        *_about_features(config),
        *(without_validation(config) if without_valid and not named else ()),
        *_about_best_epoch(config),
        *_about_augmentation(config),
        *_about_model(config),
        *_about_tasks(config),
        *_about_loggers(config),
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


def _about_audio(config: Config) -> Iterator[Contradiction]:
    data = config.data
    if data.min_seconds >= data.max_seconds:
        message = f"data.min_seconds {data.min_seconds:g} is not below data.max_seconds {data.max_seconds:g}"
        keys = ("data.min_seconds", "data.max_seconds")
        yield Contradiction(("data", "min_seconds"), f"{message}, so that every clip is skipped; lower it", keys)
    if data.duration_seconds is not None and data.duration_seconds < data.min_seconds:
        message = (
            f"data.duration_seconds {data.duration_seconds:g} is shorter than data.min_seconds {data.min_seconds:g}"
        )
        keys = ("data.duration_seconds", "data.min_seconds")
        yield Contradiction(("data", "duration_seconds"), f"{message}, so that every clip is skipped; raise it", keys)
    if data.offset_seconds >= data.max_seconds:
        message = (
            f"data.offset_seconds {data.offset_seconds:g} skips clips of up to data.max_seconds {data.max_seconds:g}"
        )
        keys = ("data.offset_seconds", "data.max_seconds")
        yield Contradiction(("data", "offset_seconds"), f"{message} altogether; lower it", keys)
    if data.protocol == "kfold" and data.fold >= data.folds:
        message = f"data.fold {data.fold} does not exist: folds are counted from 0 to {data.folds - 1}"
        yield Contradiction(("data", "fold"), message, ("data.fold", "data.folds", "data.protocol"))


def _about_features(config: Config) -> Iterator[Contradiction]:
    try:
        check_rate(config.features, config.data.sample_rate)
    except ConfigError as error:
        key = next((key for key in _KEYS_OF_RATE if f"features.{key}:" in str(error)), "stack")
        if "mel filters" in str(error) or "features.f_min" in str(error):
            key = "f_min" if config.features.f_max is None else "f_max"
        yield Contradiction(("features", key), str(error), ("features", "data.sample_rate"))


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
    yield from _about_kept_frames(config)
    yield from _about_waveform_transforms(config)
    yield from _about_vectors(config)
    yield from _about_masks(config)
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
    frozen = isinstance(config.model, EncoderProbeConfig | LinearProbeConfig)
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


def _about_kept_frames(config: Config) -> Iterator[Contradiction]:
    """Frames that are kept are of no use where each epoch has other clips, and would fill the disk."""
    if not (isinstance(config.model, SpeechEncoderConfig) and config.model.cache_frames):
        return
    changing = [key for key in ("waveform", "mixup", "cutmix") if getattr(config.augment, key)]
    for key in changing:
        message = f"model.cache_frames keeps frames of clips, but augment.{key} changes these in each epoch; drop one"
        yield Contradiction(("model", "cache_frames"), message, (f"augment.{key}", "model.cache_frames"))


def _about_waveform_transforms(config: Config) -> Iterator[Contradiction]:
    features, rate = config.features, config.data.sample_rate
    window = 0 if features.stack == (WAVEFORM,) else features.win_length or features.n_fft
    for i, transform in enumerate(config.augment.waveform):
        fault = transform.why_not_at(rate)
        if fault:
            name = f"augment.waveform.{i} ({transform.kind})"
            yield Contradiction(
                ("augment", "waveform", i), f"{name}: {fault}", ("augment.waveform", "data.sample_rate")
            )
        if isinstance(transform, Crop) and transform.seconds * rate < window:
            message = (
                f"augment.waveform.{i} (crop): {transform.seconds:g} s are {transform.seconds * rate:.0f} samples, "
                f"fewer than the {window} of a frame; raise seconds, or lower features.n_fft"
            )
            keys = ("augment.waveform", "features", "data.sample_rate")
            yield Contradiction(("augment", "waveform", i), message, keys)


def _about_vectors(config: Config) -> Iterator[Contradiction]:
    """What needs frames, where `features.statistics` make one vector of a clip."""
    if not config.features.statistics:
        return
    cause = "but features.statistics make one vector of each clip"
    for key, does in (
        ("mixstyle", "mixes statistics over frames"),
        ("cutmix", "replaces some frames by another clip's"),
    ):
        if getattr(config.augment, key) > 0:
            message = f"augment.{key} {does}, {cause}; leave it at 0"
            yield Contradiction(("augment", key), message, (f"augment.{key}", "features.statistics"))
    if config.model.relaxed_freq_norm > 0:
        message = f"model.relaxed_freq_norm normalizes each row over its frames, {cause}; leave it at 0"
        yield Contradiction(("model", "relaxed_freq_norm"), message, ("model", "features.statistics"))


def _about_masks(config: Config) -> Iterator[Contradiction]:
    features, data = config.features, config.data
    if features.stack == (WAVEFORM,):
        return
    limits = [data.max_seconds, *(t.seconds for t in config.augment.waveform if isinstance(t, Crop))]
    seconds = min([*limits, *([data.duration_seconds] if data.duration_seconds is not None else [])])
    frames = 1 if features.statistics else 1 + int(seconds * data.sample_rate) // features.hop_length
    reads = ("augment", "features", "data")
    for i, mask in enumerate(config.augment.spectrogram):
        place, name = ("augment", "spectrogram", i), f"augment.spectrogram.{i} ({mask.kind})"
        if isinstance(mask, TimeMask) and features.statistics:
            message = (
                f"{name}: features.statistics make one vector of each clip, which has no frames to mask; leave it out"
            )
            yield Contradiction(place, message, reads)
        elif isinstance(mask, TimeMask) and mask.width > frames:
            message = f"{name}: width {mask.width} is more than the {frames} frames of the longest clip; lower it"
            yield Contradiction(place, message, reads)
        elif isinstance(mask, FrequencyMask) and mask.width >= features.bins:
            message = f"{name}: width {mask.width} may mask all {features.bins} rows of the features; lower it"
            yield Contradiction(place, message, reads)


def _about_model(config: Config) -> Iterator[Contradiction]:
    model, defaults = config.model, Config.model_fields
    without_effect = {ClassicalConfig: _NOT_FOR_CLASSICAL, LinearProbeConfig: _NOT_FOR_LINEAR_PROBE}
    for section, key in without_effect.get(type(model), ()):
        if getattr(getattr(config, section), key) != getattr(defaults[section].default, key):
            message = f"{section}.{key} has no effect with model.kind {model.kind}; leave it out"
            yield Contradiction((section, key), message, (f"{section}.{key}", "model"))
    balanced = config.train.sampling in ("class_balanced", "corpus_and_class_balanced")
    if config.train.class_weights != "none" and balanced:
        message = (
            f"train.class_weights: balanced and train.sampling: {config.train.sampling} both compensate for rare "
            "classes, which would count twice; leave one out"
        )
        keys = ("train.class_weights", "train.sampling")
        yield Contradiction(("train", "class_weights"), message, keys)
    if config.train.logit_adjustment > 0 and config.train.class_weights != "none":
        message = "train.logit_adjustment and train.class_weights both compensate for rare classes; leave one out"
        keys = ("train.logit_adjustment", "train.class_weights")
        yield Contradiction(("train", "logit_adjustment"), message, keys)
    if isinstance(model, EnsembleConfig):
        yield from _about_ensemble(config, model)
    if not isinstance(model, EncoderConfig):
        return
    if config.features.stack != ("waveform",):
        message = f"model.kind {model.kind} reads waveforms; write features.stack: [waveform]"
        yield Contradiction(("features", "stack"), message, ("model", "features.stack"))
    if config.data.sample_rate != model.sample_rate:
        rates = (
            f"data.sample_rate is {config.data.sample_rate}, but {model.source} was trained at {model.sample_rate} Hz"
        )
        yield Contradiction(
            ("data", "sample_rate"), f"{rates}; write {model.sample_rate}", ("model", "data.sample_rate")
        )


def _about_ensemble(config: Config, model: EnsembleConfig) -> Iterator[Contradiction]:
    if config.features.stack != ("waveform",):
        message = "model.kind ensemble reads waveforms; write features.stack: [waveform]"
        yield Contradiction(("features", "stack"), message, ("model", "features.stack"))
    if config.data.sample_rate != model.sample_rate:
        message = f"data.sample_rate is {config.data.sample_rate}, but model.sample_rate is {model.sample_rate}"
        yield Contradiction(("data", "sample_rate"), message, ("model", "data.sample_rate"))
    for voter in model.voters:
        own = config.model_copy(update={"features": voter.features, "model": voter.model})
        for contradiction in _about_model(own):
            yield Contradiction(("model", "voters"), f"model.voters: {contradiction.message}", ("model", "data"))


def _about_tasks(config: Config) -> Iterator[Contradiction]:
    data, train, tasks = config.data, config.train, config.data.tasks
    if len(set(tasks)) < len(tasks):
        yield Contradiction(("data", "tasks"), f"data.tasks lists {tasks[0]} twice; keep one", ("data.tasks",))
    if len(set(data.dimensions)) < len(data.dimensions):
        yield Contradiction(
            ("data", "dimensions"), "data.dimensions lists a name twice; keep one", ("data.dimensions",)
        )
    reads = ("data.tasks", "data.dimensions")
    if "dimensions" in tasks and not data.dimensions:
        message = "data.tasks has dimensions, but data.dimensions names none; write some, such as [arousal, valence]"
        yield Contradiction(("data", "dimensions"), message, reads)
    if "dimensions" not in tasks and data.dimensions:
        message = f"data.dimensions has no effect with data.tasks [{', '.join(tasks)}]; write [emotions, dimensions]"
        yield Contradiction(("data", "dimensions"), message, reads)
    if train.select == "ccc" and "dimensions" not in tasks:
        message = "train.select is ccc, a score of dimensions, but data.tasks has none; write uar"
        yield Contradiction(("train", "select"), message, ("train.select", "data.tasks"))
    if "dimensions" in tasks and config.model.adapt:
        message = "model.adapt adjusts probabilities of emotions, but data.tasks has dimensions; write adapt: false"
        yield Contradiction(("model", "adapt"), message, ("model", "data.tasks"))
    if "dimensions" in tasks and config.model.fits is not None:
        network = "encoder_probe" if isinstance(config.model, EncoderConfig) else "mlp"
        message = (
            f"model.kind {config.model.kind} learns emotions only; with data.tasks dimensions choose a network, such "
            f"as {network}"
        )
        yield Contradiction(("model", "kind"), message, ("model", "data.tasks"))
    if "emotions" in tasks:
        return
    if train.select == "uar":
        message = "train.select is uar, a score of emotions, but data.tasks has none; write ccc"
        yield Contradiction(("train", "select"), message, ("train.select", "data.tasks"))
    if train.sampling in ("class_balanced", "corpus_and_class_balanced"):
        message = f"train.sampling {train.sampling} draws by emotion, but data.tasks has none; write shuffle"
        yield Contradiction(("train", "sampling"), message, ("train.sampling", "data.tasks"))
    if train.teachers:
        message = "train.teachers teach emotions, but data.tasks has none; leave them out"
        yield Contradiction(("train", "teachers"), message, ("train.teachers", "data.tasks"))


def _about_loggers(config: Config) -> Iterator[Contradiction]:
    loggers = config.train.loggers
    if len(set(loggers)) < len(loggers):
        message = "train.loggers lists a logger more than once, and both would write the same files; list each once"
        yield Contradiction(("train", "loggers"), message, ("train.loggers",))
