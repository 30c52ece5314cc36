"""Fills in the templates of pages.

Whatever a user named is escaped: HTML by Jinja, control characters by `printable`.
"""

import re
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from serx.evaluation.tables import count
from serx.terminal import printable


def render(template: str, **values: Any) -> str:
    """A page from a template of `serx/pages/templates` and its values."""
    return _environment().get_template(template).render(values)


def percent(fraction: float | None) -> str:
    """A fraction in %, with one decimal.

    >>> percent(0.5), percent(None)
    ('50.0', '\u2013')
    """
    return "\u2013" if fraction is None else f"{100 * fraction:.1f}"


def code(text: str) -> Markup:
    """A sentence in which what stands between backquotes is code.

    >>> code("run `serx stress <x>`")
    Markup('run <code>serx stress &lt;x&gt;</code>')
    """
    parts = re.split("`([^`]*)`", printable(text))  # every second one was between backquotes
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else part for i, part in enumerate(parts))


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("serx.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "points": lambda x: f"{100 * x:+.1f}", "count": count, "code": code}
    return environment


def _printable(value: Any) -> Any:
    """Text of a user on one line, without characters that hide or turn around other text; markup stays as it is."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
