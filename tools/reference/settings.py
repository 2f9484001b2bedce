"""The page of the settings, from the pydantic types: range, default and meaning of each field."""

from __future__ import annotations

import inspect
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dermdistill import config
from dermdistill.study import settings
from tools.reference.words import plain, prose, table, type_in_words


def page() -> str:
    """The whole page."""
    parts = [
        "# Settings\n",
        "A recipe is a YAML file of these settings, and each is a flag of `train`, `distill` and `study` "
        "too: `--kd.temperature 4`. An unknown name is refused with the nearest one, a value outside its "
        "range with the range. The run folder's `config.yaml` holds all of them as they were.\n",
        "## Recipe\n",
        _fields(config.Recipe, "", nested=False),
    ]
    for name, field in config.Recipe.model_fields.items():
        if _is_settings(field.annotation):
            parts += [f"## {name}\n", prose(inspect.getdoc(field.annotation) or "") + "\n"]
            parts.append(_fields(field.annotation, f"{name}."))
    parts += [
        "## Study\n",
        "A study (`study-….yaml`) has these of its own; its `overrides` are settings of the recipe by dotted "
        "name.\n",
        _fields(settings.StudySettings, "", nested=False),
        "### teacher (of a study)\n",
        _fields(settings.StudyTeacher, "teacher."),
        "### arms\n",
        _fields(settings.Arm, "arms.NAME."),
    ]
    return "\n".join(parts)


def _is_settings(annotation: Any) -> bool:
    return inspect.isclass(annotation) and issubclass(annotation, BaseModel)


def _fields(model: Any, prefix: str, *, nested: bool = True) -> str:
    rows = []
    for name, field in model.model_fields.items():
        if not nested and (_is_settings(field.annotation) or name == "arms"):
            continue
        default = "required" if field.is_required() else _field_default(field)
        value = type_in_words(field.annotation, field.metadata)
        rows.append((f"`{prefix}{name}`", value, default, prose(field.description)))
    return table(("setting", "value", "default", "meaning"), rows)


def _field_default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None or value in ("", {}, ()):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else plain(value)}`"
