"""Read YAML and remember the line of every key, so that an error can point at it."""

import re
from pathlib import Path
from typing import Any

import yaml

from serx.errors import ConfigError

Place = tuple[str | int, ...]


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads 1e-3 as the number it is in YAML 1.2, not as a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$"), list("-+0123456789.")
)


def parse(text: str, source: str) -> tuple[Any, dict[Place, int]]:
    """The document as dicts, tuples and scalars, and the 1-based line of each place in it.

    Raises:
        ConfigError: the text is no YAML, or a key stands twice; names source and line.
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}" if mark else source
        raise ConfigError(f"{where}: not YAML: {getattr(error, 'problem', None) or error}") from error
    lines: dict[Place, int] = {}
    value = _build(node, (), loader, lines, source) if node is not None else {}
    return value, lines


def _build(node: yaml.Node, place: Place, loader: _Loader, lines: dict[Place, int], source: str) -> Any:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key, line = str(loader.construct_object(key_node)), key_node.start_mark.line + 1
            here = (*place, key)
            if key in mapping:
                raise ConfigError(f"{source}:{line}: {key} stands twice (first on line {lines[here]}); remove one")
            lines[here] = line
            mapping[key] = _build(value_node, here, loader, lines, source)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return tuple(_build(item, (*place, i), loader, lines, source) for i, item in enumerate(node.value))
    return loader.construct_object(node, deep=True)


def read(path: Path) -> tuple[Any, dict[Place, int]]:
    """`parse` of a file.

    Raises:
        ConfigError: also when the file cannot be read.
    """
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        near = sorted(path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        there = f"; there are {', '.join(str(p) for p in near)}" if near else ""
        raise ConfigError(f"{path}: cannot read this configuration: {error}{there}") from error
