"""What the shipped recipes and studies say of themselves: their headers, and their settings with the docs.

A recipe's file begins with comments of one form, one note after the other, longer ones indented::

    # What:    a student distilled on ISIC 2016; …
    # Command: dermdistill distill isic2016
    # Cost:    15 minutes on one CPU core
    # Score:   test Dice 90.04 (88.67 to 91.03), on …
    #          protocol and data, longer than a line

Documentation, range and default of a setting come from the types (``settings``, ``study_config``) by way of
their JSON schema.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dermdistill.config import Recipe, flatten, load_recipe, read_yaml, shipped_recipes, shipped_studies
from dermdistill.study.settings import StudySettings, load_study

NOTES = ("what", "command", "cost", "score")
"""Notes that every shipped recipe has."""
_NOTE = re.compile(r"# ([A-Z][a-z]+):\s*(.*)")
_INTERVAL = r"\(\S+ to \S+\)"


@dataclass(frozen=True)
class Entry:
    """One recipe or study, as its header tells it.

    Attributes:
        name: By which verbs find it (the file's name without .yaml).
        kind: student, teacher or study: what it trains.
        notes: The header's notes by their names in small letters (what, command, cost, score, note …).
        path: The file.
    """

    name: str
    kind: str
    notes: dict[str, str]
    path: Path

    def to_json(self) -> dict[str, Any]:
        """Plain values, the notes beside the rest."""
        return {"name": self.name, "kind": self.kind, **self.notes, "path": str(self.path)}


@dataclass(frozen=True)
class Setting:
    """One field of a recipe.

    Attributes:
        name: Dotted, as on the command line (``kd.temperature``).
        value: What the file sets, else the default.
        default: Where the file says nothing (None also where there is none).
        is_set: Whether the file sets it.
        required: Whether it has no default.
        range: Which values it takes, in words.
        doc: What it means.
    """

    name: str
    value: Any
    default: Any
    is_set: bool
    required: bool
    range: str
    doc: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def index() -> list[Entry]:
    """All shipped recipes, then all shipped studies, each by name."""
    return [read_entry(path) for path in [*shipped_recipes(), *shipped_studies()]]


def read_entry(path: Path) -> Entry:
    """Read a file's header and what it trains.

    Raises:
        ConfigError: It is no YAML file with settings.
    """
    return Entry(path.stem, _kind(read_settings(path)), read_notes(path.read_text(encoding="utf-8")), path)


def read_notes(text: str) -> dict[str, str]:
    """The notes of a header, each joined to one line; comments before the first note are left out."""
    notes: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if note := _NOTE.match(line):
            current = notes.setdefault(note[1].lower(), [])
            line = note[2]
        if current is not None:
            current.append(line.removeprefix("#").strip())
    return {name: " ".join(" ".join(parts).split()) for name, parts in notes.items()}


def read_settings(path: Path) -> dict[str, Any]:
    """What a recipe's or study's file sets, as plain values, once the whole of it has been found valid.

    Raises:
        ConfigError: It is not.
    """
    tree = read_yaml(path)
    if isinstance(tree, dict) and "arms" in tree:
        load_study(path)
    else:
        load_recipe(path)
    return dict(tree)


def _kind(tree: dict[str, Any]) -> str:
    return "study" if "arms" in tree else str(tree.get("role", "student"))


def short_score(score: str, width: int) -> str:
    """The first figures of a score's note, its protocol left out, cut to a width.

    ``on … (637 train …); CPU: test Dice 91.68 (90.48 to 92.49), Jaccard …`` becomes
    ``test Dice 91.68 (90.48 to 92.49), …``; a note that begins with ``none`` gives its first sentence.
    """
    if not score.startswith("none") and (match := re.search(r"(?:\w+ )?Dice\b", score)):
        score = score[match.start() :]
        score = re.sub(rf" (?!{_INTERVAL})\([^)]*\)", "", score)  # remarks in brackets, not the intervals
    return short(score, width)


def short(text: str, width: int) -> str:
    """The first sentence, cut at a word to at most ``width`` characters (… says that there is more)."""
    sentence = re.split(r"(?<=[^.])\.(?=\s|$)", text, maxsplit=1)[0]
    return textwrap.shorten(sentence, width, placeholder=" …")


def explain(path: Path) -> list[Setting]:
    """Every setting of a recipe or study, in the order of the types, with value, default, range and doc.

    Settings by dotted name (a study's ``overrides``) are explained as the recipe's.

    Raises:
        ConfigError: The file is not valid.
    """
    tree = read_settings(path)
    model = StudySettings if "arms" in tree else Recipe
    schema = model.model_json_schema()
    return list(_walk(schema, schema["$defs"], tree, ""))


def _walk(schema: dict[str, Any], types: dict[str, Any], tree: Any, prefix: str) -> Iterator[Setting]:
    for name, field in schema["properties"].items():
        is_set = isinstance(tree, dict) and name in tree
        value = tree[name] if is_set else None
        inner = types.get(_reference(field))
        items = types.get(_reference(field.get("additionalProperties")))
        if inner is not None:
            yield from _walk(inner, types, value, f"{prefix}{name}.")
        elif items is not None:
            for key, one in (value or {}).items():
                yield from _walk(items, types, one, f"{prefix}{name}.{key}.")
        elif name == "overrides":
            yield from _overrides(value or {}, f"{prefix}{name}.")
        else:
            default = field.get("default")
            yield Setting(
                f"{prefix}{name}", value if is_set else default, default, is_set,
                name in schema.get("required", ()), _range(field), _one_line(field.get("description", "")),
            )  # fmt: skip


def _overrides(values: dict[str, Any], prefix: str) -> Iterator[Setting]:
    schema = Recipe.model_json_schema()
    known = {one.name: one for one in _walk(schema, schema["$defs"], {}, "")}
    for name, value in flatten(values):
        about = known.get(name) or known[name.rpartition(".")[0]]  # a mapping's entry: student.options.width
        yield Setting(**{**asdict(about), "name": prefix + name, "value": value, "is_set": True})


def _reference(field: Any) -> str:
    """Name of the type that a schema refers to, if it does."""
    if not isinstance(field, dict):
        return ""
    return str(field.get("$ref", "")).rpartition("/")[2]


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _range(field: dict[str, Any]) -> str:
    """The values that a schema takes, in words."""
    if "anyOf" in field:
        return " or ".join(_range(one) for one in field["anyOf"])
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    match field.get("type"):
        case "null":
            return "none"
        case "boolean":
            return "true or false"
        case "array":
            each = field.get("prefixItems")
            return f"{len(each)} of: {_range(each[0])}" if each else f"a list of: {_range(field['items'])}"
        case "object":
            return "a mapping, as in {width: 8}"
        case "integer" | "number" as kind:
            return f"{'whole number' if kind == 'integer' else 'number'}{_bounds(field)}"
        case _:
            return "path" if field.get("format") == "path" else "text"


def _bounds(field: dict[str, Any]) -> str:
    low, high = field.get("minimum"), field.get("maximum")
    if low is not None and high is not None:
        return f", {low:g} to {high:g}"
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {field[key]:g}" for key, sign in signs.items() if key in field]
    return f" {' and '.join(bounds)}" if bounds else ""
