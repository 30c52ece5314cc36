"""What the registries of features, transforms and models have in common: one name, one definition."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any


def full_name(definition: Callable[..., Any]) -> str:
    """The module and the name of a class or a function.

    >>> from collections import OrderedDict
    >>> full_name(OrderedDict)
    'collections.OrderedDict'
    """
    return f"{definition.__module__}.{definition.__qualname__}"


def check_is_free(what: str, known: Callable[..., Any] | None, new: Callable[..., Any], advice: str) -> None:
    """Raises if a name is taken. A module that is imported twice may register its own names again.

    Args:
        what: the kind of thing and its name, such as `feature 'rms'`.
        known: the class or function that has the name now; None if there is none.
        new: the one that is registered.
        advice: what to give `new` instead, such as `another name`.

    Raises:
        ValueError: `known` is another class or function than `new`.

    >>> check_is_free("feature 'size'", len, max, "another name")
    Traceback (most recent call last):
        ...
    ValueError: feature 'size' is builtins.len; give builtins.max another name
    """
    if known is not None and full_name(known) != full_name(new):
        raise ValueError(f"{what} is {full_name(known)}; give {full_name(new)} {advice}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """The beginning of a hint about a name that is not known; empty if no known name is like it.

    >>> suggestion("cnn2", ["mlp", "cnn2d"])
    'did you mean cnn2d? '
    """
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}? " if near else ""
