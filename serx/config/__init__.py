"""The configuration of a run: recipes in YAML and `section.key=value` overrides, checked before anything starts."""

from serx.config.contradictions import notes, without_validation
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
