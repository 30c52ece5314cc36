"""The configuration of a run: recipes in YAML and `section.key=value` overrides, checked before anything starts.

loader.py           `load_config`: reads and merges recipes and overrides
schema.py           `Config`, made of the sections
training.py         the `train` and `optim` sections; every other section is beside the code that it configures
yaml_lines.py       YAML with the line of every key
mistakes.py         each mistake as one line
contradictions.py   settings that cannot be used together
ineffective.py      settings that have no effect
suggestions.py      the key that was probably meant by an unknown one
renamed.py          old names of keys, values and recipes
reference.py        docs/configuration.md, made from the config classes
"""

from serx.config.contradictions import without_validation
from serx.config.ineffective import notes
from serx.config.loader import dump, from_tree, load_config, recipe_names, tuples
from serx.config.schema import Config
from serx.config.training import OptimConfig, TrainConfig

__all__ = [
    "Config",
    "OptimConfig",
    "TrainConfig",
    "dump",
    "from_tree",
    "load_config",
    "notes",
    "recipe_names",
    "tuples",
    "without_validation",
]
