"""Recipes: one frozen tree of settings each, read from YAML, overridden by flags.

Why pydantic and one file: a typo must be refused with the nearest name, a value outside its range with the
range, and the run folder must hold exactly what was run (``config.yaml``).
"""

from __future__ import annotations

import difflib
import importlib.resources
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from dermdistill.config.old_keys import current_keys
from dermdistill.config.recipe import Recipe
from dermdistill.config.settings import Settings
from dermdistill.config.yaml_file import read_yaml
from dermdistill.core.errors import ConfigError

__all__ = [
    "Recipe",
    "differences",
    "find_recipe",
    "flatten",
    "load_recipe",
    "parse_recipe",
    "shipped_recipes",
    "shipped_studies",
    "to_tree",
]

_SHOWN = 20  # problems of one file that are listed


def load_recipe(name: str | Path, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe from a YAML file, or a shipped one by its file name.

    Args:
        name: Path of a YAML file, or a shipped recipe's name with or without ``.yaml`` and ``recipes/``.
        overrides: Values by dotted name (``{"kd.temperature": 4.0}``) that replace the file's.

    Raises:
        ConfigError: No such recipe, not YAML, unknown keys, or values out of range (all of them listed).

    Examples:
        >>> from dermdistill import load_recipe
        >>> recipe = load_recipe("isic2016", {"kd.temperature": 4.0})
        >>> recipe.student.arch, recipe.kd.temperature
        ('small', 4.0)
    """
    path = find_recipe(name)
    tree = read_yaml(path)
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{path} holds {type(tree).__name__}.",
            "a mapping of settings (name: …, data: …)",
            "Write settings as name: value; dermdistill recipes prints the shipped ones to begin from.",
        )
    for dotted, value in (overrides or {}).items():
        _set(tree, dotted, value)
    return parse_recipe(tree, str(path))


def parse_recipe(tree: Mapping[str, Any], source: str) -> Recipe:
    """Validate a tree of plain values as a recipe; ``source`` is named in errors.

    Settings of earlier versions are read too (`old_keys`).
    """
    try:
        return Recipe.model_validate(current_keys(tree, source))
    except ValidationError as error:
        problems = "\n".join(f"  - {line}" for line in _explain(error))
        raise ConfigError(
            f"{source}:\n{problems}",
            "settings that exist, with values in range",
            "Fix the lines named above, in the file or on the command line.",
        ) from None


def find_recipe(name: str | Path) -> Path:
    """The file of a recipe: the path itself, or the shipped recipe of that name.

    Raises:
        ConfigError: Neither exists; the nearest shipped names are given.
    """
    path = Path(name)
    if path.is_file():
        return path
    shipped = {p.stem: p for p in [*shipped_recipes(), *shipped_studies()]}
    if path.stem in shipped and path.parent in (Path(), Path("recipes")):
        return shipped[path.stem]
    near = difflib.get_close_matches(path.stem, shipped, n=1)
    hint = f"Perhaps you meant {near[0]}; shipped" if near else "Shipped"
    raise ConfigError(
        f"There is no recipe {str(name)!r}.",
        "a YAML file, or the name of a shipped recipe",
        f"{hint} are: {', '.join(sorted(shipped))}.",
    )


def shipped_recipes() -> list[Path]:
    """Files of the recipes that come with the package, sorted by name."""
    return [path for path in _shipped() if not path.stem.startswith("study-")]


def shipped_studies() -> list[Path]:
    """Files of the studies that come with the package (``study-….yaml``), sorted by name."""
    return [path for path in _shipped() if path.stem.startswith("study-")]


def _shipped() -> list[Path]:
    packaged = Path(str(importlib.resources.files("dermdistill"))) / "recipes"
    # In an editable install the package lies at src/dermdistill and the recipes at the repository's root.
    folder = packaged if packaged.is_dir() else Path(__file__).parents[3] / "recipes"
    return sorted(folder.glob("*.yaml"))


def to_tree(settings: Settings) -> dict[str, Any]:
    """Plain values (str, int, float, bool, None, dict) of settings, for YAML and JSON."""
    return settings.model_dump(mode="json")


def differences(old: Settings, new: Settings) -> dict[str, tuple[Any, Any]]:
    """Fields in which two settings differ, by dotted name, as (old, new)."""
    a, b = dict(_fields(old)), dict(_fields(new))
    return {key: (a.get(key), b.get(key)) for key in sorted({*a, *b}) if a.get(key) != b.get(key)}


def _fields(settings: Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Fields as plain values, by dotted name; one that holds a mapping is one field."""
    tree = to_tree(settings)
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, Settings):
            yield from _fields(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", tree[name]


def flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of a tree by dotted name (``kd.temperature``)."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _set(tree: dict[str, Any], dotted: str, value: Any) -> None:
    *parents, last = dotted.split(".")
    for parent in parents:
        inner = tree.get(parent)
        if not isinstance(inner, dict):
            if inner is not None:
                return  # the whole tree is refused soon, with what was found in this place
            tree[parent] = inner = {}
        tree = inner
    tree[last] = value


def _explain(error: ValidationError) -> list[str]:
    """One line per problem: the dotted field, what is wrong, the nearest name for a typo."""
    lines = []
    problems = error.errors()
    for problem in problems[:_SHOWN]:
        location = [_short(part) for part in problem["loc"]]
        field = ".".join(location) or "recipe"
        if problem["type"] == "extra_forbidden":
            known = _fields_at(location[:-1])
            near = difflib.get_close_matches(location[-1], known, n=1)
            hint = f"perhaps you meant {near[0]!r}" if near else f"known here: {', '.join(known)}"
            lines.append(f"{field} is not a setting: {hint}")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(
                f"{field}: {message} (found {reprlib.repr(problem['input'])})" if location else message
            )
    if len(problems) > _SHOWN:
        lines.append(f"… and {len(problems) - _SHOWN} more")
    return lines


def _short(part: str | int) -> str:
    """A setting's name for a message, whatever a file calls it."""
    text = repr(str(part))[1:-1]
    return text if len(text) <= 80 else f"{text[:80]}…"


def _fields_at(location: list[str]) -> list[str]:
    model: type[BaseModel] = Recipe
    for part in location:
        annotation = model.model_fields[part].annotation if part in model.model_fields else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
