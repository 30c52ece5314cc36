"""`load_config`: a recipe and its overrides, read, merged and checked before anything starts."""

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

import serx
from serx.config.mistakes import Sources, check
from serx.config.renamed import RENAMED_RECIPES, RENAMED_TRANSFORMS
from serx.config.schema import Config
from serx.config.yaml_lines import MAX_DEPTH, KeyPath, parse, read, shown
from serx.errors import ConfigError

Overrides = str | Sequence[str] | Mapping[str, Any]
BASE = "base"  # the key of a recipe that names the recipe it changes


def load_config(recipe: str | Path, *overrides: Overrides) -> Config:
    """Reads a recipe, applies overrides and checks everything.

    A recipe may name another one as its `base` and then holds only the settings that differ: keys of the same section
    are merged, lists are replaced. A `model` of another kind than the base's replaces the whole section.

    Args:
        recipe: a YAML file, or the name of a recipe, such as "cnn2d" or "published/ravdess_mlp".
        overrides: strings `section.key=value` with values in YAML, lists of such strings, or dicts of dotted keys. An
            item of a list is named by its number or its kind: `augment.waveform.0.p=0.5` or
            `augment.waveform.noise.p=0.5`.

    Returns:
        The complete configuration, with defaults for all keys that neither recipe nor overrides name.

    Raises:
        ConfigError: lists every mistake at once, each as `file:line: what is wrong; how to fix it`.

    >>> config = load_config("cnn2d", "data.root=/corpora/ravdess", {"train.epochs": 20})
    >>> config.model.kind, config.train.epochs
    ('cnn2d', 20)
    """
    if not isinstance(recipe, str | os.PathLike):
        raise ConfigError(
            f"recipe: expected the name or the file of a recipe, such as cnn2d, got {type(recipe).__name__}"
        )
    path = find_recipe(recipe)
    tree, places = _read_recipe(path, ())
    for override in _listed(overrides):
        source, keys, value = override
        changed, place = _with(tree, keys, value, source)
        tree.update(changed)
        below = {known for known in places if known[: len(place)] == place}
        added = {place[:n] for n in range(1, len(place) + 1)} - places.keys()
        places |= dict.fromkeys(below | added, source)
    return from_tree(tree, places, str(path))


def from_tree(tree: Mapping[str, Any], places: Mapping[KeyPath, str] | None = None, source: str = "config") -> Config:
    """The configuration of a tree of dicts, tuples and scalars, such as a checkpoint holds.

    Args:
        tree: section -> key -> value.
        places: where each key was written, for messages.
        source: what messages name where `places` has nothing.

    Raises:
        ConfigError: lists every mistake.

    >>> from_tree({"data": {"root": "x"}, "model": {"kind": "mlp", "widths": (64,)}}).model.widths
    (64,)
    """
    config, mistakes = check(tree, Sources(places or {}, source))
    if config is None:
        raise ConfigError("\n".join(mistakes))
    written = {".".join(map(str, place)): where for place, where in (places or {}).items()}
    config.data.places.update({key: where for key, where in written.items() if key.startswith("data.")})
    return config


def dump(config: Config) -> str:
    """YAML that `load_config` reads back to the same configuration.

    >>> config = from_tree({"data": {"root": "x"}, "model": {"kind": "mlp"}})
    >>> [line for line in dump(config).splitlines() if line.startswith("model") or "kind" in line]
    ['model:', '  kind: mlp']
    """
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def tuples(value: Any) -> Any:
    """Lists to tuples at every depth: sections are strict and frozen, and JSON has no tuples.

    >>> tuples({"widths": [[1, 2], [3]]})
    {'widths': ((1, 2), (3,))}
    """
    if isinstance(value, Mapping):
        return {key: tuples(item) for key, item in value.items()}
    return tuple(tuples(item) for item in value) if isinstance(value, list | tuple) else value


def recipe_folder() -> Path:
    """The folder of the recipes: installed with the package, or `configs/` of a checkout that is not installed."""
    if find_spec("serx.recipes") is not None:
        return Path(str(files("serx.recipes")))
    return Path(serx.__file__).parents[1] / "configs"


def recipe_names() -> list[str]:
    """The recipes that `load_config` finds by name.

    >>> recipe_names()[:3]
    ['cnn1d', 'cnn2d', 'cnn2d_ensemble']
    """
    folder = recipe_folder()
    return sorted(
        (path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")),
        key=lambda name: (name.count("/"), name),
    )


def find_recipe(recipe: str | Path, folder: Path = Path()) -> Path:
    """The file of a recipe that is given by its path, relative to a folder, or by its name.

    Raises:
        ConfigError: there is neither a file nor a recipe of that name.
    """
    path = folder / recipe
    name = Path(recipe).as_posix().removesuffix(".yaml")
    if os.path.isfile(path):  # False also for names that no file can have
        return path
    names = recipe_names()
    if name in names:
        return recipe_folder() / f"{name}.yaml"
    if path.suffix and os.path.isdir(path.parent) and path.stem not in RENAMED_RECIPES:
        return path  # `read` says what is wrong with it, and lists the files next to it
    if path.stem in RENAMED_RECIPES:
        hint = f"the recipe {path.stem} is now called {RENAMED_RECIPES[path.stem]}"
    else:
        near = difflib.get_close_matches(name.rpartition("configs/")[2], names, n=1)
        hint = (f"did you mean {near[0]}? " if near else "") + f"recipes are {', '.join(names)}"
    raise ConfigError(f"{recipe}: no such file or recipe; {hint}")


def _read_recipe(path: Path, chain: tuple[Path, ...]) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """The tree of a recipe merged into its base, and where each key was written."""
    tree, lines = read(path)
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}:1: expected sections ({', '.join(Config.model_fields)})")
    places = {place: f"{path}:{line}" for place, line in lines.items()}
    _spell_out_stack(tree, places)
    if BASE not in tree:
        return tree, places
    base, where = tree.pop(BASE), places.pop((BASE,))
    if not isinstance(base, str):
        raise ConfigError(
            f"{where}: base: {shown(base, quoted=True)} should be the file or the name of a recipe, such as cnn2d.yaml"
        )
    try:
        base_path = find_recipe(base, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{where}: base: {error}") from error
    if not os.path.isfile(base_path):
        raise ConfigError(f"{where}: base: {base_path}: no such file")
    chain = (*chain, path.resolve())
    if base_path.resolve() in chain:
        names = " -> ".join(file.name for file in (*chain, base_path))
        raise ConfigError(f"{where}: base: these recipes are based on each other: {names}; remove one base")
    return _merge(*_read_recipe(base_path, chain), tree, places)


def _merge(
    base: dict[str, Any], base_places: dict[KeyPath, str], tree: dict[str, Any], places: dict[KeyPath, str]
) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """The base with the keys of `tree` in place of its own."""
    merged = dict(base)
    replaced: list[KeyPath] = []
    for section, keys in tree.items():
        old = base.get(section)
        if isinstance(keys, dict) and isinstance(old, dict) and keys.get("kind", old.get("kind")) == old.get("kind"):
            merged[section] = {**old, **keys}
            replaced += [(section, key) for key in keys]
        else:
            merged[section] = keys
            replaced.append((section,))
    kept = {
        place: where for place, where in base_places.items() if not any(place[: len(key)] == key for key in replaced)
    }
    return merged, {**kept, **places}


def _spell_out_stack(tree: dict[str, Any], places: dict[KeyPath, str]) -> None:
    """`features: [mfcc, rms]` becomes `features: {stack: [mfcc, rms]}`, so that overrides find a section."""
    if isinstance(tree.get("features"), tuple):
        tree["features"] = {"stack": tree["features"]}
        items = {place: where for place, where in places.items() if place[0:1] == ("features",)}
        places |= {("features", "stack", *place[1:]): where for place, where in items.items()}


def _listed(overrides: Sequence[Overrides]) -> list[tuple[str, list[str], Any]]:
    """For each override where it comes from, its keys and its value."""
    listed = []
    for override in overrides:
        if isinstance(override, Mapping):
            listed += [
                (f"override: {shown(key)}={shown(value, quoted=True)}", _keys(key, key), tuples(value))
                for key, value in override.items()
            ]
        elif isinstance(override, str) or not isinstance(override, Iterable):
            listed.append(_parse(override))
        else:
            listed += map(_parse, override)
    return listed


def _parse(override: str) -> tuple[str, list[str], Any]:
    if not isinstance(override, str):
        raise ConfigError(
            f"override: {shown(override, quoted=True)} is not section.key=value, such as train.epochs=20, a list of "
            "such strings, or a dict"
        )
    dotted, equals, text = override.partition("=")
    keys = _keys(dotted if equals else "", override)
    source = f"command line: {shown(override)}"
    return source, keys, parse(text, source)[0] if text else None


def _keys(dotted: str, override: str) -> list[str]:
    keys = dotted.split(".") if isinstance(dotted, str) else []
    if not keys or not all(keys) or len(keys) > MAX_DEPTH:
        raise ConfigError(
            f"command line: {shown(override, quoted=True)} is not section.key=value, such as train.epochs=20"
        )
    return keys


def _with(branch: Any, keys: Sequence[str], value: Any, source: str) -> tuple[Any, KeyPath]:
    """The branch with `value` at the end of `keys`, and the place of the value."""
    key, *further = keys
    if isinstance(branch, tuple):
        index = _item(branch, key, source)
        inner, place = _with(branch[index], further, value, source) if further else (value, ())
        return (*branch[:index], inner, *branch[index + 1 :]), (index, *place)
    if not isinstance(branch, dict):
        raise ConfigError(f"{source}: the value is {shown(branch, quoted=True)}, which has no key {shown(key)}")
    inner, place = _with(branch.get(key, {}), further, value, source) if further else (value, ())
    return {**branch, key: inner}, (key, *place)


def _item(items: Sequence[Any], key: str, source: str) -> int:
    """The index of an item that is named by its number or its kind."""
    kinds = [item.get("kind") if isinstance(item, dict) else item for item in items]
    if key in map(str, range(len(items))):
        return int(key)
    if kinds.count(key) == 1:
        return kinds.index(key)
    listed = ", ".join(f"{number} ({kind})" for number, kind in enumerate(kinds)) or "nothing"
    if key in RENAMED_TRANSFORMS:
        fault = f"is now called {RENAMED_TRANSFORMS[key]}"
    else:
        fault = "is in this list more than once; give its number" if key in kinds else "is not in this list"
    raise ConfigError(f"{source}: {shown(key)} {fault}; the list has {listed}")
