"""`BaseConfig`: what all settings have in common. They are frozen, and a wrong type or an unknown key is an error."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(ge=1)]


class BaseConfig(BaseModel):
    """A frozen group of settings.

    Lists become tuples and paths become text, at any depth. Nothing else is converted: an unknown key, a wrong type
    (such as "3" or True for a number), NaN and infinity are errors.

    Raises:
        pydantic.ValidationError: a key is unknown or missing, or a value is wrong.

    >>> class ConvConfig(BaseConfig):
    ...     widths: tuple[Positive, ...] = (32, 64)
    >>> ConvConfig(widths=[16, 32])
    ConvConfig(widths=(16, 32))
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _frozen_values(cls, values: Any) -> Any:
        return _frozen(values)


def _frozen(value: Any) -> Any:
    """`value` with lists as tuples and paths as text, at any depth of dicts, lists and tuples."""
    if isinstance(value, Mapping):
        return {key: _frozen(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_frozen(item) for item in value)
    return str(value) if isinstance(value, PurePath) else value
