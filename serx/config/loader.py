"""The whole configuration of a run: load, override, check, dump.

Each section is owned by the code that obeys it; this file only puts them together and turns every mistake into one
line with file, line number and the nearest right key.
"""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import ValidationError

from serx.augment.compose import AugmentConfig
from serx.base_config import BaseConfig
from serx.config.training import OptimConfig, TrainConfig
from serx.config.yaml_lines import MAX_DEPTH, KeyPath, parse, read
from serx.data.dataset import DataConfig
from serx.errors import ConfigError
from serx.features.stack import FeaturesConfig, why_not_warpable
from serx.models.classical import ClassicalConfig
from serx.models.registry import BaseModelConfig, ModelConfig, model_kinds
from serx.models.speech_encoder import SpeechEncoderConfig

# A classical model is fitted once to the clips as they are: what only an epoch of steps can do is refused.
_NOT_CLASSICAL = (
    *(("augment", key) for key in AugmentConfig.model_fields),
    *(("train", key) for key in ("ema_decay", "label_smoothing", "logit_adjustment", "sampling")),
)
# Read by one protocol alone: under another, a speaker who is named to test would train.
_OF_PROTOCOL = {"test_speakers": "speakers", "valid_speakers": "speakers", "test_corpora": "cross_corpus"}
# What is a list or one word: behind these pydantic names the type that it tried.
_LISTS_OR_TEXT = (("data", "root"), ("data", "labels"))


class Config(BaseConfig):
    """data + features + augment + model + optim + train."""

    data: DataConfig
    features: FeaturesConfig = FeaturesConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a YAML file, then `section.key=value` overrides (values in YAML), and checks everything.

    An item of a list goes by its number or its kind: `augment.waveform.0.p=0.5`, `augment.waveform.noise.p=0.5`.

    Raises:
        ConfigError: lists every mistake at once, each as `file:line: what; how to mend`.
    """
    tree, lines = read(Path(path))
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}:1: expected sections (data, features, augment, model, optim, train)")
    places = {place: f"{path}:{line}" for place, line in lines.items()}
    _spell_out_stack(tree, places)
    for override in overrides:
        place = _override(tree, override)
        changed = {known for known in places if known[: len(place)] == place}
        added = {place[:n] for n in range(1, len(place) + 1)} - places.keys()
        places |= dict.fromkeys(changed | added, f"command line: {override}")
    return from_tree(tree, places, str(path))


def from_tree(tree: Mapping[str, Any], places: Mapping[KeyPath, str] | None = None, source: str = "config") -> Config:
    """Checks a tree of dicts, tuples and scalars, such as a checkpoint keeps."""
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        faults = error.errors()
        deepest = [fault for fault in faults if not any(_within(other, fault) for other in faults)]
        mistakes = [_explain(fault, places or {}, source) for fault in deepest]
        raise ConfigError("\n".join(dict.fromkeys(mistakes))) from error
    for place, fault in _clashes(config):
        known = [(places or {}).get(place[:n]) for n in range(len(place), 0, -1)]
        raise ConfigError(f"{next(filter(None, known), source)}: {fault}")
    return config


def _clashes(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """What one section asks and another cannot give: where it stands, and how to mend it."""
    hears, model = config.features.stack == ("waveform",), config.model
    yield from _about_speakers(config)
    fault = why_not_warpable(config.features) if config.augment.mel_warp is not None else None
    if fault:
        yield ("augment", "mel_warp"), fault
    for section, key in _NOT_CLASSICAL if model.kind == "classical" else ():
        if getattr(getattr(config, section), key) != getattr(Config.model_fields[section].default, key):
            yield (section, key), f"{section}.{key} means nothing to model.kind classical; leave it out"
    if config.train.logit_adjustment > 0 and config.train.class_weights != "none":
        both = "train.logit_adjustment and train.class_weights both make up for rare classes"
        yield ("train", "logit_adjustment"), f"{both}; leave one out"
    if hears and config.augment.spectrogram:
        masks = "augment.spectrogram masks frames and rows, but features.stack is [waveform]"
        yield ("augment", "spectrogram"), f"{masks}; leave it empty"
    if hears and config.augment.mixstyle > 0:
        yield (
            ("augment", "mixstyle"),
            "augment.mixstyle lends a spectrum, but features.stack is [waveform]; leave it at 0",
        )
    if isinstance(model, SpeechEncoderConfig):
        if not hears:
            yield ("features", "stack"), "model.kind speech_encoder hears waveforms: write features.stack: [waveform]"
        if config.data.sample_rate != model.sample_rate:
            rates = f"data.sample_rate is {config.data.sample_rate}, but {model.bundle} was trained at"
            yield ("data", "sample_rate"), f"{rates} {model.sample_rate} Hz; write that"


def _about_speakers(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """Speakers who are named and not asked for, and what validation is to choose and cannot."""
    for key, reader in _OF_PROTOCOL.items():
        if getattr(config.data, key) and config.data.protocol != reader:
            told = f"data.{key} is for protocol {reader}, and data.protocol is {config.data.protocol}"
            yield ("data", key), f"{told}, which chooses otherwise: write protocol: {reader}, or {key}: []"
    named = config.data.valid_speakers or config.data.protocol == "manifest"
    if config.data.valid_fraction == 0 and not named:
        yield from wants_validation(config)
    if config.train.select != "last":
        return
    last = "but train.select last takes every epoch for the best so far; select uar or loss"
    if config.train.patience is not None:
        yield ("train", "patience"), f"train.patience waits for a better epoch, {last}, or leave patience out"
    if config.optim.schedule == "plateau":
        yield ("optim", "schedule"), f"optim.schedule plateau waits for a better epoch, {last}, or another schedule"


def wants_validation(config: Config) -> Iterator[tuple[KeyPath, str]]:
    """What validation clips are to choose, and cannot where there are none: where it stands, and how to mend it."""
    nobody, model = "but nobody validates (data.valid_fraction: 0)", config.model
    if isinstance(model, ClassicalConfig) and len(model.c) > 1:
        yield ("model", "c"), f"model.c lists {len(model.c)} values to choose from, {nobody}; give one"
    if config.train.select != "last":
        yield ("train", "select"), f"train.select is {config.train.select}, {nobody}; write last"
    if config.optim.schedule == "plateau":
        yield ("optim", "schedule"), f"optim.schedule plateau waits for validation, {nobody}; write onecycle"


def tuples(value: Any) -> Any:
    """Lists to tuples all the way down: what a strict, frozen section wants of JSON."""
    if isinstance(value, Mapping):
        return {key: tuples(item) for key, item in value.items()}
    return tuple(tuples(item) for item in value) if isinstance(value, list | tuple) else value


def dump(config: Config) -> str:
    """YAML that `load` reads back to the same configuration."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _spell_out_stack(tree: dict[str, Any], places: dict[KeyPath, str]) -> None:
    """`features: [mfcc, rms]` becomes `features: {stack: [mfcc, rms]}`, so that overrides find a section."""
    if isinstance(tree.get("features"), tuple):
        tree["features"] = {"stack": tree["features"]}
        items = {place: where for place, where in places.items() if place[0:1] == ("features",)}
        places |= {("features", "stack", *place[1:]): where for place, where in items.items()}


def _override(tree: dict[str, Any], override: str) -> KeyPath:
    """Puts the value into the tree, and says where that was."""
    dotted, equals, text = override.partition("=")
    keys = dotted.split(".")
    if not equals or not all(keys) or len(keys) > MAX_DEPTH:
        raise ConfigError(f"command line: {override!r} is not section.key=value, such as train.epochs=20")
    value = parse(text, f"command line: {override}")[0] if text else None
    changed, place = _with(tree, keys, value, f"command line: {override}")
    tree.update(changed)
    return place


def _with(branch: Any, keys: Sequence[str], value: Any, source: str) -> tuple[Any, KeyPath]:
    """The branch with `value` at the end of `keys`, and that place."""
    key, *further = keys
    if isinstance(branch, tuple):
        at = _item(branch, key, source)
        inner, place = _with(branch[at], further, value, source) if further else (value, ())
        return (*branch[:at], inner, *branch[at + 1 :]), (at, *place)
    if not isinstance(branch, dict):
        raise ConfigError(f"{source}: there is {branch!r} where {key} should be, which holds no keys of its own")
    inner, place = _with(branch.get(key, {}), further, value, source) if further else (value, ())
    return {**branch, key: inner}, (key, *place)


def _item(items: Sequence[Any], key: str, source: str) -> int:
    kinds = [item.get("kind") if isinstance(item, dict) else item for item in items]
    if key in map(str, range(len(items))):
        return int(key)
    if kinds.count(key) == 1:
        return kinds.index(key)
    there = ", ".join(f"{number} ({kind})" for number, kind in enumerate(kinds)) or "nothing"
    which = "stands there more than once; give its number" if key in kinds else "is not in this list"
    raise ConfigError(f"{source}: {key} {which}: it holds {there}")


def _within(inner: Mapping[str, Any], outer: Mapping[str, Any]) -> bool:
    """Whether one fault lies below another, which only repeats it ("too few items" of a list with a bad item)."""
    return len(inner["loc"]) > len(outer["loc"]) and inner["loc"][: len(outer["loc"])] == outer["loc"]


def _explain(fault: Mapping[str, Any], places: Mapping[KeyPath, str], source: str) -> str:
    """One line for one of pydantic's faults."""
    place, message = tuple(fault["loc"]), fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "union_tag_invalid":
        place += ("kind",)
        message = f"input should be one of {fault['ctx']['expected_tags']}, got {fault['ctx']['tag']!r}"
    real = tuple(part for i, part in enumerate(place) if _is_written(place[: i + 1], places))
    known = real if fault["type"] != "missing" else real[:-1] if real == place else real
    where = next((places[known[:n]] for n in range(len(known), -1, -1) if known[:n] in places), source)
    name = ".".join(map(str, real or place))
    if fault["type"] == "missing":
        return f"{where}: {'.'.join(map(str, place))} is missing; add it"
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown key {name}{_suggest(name, place)}"
    if fault["type"] == "tuple_type":
        message = "input should be a list, such as [a, b]"
    given = "" if fault["type"] in ("value_error", "union_tag_invalid") else f", got {fault['input']!r}"
    return f"{where}: {name}: {message[0].lower()}{message[1:]}{given}"


def _is_written(place: KeyPath, places: Mapping[KeyPath, str]) -> bool:
    """Whether the last part of a location is a key of the file, and not what a union adds (`noise`, `str`)."""
    if place[:-1] in _LISTS_OR_TEXT:
        return False
    return not (len(place) > 2 and place[0] == "augment" and place[-1] in _transform_kinds())


def _transform_kinds() -> set[str]:
    kinds = set()
    for name in ("waveform", "spectrogram"):
        kinds |= {_kind(section) for section in _sections(AugmentConfig.model_fields[name].annotation)}
    return kinds


def _kind(section: type[BaseConfig]) -> str:
    return section.model_fields["kind"].default


def _suggest(name: str, place: KeyPath) -> str:
    keys = dotted_keys(Config, kinds=place)
    plain = ".".join(part for part in name.split(".") if not part.isdigit())
    near = difflib.get_close_matches(plain, keys, n=1, cutoff=0.6)
    same_end = [key for key in keys if key.split(".")[-1] == plain.split(".")[-1]]
    best = (same_end + near)[:1]
    return f"; did you mean {best[0]}?" if best else f"; known sections are {', '.join(Config.model_fields)}"


def dotted_keys(section: type[BaseConfig], prefix: str = "", kinds: KeyPath = ()) -> list[str]:
    """Every key of a section and of those within it, such as `optim.lr`; where one of `kinds` stands, of it alone."""
    keys: list[str] = []
    for name, field in section.model_fields.items():
        keys.append(f"{prefix}{name}")
        sections = _sections(field.annotation)
        asked = [inner for inner in sections if "kind" in inner.model_fields and _kind(inner) in kinds]
        for inner in asked or sections:
            keys += dotted_keys(inner, f"{prefix}{name}.", kinds)
    return list(dict.fromkeys(keys))


def _sections(annotation: Any) -> list[type[BaseConfig]]:
    """The sections named anywhere in a type; of models those of every registered kind."""
    if annotation is BaseModelConfig:
        return [kind.config for kind in model_kinds().values()]
    if isinstance(annotation, type) and issubclass(annotation, BaseConfig):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, UnionType, tuple):
        inner = [part for part in get_args(annotation) if part not in (NoneType, Ellipsis)]
        return [section for part in inner for section in _sections(part)]
    return []
