"""Every number, text and list of the configuration is bounded, and a value beyond is one short line."""

from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from serx.augment.compose import AugmentConfig
from serx.checkpoint.metadata import MAX_NUMBER
from serx.config import from_tree, load_config
from serx.config.reference import reference
from serx.config.schema import Config, kind_of, sections_of
from serx.errors import ConfigError
from serx.models.registry import BaseModelConfig


def sections() -> list[type[BaseModel]]:
    """Every section, and every shipped kind of model and transform."""
    found = [BaseModelConfig]
    for owner in (Config, AugmentConfig):
        for field in owner.model_fields.values():
            found += [section for section in sections_of(field.annotation) if section.__module__.startswith("serx.")]
    return list(dict.fromkeys(found))


def leaves(annotation: Any, metadata: tuple[Any, ...] = ()) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Every type within an annotation, with its constraints."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from leaves(parts[0], (*metadata, *parts[1:]))
    elif origin in (Union, UnionType):
        for part in parts:
            yield from leaves(part, metadata)
    elif origin is tuple:
        if parts[-1] is Ellipsis:
            yield tuple, metadata
        for part in parts:
            yield from leaves(part)
    elif origin is dict:
        yield dict, metadata
        for part in parts:
            yield from leaves(part)
    elif origin is not Literal and annotation not in (NoneType, Ellipsis, bool):
        yield annotation, metadata


def bounds(metadata: tuple[Any, ...]) -> dict[str, Any]:
    flat = [inner for item in metadata for inner in (item.metadata if isinstance(item, FieldInfo) else [item])]
    names = ("ge", "gt", "le", "lt", "max_length")
    return {name: getattr(item, name) for item in flat for name in names if getattr(item, name, None) is not None}


FIELDS = [
    (section, name, kind, bounds(metadata))
    for section in sections()
    for name, field in section.model_fields.items()
    for kind, metadata in leaves(field.annotation, tuple(field.metadata))
    if name != "kind" and kind in (int, float, str, tuple, dict)
]


def test_every_number_has_a_lower_and_an_upper_bound():
    numbers = [(section, name, limits) for section, name, kind, limits in FIELDS if kind in (int, float)]
    unbounded = [
        f"{section.__name__}.{name}"
        for section, name, limits in numbers
        if not {"ge", "gt"} & limits.keys() or not {"le", "lt"} & limits.keys()
    ]
    assert unbounded == [] and len(numbers) > 90


def test_a_checkpoint_can_hold_every_number_that_the_configuration_accepts():
    integers = [(f"{section.__name__}.{name}", limits) for section, name, kind, limits in FIELDS if kind is int]
    largest = {key: limits["le"] if "le" in limits else limits["lt"] - 1 for key, limits in integers}
    assert max(largest.values()) <= MAX_NUMBER and largest["TrainConfig.seed"] == MAX_NUMBER - 1


def test_every_text_and_every_list_has_a_greatest_length():
    unbounded = [
        f"{section.__name__}.{name}"
        for section, name, kind, limits in FIELDS
        if kind in (str, tuple, dict) and "max_length" not in limits
    ]
    assert unbounded == []


def test_every_default_lies_within_its_bounds():
    for section in sections()[1:]:
        required = {name: "x" for name, field in section.model_fields.items() if field.is_required()}
        section.model_validate({**section(**required).model_dump(), **required})


def test_the_reference_shows_the_bounds():
    text = reference()
    assert "| `lr` | number, 1e-09 to 1000000.0 |" in text and "list of integer, 1 to 8192 (at most 32)" in text


# What no number may be, whatever its bounds.
ABSURD = [1e308, float("nan"), float("inf"), 10**400, -(10**400), 10**5000, True, "x" * 10_000, (8,) * 10_000, {}]


def tree_with(section: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    """A configuration that sets these keys of a section, of a kind of model or of a transform."""
    tree: dict[str, Any] = {"data": {"root": "x"}, "model": {"kind": "mlp"}}
    kind = {"kind": kind_of(section)} if kind_of(section) else {}
    for owner, prefix in ((Config, ""), (AugmentConfig, "augment")):
        for name, field in owner.model_fields.items():
            if section in sections_of(field.annotation):
                inner = {**kind, **values} if name != "data" else {"root": "x", **values}
                place = tree if not prefix else tree.setdefault(prefix, {})
                place[name] = (inner,) if prefix and name in ("waveform", "spectrogram") else inner
    return tree


@pytest.mark.parametrize("section", sections()[1:], ids=lambda section: section.__name__)
def test_absurd_numbers_are_refused_at_every_key_in_one_short_line(section):
    scalars = {name for owner, name, kind, _ in FIELDS if owner is section and kind in (int, float)}
    for value in ABSURD:
        taken = (str, tuple, dict) if isinstance(value, str | tuple | dict) else ()
        other = {name for owner, name, kind, _ in FIELDS if owner is section and kind in taken}
        names = scalars - other
        if not names:
            continue
        with pytest.raises(ConfigError) as caught:
            from_tree(tree_with(section, dict.fromkeys(names, value)))
        lines = str(caught.value).splitlines()
        assert {name for name in names if any(f".{name}" in line for line in lines)} == names, value
        assert max(map(len, lines)) < 1000


@pytest.mark.parametrize(
    "override",
    [
        "train.output=" + "x" * 300,
        "data.cache=runs/" + "x" * 300,
        "data.root=" + "x" * 1_000_000,
        "train.device=" + "x" * 1_000_000,
        "x" * 1_000_000 + "=1",
        "train." + "x" * 1_000_000 + "=1",
        'train.output="a\\0b"',
        'train.output=""',
        "model.kind=" + "x" * 100_000,
        "features.stack=[" + "x" * 100_000 + "]",
        "augment.waveform=[{kind: " + "x" * 100_000 + "}]",
        {"model.widths": [8] * 100_000},
        {"data.labels": ["x"] * 100_000},
        {"data.label_map": {str(i): "x" for i in range(100_000)}},
        {"data": {str(i): "x" for i in range(10_000)}},
        {"augment.waveform": [{"kind": "gain"}] * 100_000},
        {"model.widths": ["x"] * 100_000},
    ],
)
def test_long_texts_and_lists_are_refused_in_a_few_short_lines(override):
    with pytest.raises(ConfigError) as caught:
        load_config("cnn2d", override)
    assert max(map(len, str(caught.value).splitlines())) < 1600 and str(caught.value).count("\n") <= 41


def test_a_negative_zero_is_zero():
    assert str(load_config("cnn2d", "features.f_min=-0.0").features.f_min) == "0.0"
