"""`BaseConfig`: what all settings have in common. They are frozen, and a wrong type or an unknown key is an error.

Every number has a lower and an upper bound, every text and every list a greatest length: what lies beyond is a slip of
the keyboard or a wrong unit, and would otherwise end in a full memory or in numbers that are not finite.
"""

import os
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

MAX_NAME_BYTES = 255  # of a file or folder: ext4, APFS, NTFS and most others

Channels = Annotated[int, Field(ge=1, le=8192)]  # of a layer; a matrix of 8192 x 8192 weights takes 268 MB
Stride = Annotated[int, Field(ge=1, le=64)]
Dropout = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**53)]  # what generators take, and every reader of JSON keeps
Name = Annotated[str, Field(max_length=255)]


def _usable_path(path: str) -> str:
    long = [part for part in re.split(r"[/\\]", path) if len(os.fsencode(part)) > MAX_NAME_BYTES]
    if long:
        name = f"{long[0][:20]}..."
        raise ValueError(
            f"the name {name} has {len(os.fsencode(long[0]))} bytes, and a file system takes 255; shorten it"
        )
    if "\0" in path or not path:
        raise ValueError("a path needs at least one character, and none of them may be zero")
    return path


FilePath = Annotated[str, Field(max_length=4096), AfterValidator(_usable_path)]


class BaseConfig(BaseModel):
    """A frozen group of settings.

    Lists become tuples, paths become text and -0.0 becomes 0.0, at any depth. Nothing else is converted: an unknown
    key, a wrong type (such as "3" or True for a number), NaN and infinity are errors.

    Raises:
        pydantic.ValidationError: a key is unknown or missing, or a value is wrong.

    >>> class ConvConfig(BaseConfig):
    ...     widths: tuple[Channels, ...] = (32, 64)
    >>> ConvConfig(widths=[16, 32])
    ConvConfig(widths=(16, 32))
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _frozen_values(cls, values: Any) -> Any:
        return _frozen(values)


def _frozen(value: Any) -> Any:
    """`value` with lists as tuples, paths as text and no -0.0, at any depth of dicts, lists and tuples."""
    if isinstance(value, Mapping):
        return {key: _frozen(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_frozen(item) for item in value)
    if isinstance(value, float) and value == 0:
        return 0.0
    return str(value) if isinstance(value, PurePath) else value
