"""`Section`: the one rule every part of a configuration obeys (frozen, typed strictly, unknown keys refused)."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]


class BaseConfig(BaseModel):
    """A frozen group of settings. Unknown keys, wrong types, NaN and infinity are errors, never coerced."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())
