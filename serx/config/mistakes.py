"""Mistakes in a configuration, each as one line: `file:line: what is wrong; how to fix it`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from serx.config.contradictions import contradictions
from serx.config.renamed import renamed
from serx.config.schema import Config
from serx.config.suggestions import suggestion
from serx.config.yaml_lines import KeyPath, shown

# Keys that are a list or one word: pydantic appends the name of the type that it tried to their location.
_LISTS_OR_TEXT = (("data", "root"), ("data", "labels"))
MAX_SHOWN, MAX_CHARACTERS = 40, 1500  # mistakes in a message, and characters of each


@dataclass(frozen=True)
class Sources:
    """Where each key was written.

    Attributes:
        places: `file:line`, or the override, of each key.
        default: what is named where a key is in no place.
    """

    places: Mapping[KeyPath, str]
    default: str

    def of(self, key: KeyPath) -> str:
        """Where the key was written, or the nearest key above it."""
        return next((self.places[key[:n]] for n in range(len(key), -1, -1) if key[:n] in self.places), self.default)


def check(tree: Mapping[str, Any], sources: Sources) -> tuple[Config | None, list[str]]:
    """The configuration of a tree of dicts, tuples and scalars, or None and one line for each mistake."""
    current, renames = renamed(tree)
    lines = [f"{sources.of(place)}: {message}" for place, message in renames]
    try:
        config = Config.model_validate(current)
    except ValidationError as error:
        faults = error.errors(include_url=False)[: 4 * MAX_SHOWN]
        deepest = [fault for fault in faults if not any(_is_within(other, fault) for other in faults)]
        lines += [_explain(fault, sources, current) for fault in deepest]
        places = [tuple(fault["loc"]) for fault in faults]
    else:
        places = []
        if not lines and not contradictions(config):
            return config, []
    partial, removed = _without(current, places)
    if partial is not None:
        lines += [
            f"{sources.of(contradiction.place)}: {contradiction.message}"
            for contradiction in contradictions(partial)
            if not any(_overlap(key, read) for key in removed for read in contradiction.reads)
        ]
    lines = [_shortened(line) for line in dict.fromkeys(lines)]
    more = [f"and {len(lines) - MAX_SHOWN} more mistakes"] if len(lines) > MAX_SHOWN else []
    return None, lines[:MAX_SHOWN] + more


def _without(tree: Mapping[str, Any], places: list[KeyPath]) -> tuple[Config | None, list[str]]:
    """The configuration with the defaults of the keys that have mistakes, and those keys: for further checks."""
    removed = [".".join(map(str, place[:2])) for place in places]
    valid: dict[str, Any] = {}
    for section, keys in tree.items():
        if isinstance(keys, Mapping) and section not in removed:
            valid[section] = {key: value for key, value in keys.items() if f"{section}.{key}" not in removed}
        elif not any(_overlap(section, key) for key in removed):  # such as `features: [mfcc, rms]`
            valid[section] = keys
    if "root" not in valid.setdefault("data", {}):
        valid["data"]["root"] = "-"
    if "kind" not in valid.setdefault("model", {}):
        valid["model"] = {"kind": "mlp"}
        removed.append("model")
    try:
        return Config.model_validate(valid), removed
    except ValidationError:
        return None, removed


def _shortened(line: str) -> str:
    half = MAX_CHARACTERS // 2
    return line if len(line) <= MAX_CHARACTERS else f"{line[:half]} ... {line[-half:]}"


def _overlap(a: str, b: str) -> bool:
    return a == b or a.startswith(f"{b}.") or b.startswith(f"{a}.")


def _is_within(inner: Mapping[str, Any], outer: Mapping[str, Any]) -> bool:
    """Whether one fault lies below another, which only repeats it ("too few items" of a list with a bad item)."""
    return len(inner["loc"]) > len(outer["loc"]) and inner["loc"][: len(outer["loc"])] == outer["loc"]


def _kinds(tree: Any, place: KeyPath) -> list[str]:
    """The kinds of the model or the transform at a place and above it."""
    kinds = []
    for part in place:
        try:
            tree = tree[part]
        except (KeyError, IndexError, TypeError):
            break
        if isinstance(tree, Mapping) and "kind" in tree:
            kinds.append(str(tree["kind"]))
    return kinds


def _explain(fault: Mapping[str, Any], sources: Sources, tree: Mapping[str, Any]) -> str:
    """One line for one of pydantic's faults."""
    place, message = tuple(fault["loc"]), fault["msg"].removeprefix("Value error, ")
    written = place[:2] + place[3:] if place[:2] in _LISTS_OR_TEXT else place
    word = message.partition(" ")[0].rstrip(":,")
    if fault["type"] == "value_error" and (*written, word) in sources.places:  # of a section: about this key of it
        written = (*written, word)
    where = sources.of(written[:-1] if fault["type"] == "missing" and written == place else written)
    name = ".".join(shown(part) if isinstance(part, str) else str(part) for part in written or place)
    if fault["type"] == "missing":
        return f"{where}: {'.'.join(map(str, place))} is missing; add it"
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown key {name}{suggestion(name, _kinds(tree, place), fault['input'])}"
    if fault["type"] == "tuple_type":
        message = "input should be a list, such as [a, b]"
    given = "" if fault["type"] == "value_error" else f", got {shown(fault['input'], quoted=True)}"
    return f"{where}: {name}: {message[0].lower()}{message[1:]}{given}"
