"""Settings: typed, documented, read from YAML, overridden by flags."""

from __future__ import annotations

from dermdistill.config.load import (
    differences,
    find_recipe,
    flatten,
    load_recipe,
    parse_recipe,
    shipped_recipes,
    shipped_studies,
    to_tree,
)
from dermdistill.config.recipe import Recipe
from dermdistill.config.yaml_file import read_yaml

__all__ = [
    "Recipe",
    "differences",
    "find_recipe",
    "flatten",
    "load_recipe",
    "parse_recipe",
    "read_yaml",
    "shipped_recipes",
    "shipped_studies",
    "to_tree",
]
