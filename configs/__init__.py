"""Recipes: YAML files that are installed as `serx.recipes`, so that `--config cnn2d` finds them in any folder."""
