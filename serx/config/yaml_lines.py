"""YAML with the line of every key, so that an error can name it."""

import re
import reprlib
from pathlib import Path
from typing import Any

import yaml

from serx.errors import ConfigError

KeyPath = tuple[str | int, ...]
MAX_PLACES, MAX_DEPTH = 20_000, 40
MAX_SHOWN, BITS_SHOWN = 200, 128  # characters of a text, and bits of an integer, in a message
_TOO_MUCH = f"more than {MAX_PLACES} values or {MAX_DEPTH} levels are too many for a configuration"
_PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str")}


class _Short(reprlib.Repr):
    """`repr` of a value for a message: at most a line of it."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring, self.maxother, self.maxlong = MAX_SHOWN, MAX_SHOWN, MAX_SHOWN
        self.maxlist = self.maxtuple = self.maxdict = 8

    def repr_int(self, number: int, level: int) -> str:
        if number.bit_length() > BITS_SHOWN:  # Python writes out no integer of more than 4300 digits
            return f"an integer of {number.bit_length()} bits"
        return super().repr_int(number, level)


def shown(value: Any, quoted: bool = False) -> str:
    """A value, or a text as it is, on one line of a message; the middle of a long one is left out.

    >>> shown("optim.lr"), shown("optim.lr", quoted=True), shown((0,) * 1000)
    ('optim.lr', "'optim.lr'", '(0, 0, 0, 0, 0, 0, 0, 0, ...)')
    """
    if isinstance(value, str) and not quoted:
        return value if len(value) <= MAX_SHOWN else f"{value[: MAX_SHOWN // 2]}...{value[-MAX_SHOWN // 2 :]}"
    return _Short().repr(value)


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of YAML 1.2: `1e-3` is a number, `010` and `no` are strings."""


_Loader.yaml_implicit_resolvers = {}  # PyYAML's are those of YAML 1.1
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)


def parse(text: str, source: str) -> tuple[Any, dict[KeyPath, int]]:
    """The document as dicts, tuples and scalars, and the line (from 1) of each key and item.

    Args:
        text: YAML.
        source: what messages name, such as the file.

    Raises:
        ConfigError: the text is not YAML, or has a key twice; names source and line.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except RecursionError as error:
        raise ConfigError(f"{source}: {_TOO_MUCH}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        raise ConfigError(f"{where}: not YAML: {getattr(error, 'problem', None) or error}") from error
    except ValueError as error:  # a version of YAML with thousands of digits, an escape beyond Unicode
        raise ConfigError(f"{source}: not YAML: {str(error).partition(';')[0]}") from error
    lines: dict[KeyPath, int] = {}
    value = _build(node, (), loader, lines, source) if node is not None else {}
    return value, lines


def _build(node: yaml.Node, place: KeyPath, loader: _Loader, lines: dict[KeyPath, int], source: str) -> Any:
    """The value of a node; adds the lines of what is in it to `lines`."""
    lines.setdefault(place, node.start_mark.line + 1)
    if len(lines) > MAX_PLACES or len(place) > MAX_DEPTH:  # aliases of aliases grow exponentially
        raise ConfigError(f"{source}:{node.start_mark.line + 1}: {_TOO_MUCH}")
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, line = str(_scalar(key_node, loader, source)), key_node.start_mark.line + 1
            key_place = (*place, key)
            if key in mapping:
                raise ConfigError(
                    f"{source}:{line}: the key {key} is here twice (first on line {lines[key_place]}); remove one"
                )
            lines[key_place] = line
            mapping[key] = _build(value_node, key_place, loader, lines, source)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return tuple(_build(item, (*place, i), loader, lines, source) for i, item in enumerate(node.value))
    return _scalar(node, loader, source)


def _scalar(node: yaml.Node, loader: _Loader, source: str) -> Any:
    """A string, a number, true, false or null. Tags, which could build other objects, are errors."""
    where = f"{source}:{node.start_mark.line + 1}"
    if not isinstance(node, yaml.ScalarNode) or node.tag not in _PLAIN:
        raise ConfigError(f"{where}: {node.tag} is not allowed here; write a plain word or number")
    try:
        return loader.construct_object(node)
    except (yaml.YAMLError, ValueError, IndexError, OverflowError) as error:
        raise ConfigError(f"{where}: cannot read {node.value[:40]!r} as {node.tag.rpartition(':')[2]}") from error


def read(path: Path) -> tuple[Any, dict[KeyPath, int]]:
    """The content of a YAML file, as `parse` returns it.

    Raises:
        ConfigError: the file cannot be read, or `parse` fails.
    """
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, ValueError) as error:
        near = sorted(path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        hint = f"; the folder has {', '.join(str(p) for p in near)}" if near else ""
        raise ConfigError(f"{path}: cannot read this configuration: {error}{hint}") from error
