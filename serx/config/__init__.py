"""The configuration of a run: YAML files and `section.key=value` overrides, checked before anything starts."""

from serx.config.loader import Config, dump, from_tree, load, tuples
from serx.config.training import OptimConfig, TrainConfig

__all__ = ["Config", "OptimConfig", "TrainConfig", "dump", "from_tree", "load", "tuples"]
